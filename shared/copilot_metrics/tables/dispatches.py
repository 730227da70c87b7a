"""The schedule's progress, kept with the accounts' counter: what is due is dispatched once, whoever asks twice."""

import time
import uuid
from typing import TYPE_CHECKING, Final

from copilot_metrics.dynamodb import number, string, update_if
from copilot_metrics.tables.accounts import COUNTER

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

LEASE_SECONDS: Final = 30
"""A dispatch that saves no progress for so long has died. Lambda repeats a failed one after a minute."""

NEVER: Final = 2**53


class DispatchTable:
    """The latest dispatch, in ``copilot_github_accounts``."""

    def __init__(self, client: "DynamoDBClient", name: str) -> None:
        """Take a client and the accounts' table's name."""
        self._client = client
        self._key = {"TableName": name, "Key": {"id": number(COUNTER)}}

    def begin(self, due: str) -> int | None:
        """Claim the dispatch of a moment; return the account id after which it has to go on.

        None means that there is nothing to do: it is done, is being done by another, or a later one has begun.
        """
        values = {":due": string(due), ":start": number(0), ":lease": _lease(), ":owner": string(str(uuid.uuid4()))}
        new = update_if(
            self._client,
            **self._key,
            UpdateExpression=(
                "SET dispatch_due = :due, dispatch_after = :start, dispatch_lease = :lease, dispatch_owner = :owner"
            ),
            # The last is for botocore, which repeats a request whose answer was lost: it must find its own claim.
            ConditionExpression="attribute_not_exists(dispatch_due) OR dispatch_due < :due OR dispatch_owner = :owner",
            ExpressionAttributeValues=values,
        )
        if new is not None:
            return 0
        abandoned = update_if(
            self._client,
            **self._key,
            ReturnValues="ALL_NEW",
            UpdateExpression="SET dispatch_lease = :lease",
            ConditionExpression="dispatch_due = :due AND dispatch_lease < :now",
            ExpressionAttributeValues={":due": string(due), ":lease": _lease(), ":now": number(int(time.time()))},
        )
        return None if abandoned is None else int(abandoned["dispatch_after"]["N"])

    def save(self, due: str, after: int) -> None:
        """Note that the accounts up to ``after`` are dispatched, unless a later dispatch has begun."""
        self._update(due, after, _lease())

    def finish(self, due: str, after: int) -> None:
        """Note that all are dispatched, or that another carries on: nobody has to go on with this one."""
        self._update(due, after, number(NEVER))

    def _update(self, due: str, after: int, lease: dict[str, str]) -> None:
        update_if(
            self._client,
            **self._key,
            UpdateExpression="SET dispatch_after = :after, dispatch_lease = :lease",
            ConditionExpression="dispatch_due = :due",
            ExpressionAttributeValues={":due": string(due), ":after": number(after), ":lease": lease},
        )


def _lease() -> dict[str, str]:
    return number(int(time.time()) + LEASE_SECONDS)
