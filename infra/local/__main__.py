"""The local run: ``make run`` starts the database and the API, and keeps both until Ctrl-C."""

import argparse
import errno
import os
import socket
import sys
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from dotenv import load_dotenv

from infra.local.data import DataFolder, data_folder
from infra.local.database import clear_aws_environment, database
from infra.local.problem import Problem
from infra.stack import ROOT, Stack

PREFIX = "/plugins/copilot_metrics"


def main() -> int:
    """Run until stopped; return the exit code."""
    parser = argparse.ArgumentParser(prog="make run", description=__doc__)
    parser.add_argument("--port", type=int, default=8000, help="where the API listens (PORT=...)")
    parser.add_argument("--data", type=Path, default=ROOT / ".local", help="the data folder (DATA_DIR=...)")
    arguments = parser.parse_args()
    try:
        run(arguments.port, arguments.data.absolute())
    except Problem as problem:
        print(f"make run: {problem}", file=sys.stderr)
        return 1
    return 0


def run(port: int, path: Path) -> None:
    """Serve the API on loopback until stopped. Raises Problem where it can't be started."""
    load_dotenv(ROOT / ".env")
    clear_aws_environment()
    os.environ.setdefault("PLUGINS_ENABLED", "copilot_metrics")
    os.environ.setdefault("POWERTOOLS_LOG_LEVEL", "WARNING")
    with ExitStack() as stack:
        listening = stack.enter_context(_listen(port))
        data = stack.enter_context(data_folder(path, os.environ.get("COPILOT_METRICS__TOKEN_SECRET")))
        running = stack.enter_context(database(data.database, data.database_key, Stack.from_template()))
        os.environ.update(running.environment)
        os.environ["COPILOT_METRICS__TOKEN_SECRET"] = data.token_secret
        _greet(port, data)
        uvicorn.run(
            "infra.local.server:create_app",
            factory=True,
            fd=listening.fileno(),
            reload=True,
            reload_dirs=[str(ROOT / name) for name in ("functions", "shared", "infra")],
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=35,
        )
    print("Stopped.")


def _listen(port: int) -> socket.socket:
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        listening.close()
        if getattr(error, "errno", None) == errno.EADDRINUSE:
            raise Problem(f"Port {port} is in use: choose another with PORT=...") from None
        raise Problem(f"Port {port} can't be used ({error}): choose another with PORT=...") from None
    return listening


def _greet(port: int, data: DataFolder) -> None:
    url = f"http://localhost:{port}{PREFIX}"
    github = os.environ.get("COPILOT_METRICS__GITHUB_API_URL")
    lines = [
        f"Copilot Metrics is running at {url}",
        f"  data    {data.path} (the database, and the secret that its tokens are encrypted under)",
        *([f"  GitHub  {urlsplit(github).netloc.rpartition('@')[2]}"] if github else []),
        f"  try     curl {url}/health",
        f"  import  curl -X POST {url}/accounts/import"
        """ -H 'Content-Type: application/json' -d '{"token":"gho_xxx"}'""",
        "  stop    Ctrl-C",
    ]
    print("\n".join(lines), flush=True)


if __name__ == "__main__":
    sys.exit(main())
