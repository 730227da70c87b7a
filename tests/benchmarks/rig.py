"""What the functions are measured with: a database, a GitHub, a queue, and Lambda's Python with the built layer."""

import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from infra.local.database import database
from infra.stack import ROOT
from tests.benchmarks.measuring import scratch
from tests.benchmarks.probe import MARK
from tests.end_to_end.parts import KEY, SECRET, STACK
from tests.end_to_end.running import PREFIX
from tests.stand_ins.github import GitHubStandIn
from tests.stand_ins.sqs import CountingQueue

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

BUILT: Final = ROOT / ".aws-sam" / "build"
LAYER: Final = BUILT / "SharedLayer" / "python"
PYTHON: Final = ROOT / ".tools" / "runtime" / "bin" / "python"
"""Of Lambda's version, with Lambda's own packages."""
PROBE: Final = Path(__file__).with_name("probe.py")
Event = dict[str, Any]


@dataclass(frozen=True)
class Rig:
    """What is running."""

    database: "DynamoDBClient"
    github: GitHubStandIn
    environment: dict[str, str]
    """For functions."""

    def probe(self, function: str, **environment: str) -> "Probe":
        """Return a process that holds a function, named as in the template."""
        return Probe(
            [str(PYTHON), str(PROBE), str(BUILT / function / "handler.py")], {**self.environment, **environment}
        )


@contextmanager
def rig(latency: float = 0.0) -> Iterator[Rig]:
    """Run it all, with empty tables."""
    with scratch() as folder, GitHubStandIn(latency=latency) as github, CountingQueue() as queue:
        files = Path(folder) / "database"
        files.mkdir()
        with database(files, KEY, STACK) as running:
            environment = {
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(LAYER),
                "PYTHONDONTWRITEBYTECODE": "1",
                **running.environment,
                "AWS_ENDPOINT_URL_SQS": queue.url,
                "PLUGINS_ENABLED": "copilot_metrics",
                "COPILOT_METRICS__TOKEN_SECRET": SECRET.key.hex(),
                "COPILOT_METRICS__GITHUB_API_URL": github.url,
                "COPILOT_METRICS__FETCH_QUEUE_URL": f"{queue.url}/000000000000/fetch",
                "COPILOT_METRICS__DISPATCH_FUNCTION": "dispatch",
                "POWERTOOLS_METRICS_DISABLED": "true",
                "POWERTOOLS_LOG_LEVEL": "ERROR",
            }
            yield Rig(running.client(), github, environment)


class Probe:
    """A process that holds a function, while it is entered. See probe.py."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """Take what to run."""
        self._command = command
        self._environment = environment

    def __enter__(self) -> Self:
        """Start."""
        self.started = time.monotonic()
        self._process = subprocess.Popen(
            self._command, env=self._environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.loaded: float = self._said()["loaded"]
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop."""
        self._process.communicate()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def call(self, *events: Event, measured: bool = True, files: bool = False) -> dict[str, Any]:
        """Call the function with each event; return what that took. Raises AssertionError where a call failed."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"events": events, "measured": measured, "files": files}) + "\n")
        self._process.stdin.flush()
        said = self._said()
        assert all(call["status"] in {None, 200, 202, 204} for call in said["calls"]), said["calls"]
        return said

    def _said(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(MARK):
                return dict(json.loads(line.removeprefix(MARK)))
        raise AssertionError(f"{self._command} ended")


def request(
    method: str,
    route: str,
    *,
    query: dict[str, str] | None = None,
    body: object = None,
    encoding: str = "identity",
) -> Event:
    """Return API Gateway's event (payload format 2.0) for a path below the plugin's; ``/metrics/7`` has an account."""
    head, _, last = route.rpartition("/")
    parameters = {"account_id": last} if last.isdigit() else {}
    pattern = f"{head}/{{account_id}}" if parameters else route
    event: Event = {
        "version": "2.0",
        "routeKey": f"{method} {PREFIX}{pattern}",
        "rawPath": PREFIX + route,
        "headers": {"host": "api.example", "content-type": "application/json", "accept-encoding": encoding},
        "requestContext": {"domainName": "api.example", "http": {"method": method, "path": PREFIX + route}},
        "isBase64Encoded": False,
    }
    if parameters:
        event["pathParameters"] = parameters
    if query:
        event["queryStringParameters"] = query
    if body is not None:
        event["body"] = json.dumps(body)
    return event


def messages(account_ids: Sequence[int], due: str) -> Event:
    """Return the queue's event for some accounts."""
    return {
        "Records": [
            {
                "messageId": str(account_id),
                "receiptHandle": str(account_id),
                "body": json.dumps({"account_id": account_id, "due": due}),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "md5OfBody": "",
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:fetch",
                "awsRegion": "us-east-1",
            }
            for account_id in account_ids
        ]
    }
