"""``make sam-local``: the built functions in Docker containers behind SAM CLI, with the local database."""

import json
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from infra.local.problem import Problem
from infra.local.services import command, listen, services
from infra.stack import ROOT

HOST = "host.docker.internal"
"""This machine, as containers know it."""


def run(port: int, path: Path) -> None:
    """Serve the API on loopback until stopped. Raises Problem where it can't be started."""
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:  # noqa: S607  # the user's
        raise Problem("SAM CLI runs functions in Docker, which doesn't answer: start it, or use: make run")
    listen(port).close()
    with services(path) as data, tempfile.NamedTemporaryFile("w", dir=data.path, suffix=".json") as variables:
        address = os.environ["AWS_ENDPOINT_URL_DYNAMODB"].replace("127.0.0.1", HOST)
        kept = {name: value for name, value in os.environ.items() if name.startswith(("COPILOT_", "PLUGINS_"))}
        # In a file that only this user can read: a command line is everybody's.
        json.dump({"Parameters": {**kept, "AWS_ENDPOINT_URL_DYNAMODB": address}}, variables)
        variables.flush()
        sam = shlex.split(os.environ.get("SAM", "sam"))
        options = ["--port", str(port), "--env-vars", variables.name, "--add-host", f"{HOST}:host-gateway"]
        subprocess.run(  # noqa: S603  # ours
            ["env", *sam, "local", "start-api", "--config-env", "local", *options],  # noqa: S607  # everywhere
            cwd=ROOT,
            # SAM CLI would ask Docker for the database at this machine's own address.
            env={name: value for name, value in os.environ.items() if name != "AWS_ENDPOINT_URL_DYNAMODB"},
            check=False,
        )


if __name__ == "__main__":
    sys.exit(command("make sam-local", str(__doc__), run))
