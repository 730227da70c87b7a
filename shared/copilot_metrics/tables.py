"""The two tables: the only module that knows how DynamoDB holds what the service keeps.

``copilot_github_accounts`` (key ``id``, number) holds three kinds of items:

- ``id`` > 0: an account. Its ``kind`` puts it into the index that lists accounts in order of their ids.
- ``id`` < 0: the claim of GitHub user ``-id``, naming the one account this user has. Written in one transaction
  with the account, it keeps racing imports of one user from making two.
- ``id`` = 0: the counter that account ids come from.

``copilot_metrics`` (key ``account_id``, sort key ``id``) holds the snapshots, and at 0/0 the counter for their ids.
An account's ``latest_metrics_id`` points to its latest snapshot and is written in one transaction with it.
"""

import base64
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from copilot_metrics.dynamodb import (
    BATCH_KEYS,
    PARALLEL_BATCHES,
    DynamoItem,
    attempts,
    call,
    dynamodb,
    next_id,
    number,
    projection,
    read_many,
    string,
    transact,
)
from copilot_metrics.errors import AccountNotFound, MetricsNotFound, PayloadTooLarge
from copilot_metrics.models import (
    MAX_PAYLOAD_BYTES,
    Account,
    Item,
    Page,
    SealedToken,
    Snapshot,
    StoredToken,
    timestamp,
)
from copilot_metrics.settings import settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

    from copilot_metrics.schemas import GitHubUser

ACCOUNTS_BY_ID: Final = "accounts_by_id"
ACCOUNT_KIND: Final = "account"
ACCOUNT_FIELDS: Final = ("id", "login", "github_user_id", "node_id", "avatar_url", "created_at", "updated_at")
TOKEN_FIELDS: Final = (
    "id",
    "github_user_id",
    "token_ciphertext",
    "token_nonce",
    "token_salt",
    "token_kdf",
    "token_key_id",
)
COUNTER: Final = 0

MAX_PAGE_BYTES: Final = 5_500_000
"""Of a list's body as Lambda sends it: a JSON string inside JSON, 6 MB at most (AWS Lambda quotas)."""
MAX_IDS: Final = 1000
"""How many ids one query of the index reads: 40 KB or so."""


class AccountTable:
    """``copilot_github_accounts``."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        """Take a client and the table's name."""
        self._client = client
        self._name = name

    def upsert(self, user: "GitHubUser", seal: Callable[[int], SealedToken]) -> int:
        """Store a GitHub user's account, new or known, with the token that ``seal`` gives for the account's id.

        Returns the account's id. All or nothing is written, and one user gets one account whatever races.
        """
        for _ in attempts():
            account_id = self._claimed_id(user.id) or next_id(self._client, self._name, {"id": number(COUNTER)})
            if self._write(account_id, user, seal(account_id)):
                return account_id
        raise AssertionError  # attempts() raises before it ends

    def get(self, account_id: int) -> Account:
        """Return an account as the API shows it. Raises AccountNotFound."""
        return _account(self._item(account_id, ACCOUNT_FIELDS))

    def get_token(self, account_id: int) -> StoredToken:
        """Return an account's sealed token. Raises AccountNotFound."""
        item = self._item(account_id, TOKEN_FIELDS)
        return StoredToken(
            account_id=account_id,
            github_user_id=int(item["github_user_id"]["N"]),
            sealed=SealedToken(
                ciphertext=_bytes(item["token_ciphertext"]),
                nonce=_bytes(item["token_nonce"]),
                salt=_bytes(item["token_salt"]),
                kdf=item["token_kdf"]["S"],
                key_id=item["token_key_id"]["S"],
            ),
        )

    def newest_first(self, limit: int | None = None, after: int | None = None) -> Page[Account]:
        """Return a page of accounts by descending id, below ``after`` where that is given.

        The page holds ``limit`` accounts, or as many as one answer can carry. An account imported within the last
        moments may be missing: indexes follow their table with a short delay.
        """
        ids = self.ids(after=after, ascending=False, at_once=limit)
        return _page(ids, limit, lambda some: {i: _account(item) for i, item in self.read(some, ACCOUNT_FIELDS)})

    def ids(self, *, after: int | None = None, ascending: bool = True, at_once: int | None = None) -> Iterator[int]:
        """Yield the ids of all accounts in order, beyond ``after`` where that is given, reading ``at_once`` or so."""
        condition, values = "kind = :kind", {":kind": string(ACCOUNT_KIND)}
        if after is not None:
            condition += " AND id > :after" if ascending else " AND id < :after"
            values[":after"] = number(after)
        start: dict[str, Any] = {}
        while True:
            answer = call(
                self._client.query,
                TableName=self._name,
                IndexName=ACCOUNTS_BY_ID,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=values,
                ProjectionExpression="id",
                ScanIndexForward=ascending,
                Limit=min((at_once or MAX_IDS) + 1, MAX_IDS),
                **start,
            )
            yield from (int(item["id"]["N"]) for item in answer["Items"])
            if "LastEvaluatedKey" not in answer:
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def read(self, account_ids: Sequence[int], fields: Sequence[str]) -> Iterator[tuple[int, DynamoItem]]:
        """Yield some fields of those of the accounts that exist, in no order."""
        keys = [{"id": number(account_id)} for account_id in account_ids]
        for item in read_many(self._client, self._name, keys, fields):
            yield int(item["id"]["N"]), item

    def _item(self, account_id: int, fields: Sequence[str]) -> DynamoItem:
        answer = call(
            self._client.get_item,
            TableName=self._name,
            Key={"id": number(account_id)},
            ConsistentRead=True,
            **projection(fields),
        )
        if "Item" not in answer:
            raise AccountNotFound(account_id)
        return answer["Item"]

    def _claimed_id(self, github_user_id: int) -> int | None:
        answer = call(
            self._client.get_item, TableName=self._name, Key={"id": number(-github_user_id)}, ConsistentRead=True
        )
        return int(answer["Item"]["account_id"]["N"]) if "Item" in answer else None

    def _write(self, account_id: int, user: "GitHubUser", sealed: SealedToken) -> bool:
        """Write claim and account; False where another import is in the way, so that the claim must be read again."""
        now = string(timestamp())
        fields = {
            "kind": string(ACCOUNT_KIND),
            "login": string(user.login),
            "github_user_id": number(user.id),
            "node_id": string(user.node_id),
            "avatar_url": string(user.avatar_url),
            "token_ciphertext": _base64(sealed.ciphertext),
            "token_nonce": _base64(sealed.nonce),
            "token_salt": _base64(sealed.salt),
            "token_kdf": string(sealed.kdf),
            "token_key_id": string(sealed.key_id),
            "updated_at": now,
        }
        assignments = ", ".join(f"{name} = :{name}" for name in fields)
        return transact(
            self._client,
            {
                "Update": {
                    "TableName": self._name,
                    "Key": {"id": number(-user.id)},
                    "UpdateExpression": "SET account_id = :account_id",
                    "ConditionExpression": "attribute_not_exists(id) OR account_id = :account_id",
                    "ExpressionAttributeValues": {":account_id": number(account_id)},
                }
            },
            {
                "Update": {
                    "TableName": self._name,
                    "Key": {"id": number(account_id)},
                    "UpdateExpression": f"SET {assignments}, created_at = if_not_exists(created_at, :updated_at)",
                    "ConditionExpression": "attribute_not_exists(id) OR github_user_id = :github_user_id",
                    "ExpressionAttributeValues": {f":{name}": value for name, value in fields.items()},
                }
            },
        )


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
        return _page(self._accounts.ids(after=after, at_once=limit), limit, self._latest_of)

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


def check_tables() -> None:
    """Read one key of each table. Raises DatabaseUnavailable."""
    current = settings()
    counter = number(COUNTER)
    keys = {current.accounts_table: {"id": counter}, current.metrics_table: {"account_id": counter, "id": counter}}
    for name, key in keys.items():
        call(dynamodb().get_item, TableName=name, Key=key, ProjectionExpression="id")


def account_table() -> AccountTable:
    """Return the accounts as this process's environment names them."""
    return AccountTable(dynamodb(), settings().accounts_table)


def metrics_table() -> MetricsTable:
    """Return the metrics as this process's environment names them."""
    return MetricsTable(dynamodb(), settings().metrics_table, settings().accounts_table)


def _page(ids: Iterator[int], limit: int | None, load: Callable[[Sequence[int]], Mapping[int, Item]]) -> Page[Item]:
    """Fill a page with what is loaded for the ids, in their order, up to ``limit`` items or the answer's size."""
    items: list[Item] = []
    weight = 0
    last: int | None = None
    while some := list(islice(ids, _next_read(len(items), weight, limit))):
        found = load(some)
        for account_id in some:
            if account_id not in found:
                continue
            item = found[account_id]
            weight += len(json.dumps(item.to_json()))
            if items and (len(items) == limit or weight > MAX_PAGE_BYTES):
                return Page(tuple(items), after=last)
            items.append(item)
            last = account_id
    return Page(tuple(items))


def _next_read(items: int, weight: int, limit: int | None) -> int:
    """Return how many items to read next: in parallel once it is clear that they are small enough for the memory."""
    small = items and weight < MAX_PAGE_BYTES // 4
    most = BATCH_KEYS * (PARALLEL_BATCHES if small else 1)
    return most if limit is None else min(limit - items + 1, most)  # one more tells whether the list goes on


def _account(item: DynamoItem) -> Account:
    return Account(
        id=int(item["id"]["N"]),
        login=item["login"]["S"],
        github_user_id=int(item["github_user_id"]["N"]),
        node_id=item["node_id"]["S"],
        avatar_url=item["avatar_url"]["S"],
        created_at=item["created_at"]["S"],
        updated_at=item["updated_at"]["S"],
    )


def _snapshot(item: DynamoItem) -> Snapshot:
    return Snapshot(
        id=int(item["id"]["N"]),
        account_id=int(item["account_id"]["N"]),
        fetched_at=item["fetched_at"]["S"],
        payload=item["payload"]["S"],
    )


def _base64(value: bytes) -> dict[str, str]:
    return {"S": base64.b64encode(value).decode()}


def _bytes(attribute: Mapping[str, str]) -> bytes:
    return base64.b64decode(attribute["S"])
