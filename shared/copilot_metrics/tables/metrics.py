"""``copilot_metrics``: the snapshots, and the accounts' pointers to the latest of them."""

import time
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from copilot_metrics.dynamodb import (
    BATCH_KEYS,
    BATCH_WRITES,
    PARALLEL_BATCHES,
    DynamoItem,
    attempts,
    call,
    delete_many,
    next_id,
    number,
    read_many,
    string,
    transact,
)
from copilot_metrics.errors import MetricsNotFound, PayloadTooLarge
from copilot_metrics.models import MAX_PAYLOAD_BYTES, FetchStatus, Page, Snapshot, timestamp
from copilot_metrics.tables.accounts import ON_SCHEDULE, AccountTable
from copilot_metrics.tables.pages import MAX_PAGE_BYTES, filled_page
from copilot_metrics.tables.recent import RecentSnapshots, SnapshotKey

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

COUNTER: Final = 0
MANY: Final = BATCH_KEYS * PARALLEL_BATCHES
"""How many snapshots to read at once where they are small."""


class MetricsTable:
    """``copilot_metrics``, and the accounts' pointers into it."""

    def __init__(
        self, client: "DynamoDBClient", name: str, accounts_name: str, recent: RecentSnapshots | None = None
    ) -> None:
        """Take a client, both tables' names, and what of the first was read already."""
        self._client = client
        self._name = name
        self._accounts_name = accounts_name
        self._accounts = AccountTable(client, accounts_name)
        self._recent = recent or RecentSnapshots()

    def add(
        self, account_id: int, payload: str, *, fresh_as_of: str | None = None, due: str | None = None
    ) -> int | None:
        """Store a payload as the account's latest snapshot and return its id.

        ``fresh_as_of`` is when its fetch began, now by default. Where ``due`` is given and another fetch has served it
        meanwhile, nothing is stored and None is returned: so a request that is delivered twice is stored once.
        Raises PayloadTooLarge, or AccountNotFound where the account is gone; nothing is stored then.
        """
        if len(payload.encode()) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(
                f"The payload is larger than the {MAX_PAYLOAD_BYTES} bytes that can be kept; it was not stored."
            )
        counter = {"account_id": number(COUNTER), "id": number(COUNTER)}
        fetched_at = timestamp()
        # Clocks differ: what served a request must never look older than the request.
        fresh_as_of = max(fresh_as_of or fetched_at, due or "")
        for _ in attempts():
            snapshot = Snapshot(next_id(self._client, self._name, counter), account_id, fetched_at, payload)
            # A newer snapshot may have been stored meanwhile: the pointer stays where it is then.
            if self._write(snapshot, fresh_as_of, due) or self._write_older(snapshot, due):
                return snapshot.id
            served = self._accounts.get_token(account_id).fresh_as_of
            if due is not None and served is not None and served >= due:
                return None
        raise AssertionError  # attempts() raises before it ends

    def latest(self, account_id: int) -> Snapshot:
        """Return an account's latest snapshot. Raises AccountNotFound or MetricsNotFound."""
        answer = call(
            self._client.query,
            TableName=self._name,
            KeyConditionExpression="account_id = :account_id",
            ExpressionAttributeValues={":account_id": number(account_id)},
            ScanIndexForward=False,
            Limit=1,
            ConsistentRead=True,
        )
        if not answer["Items"]:
            self._accounts.get(account_id)
            raise MetricsNotFound(account_id)
        return _snapshot(answer["Items"][0])

    def latest_for_all(self, limit: int | None = None, after: int | None = None) -> Page[Snapshot]:
        """Return a page of the accounts' latest snapshots by ascending account id, beyond ``after`` where given.

        Accounts without metrics are left out. The page holds ``limit`` snapshots, or as many as one answer can carry;
        its cost goes by the number of accounts and not by how many snapshots each has. What was fetched within the
        last moments may be missing.
        """
        return filled_page(self._latest(limit, after), limit)

    def remove_all(self, account_id: int, *, seconds: float) -> bool:
        """Remove an account's snapshots, newest first; False where that takes longer than ``seconds``."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = call(
                self._client.query,
                TableName=self._name,
                KeyConditionExpression="account_id = :account_id",
                ExpressionAttributeValues={":account_id": number(account_id)},
                ProjectionExpression="account_id, id",
                ScanIndexForward=False,
                Limit=BATCH_WRITES * PARALLEL_BATCHES,
                ConsistentRead=True,
            )
            if not answer["Items"]:
                return True
            delete_many(self._client, self._name, answer["Items"])
        return False

    def _latest(self, limit: int | None, after: int | None) -> Iterator[tuple[int, Snapshot]]:
        pointers = self._accounts.latest_metrics(after=after, at_once=limit)
        left = MANY if limit is None else limit + 1
        at_once = BATCH_KEYS
        while some := list(islice(pointers, min(left, at_once))):
            found = self._snapshots(some)
            yield from ((snapshot.account_id, snapshot) for key in some if (snapshot := found.get(key)) is not None)
            if limit is not None:
                left = max(left - len(found), 1)
            # In parallel once it is clear that they are small enough for the memory.
            bytes_each = sum(len(snapshot.payload) for snapshot in found.values()) / max(len(found), 1)
            at_once = MANY if bytes_each * MANY < MAX_PAGE_BYTES else BATCH_KEYS

    def _snapshots(self, keys: Sequence[SnapshotKey]) -> dict[SnapshotKey, Snapshot]:
        found = self._recent.find(keys)
        missing = [{"account_id": number(owner), "id": number(id_)} for owner, id_ in keys if (owner, id_) not in found]
        read = [_snapshot(item) for item in read_many(self._client, self._name, missing)]
        self._recent.keep(read)
        return found | {(snapshot.account_id, snapshot.id): snapshot for snapshot in read}

    def _write(self, snapshot: Snapshot, fresh_as_of: str, due: str | None) -> bool:
        """Write the snapshot as the latest, and that the fetch succeeded; False where it isn't the latest or served."""
        served, values = _unserved(due)
        return transact(
            self._client,
            self._put(snapshot),
            {
                "Update": {
                    "TableName": self._accounts_name,
                    "Key": {"id": number(snapshot.account_id)},
                    "UpdateExpression": (
                        "SET latest_metrics_id = :id, fetch_status = :ok, fetch_at = :fetched_at, "
                        "fresh_as_of = :fresh_as_of, schedule = if_not_exists(paused, :on) "
                        "REMOVE fetch_reason, not_before"
                    ),
                    "ConditionExpression": (
                        "attribute_exists(kind)"
                        " AND (attribute_not_exists(latest_metrics_id) OR latest_metrics_id < :id)" + served
                    ),
                    "ExpressionAttributeValues": {
                        ":id": number(snapshot.id),
                        ":ok": string(FetchStatus.OK),
                        ":fetched_at": string(snapshot.fetched_at),
                        ":fresh_as_of": string(fresh_as_of),
                        ":on": string(ON_SCHEDULE),
                        **values,
                    },
                }
            },
        )

    def _write_older(self, snapshot: Snapshot, due: str | None) -> bool:
        """Write the snapshot behind the latest; False where it would be the latest, or is served."""
        served, values = _unserved(due)
        return transact(
            self._client,
            self._put(snapshot),
            {
                "ConditionCheck": {
                    "TableName": self._accounts_name,
                    "Key": {"id": number(snapshot.account_id)},
                    "ConditionExpression": "attribute_exists(kind) AND latest_metrics_id > :id" + served,
                    "ExpressionAttributeValues": {":id": number(snapshot.id), **values},
                }
            },
        )

    def _put(self, snapshot: Snapshot) -> "TransactWriteItemTypeDef":
        return {
            "Put": {
                "TableName": self._name,
                "Item": {
                    "account_id": number(snapshot.account_id),
                    "id": number(snapshot.id),
                    "fetched_at": string(snapshot.fetched_at),
                    "payload": string(snapshot.payload),
                },
                "ConditionExpression": "attribute_not_exists(id)",
            }
        }


def _unserved(due: str | None) -> tuple[str, dict[str, dict[str, str]]]:
    if due is None:
        return "", {}
    return " AND (attribute_not_exists(fresh_as_of) OR fresh_as_of < :due)", {":due": string(due)}


def _snapshot(item: DynamoItem) -> Snapshot:
    return Snapshot(
        id=int(item["id"]["N"]),
        account_id=int(item["account_id"]["N"]),
        fetched_at=item["fetched_at"]["S"],
        payload=item["payload"]["S"],
    )
