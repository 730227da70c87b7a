"""What DynamoDB refuses is waited for, or said in this service's words."""

import itertools
import time
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.client import BaseClient
from botocore.exceptions import ClientError, EndpointConnectionError, ReadTimeoutError
from botocore.session import get_session
from moto.core.botocore_stubber import MockRawResponse

from copilot_metrics import dynamodb
from copilot_metrics.dynamodb import number, read_many, transact
from copilot_metrics.errors import DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_dynamodb.type_defs import TransactWriteItemTypeDef

WRITE: "TransactWriteItemTypeDef" = {
    "Put": {
        "TableName": "copilot_github_accounts",
        "Item": {"id": {"N": "1"}},
        "ConditionExpression": "attribute_not_exists(id)",
    }
}


def client_error(code: str, **response: Any) -> ClientError:
    whole: Any = {"Error": {"Code": code, "Message": "gho_canary"}, **response}
    return ClientError(whole, "AnOperation")


def cancelled(*codes: str) -> ClientError:
    return client_error("TransactionCanceledException", CancellationReasons=[{"Code": code} for code in codes])


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch, tables: "DynamoDBClient") -> "Callable[..., list[str]]":
    """Let the next calls fail in turn, and return the operations that were called."""
    assert tables is not None
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)

    def with_errors(*errors: Exception) -> list[str]:
        called: list[str] = []
        waiting = iter(errors)
        original = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore's one way out

        def call(client: BaseClient, operation: str, arguments: Any) -> Any:
            called.append(operation)
            error = next(waiting, None)
            if error is not None:
                raise error
            return original(client, operation, arguments)

        monkeypatch.setattr(BaseClient, "_make_api_call", call)
        return called

    return with_errors


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"])
def test_a_transaction_that_collides_is_tried_again(failing: "Callable[..., list[str]]", code: str) -> None:
    called = failing(*[cancelled("None", code)] * 3)
    assert transact(dynamodb.dynamodb(), WRITE) is True
    assert len(called) == 4


def test_a_condition_that_is_not_met_is_an_answer(failing: "Callable[..., list[str]]") -> None:
    failing()
    assert transact(dynamodb.dynamodb(), WRITE) is True
    assert transact(dynamodb.dynamodb(), WRITE) is False


def test_a_condition_counts_more_than_a_collision(failing: "Callable[..., list[str]]") -> None:
    failing(cancelled("TransactionConflict", "ConditionalCheckFailed"))
    assert transact(dynamodb.dynamodb(), WRITE) is False


def test_waiting_for_others_has_an_end(failing: "Callable[..., list[str]]", monkeypatch: pytest.MonkeyPatch) -> None:
    failing(*[cancelled("TransactionConflict")] * 1000)
    clock = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(DatabaseUnavailable, match="same time") as raised:
        transact(dynamodb.dynamodb(), WRITE)
    assert raised.value.retry_after == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (client_error("ResourceNotFoundException"), "tables are missing"),
        (client_error("AccessDeniedException"), "role doesn't allow"),
        (client_error("ProvisionedThroughputExceededException"), "try again"),
        (client_error("InternalServerError"), "try again"),
        (client_error("SomethingNew"), "SomethingNew"),
        (EndpointConnectionError(endpoint_url="http://gho_canary"), "EndpointConnectionError"),
        (ReadTimeoutError(endpoint_url="http://gho_canary"), "ReadTimeoutError"),
    ],
)
def test_a_database_that_fails_is_unavailable(
    failing: "Callable[..., list[str]]", error: Exception, words: str
) -> None:
    failing(error)
    with pytest.raises(DatabaseUnavailable, match=words) as raised:
        transact(dynamodb.dynamodb(), WRITE)
    assert "gho_canary" not in str(raised.value)
    assert raised.value.retry_after is not None


def test_a_malformed_request_is_a_fault_of_ours(failing: "Callable[..., list[str]]") -> None:
    failing(client_error("ValidationException"))
    with pytest.raises(ClientError):
        transact(dynamodb.dynamodb(), WRITE)


def test_what_a_batch_leaves_unread_is_read_again(
    failing: "Callable[..., list[str]]", tables: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    failing()
    for account_id in (1, 2, 3):
        tables.put_item(TableName="copilot_github_accounts", Item={"id": number(account_id)})
    original = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore's one way out

    def one_at_a_time(client: BaseClient, operation: str, arguments: Any) -> Any:
        ((table, wanted),) = arguments["RequestItems"].items()
        first, *rest = wanted["Keys"]
        answer = original(client, operation, {"RequestItems": {table: {**wanted, "Keys": [first]}}})
        return {**answer, "UnprocessedKeys": {table: {**wanted, "Keys": rest}} if rest else {}}

    monkeypatch.setattr(BaseClient, "_make_api_call", one_at_a_time)
    keys = [{"id": number(account_id)} for account_id in (1, 2, 3, 4)]
    found = read_many(dynamodb.dynamodb(), "copilot_github_accounts", keys)
    assert sorted(item["id"]["N"] for item in found) == ["1", "2", "3"]


def test_items_are_what_botocore_would_make_of_them(tables: "DynamoDBClient") -> None:
    name = "copilot_metrics"
    for metrics_id, payload in ((1, '{"ü": "\\ud83d", "n": 1e400}'), (2, "{}")):
        item: Any = {
            "account_id": number(7),
            "id": number(metrics_id),
            "payload": {"S": payload},
            "flag": {"BOOL": True},
        }
        tables.put_item(TableName=name, Item=item)
    plain: Any = get_session().create_client("dynamodb")
    for operation, asked in (
        (
            "query",
            {"KeyConditionExpression": "account_id = :a", "ExpressionAttributeValues": {":a": number(7)}, "Limit": 1},
        ),
        ("query", {"KeyConditionExpression": "account_id = :a", "ExpressionAttributeValues": {":a": number(8)}}),
    ):
        ours, botocores = (getattr(client, operation)(TableName=name, **asked) for client in (tables, plain))
        assert {**ours, "ResponseMetadata": None} == {**botocores, "ResponseMetadata": None}
    keys: Any = {name: {"Keys": [{"account_id": number(7), "id": number(n)} for n in (1, 2, 3)]}}
    ours, botocores = (client.batch_get_item(RequestItems=keys) for client in (tables, plain))
    assert {**ours, "ResponseMetadata": None} == {**botocores, "ResponseMetadata": None}
    assert len(ours["Responses"][name]) == 2


def test_an_answer_that_arrives_damaged_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    good = b'{"Count": 1, "Items": [{"id": {"N": "1"}}]}'
    bodies = iter([good[:20], b"", good])
    client: Any = dynamodb.dynamodb.__wrapped__()  # not the one that all tests share

    def answer(request: Any, **_: Any) -> AWSResponse:
        headers: Any = HeadersDict({"x-amz-crc32": str(zlib.crc32(good))})
        return AWSResponse(request.url, 200, headers, MockRawResponse(next(bodies)))

    client.meta.events.register("before-send.dynamodb.Query", answer)
    assert client.query(TableName="copilot_metrics", KeyConditionExpression="a = b")["Items"] == [{"id": {"N": "1"}}]
    assert next(bodies, None) is None
