"""What the tables keep, and what they guarantee."""

import json
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient

from copilot_metrics.errors import AccountNotFound, MetricsNotFound, PayloadTooLarge
from copilot_metrics.models import MAX_PAYLOAD_BYTES, FetchStatus, SealedToken, Snapshot
from copilot_metrics.schemas import GitHubUser
from copilot_metrics.tables import AccountTable, MetricsTable, account_table, metrics_table, pages
from copilot_metrics.tables import accounts as accounts_module
from copilot_metrics.tables import metrics as metrics_module
from copilot_metrics.tables.recent import RecentSnapshots

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SEALED = SealedToken(ciphertext=b"\x00\xff", nonce=b"n" * 12, salt=b"s" * 16, kdf="a-kdf", key_id="a-key")


@pytest.fixture
def accounts(tables: "DynamoDBClient") -> AccountTable:
    assert len(tables.list_tables()["TableNames"]) == 3
    return account_table()


@pytest.fixture
def metrics(accounts: AccountTable) -> MetricsTable:
    assert accounts is not None
    return metrics_table()


@pytest.fixture
def operations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the operations that are called, as they are called."""
    called: list[str] = []
    original = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore's one way out

    def noted(client: BaseClient, operation: str, arguments: Any) -> Any:
        called.append(operation)
        return original(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    return called


def user(user_id: int, login: str = "octo") -> GitHubUser:
    return GitHubUser(id=user_id, login=login, node_id=f"U_{user_id}", avatar_url="https://avatars.example/1")


def add(accounts: AccountTable, *user_ids: int) -> list[int]:
    return [accounts.upsert(user(user_id), lambda _account_id: SEALED) for user_id in user_ids]


class TestAccounts:
    def test_ids_are_small_ascending_integers(self, accounts: AccountTable) -> None:
        assert add(accounts, 900, 7, 2**62) == [1, 2, 3]

    def test_an_account_is_read_back_as_it_was_stored(self, accounts: AccountTable) -> None:
        (account_id,) = add(accounts, 2**62)
        account = accounts.get(account_id)
        assert (account.id, account.github_user_id, account.login) == (1, 2**62, "octo")
        assert account.created_at == account.updated_at
        stored = accounts.get_token(account_id)
        assert (stored.account_id, stored.github_user_id, stored.sealed) == (1, 2**62, SEALED)

    def test_a_known_user_keeps_the_id_and_the_day_and_gets_the_new_token_and_profile(
        self, accounts: AccountTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(accounts, 5)
        before = accounts.get(1)
        monkeypatch.setattr(accounts_module, "timestamp", lambda: "2030-01-01T00:00:00.000Z")
        newer = SealedToken(ciphertext=b"newer", nonce=b"m" * 12, salt=b"t" * 16, kdf="other", key_id="other")
        assert accounts.upsert(user(5, "renamed"), lambda _account_id: newer) == 1
        after = accounts.get(1)
        assert (after.created_at, after.updated_at) == (before.created_at, "2030-01-01T00:00:00.000Z")
        assert after.login == "renamed"
        assert accounts.get_token(1).sealed == newer

    def test_a_token_is_sealed_for_the_id_that_its_account_gets(self, accounts: AccountTable) -> None:
        add(accounts, 5)
        asked: list[int] = []

        def seal(account_id: int) -> SealedToken:
            asked.append(account_id)
            return SEALED

        accounts.upsert(user(6), seal)
        accounts.upsert(user(5), seal)
        assert asked == [2, 1]

    def test_an_import_that_loses_a_race_updates_the_winners_account(self, accounts: AccountTable) -> None:
        raced: list[int] = []

        def seal_while_another_import_is_faster(account_id: int) -> SealedToken:
            if not raced:
                raced.append(account_id)
                add(accounts, 5)
            return SEALED

        assert accounts.upsert(user(5), seal_while_another_import_is_faster) == 2
        assert [account.id for account in accounts.newest_first().items] == [2]

    def test_nothing_is_stored_when_sealing_fails(self, accounts: AccountTable, tables: "DynamoDBClient") -> None:
        def failing(_account_id: int) -> SealedToken:
            raise RuntimeError

        with pytest.raises(RuntimeError):
            accounts.upsert(user(5), failing)
        items = tables.scan(TableName="copilot_github_accounts")["Items"]
        assert [item["id"] for item in items] == [{"N": "0"}]  # the counter

    @pytest.mark.parametrize("account_id", [2, 10**15])
    def test_an_unknown_account_is_not_found(self, accounts: AccountTable, account_id: int) -> None:
        add(accounts, 5)
        with pytest.raises(AccountNotFound):
            accounts.get(account_id)
        with pytest.raises(AccountNotFound):
            accounts.get_token(account_id)

    def test_the_list_has_no_token_and_starts_with_the_newest(self, accounts: AccountTable) -> None:
        add(accounts, *range(101, 106))
        page = accounts.newest_first()
        assert [account.id for account in page.items] == [5, 4, 3, 2, 1]
        assert page.after is None
        assert "token" not in page.items[0].to_json()

    @pytest.mark.parametrize("limit", [1, 2, 3, 5, 6])
    def test_pages_hold_everything_once_and_in_order(self, accounts: AccountTable, limit: int) -> None:
        add(accounts, *range(101, 106))
        seen: list[int] = []
        after = None
        while True:
            page = accounts.newest_first(limit, after)
            assert len(page.items) <= limit
            seen += [account.id for account in page.items]
            after = page.after
            if after is None:
                break
            assert after == seen[-1]
        assert seen == [5, 4, 3, 2, 1]

    def test_a_page_without_a_limit_ends_before_the_answer_gets_too_large(
        self, accounts: AccountTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(accounts, *range(101, 111))
        monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 700)
        page = accounts.newest_first()
        assert 1 < len(page.items) < 10
        assert page.after == page.items[-1].id
        assert sum(len(account.to_json()) for account in page.items) < 700

    def test_one_read_of_the_index_answers_a_page(self, accounts: AccountTable, operations: list[str]) -> None:
        add(accounts, *range(101, 121))
        operations.clear()
        assert len(accounts.newest_first(10).items) == 10
        assert operations == ["Query"]

    def test_a_list_shows_of_an_account_what_the_account_itself_shows(
        self, accounts: AccountTable, metrics: MetricsTable
    ) -> None:
        add(accounts, 5, 6)
        metrics.add(1, "{}")
        accounts.record_failure(accounts.get_token(2), FetchStatus.TOKEN_INVALID, "revoked", due=None)
        accounts.set_paused(2, paused=True)
        assert accounts.newest_first().items == (accounts.get(2), accounts.get(1))

    def test_more_accounts_than_one_read_takes_are_all_listed(self, accounts: AccountTable) -> None:
        add(accounts, *range(1000, 1130))
        assert [account.id for account in accounts.newest_first().items] == list(range(130, 0, -1))


class TestMetrics:
    def test_a_payload_is_kept_byte_for_byte(self, accounts: AccountTable, metrics: MetricsTable) -> None:
        add(accounts, 5)
        payload = ' {"b": 93.50, "a": 1e400, "id": 123456789012345678901234567890, "ü": "\\u00fc \U0001f600"}\n'
        assert metrics.add(1, payload) == 1
        assert metrics.latest(1).payload == payload

    def test_the_latest_is_the_last_one_stored(self, accounts: AccountTable, metrics: MetricsTable) -> None:
        add(accounts, 5, 6)
        assert [metrics.add(account_id, "{}") for account_id in (1, 2, 1, 1, 2)] == [1, 2, 3, 4, 5]
        assert (metrics.latest(1).id, metrics.latest(2).id) == (4, 5)
        assert [(snapshot.account_id, snapshot.id) for snapshot in metrics.latest_for_all().items] == [(1, 4), (2, 5)]

    def test_an_older_snapshot_that_arrives_late_is_kept_but_is_not_the_latest(
        self, accounts: AccountTable, metrics: MetricsTable, monkeypatch: pytest.MonkeyPatch, tables: "DynamoDBClient"
    ) -> None:
        add(accounts, 5)
        ids = iter([8, 7])
        monkeypatch.setattr(metrics_module, "next_id", lambda *_arguments: next(ids))
        assert [metrics.add(1, "{}"), metrics.add(1, "{}")] == [8, 7]
        assert metrics.latest(1).id == 8
        assert [snapshot.id for snapshot in metrics.latest_for_all().items] == [8]
        stored = tables.scan(TableName="copilot_metrics")["Items"]
        assert {item["id"]["N"] for item in stored} == {"7", "8"}

    def test_a_snapshot_is_never_written_over(
        self, accounts: AccountTable, metrics: MetricsTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(accounts, 5)
        ids = iter([1, 1, 2])
        monkeypatch.setattr(metrics_module, "next_id", lambda *_arguments: next(ids))
        assert [metrics.add(1, '{"first": 1}'), metrics.add(1, '{"second": 2}')] == [1, 2]

    def test_an_account_that_is_gone_gets_no_orphan(
        self, accounts: AccountTable, metrics: MetricsTable, tables: "DynamoDBClient"
    ) -> None:
        add(accounts, 5)
        tables.delete_item(TableName="copilot_github_accounts", Key={"id": {"N": "1"}})
        with pytest.raises(AccountNotFound):
            metrics.add(1, "{}")
        stored = tables.scan(TableName="copilot_metrics")["Items"]
        assert [item["id"] for item in stored] == [{"N": "0"}]  # the counter
        assert (
            tables.scan(
                TableName="copilot_github_accounts",
                FilterExpression="id > :zero",
                ExpressionAttributeValues={":zero": {"N": "0"}},
            )["Items"]
            == []
        )

    def test_a_payload_that_is_too_large_leaves_the_one_before(
        self, accounts: AccountTable, metrics: MetricsTable
    ) -> None:
        add(accounts, 5)
        metrics.add(1, "{}")
        with pytest.raises(PayloadTooLarge):
            metrics.add(1, "ü" * (MAX_PAYLOAD_BYTES // 2 + 1))
        assert metrics.latest(1).payload == "{}"

    def test_no_metrics_and_no_account_are_told_apart(self, accounts: AccountTable, metrics: MetricsTable) -> None:
        add(accounts, 5)
        with pytest.raises(MetricsNotFound, match="POST /metrics/fetch/1"):
            metrics.latest(1)
        with pytest.raises(AccountNotFound):
            metrics.latest(2)

    def test_accounts_without_metrics_are_left_out_and_pages_still_fill(
        self, accounts: AccountTable, metrics: MetricsTable
    ) -> None:
        add(accounts, *range(101, 111))
        for account_id in (2, 5, 9):
            metrics.add(account_id, "{}")
        first = metrics.latest_for_all(2)
        assert [snapshot.account_id for snapshot in first.items] == [2, 5]
        second = metrics.latest_for_all(2, first.after)
        assert [snapshot.account_id for snapshot in second.items] == [9]
        assert second.after is None

    def test_the_cost_of_all_latest_does_not_grow_with_history(
        self, accounts: AccountTable, metrics: MetricsTable, operations: list[str]
    ) -> None:
        add(accounts, 5, 6)
        costs = []
        for _ in range(3):
            for _ in range(20):
                metrics.add(1, "{}")
            operations.clear()
            metrics.latest_for_all()
            costs.append(list(operations))
        assert costs == [["Query", "BatchGetItem"]] * 3

    def test_a_snapshot_is_read_once(
        self, accounts: AccountTable, metrics: MetricsTable, operations: list[str]
    ) -> None:
        add(accounts, 5, 6)
        metrics.add(1, '{"first": 1}')
        metrics.add(2, "{}")
        first = metrics.latest_for_all()
        operations.clear()
        assert metrics_table().latest_for_all() == first
        assert operations == ["Query"]

    def test_a_newer_snapshot_is_read_instead_of_the_one_before(
        self, accounts: AccountTable, metrics: MetricsTable
    ) -> None:
        add(accounts, 5)
        metrics.add(1, '{"first": 1}')
        metrics.latest_for_all()
        metrics.add(1, '{"second": 2}')
        assert [snapshot.payload for snapshot in metrics.latest_for_all().items] == ['{"second": 2}']

    def test_a_removed_account_is_not_shown_though_its_snapshot_was_read(
        self, accounts: AccountTable, metrics: MetricsTable, tables: "DynamoDBClient"
    ) -> None:
        add(accounts, 5, 6)
        metrics.add(1, "{}")
        metrics.add(2, "{}")
        metrics.latest_for_all()
        tables.delete_item(TableName="copilot_github_accounts", Key={"id": {"N": "1"}})
        assert [snapshot.account_id for snapshot in metrics.latest_for_all().items] == [2]

    def test_what_is_remembered_has_a_bound(
        self, accounts: AccountTable, tables: "DynamoDBClient", operations: list[str]
    ) -> None:
        bounded = MetricsTable(tables, "copilot_metrics", "copilot_github_accounts", RecentSnapshots(5_000))
        add(accounts, *range(101, 111))
        for account_id in range(1, 11):
            bounded.add(account_id, json.dumps("x" * (10_000 if account_id == 1 else 100)))
        first = bounded.latest_for_all()
        operations.clear()
        assert bounded.latest_for_all() == first
        assert operations == ["Query", "BatchGetItem"]

    def test_what_is_remembered_counts_as_much_as_it_takes(self) -> None:
        plain, wide = RecentSnapshots(6_000), RecentSnapshots(6_000)
        plain.keep([Snapshot(1, 1, "", "x" * 2_000)])
        wide.keep([Snapshot(1, 1, "", "x" * 1_999 + "\U0001f600")])
        assert plain.find([(1, 1)])
        assert not wide.find([(1, 1)])

    def test_accounts_without_metrics_are_passed_over_in_few_reads(
        self, accounts: AccountTable, metrics: MetricsTable, operations: list[str]
    ) -> None:
        add(accounts, *range(1001, 1201))
        metrics.add(200, "{}")
        operations.clear()
        assert [snapshot.account_id for snapshot in metrics.latest_for_all(1).items] == [200]
        assert operations.count("Query") <= 8

    def test_a_short_list_reads_little_more_than_it_shows(
        self, accounts: AccountTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        add(accounts, *range(101, 141))
        read: list[int] = []

        def noted(operation: Any, **asked: Any) -> Any:
            read.append(asked["Limit"])
            return operation(**asked)

        monkeypatch.setattr(accounts_module, "call", noted)
        assert len(accounts.newest_first(10).items) == 10
        assert read == [11]

    def test_the_latest_of_one_is_one_read(
        self, accounts: AccountTable, metrics: MetricsTable, operations: list[str]
    ) -> None:
        add(accounts, 5)
        metrics.add(1, "{}")
        operations.clear()
        metrics.latest(1)
        assert operations == ["Query"]

    def test_large_payloads_are_spread_over_pages(self, accounts: AccountTable, metrics: MetricsTable) -> None:
        add(accounts, *range(101, 121))
        large = '"' * (MAX_PAYLOAD_BYTES // 2)  # every character grows when it is sent
        for account_id in range(1, 21):
            metrics.add(account_id, large)
        page = metrics.latest_for_all()
        assert 1 < len(page.items) < 20
        assert sum(len(snapshot.to_json()) * 2 for snapshot in page.items) < 6_000_000
