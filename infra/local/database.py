"""Starting and stopping DynamoDB Local."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from infra.local.engine import engine, java
from infra.local.problem import Problem
from infra.stack import ROOT, Stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

ENGINE_FOLDER: Final = ROOT / ".tools"
REGION: Final = "us-east-1"
START_SECONDS: Final = 60

# Ends the database when this process ends, however it does: its end of the pipe on standard input closes then.
GUARD: Final = 'exec 3<&0; "$@" 3<&- & child=$!; (cat <&3 >/dev/null; kill "$child" 2>/dev/null) & wait "$child"'


@dataclass(frozen=True)
class Database:
    """A running DynamoDB Local."""

    port: int
    environment: Mapping[str, str]
    """What a process needs in its environment for boto3 to use this database."""
    running: Callable[[], bool]

    def client(self) -> "DynamoDBClient":
        """Return a client that doesn't depend on this process's environment."""
        return boto3.client(
            "dynamodb",
            endpoint_url=self.environment["AWS_ENDPOINT_URL_DYNAMODB"],
            region_name=self.environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=self.environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=self.environment["AWS_SECRET_ACCESS_KEY"],
            config=Config(connect_timeout=1, read_timeout=10, retries={"total_max_attempts": 1}, proxies={}),
        )


@contextmanager
def database(folder: Path, access_key_id: str, stack: Stack, *, port: int | None = None) -> Iterator[Database]:
    """Run DynamoDB Local on the files in ``folder``, with the stack's tables, until the block ends.

    Raises Problem where it doesn't start.
    """
    home = engine(ENGINE_FOLDER)
    port = port or _free_port()
    command = [
        java(),
        f"-Djava.library.path={home / 'DynamoDBLocal_lib'}",
        *("-jar", str(home / "DynamoDBLocal.jar")),
        *("-port", str(port), "-dbPath", str(folder.resolve()), "-disableTelemetry"),
    ]
    log_file = folder.parent / "database.log"
    with log_file.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603  # the guard and java, found above
            ["/bin/sh", "-c", GUARD, "sh", *command],
            cwd=home,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is for the server, which still needs the database to finish its requests
        )
        running = Database(
            port=port,
            running=lambda: process.poll() is None,
            environment={
                "AWS_ENDPOINT_URL_DYNAMODB": f"http://127.0.0.1:{port}",
                "AWS_ACCESS_KEY_ID": access_key_id,
                "AWS_SECRET_ACCESS_KEY": "unused",
                "AWS_DEFAULT_REGION": REGION,
                "AWS_REGION": REGION,
                # A proxy for the world isn't one for this machine's own database.
                "NO_PROXY": "localhost,127.0.0.1",
                "no_proxy": "localhost,127.0.0.1",
                # Whatever this machine's own profiles say doesn't apply here.
                "AWS_CONFIG_FILE": os.devnull,
                "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            },
        )
        try:
            _prepare(running, process, stack, log_file)
            yield running
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(timeout=30)


def _prepare(running: Database, process: subprocess.Popen[bytes], stack: Stack, log_file: Path) -> None:
    client = running.client()
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            existing = client.list_tables()["TableNames"]
            for table in stack.tables:
                if table["TableName"] in existing:
                    _add_indexes(client, table)
                else:
                    client.create_table(**table)
                client.scan(TableName=table["TableName"], Limit=1)
        except ClientError as error:
            # It answers, so waiting won't help.
            raise _unusable(log_file, error.response["Error"]["Code"]) from None
        except BotoCoreError as error:
            if process.poll() is not None or time.monotonic() > end:
                raise _unusable(log_file, type(error).__name__) from None
            time.sleep(0.1)
        else:
            return


def _add_indexes(client: "DynamoDBClient", table: dict[str, Any]) -> None:
    """Give a table, which an earlier version may have made, the indexes that it lacks, one at a time."""
    name = table["TableName"]
    for index in table.get("GlobalSecondaryIndexes", []):
        if index["IndexName"] in _indexes(client, name):
            continue
        client.update_table(
            TableName=name,
            AttributeDefinitions=table["AttributeDefinitions"],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )
        while _indexes(client, name).get(index["IndexName"]) != "ACTIVE":
            time.sleep(0.1)


def _indexes(client: "DynamoDBClient", table: str) -> dict[str, str]:
    """Return the statuses of a table's indexes by their names."""
    described = client.describe_table(TableName=table)["Table"].get("GlobalSecondaryIndexes", [])
    return {index["IndexName"]: index["IndexStatus"] for index in described}


def _unusable(log_file: Path, reason: str) -> Problem:
    return Problem(
        f"The database in {log_file.parent} can't be opened ({reason}): {log_file} may say why; "
        "restore the folder, or choose another with DATA_DIR=..."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def clear_aws_environment() -> None:
    """Forget this machine's own AWS settings: a local run must never reach a real account."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
