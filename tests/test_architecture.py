"""The rules of docs/architecture.md that a machine can hold."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from infra.stack import ROOT, Stack

HANDLERS = sorted((ROOT / "functions").glob("*/handler.py"))
READING = [
    "list_accounts",
    "get_account",
    "get_latest_metrics",
    "list_latest_metrics",
    "check_health",
    "fetch_all_metrics",
    "delete_account",
]
HANDLERS_USE = (
    "api",
    "authorization",
    "batch",
    "dispatch",
    "health",
    "models",
    "removal",
    "schedule",
    "schemas",
    "service",
    "settings",
    "tables",
)
HEAVY = {"httpx", "httpcore", "argon2", "cryptography", "pydantic"}
FETCHING = ["fetch_metrics", "process_fetches"]


def test_modules_import_only_what_they_may() -> None:
    ended = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("function", READING)
def test_functions_that_only_read_start_without_what_only_others_need(function: str) -> None:
    loaded = modules_of(function)
    assert "copilot_metrics.api" in loaded
    assert not HEAVY & loaded


@pytest.mark.parametrize("function", FETCHING)
def test_functions_that_only_fetch_start_without_pydantic(function: str) -> None:
    loaded = modules_of(function)
    assert "httpx" in loaded
    assert "pydantic" not in loaded


@pytest.mark.parametrize("function", [handler.parent.name for handler in HANDLERS])
def test_no_function_starts_with_boto3(function: str) -> None:
    loaded = modules_of(function)
    assert "botocore" in loaded
    assert not {"boto3", "s3transfer"} & loaded


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.parent.name)
def test_a_started_function_has_nothing_that_many_must_not_share(handler: Path) -> None:
    """Source: AWS Lambda Developer Guide, handling uniqueness with SnapStart."""
    assert not done_at_start(handler)


def test_what_many_must_not_share_is_found_where_it_is(tmp_path: Path) -> None:
    handler = tmp_path / "handler.py"
    handler.write_text(
        "import os, random, socket, ssl, time, uuid\n"
        "from datetime import UTC, datetime\n"
        "from copilot_metrics.dynamodb import dynamodb\n"
        "client, numbers = dynamodb(), random.Random()\n"
        "connection, context = socket.socket(), ssl.create_default_context()\n"
        "values = time.monotonic(), datetime.now(UTC), os.urandom(8), uuid.uuid4()\n"
        "secret = os.environ.get('COPILOT_METRICS__TOKEN_SECRET')\n"
    )
    assert {
        "calls monotonic",
        "calls now",
        "calls urandom",
        "calls uuid4",
        "has made a DynamoDB",
        "has made a Random",
        "has made a SSLContext",
        "has made a socket",
        "keeps what copilot_metrics.aws._session made",
        "keeps what copilot_metrics.dynamodb.dynamodb made",
        "reads COPILOT_METRICS__TOKEN_SECRET",
    } <= done_at_start(handler)


def done_at_start(handler: Path) -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.started", handler], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(ended.stdout.split("\n")) - {""}


def modules_of(function: str) -> set[str]:
    """What a fresh process has loaded once it has a function's handler."""
    script = (
        f"import sys, runpy; runpy.run_path({str(ROOT / 'functions' / function / 'handler.py')!r}); print(*sys.modules)"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ended.stdout.split())


@pytest.mark.parametrize("handler", HANDLERS, ids=lambda handler: handler.parent.name)
def test_handlers_are_thin_and_stand_alone(handler: Path) -> None:
    source = handler.read_text()
    assert len(source.splitlines()) <= 25
    imported = {
        module
        for node in ast.walk(ast.parse(source))
        for module in (
            [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    allowed = {f"copilot_metrics.{name}" for name in HANDLERS_USE}
    assert imported <= allowed | {"json", "http"}


def test_every_function_is_invoked_by_something_in_the_template() -> None:
    assert sorted(function.handler for function in Stack.from_template().functions) == HANDLERS
