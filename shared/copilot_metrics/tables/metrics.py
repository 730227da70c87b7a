"""``copilot_metrics``: the snapshots, and the accounts' pointers to the latest of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from copilot_metrics.dynamodb import (
    DynamoItem,
    attempts,
    call,
    next_id,
    number,
    read_many,
    string,
    transact,
)
from copilot_metrics.errors import MetricsNotFound, PayloadTooLarge
from copilot_metrics.models import MAX_PAYLOAD_BYTES, Page, Snapshot, timestamp
from copilot_metrics.tables.accounts import AccountTable
from copilot_metrics.tables.pages import filled_page

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

COUNTER: Final = 0


class MetricsTable:
    """``copilot_metrics``, and the accounts' pointers into it."""

    def __init__(self, client: "DynamoDBClient", name: str, accounts_name: str) -> None:
        """Take a client and both tables' names."""
        self._client = client
        self._name = name
        self._accounts_name = accounts_name
        self._accounts = AccountTable(client, accounts_name)

    def add(self, account_id: int, payload: str) -> int:
        """Store a payload as the account's latest snapshot and return its id.

        Raises PayloadTooLarge, or AccountNotFound where the account is gone; nothing is stored then.
        """
        if len(payload.encode()) > MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(
                f"The payload is larger than the {MAX_PAYLOAD_BYTES} bytes that can be kept; it was not stored."
            )
        counter = {"account_id": number(COUNTER), "id": number(COUNTER)}
        fetched_at = timestamp()
        for _ in attempts():
            snapshot = Snapshot(next_id(self._client, self._name, counter), account_id, fetched_at, payload)
            # A newer snapshot may have been stored meanwhile: the pointer stays where it is then.
            if self._write(snapshot, advance=True) or self._write(snapshot, advance=False):
                return snapshot.id
            self._accounts.get(account_id)
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
        its cost goes by the number of accounts and not by how many snapshots each has.
        """
        return filled_page(self._accounts.ids(after=after, at_once=limit), limit, self._latest_of)

    def _latest_of(self, account_ids: Sequence[int]) -> dict[int, Snapshot]:
        keys = [
            {"account_id": number(account_id), "id": item["latest_metrics_id"]}
            for account_id, item in self._accounts.read(account_ids, ("id", "latest_metrics_id"))
            if "latest_metrics_id" in item
        ]
        snapshots = map(_snapshot, read_many(self._client, self._name, keys))
        return {snapshot.account_id: snapshot for snapshot in snapshots}

    def _write(self, snapshot: Snapshot, *, advance: bool) -> bool:
        put: TransactWriteItemTypeDef = {
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
        key = {"id": number(snapshot.account_id)}
        account: TransactWriteItemTypeDef = (
            {
                "Update": {
                    "TableName": self._accounts_name,
                    "Key": key,
                    "UpdateExpression": "SET latest_metrics_id = :id",
                    "ConditionExpression": (
                        "attribute_exists(id) AND (attribute_not_exists(latest_metrics_id) OR latest_metrics_id < :id)"
                    ),
                    "ExpressionAttributeValues": {":id": number(snapshot.id)},
                }
            }
            if advance
            else {
                "ConditionCheck": {
                    "TableName": self._accounts_name,
                    "Key": key,
                    "ConditionExpression": "attribute_exists(id) AND latest_metrics_id > :id",
                    "ExpressionAttributeValues": {":id": number(snapshot.id)},
                }
            }
        )
        return transact(self._client, put, account)


def _snapshot(item: DynamoItem) -> Snapshot:
    return Snapshot(
        id=int(item["id"]["N"]),
        account_id=int(item["account_id"]["N"]),
        fetched_at=item["fetched_at"]["S"],
        payload=item["payload"]["S"],
    )
