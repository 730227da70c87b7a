"""``copilot_github_accounts``: accounts, and the claims that keep them one per GitHub user."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from copilot_metrics.dynamodb import (
    DynamoItem,
    attempts,
    call,
    next_id,
    number,
    projection,
    read_many,
    string,
    transact,
)
from copilot_metrics.errors import AccountNotFound
from copilot_metrics.models import Account, Page, SealedToken, StoredToken, timestamp
from copilot_metrics.tables.pages import filled_page

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from copilot_metrics.schemas import GitHubUser

COUNTER: Final = 0
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
        return filled_page(ids, limit, lambda some: {i: _account(item) for i, item in self.read(some, ACCOUNT_FIELDS)})

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


def _base64(value: bytes) -> dict[str, str]:
    return {"S": base64.b64encode(value).decode()}


def _bytes(attribute: Mapping[str, str]) -> bytes:
    return base64.b64decode(attribute["S"])
