"""A process that dies between any two of its steps leaves nothing half done, and the next call works."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import respx
from botocore.client import BaseClient

from tests.conftest import PAYLOADS, Invoke, github_user

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PAYLOAD = PAYLOADS["free_current"]
STEPS = 8
"""More than any of these calls has."""


class Died(BaseException):
    """As SIGKILL: nothing in the service may catch it."""


@pytest.fixture
def github(github_api: respx.MockRouter) -> None:
    github_api.get("/user").respond(json=github_user(1001))
    github_api.get("/copilot_internal/user").respond(text=PAYLOAD)


CALLS: dict[str, Callable[[Invoke], Any]] = {
    "first import": lambda invoke: invoke("import_account", body={"token": "gho_first"}),
    "second import": lambda invoke: invoke("import_account", body={"token": "gho_second"}),
    "fetch": lambda invoke: invoke("fetch_metrics", parameters={"account_id": "1"}),
    "pause": lambda invoke: invoke("update_account", parameters={"account_id": "1"}, body={"paused": True}),
    "removal": lambda invoke: invoke("delete_account", parameters={"account_id": "1"}),
}


def assert_whole(tables: "DynamoDBClient") -> None:
    """Every record that is there has what belongs to it."""
    items = {int(item["id"]["N"]): item for item in tables.scan(TableName="copilot_github_accounts")["Items"]}
    snapshots = [item for item in tables.scan(TableName="copilot_metrics")["Items"] if item["id"] != {"N": "0"}]
    accounts = {account_id: item for account_id, item in items.items() if "kind" in item}
    for account_id, item in accounts.items():
        assert {"login", "token_ciphertext", "token_nonce", "token_salt", "created_at", "schedule"} <= set(item)
        assert items[-int(item["github_user_id"]["N"])]["account_id"] == {"N": str(account_id)}
        own = [int(snapshot["id"]["N"]) for snapshot in snapshots if snapshot["account_id"] == {"N": str(account_id)}]
        assert int(item.get("latest_metrics_id", {"N": "0"})["N"]) == max(own, default=0)
    for claim in (item for item_id, item in items.items() if item_id < 0):
        assert int(claim["account_id"]["N"]) in accounts
    known = {*accounts, *(account_id for account_id, item in items.items() if "removed_at" in item)}
    assert {int(snapshot["account_id"]["N"]) for snapshot in snapshots} <= known


@pytest.mark.parametrize("afterwards", [False, True], ids=["before the step", "after the step"])
@pytest.mark.parametrize("step", range(STEPS))
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.usefixtures("github")
def test_a_death_between_any_two_steps(
    invoke: Invoke,
    tables: "DynamoDBClient",
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    step: int,
    *,
    afterwards: bool,
) -> None:
    if call != "first import":
        assert CALLS["first import"](invoke).status == 200
        assert CALLS["fetch"](invoke).status == 200
    original = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore's one way out
    steps = 0

    def dying(client: BaseClient, operation: str, arguments: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps - 1 == step and not afterwards:
            raise Died
        answer = original(client, operation, arguments)
        if steps - 1 == step:
            raise Died
        return answer

    with monkeypatch.context() as mortal:
        mortal.setattr(BaseClient, "_make_api_call", dying)
        try:
            assert CALLS[call](invoke).status in {200, 204}
        except Died:
            assert steps == step + 1
        else:
            assert steps <= step < STEPS
    assert_whole(tables)
    again = CALLS[call](invoke)
    assert again.status in ({204, 404} if call == "removal" else {200}), again.text
    assert_whole(tables)
    if call != "removal":
        known = {"account_id": str(again.json.get("account_id", 1))}  # a death may leave a gap in the ids
        assert invoke("fetch_metrics", parameters=known).status == 200
        assert invoke("get_latest_metrics", parameters=known).status == 200
