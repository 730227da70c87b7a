"""``copilot_metrics_api_keys``: who may call the API. Holds digests, never a key."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from copilot_metrics.dynamodb import DynamoItem, call, projection, string, update_if
from copilot_metrics.errors import ApiKeyNotFound
from copilot_metrics.models import ApiKey, Scope, timestamp

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

FIELDS: Final = ("id", "name", "scope", "created_at", "expires_at", "revoked_at", "last_used_at")
LAST_USE_SECONDS: Final = 3600
"""How exact the last use is: one write an hour and key, not one a request."""


class ApiKeyTable:
    """``copilot_metrics_api_keys``, its key the API key's id."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        """Take a client and the table's name."""
        self._client = client
        self._name = name

    def add(self, key: ApiKey, digest: str) -> None:
        """Store a new key. Raises DatabaseUnavailable."""
        item = {"id": key.id, "name": key.name, "scope": key.scope, "created_at": key.created_at, "digest": digest}
        if key.expires_at is not None:
            item["expires_at"] = key.expires_at
        call(
            self._client.put_item,
            TableName=self._name,
            Item={name: string(value) for name, value in item.items()},
            ConditionExpression="attribute_not_exists(id)",
        )

    def get(self, key_id: str) -> tuple[ApiKey, str] | None:
        """Return a key and its digest, None where there is none of this id."""
        answer = call(
            self._client.get_item,
            TableName=self._name,
            Key={"id": string(key_id)},
            ConsistentRead=True,
            **projection((*FIELDS, "digest")),
        )
        if "Item" not in answer:
            return None
        return _api_key(answer["Item"]), answer["Item"]["digest"]["S"]

    def note_use(self, key: ApiKey) -> None:
        """Note that a key is used, unless that was noted within the last hour."""
        now = datetime.now(UTC)
        known_until = timestamp(now - timedelta(seconds=LAST_USE_SECONDS))
        if key.last_used_at is not None and key.last_used_at > known_until:
            return
        update_if(
            self._client,
            TableName=self._name,
            Key={"id": string(key.id)},
            UpdateExpression="SET last_used_at = :now",
            ConditionExpression="attribute_exists(id) AND NOT last_used_at > :known_until",
            ExpressionAttributeValues={":now": string(timestamp(now)), ":known_until": string(known_until)},
        )

    def revoke(self, key_id: str) -> None:
        """Make a key useless for good. Raises ApiKeyNotFound."""
        revoked = update_if(
            self._client,
            TableName=self._name,
            Key={"id": string(key_id)},
            UpdateExpression="SET revoked_at = if_not_exists(revoked_at, :now)",
            ConditionExpression="attribute_exists(id)",
            ExpressionAttributeValues={":now": string(timestamp())},
        )
        if revoked is None:
            raise ApiKeyNotFound(key_id)

    def all(self) -> Iterator[ApiKey]:
        """Yield every key, in no order."""
        for page in self._client.get_paginator("scan").paginate(TableName=self._name, **projection(FIELDS)):
            yield from map(_api_key, page["Items"])


def _api_key(item: DynamoItem) -> ApiKey:
    texts = {name: item[name]["S"] for name in FIELDS if name in item}
    return ApiKey(
        id=texts["id"],
        name=texts["name"],
        scope=Scope(texts["scope"]),
        created_at=texts["created_at"],
        expires_at=texts.get("expires_at"),
        revoked_at=texts.get("revoked_at"),
        last_used_at=texts.get("last_used_at"),
    )
