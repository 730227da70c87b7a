"""GET /health."""

from typing import TYPE_CHECKING

import pytest

from tests.conftest import SECRET, Invoke

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient


@pytest.mark.usefixtures("tables")
def test_all_is_there(invoke: Invoke) -> None:
    answer = invoke("check_health")
    assert (answer.status, answer.json) == (200, {"status": "ok", "database": "ok", "secret": "ok"})


@pytest.mark.parametrize("table", ["copilot_github_accounts", "copilot_metrics"])
def test_a_missing_table_is_said(invoke: Invoke, tables: "DynamoDBClient", table: str) -> None:
    tables.delete_table(TableName=table)
    answer = invoke("check_health")
    assert answer.status == 503
    assert answer.json["status"] == "unavailable"
    assert "tables are missing" in answer.json["database"]
    assert answer.json["secret"] == "ok"


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("secret", ["", SECRET[:-1]])
def test_a_missing_secret_is_said(invoke: Invoke, environment: pytest.MonkeyPatch, secret: str) -> None:
    environment.setenv("COPILOT_METRICS__TOKEN_SECRET", secret)
    answer = invoke("check_health")
    assert answer.status == 503
    assert answer.json["secret"].startswith("COPILOT_METRICS__TOKEN_SECRET not configured: ")
    assert not secret or secret not in answer.text
    assert answer.json["database"] == "ok"
