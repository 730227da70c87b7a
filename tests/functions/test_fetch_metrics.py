"""POST /metrics/fetch/{account_id}."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import respx

from tests.conftest import PAYLOADS, Invoke
from tests.functions.conftest import CANARY, FetchMetrics, ImportAccount, assert_problem

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

USAGE = "/copilot_internal/user"


def fetch(invoke: Invoke, account_id: int = 1) -> Any:
    return invoke("fetch_metrics", parameters={"account_id": str(account_id)})


def test_a_fetch_answers_the_new_metrics_id(
    invoke: Invoke, import_account: ImportAccount, github_api: respx.MockRouter, hunt: Callable[..., None]
) -> None:
    import_account()
    route = github_api.get(USAGE).respond(text=PAYLOADS["pro_plus_credits"])
    answers = [fetch(invoke), fetch(invoke)]
    assert [answer.text for answer in answers] == ['{"metrics_id": 1}', '{"metrics_id": 2}']
    assert route.calls.last.request.headers["authorization"] == f"Bearer {CANARY}"
    hunt(*answers)


@pytest.mark.parametrize(
    ("github", "status", "code"),
    [
        ({"status_code": 401, "json": {"message": f"Bad credentials {CANARY}"}}, 401, "github_token_refused"),
        ({"status_code": 403, "json": {"message": "Resource not accessible"}}, 401, "github_token_refused"),
        ({"status_code": 404, "json": {"message": "Not Found"}}, 401, "github_token_refused"),
        ({"status_code": 403, "headers": {"x-ratelimit-remaining": "0"}}, 429, "github_rate_limited"),
        ({"status_code": 429}, 429, "github_rate_limited"),
        ({"status_code": 500, "text": CANARY}, 502, "github_failed"),
        ({"text": "[]"}, 502, "github_failed"),
        ({"json": {"echo": CANARY}}, 502, "github_failed"),
        ({"json": {"filler": "x" * 500_000}}, 413, "payload_too_large"),
    ],
)
def test_what_github_says_is_answered_and_the_last_metrics_stay(
    invoke: Invoke,
    import_account: ImportAccount,
    fetch_metrics: FetchMetrics,
    github_api: respx.MockRouter,
    hunt: Callable[..., None],
    github: dict[str, Any],
    status: int,
    code: str,
) -> None:
    import_account()
    fetch_metrics(1, "{}")
    github_api.get(USAGE).respond(**github)
    answer = fetch(invoke)
    assert_problem(answer, status, code)
    assert ("retry-after" in answer.headers) == (status == 429)
    assert invoke("get_latest_metrics", parameters={"account_id": "1"}).json["id"] == 1
    hunt(answer)


def test_an_unknown_account_is_not_found(invoke: Invoke, import_account: ImportAccount) -> None:
    import_account()
    assert_problem(fetch(invoke, 2), 404, "account_not_found")


def test_another_secret_is_said_and_asks_nobody(
    invoke: Invoke,
    import_account: ImportAccount,
    github_api: respx.MockRouter,
    environment: pytest.MonkeyPatch,
    hunt: Callable[..., None],
) -> None:
    import_account()
    route = github_api.get(USAGE)
    environment.setenv("COPILOT_METRICS__TOKEN_SECRET", "ee" * 32)
    from copilot_metrics.settings import settings  # noqa: PLC0415  # after the fixture cleared it

    settings.cache_clear()
    answer = fetch(invoke)
    assert_problem(answer, 503, "token_unreadable")
    assert not route.called
    hunt(answer)


def test_a_record_moved_to_another_account_does_not_open(
    invoke: Invoke, import_account: ImportAccount, tables: "DynamoDBClient", github_api: respx.MockRouter
) -> None:
    import_account(1001)
    import_account(1002, "gho_other")
    name = "copilot_github_accounts"
    item = tables.get_item(TableName=name, Key={"id": {"N": "1"}})["Item"]
    tables.put_item(TableName=name, Item={**item, "id": {"N": "2"}})
    route = github_api.get(USAGE)
    assert_problem(fetch(invoke, 2), 503, "token_unreadable")
    assert not route.called


@pytest.mark.parametrize("damage", [{"S": "x"}, None], ids=["not base64", "missing"])
def test_a_damaged_record_is_said(
    invoke: Invoke, import_account: ImportAccount, tables: "DynamoDBClient", damage: Any
) -> None:
    import_account()
    name = "copilot_github_accounts"
    item = tables.get_item(TableName=name, Key={"id": {"N": "1"}})["Item"]
    item = {key: value for key, value in item.items() if key != "token_ciphertext"}
    tables.put_item(TableName=name, Item=item | ({"token_ciphertext": damage} if damage else {}))
    assert_problem(fetch(invoke), 503, "token_unreadable")
