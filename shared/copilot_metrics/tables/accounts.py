"""``copilot_github_accounts``: accounts, and the claims that keep them one per GitHub user."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from copilot_metrics.dynamodb import (
    DynamoItem,
    attempts,
    call,
    delete_if,
    next_id,
    number,
    projection,
    read_many,
    string,
    transact,
    update_if,
)
from copilot_metrics.errors import AccountNotFound, TokenUnreadable
from copilot_metrics.models import Account, FetchStatus, LastFetch, Page, SealedToken, StoredToken, timestamp
from copilot_metrics.tables.pages import filled_page

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

    from copilot_metrics.schemas import GitHubUser

COUNTER: Final = 0
ACCOUNTS_WITHOUT_TOKEN: Final = "accounts_without_token"  # noqa: S105  # an index
ACCOUNT_KIND: Final = "account"
ACCOUNTS_BY_SCHEDULE: Final = "accounts_by_schedule"
ON_SCHEDULE: Final = "on"
REFUSED: Final = "refused"
PAUSED: Final = "paused"
ACCOUNT_FIELDS: Final = (
    "id",
    "kind",
    "login",
    "github_user_id",
    "node_id",
    "avatar_url",
    "created_at",
    "updated_at",
    "paused",
    "fetch_status",
    "fetch_at",
    "fetch_reason",
)
TOKEN_FIELDS: Final = (
    "id",
    "kind",
    "github_user_id",
    "token_ciphertext",
    "token_nonce",
    "token_salt",
    "token_kdf",
    "token_key_id",
    "paused",
    "fetch_status",
    "fresh_as_of",
    "not_before",
)
INDEXED: Final = {
    ACCOUNTS_WITHOUT_TOKEN: ("kind", ACCOUNT_KIND),
    ACCOUNTS_BY_SCHEDULE: ("schedule", ON_SCHEDULE),
}
"""Which items an index is asked for: those with this attribute and value."""
MAX_REASON: Final = 500
MAX_AT_ONCE: Final = 2000
"""How many entries one query of an index reads at most: of those with all that lists show, 1 MB in any case."""


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
            claimed = self._claimed_id(user.id)
            account_id = claimed or next_id(self._client, self._name, {"id": number(COUNTER)})
            if self._write(account_id, user, seal(account_id), known=claimed is not None):
                return account_id
        raise AssertionError  # attempts() raises before it ends

    def replace_token(self, stored: StoredToken, sealed: SealedToken) -> bool:
        """Store an account's token as it is sealed anew; False where another was imported, or the account removed."""
        replaced = update_if(
            self._client,
            TableName=self._name,
            Key={"id": number(stored.account_id)},
            UpdateExpression="SET " + ", ".join(f"{name} = :{name}" for name in _token_fields(sealed)),
            ConditionExpression="token_nonce = :before",
            ExpressionAttributeValues={
                ":before": _base64(stored.sealed.nonce),
                **{f":{name}": value for name, value in _token_fields(sealed).items()},
            },
        )
        return replaced is not None

    def set_paused(self, account_id: int, *, paused: bool) -> None:
        """Take an account off the schedule, or put it back where it was. Raises AccountNotFound."""
        known, refused = "attribute_exists(kind)", "fetch_status = :invalid"
        invalid = {":invalid": string(FetchStatus.TOKEN_INVALID)}
        if paused:
            ways: list[tuple[str, str, str, dict[str, Any]]] = [(", paused = :schedule", PAUSED, known, {})]
        else:
            # One of the two holds; a fetch may change which one between them.
            unrefused = f"{known} AND (attribute_not_exists(fetch_status) OR NOT {refused})"
            ways = [
                (" REMOVE paused", ON_SCHEDULE, unrefused, invalid),
                (" REMOVE paused", REFUSED, f"{known} AND {refused}", invalid),
            ]
        for _ in attempts():
            for change, schedule, condition, values in ways:
                changed = update_if(
                    self._client,
                    TableName=self._name,
                    Key={"id": number(account_id)},
                    UpdateExpression=f"SET schedule = :schedule, updated_at = :now{change}",
                    ConditionExpression=condition,
                    ExpressionAttributeValues={
                        ":schedule": string(schedule),
                        ":now": string(timestamp()),
                        **values,
                    },
                )
                if changed is not None:
                    return
            self.get(account_id)
        raise AssertionError  # attempts() raises before it ends

    def begin_removal(self, account_id: int) -> None:
        """Remove an account, its token and its claim; what remains says that its snapshots are yet to be removed.

        From then on the account isn't found, and no fetch or import that began before can store anything for it.
        Raises AccountNotFound.
        """
        for _ in attempts():
            item = self._item(account_id, ("id", "kind", "github_user_id"), removed=True)
            if "kind" not in item:
                return
            if transact(
                self._client,
                {
                    "Delete": {
                        "TableName": self._name,
                        "Key": {"id": number(-int(item["github_user_id"]["N"]))},
                        "ConditionExpression": "attribute_not_exists(id) OR account_id = :account_id",
                        "ExpressionAttributeValues": {":account_id": number(account_id)},
                    }
                },
                {
                    "Put": {
                        "TableName": self._name,
                        "Item": {"id": number(account_id), "removed_at": string(timestamp())},
                        "ConditionExpression": "attribute_exists(kind)",
                    }
                },
            ):
                return

    def finish_removal(self, account_id: int) -> None:
        """Remove what remained; the snapshots are gone."""
        delete_if(
            self._client,
            TableName=self._name,
            Key={"id": number(account_id)},
            ConditionExpression="attribute_exists(removed_at)",
        )

    def get(self, account_id: int) -> Account:
        """Return an account as the API shows it. Raises AccountNotFound."""
        return _account(self._item(account_id, ACCOUNT_FIELDS))

    def get_token(self, account_id: int) -> StoredToken:
        """Return an account's sealed token. Raises AccountNotFound, or TokenUnreadable for a damaged record."""
        item = self._item(account_id, TOKEN_FIELDS)
        try:
            return _stored_token(account_id, item)
        except (KeyError, ValueError):
            raise TokenUnreadable(
                f"The stored token of account {account_id} is damaged: import the account again."
            ) from None

    def newest_first(self, limit: int | None = None, after: int | None = None) -> Page[Account]:
        """Return a page of accounts by descending id, below ``after`` where that is given.

        The page holds ``limit`` accounts, or as many as one answer can carry. What was changed within the last moments
        may be missing: indexes follow their table with a short delay.
        """
        entries = self._entries(ACCOUNTS_WITHOUT_TOKEN, after=after, ascending=False, at_once=limit)
        return filled_page(((account.id, account) for account in map(_account, entries)), limit)

    def latest_metrics(self, *, after: int | None = None, at_once: int | None = None) -> Iterator[tuple[int, int]]:
        """Yield the accounts that have metrics by ascending id, beyond ``after`` where given, with the latest's id.

        Reads ``at_once`` or so first. What was fetched within the last moments may be missing.
        """
        fields = ("id", "latest_metrics_id")
        for entry in self._entries(ACCOUNTS_WITHOUT_TOKEN, fields, after=after, at_once=at_once):
            if "latest_metrics_id" in entry:
                yield int(entry["id"]["N"]), int(entry["latest_metrics_id"]["N"])

    def ids(self) -> Iterator[int]:
        """Yield the ids of all accounts, ascending."""
        return (int(entry["id"]["N"]) for entry in self._entries(ACCOUNTS_WITHOUT_TOKEN, ("id",)))

    def ids_on_schedule(self, *, after: int | None = None) -> Iterator[int]:
        """Yield the ids of the accounts that the schedule fetches, ascending, beyond ``after`` where that is given."""
        return (int(entry["id"]["N"]) for entry in self._entries(ACCOUNTS_BY_SCHEDULE, ("id",), after=after))

    def record_failure(
        self, stored: StoredToken, status: FetchStatus, reason: str, *, due: str | None, not_before: str | None = None
    ) -> None:
        """Note how a fetch failed, unless the token was replaced meanwhile or another fetch has served ``due``.

        A refused token takes the account off the schedule until it is imported again.
        """
        values = {
            ":status": string(status),
            ":at": string(timestamp()),
            ":reason": string(reason[:MAX_REASON]),
            ":nonce": _base64(stored.sealed.nonce),
        }
        assignments = "fetch_status = :status, fetch_at = :at, fetch_reason = :reason"
        condition = "token_nonce = :nonce"
        if due is not None:
            condition += " AND (attribute_not_exists(fresh_as_of) OR fresh_as_of < :due)"
            values[":due"] = string(due)
        if not_before is not None:
            assignments += ", not_before = :not_before"
            values[":not_before"] = string(not_before)
        if status is FetchStatus.TOKEN_INVALID:
            assignments += ", schedule = if_not_exists(paused, :refused)"
            values[":refused"] = string(REFUSED)
        update_if(
            self._client,
            TableName=self._name,
            Key={"id": number(stored.account_id)},
            UpdateExpression=f"SET {assignments}",
            ConditionExpression=condition,
            ExpressionAttributeValues=values,
        )

    def read(self, account_ids: Sequence[int], fields: Sequence[str]) -> Iterator[tuple[int, DynamoItem]]:
        """Yield some fields of those of the accounts that exist, in no order."""
        keys = [{"id": number(account_id)} for account_id in account_ids]
        for item in read_many(self._client, self._name, keys, ("kind", *(name for name in fields if name != "kind"))):
            if "kind" in item:
                yield int(item["id"]["N"]), item

    def _entries(
        self,
        index: str,
        fields: Sequence[str] = (),
        *,
        after: int | None = None,
        ascending: bool = True,
        at_once: int | None = None,
    ) -> Iterator[DynamoItem]:
        name, value = INDEXED[index]
        condition, values = "#key = :value", {":value": string(value)}
        if after is not None:
            condition += " AND id > :after" if ascending else " AND id < :after"
            values[":after"] = number(after)
        arguments = projection(fields)
        arguments["ExpressionAttributeNames"] = {"#key": name, **arguments.get("ExpressionAttributeNames", {})}
        most = (at_once or MAX_AT_ONCE) + 1  # one more tells whether the list goes on
        while True:
            answer = call(
                self._client.query,
                TableName=self._name,
                IndexName=index,
                KeyConditionExpression=condition,
                ExpressionAttributeValues=values,
                ScanIndexForward=ascending,
                Limit=min(most, MAX_AT_ONCE),
                **arguments,
            )
            yield from answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return
            arguments["ExclusiveStartKey"] = answer["LastEvaluatedKey"]
            most *= 2  # where many have nothing to show, reading a few at a time would take forever

    def _item(self, account_id: int, fields: Sequence[str], *, removed: bool = False) -> DynamoItem:
        answer = call(
            self._client.get_item,
            TableName=self._name,
            Key={"id": number(account_id)},
            ConsistentRead=True,
            **projection(fields),
        )
        item = answer.get("Item", {})
        if not item or ("kind" not in item and not removed):
            raise AccountNotFound(account_id)
        return item

    def _claimed_id(self, github_user_id: int) -> int | None:
        answer = call(
            self._client.get_item,
            TableName=self._name,
            Key={"id": number(-github_user_id)},
            ConsistentRead=True,
            **projection(("id", "account_id")),
        )
        return int(answer["Item"]["account_id"]["N"]) if "Item" in answer else None

    def _write(self, account_id: int, user: "GitHubUser", sealed: SealedToken, *, known: bool) -> bool:
        """Write claim and account; False where another import or a removal is in the way: read the claim again then."""
        now = string(timestamp())
        fields = {
            "kind": string(ACCOUNT_KIND),
            "login": string(user.login),
            "github_user_id": number(user.id),
            "node_id": string(user.node_id),
            "avatar_url": string(user.avatar_url),
            **_token_fields(sealed),
            "updated_at": now,
        }
        assignments = ", ".join(f"{name} = :{name}" for name in fields)
        unclaimed = "attribute_not_exists(id)"
        return transact(
            self._client,
            {
                "Update": {
                    "TableName": self._name,
                    "Key": {"id": number(-user.id)},
                    "UpdateExpression": "SET account_id = :account_id",
                    "ConditionExpression": "account_id = :account_id" if known else unclaimed,
                    "ExpressionAttributeValues": {":account_id": number(account_id)},
                }
            },
            {
                "Update": {
                    "TableName": self._name,
                    "Key": {"id": number(account_id)},
                    # How fetches with the token before ended says nothing about this one.
                    "UpdateExpression": (
                        f"SET {assignments}, created_at = if_not_exists(created_at, :updated_at), "
                        "schedule = if_not_exists(paused, :on)"
                        " REMOVE fetch_status, fetch_at, fetch_reason, not_before"
                    ),
                    "ConditionExpression": (
                        "attribute_not_exists(id) OR (github_user_id = :github_user_id AND attribute_exists(kind))"
                    ),
                    "ExpressionAttributeValues": {
                        ":on": string(ON_SCHEDULE),
                        **{f":{name}": value for name, value in fields.items()},
                    },
                }
            },
        )


def _token_fields(sealed: SealedToken) -> dict[str, dict[str, str]]:
    return {
        "token_ciphertext": _base64(sealed.ciphertext),
        "token_nonce": _base64(sealed.nonce),
        "token_salt": _base64(sealed.salt),
        "token_kdf": string(sealed.kdf),
        "token_key_id": string(sealed.key_id),
    }


def _stored_token(account_id: int, item: DynamoItem) -> StoredToken:
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
        paused="paused" in item,
        status=FetchStatus(item["fetch_status"]["S"]) if "fetch_status" in item else None,
        fresh_as_of=_text(item, "fresh_as_of"),
        not_before=_text(item, "not_before"),
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
        paused="paused" in item,
        last_fetch=(
            LastFetch(FetchStatus(item["fetch_status"]["S"]), item["fetch_at"]["S"], _text(item, "fetch_reason"))
            if "fetch_status" in item
            else None
        ),
    )


def _text(item: DynamoItem, name: str) -> str | None:
    return item[name]["S"] if name in item else None


def _base64(value: bytes) -> dict[str, str]:
    return {"S": base64.b64encode(value).decode()}


def _bytes(attribute: Mapping[str, str]) -> bytes:
    return base64.b64decode(attribute["S"])
