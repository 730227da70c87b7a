"""``make sam-local``: the built functions in Docker containers behind SAM CLI, with the local database."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from copilot_metrics.settings import Settings
from infra.local.problem import Problem
from infra.local.server import keys_needed
from infra.local.services import command, listen, services
from infra.stack import ROOT

HOST = "host.docker.internal"
"""This machine, as containers know it."""
EVERYWHERE = "0.0.0.0"  # noqa: S104  # containers come from another network; what is served wants a key


def run(port: int, path: Path) -> None:
    """Serve the API on loopback until stopped. Raises Problem where it can't be started."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:  # noqa: S607  # the user's
        raise Problem("SAM CLI runs functions in Docker, which doesn't answer: start it, or use: make run")
    closed = keys_needed(os.environ)
    listen(port).close()
    with (
        services(path, EVERYWHERE) as running,
        tempfile.NamedTemporaryFile("w", dir=running.data.path, suffix=".json") as variables,
    ):
        own = {name: value for name, value in os.environ.items() if name.startswith(("COPILOT_", "PLUGINS_"))}
        values = {
            # SAM CLI takes a reference to a table for the table's logical id.
            "COPILOT_METRICS__ACCOUNTS_TABLE": Settings.accounts_table,
            "COPILOT_METRICS__METRICS_TABLE": Settings.metrics_table,
            "COPILOT_METRICS__API_KEYS_TABLE": Settings.api_keys_table,
            **own,
            "COPILOT_METRICS__FETCH_QUEUE_URL": _from_container(own["COPILOT_METRICS__FETCH_QUEUE_URL"]),
            "AWS_ENDPOINT_URL_DYNAMODB": _from_container(os.environ["AWS_ENDPOINT_URL_DYNAMODB"]),
            "AWS_ENDPOINT_URL": _from_container(os.environ["AWS_ENDPOINT_URL_SQS"]),
        }
        # In a file that only this user can read: a command line is everybody's.
        json.dump({"Parameters": values}, variables)
        variables.flush()
        options = ["--port", str(port), "--env-vars", variables.name, "--add-host", f"{HOST}:host-gateway"]
        options += [] if closed else ["--disable-authorizer"]
        process = subprocess.Popen(  # noqa: S603  # ours
            [os.environ.get("SAM", "sam"), "local", "start-api", "--config-env", "local", *options],
            cwd=ROOT,
            # SAM CLI would take these addresses for its own calls of AWS.
            env={name: value for name, value in os.environ.items() if not name.startswith("AWS_ENDPOINT_URL")},
            start_new_session=True,  # it removes its containers when it is terminated, not at Ctrl-C
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            _remove_containers()


def _from_container(url: str) -> str:
    return url.replace("127.0.0.1", HOST).replace(EVERYWHERE, HOST)


def _remove_containers() -> None:
    """Remove what SAM CLI leaves behind when it is stopped while it starts or under load."""
    for function in (ROOT / ".aws-sam" / "build").iterdir():
        own = ["--filter", "label=sam.cli.container.type=lambda", "--filter", f"volume={function}"]
        left = subprocess.run(["docker", "ps", "-aq", *own], capture_output=True, text=True, check=False).stdout.split()  # noqa: S603, S607  # the user's docker
        if left:
            subprocess.run(["docker", "rm", "-f", *left], capture_output=True, check=False)  # noqa: S603, S607  # the same


if __name__ == "__main__":
    sys.exit(command("make sam-local", str(__doc__), run))
