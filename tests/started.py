"""What a function has made, read and asked for when it has started, before its first call.

With SnapStart, Lambda keeps a snapshot of that moment, and many functions start from it: all have what is in it.
Run as ``python -m tests.started HANDLER``, in a process of its own.
"""

import gc
import os
import random
import runpy
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Final

SHARED: Final = str(Path(__file__).parent.parent / "shared")
PER_CALL: Final = {"time", "time_ns", "monotonic", "now", "utcnow", "today", "urandom", "token_hex", "uuid1", "uuid4"}
"""Functions that tell the time or make something unique."""


def started(handler: str) -> set[str]:
    """Start a function, and say what should have waited for its first call."""
    found: set[str] = set()
    ours = (SHARED, str(Path(handler).parent))

    class Environment(type(os.environ)):  # type: ignore[misc]  # os has no public name for it
        def __getitem__(self, name: str) -> str:
            if name.startswith(("COPILOT_METRICS__", "PLUGINS_", "AWS_ACCESS", "AWS_SECRET", "AWS_SESSION")):
                found.add(f"reads {name}")
            value: str = super().__getitem__(name)
            return value

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        caller: FrameType | None = frame
        name = getattr(argument, "__name__", "")
        if event == "call":
            caller, name = frame.f_back, frame.f_code.co_name
        if event in {"call", "c_call"} and name in PER_CALL and caller and caller.f_code.co_filename.startswith(ours):
            found.add(f"calls {name}")

    os.environ.__class__ = Environment
    sys.setprofile(watch)
    _kept = runpy.run_path(handler)  # as Lambda keeps it
    sys.setprofile(None)
    return found | _made()


def _made() -> set[str]:
    import socket  # noqa: PLC0415  # all after the start, which must find nothing loaded
    import ssl  # noqa: PLC0415

    from botocore.client import BaseClient  # noqa: PLC0415

    made = {
        f"has made a {type(thing).__name__}"
        for thing in gc.get_objects()
        # An SSL context seeds OpenSSL's own randomness. aws.py seeds `random` when the first client is made.
        if isinstance(thing, (socket.socket, ssl.SSLContext, BaseClient))
        or (type(thing) is random.Random and thing is not random._inst)
    }
    kept = {
        f"keeps what {module}.{name} made"
        for module, loaded in list(sys.modules.items())
        if module.startswith("copilot_metrics")
        for name, value in vars(loaded).items()
        if hasattr(value, "cache_info") and value.cache_info().currsize
    }
    return made | kept


if __name__ == "__main__":
    sys.stdout.write("\n".join(sorted(started(sys.argv[1]))))
