"""The local run as its user has it: a process of its own, with its data folder, spoken to over HTTP."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

import httpx

from infra.stack import ROOT

PREFIX = "/plugins/copilot_metrics"
START_SECONDS = 120  # the first start on a machine brings the database


def free_port() -> int:
    """Return a port that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def user_environment() -> dict[str, str]:
    """Return this process's environment without what the tests put there."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("COPILOT_", "PLUGINS_"))}


class LocalRun:
    """``make run``, without make."""

    def __init__(self, data: Path, github_url: str, **environment: str) -> None:
        self.data = data
        self.port = free_port()
        self.log = data.with_name(f"{data.name}.log")
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}{PREFIX}", timeout=40, trust_env=False)
        self._environment = {
            **user_environment(),
            "COPILOT_METRICS__GITHUB_API_URL": github_url,
            "POWERTOOLS_LOG_LEVEL": "DEBUG",
            "FETCH_SCHEDULE": "off",
            **environment,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start, and wait until it answers."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.local", "--port", str(self.port), "--data", str(self.data)],
                cwd=ROOT,
                env=self._environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        end = time.monotonic() + START_SECONDS
        while True:
            try:
                self.client.get("/health")
            except httpx.TransportError:
                assert self._process.poll() is None, self.log.read_text()
                assert time.monotonic() < end, self.log.read_text()
                time.sleep(0.1)
            else:
                return self

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    def wait(self) -> int:
        """Wait until it ends by itself; return the exit code."""
        assert self._process is not None
        code = self._process.wait(timeout=60)
        self._process = None
        return code

    def stop(self) -> int:
        """Stop as Ctrl-C does; return the exit code."""
        return self._end(signal.SIGINT)

    def kill(self) -> None:
        """Stop without a chance to clean up."""
        self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        os.kill(self.pid, how)
        return self.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exception: object) -> None:
        if self._process is not None:
            self.stop()
        self.client.close()

    def import_account(self, token: str) -> int:
        """Import an account and return its id."""
        answer = self.client.post("/accounts/import", json={"token": token})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["account_id"])

    def fetch_metrics(self, account_id: int) -> int:
        """Fetch an account's metrics and return their id."""
        answer = self.client.post(f"/metrics/fetch/{account_id}")
        assert answer.status_code == 200, answer.text
        return int(answer.json()["metrics_id"])
