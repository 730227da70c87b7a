"""The database, the queue and workers, each a process that a test can stop or kill alone."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from copilot_metrics.schemas import GitHubUser
from copilot_metrics.secret import TokenSecret, TokenSecrets
from copilot_metrics.tables import AccountTable, MetricsTable
from copilot_metrics.vault import TokenVault
from infra.local.aws import aws, create_queues
from infra.local.database import database
from infra.stack import ROOT, Stack
from tests.end_to_end.running import user_environment

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_sqs import SQSClient

SECRET = TokenSecret(bytes(range(32)))
STACK = Stack.from_template()
KEY = "PARTS0PARTS0PARTS0PA"

WORKER = """
import os, sys, threading
from infra.local.events import Events
from infra.stack import Stack
stack = Stack.from_template()
Events(stack, {queue.name: os.environ[queue.name] for queue in stack.queues}, "off").start()
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""

DISPATCH = """
import json, resource, sys, time
from infra.local.lambdas import Context, load
from infra.stack import Stack
(function,) = (schedule.function for schedule in Stack.from_template().schedules)
handler = load(function)
before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
queued = handler({"time": sys.argv[1]}, Context(function.name, seconds=10**6))["queued"]
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"queued": queued, "seconds": time.monotonic() - started, "kilobytes": after - before}))
"""


@dataclass(frozen=True)
class Parts:
    """What is running."""

    dynamodb: "DynamoDBClient"
    sqs: "SQSClient"
    queue_url: str
    dead_letter_url: str
    environment: dict[str, str]

    @property
    def accounts(self) -> AccountTable:
        return AccountTable(self.dynamodb, "copilot_github_accounts")

    @property
    def metrics(self) -> MetricsTable:
        return MetricsTable(self.dynamodb, "copilot_metrics", "copilot_github_accounts")

    def import_accounts(self, tokens: dict[int, str]) -> None:
        """Store an account with its token for each GitHub user."""
        vault = TokenVault(TokenSecrets([SECRET]))

        def importing(user_id: int) -> None:
            user = GitHubUser(id=user_id, login=f"octo-{user_id}", node_id=f"U_{user_id}", avatar_url="")
            token = tokens[user_id]
            self.accounts.upsert(user, lambda i: vault.seal(token, account_id=i, github_user_id=user_id))

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(importing, tokens))

    def dispatch(self, moment: str) -> dict[str, Any]:
        """Run dispatch_fetches in a process of its own; return what it queued, and what it took."""
        ended = self._python(DISPATCH, moment)
        return dict(json.loads(ended.splitlines()[-1]))

    def _python(self, script: str, *arguments: str) -> str:
        return subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    @contextmanager
    def worker(self, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Drain the queue in a process of its own, killed at the end where it still runs."""
        process = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            cwd=ROOT,
            env=self.environment | environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def left(self) -> int:
        """How many messages are in the queue, whether they can be received or not."""
        names: Any = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        attributes = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)["Attributes"]
        return sum(int(value) for value in attributes.values())

    def stored(self) -> list[int]:
        """The account of each snapshot."""
        pages = self.dynamodb.get_paginator("scan").paginate(
            TableName="copilot_metrics", ProjectionExpression="account_id, fetched_at"
        )
        return sorted(int(item["account_id"]["N"]) for page in pages for item in page["Items"] if "fetched_at" in item)

    def statuses(self) -> dict[int, str | None]:
        """How each GitHub user's last fetch ended."""
        found: dict[int, str | None] = {}
        after = None
        while True:
            page = self.accounts.newest_first(after=after)
            for account in page.items:
                found[account.github_user_id] = account.last_fetch.status if account.last_fetch else None
            after = page.after
            if after is None:
                return found


@contextmanager
def parts(folder: Path, github_url: str) -> Iterator[Parts]:
    """Run a database with its files in ``folder``, and a queue, until the block ends."""
    (folder / "database").mkdir(parents=True)
    with (
        database(folder / "database", KEY, STACK) as running,
        aws(KEY, running.environment) as emulated,
    ):
        urls = create_queues(emulated.sqs, STACK.queues)
        environment = {
            **user_environment(),
            **running.environment,
            **emulated.environment,
            **urls,
            "PLUGINS_ENABLED": "copilot_metrics",
            "COPILOT_METRICS__TOKEN_SECRET": SECRET.key.hex(),
            "COPILOT_METRICS__GITHUB_API_URL": github_url,
            "COPILOT_METRICS__FETCH_QUEUE_URL": urls["FetchQueue"],
            "POWERTOOLS_METRICS_DISABLED": "true",
            "POWERTOOLS_LOG_LEVEL": os.environ.get("POWERTOOLS_LOG_LEVEL", "ERROR"),
        }
        yield Parts(running.client(), emulated.sqs, urls["FetchQueue"], urls["FailedFetchQueue"], environment)
