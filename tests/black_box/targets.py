"""What the black-box tests can be run against, each started as its user starts it.

``TARGET`` in the environment names one: ``local`` (``make run``, the default), ``sam`` (``make sam-local``), ``stack``
(the template, deployed to a stand-in for AWS), or ``deployed`` (a service that runs somewhere: ``URL``, ``KEY``).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from infra.stack import ROOT
from tests.end_to_end.running import PREFIX, LocalRun, free_port, user_environment
from tests.stand_ins.github import GitHubStandIn

START_SECONDS = 180


@dataclass(frozen=True)
class Target:
    """A service to call."""

    name: str
    url: str
    """Where it listens, without the prefix."""
    write_key: str
    read_key: str | None
    github: GitHubStandIn | None
    """What stands in for GitHub; None where GitHub itself is asked."""
    host: str | None = None
    """The name that requests are for, where it isn't the address's."""
    log: Callable[[], str] = str
    """Everything it has printed."""
    clients: list[httpx.Client] = field(default_factory=list)

    def client(self, key: str | None) -> httpx.Client:
        """Return a client that sends a key, or none."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        if self.host is not None:
            headers["host"] = self.host
        client = httpx.Client(base_url=self.url + PREFIX, headers=headers, timeout=60, trust_env=False)
        self.clients.append(client)
        return client

    def import_account(self, client: httpx.Client, token: str) -> int:
        """Import an account and return its id."""
        answer = client.post("/accounts/import", json={"token": token})
        assert answer.status_code == 200, answer.text
        return int(answer.json()["account_id"])

    def fetch_metrics(self, client: httpx.Client, account_id: int) -> int:
        """Fetch an account's metrics and return their id."""
        answer = client.post(f"/metrics/fetch/{account_id}")
        assert answer.status_code == 200, answer.text
        return int(answer.json()["metrics_id"])


def everything(client: httpx.Client, path: str) -> list[Any]:
    """Follow a list's links to its end."""
    items: list[Any] = []
    while path:
        answer = client.get(path)
        assert answer.status_code == 200, answer.text
        items += answer.json()
        url = urlsplit(answer.links.get("next", {}).get("url", ""))
        assert not url.path or url.path.startswith(PREFIX)
        path = f"{url.path.removeprefix(PREFIX)}?{url.query}" if url.path else ""
    return items


def made_key(scope: str, *target: str, **environment: str) -> str:
    """Make an API key by the administrator's command."""
    made = subprocess.run(
        [sys.executable, "-m", "infra.admin.api_keys", *target, "make", "--name", "a test", "--scope", scope],
        cwd=ROOT,
        env=user_environment() | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return made.stdout.split()[-1]


@contextmanager
def local(folder: Path) -> Iterator[Target]:
    """``make run AUTH=on``."""
    with GitHubStandIn() as github, LocalRun(folder / "data", github.url, AUTH="on") as running:
        write_key, read_key = (made_key(scope, "--data", str(running.data)) for scope in ("write", "read"))
        url = f"http://127.0.0.1:{running.port}"
        yield Target("local", url, write_key, read_key, github, log=running.log.read_text)


@contextmanager
def sam(folder: Path) -> Iterator[Target]:
    """``make sam-local AUTH=on``, built and with Docker running."""
    port, log, data = free_port(), folder / "sam.log", folder / "data"
    with GitHubStandIn(host="0.0.0.0") as github, log.open("wb") as output:  # noqa: S104  # containers ask it
        address = github.url.replace("127.0.0.1", "host.docker.internal")
        environment = {"COPILOT_METRICS__GITHUB_API_URL": address, "AUTH": "on"}
        environment["SAM"] = str(ROOT / ".tools" / "sam" / "bin" / "sam")
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.sam", "--port", str(port), "--data", str(data)],
            cwd=ROOT,
            env=user_environment() | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait(f"http://127.0.0.1:{port}", process, log)
            write_key, read_key = (made_key(scope, "--data", str(data)) for scope in ("write", "read"))
            yield Target("sam", f"http://127.0.0.1:{port}", write_key, read_key, github, log=log.read_text)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


@contextmanager
def deployed(_folder: Path) -> Iterator[Target]:
    """A service that runs already, with GitHub itself behind it."""
    url = os.environ["URL"].removesuffix("/").removesuffix(PREFIX)
    yield Target("deployed", url, os.environ["KEY"], os.environ.get("READ_KEY") or None, None)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            if httpx.get(f"{url}{PREFIX}/health", timeout=30, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.5)
