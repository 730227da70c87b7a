"""What the functions' tests share: accounts that are there, and the hunt for what must never be seen."""

import base64
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import respx

from tests.conftest import SECRET, Invoke, github_user

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

CANARY = "gho_canary5up3rs3cr3t"

ImportAccount = Callable[..., int]


@pytest.fixture
def import_account(invoke: Invoke, github_api: respx.MockRouter, tables: "DynamoDBClient") -> ImportAccount:
    """Import an account of a GitHub user and return its id."""
    assert tables is not None

    def importing(user_id: int = 1001, token: str = CANARY) -> int:
        github_api.get("/user").respond(json=github_user(user_id))
        answer = invoke("import_account", body={"token": token})
        assert answer.status == 200, answer.text
        return int(answer.json["account_id"])

    return importing


FetchMetrics = Callable[[int, str], int]


@pytest.fixture
def fetch_metrics(invoke: Invoke, github_api: respx.MockRouter) -> FetchMetrics:
    """Fetch an account's metrics from a GitHub that answers with a payload; return their id."""

    def fetching(account_id: int, payload: str) -> int:
        github_api.get("/copilot_internal/user").respond(text=payload)
        answer = invoke("fetch_metrics", parameters={"account_id": str(account_id)})
        assert answer.status == 200, answer.text
        return int(answer.json["metrics_id"])

    return fetching


def assert_problem(answer: Any, status: int, code: str) -> None:
    """An error has its status and code, and a sentence for people."""
    assert (answer.status, answer.json["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    assert answer.json["title"]
    assert len(answer.json["detail"]) > 10


def forms(text: str) -> list[str]:
    """How a text could hide."""
    raw = text.encode()
    return [text, raw.hex(), base64.b64encode(raw).decode().rstrip("=")[:-1]]


@pytest.fixture
def hunt(capfd: pytest.CaptureFixture[str], logged: io.StringIO, tables: "DynamoDBClient") -> Callable[..., None]:
    """Search answers, everything printed, logged and stored for a token and the secret."""

    def hunting(*answers: Any, token: str = CANARY) -> None:
        printed = capfd.readouterr()
        assert "request" in logged.getvalue()
        stored = [tables.scan(TableName=name)["Items"] for name in tables.list_tables()["TableNames"]]
        places = [
            json.dumps([answer.event for answer in answers]),
            printed.out,
            printed.err,
            logged.getvalue(),
            repr(stored),
        ]
        found = [form for form in (*forms(token), *forms(SECRET)) for place in places if form in place]
        assert found == []

    return hunting
