"""What both local runs share: their options, and the database and secret that they put into the environment."""

import argparse
import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dotenv import load_dotenv

from infra.local.data import DataFolder, data_folder
from infra.local.database import clear_aws_environment, database
from infra.local.problem import Problem
from infra.local.queue import queues
from infra.stack import ROOT, Stack

PREFIX = "/plugins/copilot_metrics"


def command(program: str, description: str, run: Callable[[int, Path], None]) -> int:
    """Run a command that takes a port and a data folder; return its exit code, 1 after a Problem was printed."""
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--port", type=int, default=8000, help="where the API listens (PORT=...)")
    parser.add_argument("--data", type=Path, default=ROOT / ".local", help="the data folder (DATA_DIR=...)")
    arguments = parser.parse_args()
    try:
        run(arguments.port, arguments.data.absolute())
    except Problem as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return 1
    return 0


@contextmanager
def services(path: Path) -> Iterator[DataFolder]:
    """Keep the database running, and this process's environment set for it, until the block ends.

    Variables come from the environment, then from the file .env. Raises Problem.
    """
    load_dotenv(ROOT / ".env")
    clear_aws_environment()
    os.environ.setdefault("PLUGINS_ENABLED", "copilot_metrics")
    os.environ.setdefault("POWERTOOLS_METRICS_DISABLED", "true")
    stack = Stack.from_template()
    with (
        data_folder(path, os.environ.get("COPILOT_METRICS__TOKEN_SECRET")) as data,
        database(data.database, data.database_key, stack) as running,
        queues(stack.queues, data.database_key, running.environment) as queue_environment,
    ):
        os.environ.update(running.environment)
        os.environ.update(queue_environment)
        os.environ["COPILOT_METRICS__FETCH_QUEUE_URL"] = queue_environment["FetchQueue"]
        os.environ["COPILOT_METRICS__DISPATCH_FUNCTION"] = "DispatchFetches"
        os.environ["COPILOT_METRICS__TOKEN_SECRET"] = data.token_secret
        yield data


def listen(port: int) -> socket.socket:
    """Return a socket bound to a port on loopback. Raises Problem where that can't be had."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        # Now, as a port can also be taken by somebody who bound it but listens first.
        listening.listen(1024)
    except (OSError, OverflowError) as error:
        listening.close()
        in_use = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        reason = "is in use" if in_use else f"can't be used ({error})"
        raise Problem(f"Port {port} {reason}: choose another with PORT=...") from None
    return listening
