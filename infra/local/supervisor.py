"""Keeping the API's process running: anew after a change of the code, anew after it was killed."""

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvicorn
from uvicorn.supervisors.watchfilesreload import WatchFilesReload

from infra.local.problem import Problem

PATIENCE_SECONDS: Final = 2
GRACE_SECONDS: Final = 35
"""A little more than a request may take."""


class Supervisor(WatchFilesReload):
    """uvicorn's reloader, which by itself doesn't notice that the process it started has ended."""

    def __init__(
        self, application: str, listening: socket.socket, watched: list[Path], check: Callable[[], None]
    ) -> None:
        """Take the application's factory, a bound socket, the code's folders, and what must hold all the time.

        ``check`` raises Problem when the API can't go on.
        """
        config = uvicorn.Config(
            application,
            factory=True,
            reload=True,
            reload_dirs=[str(folder) for folder in watched],
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        super().__init__(config, target=uvicorn.Server(config).run, sockets=[listening])
        self._check = check
        self._changed = False
        self._waiting_for_change = False

    def should_restart(self) -> list[Path] | None:
        """Return the files that have changed, once the API and what it needs were looked after.

        Raises Problem where it can't be started, or can't go on.
        """
        changes = super().should_restart()
        if changes:
            self._changed, self._waiting_for_change = True, False
            return changes
        try:
            self._check()
        except Problem:
            self.process.terminate()
            self.process.join()
            raise
        self._look_after_process()
        return None

    def shutdown(self) -> None:
        """Stop the API; requests in work are finished first."""
        self.process.terminate()
        self.process.join(PATIENCE_SECONDS)
        if self.process.is_alive():
            print("Finishing the requests in work; Ctrl-C ends them now.", flush=True)
        super().shutdown()

    def _look_after_process(self) -> None:
        code = self.process.exitcode
        if code is None or self._waiting_for_change or self.should_exit.is_set():
            return
        if code < 0:
            print(f"{time.strftime('%H:%M:%S')} The API was killed by signal {-code}: starting it again.", flush=True)
            self.restart()
        elif self._changed:
            self._waiting_for_change = True
            print("The changed code doesn't start (see above): change it again, or stop with Ctrl-C.", flush=True)
        else:
            raise Problem("The API could not be started: the lines above say why")
