"""Pausing an account, and removing it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx
from botocore.client import BaseClient

from copilot_metrics import tables as tables_module
from copilot_metrics.models import FetchRequest
from copilot_metrics.service import copilot_metrics_service
from tests.conftest import PAYLOADS, Answer, Invoke
from tests.functions.conftest import CANARY, FetchMetrics, ImportAccount, assert_problem

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

PAYLOAD = PAYLOADS["free_current"]
USAGE = "/copilot_internal/user"


@pytest.fixture
def delete(invoke: Invoke) -> Callable[..., Answer]:
    return lambda account_id=1: invoke("delete_account", parameters={"account_id": str(account_id)})


@pytest.fixture
def pause(invoke: Invoke) -> Callable[..., Answer]:
    def pausing(*, paused: bool, account_id: int = 1) -> Answer:
        return invoke("update_account", parameters={"account_id": str(account_id)}, body={"paused": paused})

    return pausing


def kept(tables: "DynamoDBClient") -> list[dict[str, Any]]:
    """Everything but the counters."""
    items: list[dict[str, Any]] = []
    for name in tables.list_tables()["TableNames"]:
        items += [item for item in tables.scan(TableName=name)["Items"] if item["id"] != {"N": "0"}]
    return items


class TestPausing:
    def test_a_paused_account_is_left_out_by_the_schedule_until_it_goes_on(
        self, import_account: ImportAccount, pause: Callable[..., Answer]
    ) -> None:
        import_account(1)
        import_account(2)
        paused = pause(paused=True)
        assert (paused.status, paused.json["id"], paused.json["paused"]) == (200, 1, True)
        assert list(tables_module.account_table().ids_on_schedule()) == [2]
        assert pause(paused=True).json["paused"] is True
        assert pause(paused=False).json["paused"] is False
        assert list(tables_module.account_table().ids_on_schedule()) == [1, 2]

    def test_a_paused_account_stays_paused_when_it_is_fetched_or_imported_again(
        self, import_account: ImportAccount, fetch_metrics: FetchMetrics, pause: Callable[..., Answer], invoke: Invoke
    ) -> None:
        import_account()
        pause(paused=True)
        assert fetch_metrics(1, PAYLOAD) == 1
        assert import_account() == 1
        assert list(tables_module.account_table().ids_on_schedule()) == []
        assert invoke("get_account", parameters={"account_id": "1"}).json["paused"] is True
        pause(paused=False)
        assert list(tables_module.account_table().ids_on_schedule()) == [1]

    def test_a_refused_account_is_not_put_on_the_schedule_by_pausing_it(
        self,
        import_account: ImportAccount,
        pause: Callable[..., Answer],
        invoke: Invoke,
        github_api: respx.MockRouter,
    ) -> None:
        import_account()
        pause(paused=True)
        github_api.get(USAGE).respond(401)
        assert invoke("fetch_metrics", parameters={"account_id": "1"}).status == 401
        assert pause(paused=False).json["last_fetch"]["status"] == "token_invalid"
        assert list(tables_module.account_table().ids_on_schedule()) == []

    def test_a_request_that_waited_in_the_queue_isnt_served_for_a_paused_account(
        self, import_account: ImportAccount, pause: Callable[..., Answer]
    ) -> None:
        import_account()
        pause(paused=True)
        request = FetchRequest(1, "2026-11-23T19:00:00.000Z")
        assert copilot_metrics_service().fetch_due(request, last_try=False) is None

    @pytest.mark.parametrize(
        "body", ['{"paused": "true"}', '{"paused": 1}', '{"paused": null}', "{}", "[]", '{"a": 1}']
    )
    def test_anything_but_true_and_false_is_refused(
        self, import_account: ImportAccount, invoke: Invoke, body: str
    ) -> None:
        import_account()
        answer = invoke("update_account", parameters={"account_id": "1"}, body=body)
        assert_problem(answer, 422, "invalid_input")
        assert invoke("get_account", parameters={"account_id": "1"}).json["paused"] is False

    @pytest.mark.usefixtures("tables")
    def test_an_unknown_account_is_not_found_and_not_made(
        self, pause: Callable[..., Answer], tables: "DynamoDBClient"
    ) -> None:
        for paused in (True, False):
            assert_problem(pause(paused=paused, account_id=7), 404, "account_not_found")
        assert kept(tables) == []


class TestRemoval:
    def test_nothing_is_left_of_a_removed_account_and_nothing_else_is_touched(
        self,
        import_account: ImportAccount,
        fetch_metrics: FetchMetrics,
        delete: Callable[..., Answer],
        invoke: Invoke,
        tables: "DynamoDBClient",
        hunt: Callable[..., None],
    ) -> None:
        import_account(2)
        fetch_metrics(1, PAYLOAD)
        others = kept(tables)
        import_account(1)
        for _ in range(3):
            fetch_metrics(2, PAYLOAD)
        answer = delete(2)
        assert (answer.status, answer.text) == (204, "")
        assert kept(tables) == others
        for function in ("get_account", "get_latest_metrics", "fetch_metrics", "delete_account"):
            gone = invoke(function, parameters={"account_id": "2"})
            assert_problem(gone, 404, "account_not_found")
        assert [account["id"] for account in invoke("list_accounts").json] == [1]
        assert [snapshot["account_id"] for snapshot in invoke("list_latest_metrics").json] == [1]
        hunt(answer)

    def test_a_removed_user_gets_a_new_account_without_the_old_metrics(
        self,
        import_account: ImportAccount,
        fetch_metrics: FetchMetrics,
        delete: Callable[..., Answer],
        invoke: Invoke,
    ) -> None:
        import_account()
        fetch_metrics(1, PAYLOAD)
        delete()
        assert import_account() == 2
        assert_problem(invoke("get_latest_metrics", parameters={"account_id": "2"}), 404, "metrics_not_found")

    def test_a_fetch_that_runs_meanwhile_stores_nothing(
        self,
        import_account: ImportAccount,
        delete: Callable[..., Answer],
        invoke: Invoke,
        github_api: respx.MockRouter,
        tables: "DynamoDBClient",
    ) -> None:
        import_account()

        def removed_meanwhile(_request: httpx.Request) -> httpx.Response:
            assert delete().status == 204
            return httpx.Response(200, text=PAYLOAD)

        github_api.get(USAGE).mock(side_effect=removed_meanwhile)
        assert_problem(invoke("fetch_metrics", parameters={"account_id": "1"}), 404, "account_not_found")
        assert kept(tables) == []

    def test_a_refusal_that_comes_meanwhile_is_not_noted(
        self,
        import_account: ImportAccount,
        delete: Callable[..., Answer],
        invoke: Invoke,
        github_api: respx.MockRouter,
        tables: "DynamoDBClient",
    ) -> None:
        import_account()

        def removed_meanwhile(_request: httpx.Request) -> httpx.Response:
            delete()
            return httpx.Response(401)

        github_api.get(USAGE).mock(side_effect=removed_meanwhile)
        assert invoke("fetch_metrics", parameters={"account_id": "1"}).status == 401
        assert kept(tables) == []

    @pytest.mark.parametrize("operation", ["GetItem", "TransactWriteItems", "Query", "BatchWriteItem", "DeleteItem"])
    def test_a_removal_that_breaks_off_anywhere_is_finished_by_the_next(
        self,
        import_account: ImportAccount,
        fetch_metrics: FetchMetrics,
        delete: Callable[..., Answer],
        invoke: Invoke,
        tables: "DynamoDBClient",
        monkeypatch: pytest.MonkeyPatch,
        operation: str,
    ) -> None:
        import_account()
        fetch_metrics(1, PAYLOAD)
        original = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore's one way out

        def broken(client: BaseClient, called: str, arguments: Any) -> Any:
            if called == operation:
                raise ConnectionResetError
            return original(client, called, arguments)

        with monkeypatch.context() as breaking:
            breaking.setattr(BaseClient, "_make_api_call", broken)
            assert delete().status == 500
        before = operation in {"GetItem", "TransactWriteItems"}
        assert invoke("get_account", parameters={"account_id": "1"}).status == (200 if before else 404)
        assert (CANARY in repr(kept(tables)), "token_ciphertext" in repr(kept(tables))) == (False, before)
        assert delete().status == 204
        assert kept(tables) == []

    def test_an_import_that_loses_against_a_removal_makes_a_new_account(
        self, import_account: ImportAccount, delete: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import_account()
        original = tables_module.AccountTable._claimed_id

        def removed_after_reading(table: tables_module.AccountTable, user_id: int) -> int | None:
            claimed = original(table, user_id)
            if claimed == 1:
                assert delete().status == 204
            return claimed

        monkeypatch.setattr(tables_module.AccountTable, "_claimed_id", removed_after_reading)
        assert import_account() == 2

    def test_a_history_that_takes_too_long_is_said_and_goes_on(
        self,
        import_account: ImportAccount,
        fetch_metrics: FetchMetrics,
        delete: Callable[..., Answer],
        tables: "DynamoDBClient",
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        import_account()
        fetch_metrics(1, PAYLOAD)
        with monkeypatch.context() as hurried:
            hurried.setattr(
                tables_module.MetricsTable, "remove_all", lambda _table, _account_id, *, seconds: seconds > 60
            )
            answer = delete()
        assert_problem(answer, 503, "removal_unfinished")
        assert answer.headers["retry-after"] == "1"
        assert "token_ciphertext" not in repr(kept(tables))
        assert delete().status == 204
        assert kept(tables) == []
