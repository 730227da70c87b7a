"""What both local runs share: their options, and the database and secret that they put into the environment."""

import argparse
import errno
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dotenv.parser import parse_stream

from copilot_metrics.errors import SettingInvalid
from copilot_metrics.settings import Settings
from infra.local.aws import aws, create_queues
from infra.local.data import DataFolder, data_folder
from infra.local.database import Database, clear_aws_environment, database
from infra.local.problem import Problem
from infra.stack import ROOT, Stack

PREFIX = "/plugins/copilot_metrics"
PARAMETER = "/copilot-metrics/token-secret"
RUNNING = "running.json"
DECLARED_BY_TEMPLATE = (
    "COPILOT_METRICS__ACCOUNTS_TABLE",
    "COPILOT_METRICS__METRICS_TABLE",
    "COPILOT_METRICS__API_KEYS_TABLE",
    "COPILOT_METRICS__TOKEN_SECRET_PARAMETER",
)


@dataclass(frozen=True)
class Services:
    """What the API of a local run stands on."""

    data: DataFolder
    database: Database

    def check(self) -> None:
        """Raise Problem where the API can't go on."""
        if not self.database.running():
            raise Problem(
                f"The database has ended: {self.data.path / 'database.log'} may say why; everything that was answered "
                "is kept, so start again"
            )


def command(program: str, description: str, run: Callable[[int, Path], None]) -> int:
    """Run a command that takes a port and a data folder; return its exit code, 1 after a Problem was printed.

    Variables come from the environment, then from the file .env.
    """
    parser = argparse.ArgumentParser(prog=program, description=description)
    parser.add_argument("--port", type=int, default=8000, help="where the API listens (PORT=...)")
    parser.add_argument("--data", type=Path, default=ROOT / ".local", help="the data folder (DATA_DIR=...)")
    arguments = parser.parse_args()
    try:
        for name, value in variables(ROOT / ".env").items():
            os.environ.setdefault(name, value)
        Settings.from_environment(os.environ)
        run(arguments.port, arguments.data.absolute())
    except (Problem, SettingInvalid) as problem:
        print(f"{program}: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def variables(file: Path) -> dict[str, str]:
    """Read a file of lines ``NAME=value``; there may be none. Raises Problem, which doesn't show what a line says."""
    if not file.exists():
        return {}
    read = {}
    try:
        with file.open(encoding="utf-8") as lines:
            for binding in parse_stream(lines):
                if binding.error or (binding.key is not None and binding.value is None):
                    raise Problem(f"{file}, line {binding.original.line}: write it as NAME=value")
                if binding.key is not None and binding.value is not None:
                    read[binding.key] = binding.value
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{file} can't be read ({type(error).__name__}): it must be a file of UTF-8 text") from None
    return read


@contextmanager
def services(path: Path, host: str = "127.0.0.1") -> Iterator[Services]:
    """Keep the database running, and this process's environment set for it, until the block ends. Raises Problem.

    What else there is of AWS listens on ``host``; the database, which can't be told, on all addresses.
    """
    clear_aws_environment()
    for name in DECLARED_BY_TEMPLATE:
        os.environ.pop(name, None)
    os.environ.setdefault("PLUGINS_ENABLED", "copilot_metrics")
    os.environ.setdefault("POWERTOOLS_METRICS_DISABLED", "true")
    os.environ.setdefault("COPILOT_METRICS__ALLOWED_PROXIES", "localhost,127.0.0.0/8,::1")
    stack = Stack.from_template()
    own_secret = os.environ.get("COPILOT_METRICS__TOKEN_SECRET")
    with (
        data_folder(path, own_secret) as data,
        database(data.database, data.database_key, stack) as running,
        aws(data.database_key, running.environment, host) as emulated,
    ):
        urls = create_queues(emulated.sqs, stack.queues)
        environment = {
            **running.environment,
            **emulated.environment,
            **urls,
            "COPILOT_METRICS__FETCH_QUEUE_URL": urls["FetchQueue"],
            "COPILOT_METRICS__DISPATCH_FUNCTION": "DispatchFetches",
        }
        if own_secret is None:
            # Kept as in AWS, so that it can be changed in the same way.
            emulated.keep_secret(PARAMETER, data.token_secret)
            environment["COPILOT_METRICS__TOKEN_SECRET_PARAMETER"] = PARAMETER
        os.environ.update(environment)
        with _announced(path / RUNNING, environment):
            yield Services(data, running)


def running_environment(path: Path) -> dict[str, str]:
    """Return the environment of the local run that uses a data folder. Raises Problem where it can't be read."""
    try:
        announced: dict[str, str] = json.loads((path / RUNNING).read_text())
    except (OSError, ValueError):
        raise Problem(f"The local run that uses {path} isn't ready yet, or is an older one: try again") from None
    return announced


@contextmanager
def _announced(file: Path, environment: Mapping[str, str]) -> Iterator[None]:
    """Tell other commands of this user how to reach what runs, until the block ends."""
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as opened:
        json.dump(dict(environment), opened)
    new.replace(file)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def listen(port: int) -> socket.socket:
    """Return a socket bound to a port on loopback. Raises Problem where that can't be had."""
    if port < 1:
        raise Problem(f"Port {port} can't be used: choose another with PORT=...")
    # Named TCP: asyncio only then sends answers at once (TCP_NODELAY), and not after 40 ms.
    listening = socket.socket(proto=socket.IPPROTO_TCP)
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
