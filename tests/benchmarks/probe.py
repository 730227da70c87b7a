"""A process that holds one function, as Lambda does, and says what its calls take. Needs nothing but the layer.

``python probe.py handler.py`` prints when it has loaded the function; then it reads a JSON list of events from each
line of its input, calls the function with each, and prints a line of JSON with what every call took. Both times are
on the machine's monotonic clock, so that whoever started the process can tell what the start took.
"""

import importlib.util
import json
import re
import socket
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

MARK = "probe: "
"""Tells this process's lines from the function's log."""
KINDS = {"GetItem": "read", "Query": "read", "BatchGetItem": "read", "TransactWriteItems": "transacted"}
"""What an operation's units count as, where not as written."""


class Timed:
    """How long some functions run: the time during which at least one thread is in one of them."""

    def __init__(self, *places: tuple[Any, str]) -> None:
        """Take the functions, each by its owner and name; all of one kind share the time."""
        self.seconds = 0.0
        self._lock = threading.Lock()
        self._inside = 0
        self._since = 0.0
        for owner, name in places:
            setattr(owner, name, self._timed(getattr(owner, name)))

    def _timed(self, operation: Any) -> Any:
        def timed(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                if not self._inside:
                    self._since = time.perf_counter()
                self._inside += 1
            try:
                return operation(*arguments, **options)
            finally:
                with self._lock:
                    self._inside -= 1
                    if not self._inside:
                        self.seconds += time.perf_counter() - self._since

        return timed


def timers() -> dict[str, Timed]:
    """Return what is timed: waiting for sockets, the clients' calls (with that), and Argon2."""
    from botocore.client import BaseClient  # noqa: PLC0415  # the function's own, once that is loaded

    github, vault = (sys.modules.get(f"copilot_metrics.{name}") for name in ("github", "vault"))
    return {
        "waited": Timed(*((socket.socket, name) for name in ("connect", "recv", "recv_into", "send", "sendall"))),
        "called": Timed((BaseClient, "_make_api_call"), *([(github.GitHubClient, "_get")] if github else [])),
        "derived": Timed(*([(vault, "hash_secret_raw")] if vault else [])),
    }


class Consumed:
    """What DynamoDB says that it would charge for (ReturnConsumedCapacity), and how often it was asked."""

    def __init__(self) -> None:
        from copilot_metrics import aws  # noqa: PLC0415  # the function's own, once that is loaded

        self.units: Counter[str] = Counter()
        self._lock = threading.Lock()
        session: Any = aws._session()
        session.register("provide-client-params.dynamodb", self._ask)
        session.register("after-call.dynamodb", self._add)

    @staticmethod
    def _ask(**call: Any) -> dict[str, Any]:
        return {**call["params"], "ReturnConsumedCapacity": "INDEXES"}

    def _add(self, **call: Any) -> None:
        found = call["parsed"].get("ConsumedCapacity", [])
        with self._lock:
            self.units["requests"] += 1
            for consumed in found if isinstance(found, list) else [found]:
                self.units[KINDS.get(call["model"].name, "written")] += consumed.get("CapacityUnits", 0)


class Context:
    """Lambda's, as far as the functions look at it."""

    function_name = "probe"
    aws_request_id = "probe"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:probe"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Return a long time."""
        return 10**8


def main() -> None:
    """Serve the input's lines."""
    spec = importlib.util.spec_from_file_location("handler", sys.argv[1])
    module = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]  # the file is there
    spec.loader.exec_module(module)  # type: ignore[union-attr]  # the same
    loaded = time.monotonic()
    say({"loaded": loaded})
    timed: dict[str, Timed] = {}
    consumed = None
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["measured"] and consumed is None:
            timed, consumed = timers(), Consumed()
        calls = []
        for event in asked["events"]:
            for timer in timed.values():
                timer.seconds = 0.0
            if consumed:
                consumed.units.clear()
            started, used = time.perf_counter(), time.process_time()
            answer = module.handler(event, Context())
            call: dict[str, Any] = {
                "ms": (time.perf_counter() - started) * 1000,
                "cpu": (time.process_time() - used) * 1000,
                "status": answer.get("statusCode"),
                "bytes": len(answer.get("body", "")),
                "link": answer.get("headers", {}).get("link"),
                "answer": {name: value for name, value in answer.items() if name not in {"body", "headers"}},
            }
            call |= {name: timer.seconds * 1000 for name, timer in timed.items()}
            if consumed:
                call |= consumed.units
            calls.append(call)
        used_files = sorted({str(m.__file__) for m in list(sys.modules.values()) if getattr(m, "__file__", None)})
        say(
            {
                "answered": time.monotonic(),
                "calls": calls,
                "kilobytes": peak_kilobytes(),
                "files": used_files if asked.get("files") else [],
            }
        )


def peak_kilobytes() -> int:
    """Return the most memory that this process has had; ``getrusage`` would count what its parent had, too."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert match is not None
    return int(match[1])


def say(what: dict[str, Any]) -> None:
    """Print one line."""
    print(MARK + json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
