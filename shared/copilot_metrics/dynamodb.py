"""DynamoDB's client and its plumbing: errors in this service's words, contention, transactions, batches, counters."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError

from copilot_metrics import aws, retries
from copilot_metrics.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K")
DynamoItem = Mapping[str, Any]
"""An item as DynamoDB writes it: ``{"id": {"N": "1"}}``."""

BATCH_KEYS: Final = 100
"""What one BatchGetItem takes (Amazon DynamoDB API Reference)."""
BATCH_WRITES: Final = 25
"""What one BatchWriteItem takes (the same)."""
PARALLEL_BATCHES: Final = 4
CONTENTION_SECONDS: Final = 10.0
"""How long a call contends with others before it gives up; 50 writers of one item need about one second."""
BUSY: Final = frozenset({"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"})


@cache
def dynamodb() -> "DynamoDBClient":
    """Return this process's client, made on first use."""
    made: DynamoDBClient = aws.client("dynamodb", read_seconds=3, connections=50)
    for operation in ("Query", "BatchGetItem"):
        made.meta.events.register(f"before-parse.dynamodb.{operation}", _take_items_as_they_are)
    return made


def _take_items_as_they_are(
    *, response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Keep botocore from parsing items.

    They are written as we use them, and its parser, which goes through ten types for every value, arrives at the same:
    it took more than half of a long list's time. Without this event, botocore would parse them again, to no harm.
    """
    if response_dict["status_code"] != HTTPStatus.OK:
        return
    try:
        answer = json.loads(response_dict["body"])
    except ValueError:
        return  # botocore asks again where an answer doesn't have its checksum
    if isinstance(answer, dict):
        customized_response_dict |= {name: answer.pop(name) for name in ("Items", "Responses") if answer.get(name)}
        response_dict["body"] = json.dumps(answer).encode()


def call(operation: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a client's operation, and say what failed in this service's words.

    Raises DatabaseUnavailable. A condition that isn't met stays what it is, and so does a request that DynamoDB finds
    malformed: that is a fault of ours.
    """
    try:
        return operation(*args, **kwargs)
    except ParamValidationError:
        raise
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code in {"ValidationException", "TransactionCanceledException", "ConditionalCheckFailedException"}:
            raise
        raise _unavailable(code) from None
    except BotoCoreError as error:
        raise _unavailable(type(error).__name__) from None


def attempts() -> Iterator[None]:
    """Yield until the caller is done, pausing between attempts; raises DatabaseUnavailable when that takes too long."""
    busy = DatabaseUnavailable(
        "Too many requests use the same records at the same time; try again in a moment.", retry_after=1
    )
    return retries.attempts(CONTENTION_SECONDS, busy)


def update_if(client: "DynamoDBClient", **arguments: Any) -> DynamoItem | None:  # noqa: ANN401  # UpdateItem's own
    """Update one item and return the attributes that were updated; None where the condition isn't met."""
    try:
        return call(client.update_item, **{"ReturnValues": "UPDATED_NEW", **arguments})["Attributes"]
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            return None
        raise


def delete_if(client: "DynamoDBClient", **arguments: Any) -> bool:  # noqa: ANN401  # DeleteItem's own
    """Delete one item; False where the condition isn't met."""
    try:
        call(client.delete_item, **arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            return False
        raise
    return True


def transact(client: "DynamoDBClient", *writes: "TransactWriteItemTypeDef") -> bool:
    """Write all or nothing; False where a condition wasn't met.

    botocore gives each call a token of its own, so its own retries after a lost answer don't write twice.
    """
    for _ in attempts():
        try:
            call(client.transact_write_items, TransactItems=writes)
        except ClientError as error:
            reasons = {reason.get("Code", "None") for reason in error.response.get("CancellationReasons", [])}
            if "ConditionalCheckFailed" in reasons:
                return False
            if not reasons & BUSY:
                raise
        else:
            return True
    raise AssertionError  # attempts() raises before it ends


def next_id(client: "DynamoDBClient", table: str, counter: Mapping[str, Any]) -> int:
    """Count the item at key ``counter`` up by one and return the new count: never the same twice."""
    answer = call(
        client.update_item,
        TableName=table,
        Key=counter,
        UpdateExpression="ADD last_id :one",
        ExpressionAttributeValues={":one": number(1)},
        ReturnValues="UPDATED_NEW",
    )
    return int(answer["Attributes"]["last_id"]["N"])


def read_many(
    client: "DynamoDBClient", table: str, keys: Sequence[Mapping[str, Any]], fields: Sequence[str] = ()
) -> list[DynamoItem]:
    """Read items by their keys, in parallel batches; those that don't exist are left out, the order is any."""

    def read(batch: Sequence[Mapping[str, Any]]) -> list[DynamoItem]:
        found: list[DynamoItem] = []
        wanted: Mapping[str, Any] = {table: {"Keys": batch, "ConsistentRead": True, **projection(fields)}}
        for _ in attempts():
            answer = call(client.batch_get_item, RequestItems=wanted)
            found += answer["Responses"].get(table, [])
            wanted = answer.get("UnprocessedKeys", {})
            if not wanted:
                break
        return found

    return [item for items in _in_parallel(read, keys, BATCH_KEYS) for item in items]


def delete_many(client: "DynamoDBClient", table: str, keys: Sequence[Mapping[str, Any]]) -> None:
    """Delete items by their keys, in parallel batches; those that don't exist are passed over."""

    def delete(batch: Sequence[Mapping[str, Any]]) -> None:
        left: Mapping[str, Any] = {table: [{"DeleteRequest": {"Key": key}} for key in batch]}
        for _ in attempts():
            left = call(client.batch_write_item, RequestItems=left).get("UnprocessedItems", {})
            if not left:
                break

    _in_parallel(delete, keys, BATCH_WRITES)


def _in_parallel(use: Callable[[Sequence[K]], R], keys: Sequence[K], at_once: int) -> list[R]:
    batches = [keys[start : start + at_once] for start in range(0, len(keys), at_once)]
    if len(batches) <= 1:
        return [use(batch) for batch in batches]
    with ThreadPoolExecutor(PARALLEL_BATCHES) as pool:
        return list(pool.map(use, batches))


def projection(fields: Iterable[str]) -> dict[str, Any]:
    """Return the arguments that make a read return some fields only; all of them where none are named."""
    names = {f"#{name}": name for name in fields}
    return {"ProjectionExpression": ", ".join(names), "ExpressionAttributeNames": names} if names else {}


def number(value: int) -> dict[str, str]:
    """Return a number as DynamoDB writes it."""
    return {"N": str(value)}


def string(value: str) -> dict[str, str]:
    """Return a string as DynamoDB writes it."""
    return {"S": value}


def _unavailable(reason: str) -> DatabaseUnavailable:
    hint = {
        "ResourceNotFoundException": ": its tables are missing; deploy the stack",
        "AccessDeniedException": ": the function's role doesn't allow it",
        "NoCredentialsError": ": there are no AWS credentials",
    }.get(reason, "; try again in a moment")
    message = f"The database can't be used right now ({reason}){hint}."
    return DatabaseUnavailable(message, retry_after=1)
