"""Who may call which route."""

import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient

from copilot_metrics import keys
from copilot_metrics.errors import ApiKeyNotFound, DatabaseUnavailable
from copilot_metrics.models import ApiKey, Scope, timestamp
from copilot_metrics.tables import api_key_table
from copilot_metrics.tables import keys as keys_module
from infra.local.lambdas import Context
from tests.conftest import ROUTES, load

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

[AUTHORIZER] = {route.authorizer for route in ROUTES.values() if route.authorizer is not None}
ROUTE_KEYS = [route.key for route in ROUTES.values() if route.authorizer is not None]
READING = [key for key in ROUTE_KEYS if key.startswith("GET ")]
MakeKey = Callable[..., str]


@pytest.fixture
def make_key(tables: "DynamoDBClient") -> MakeKey:
    assert tables is not None

    def making(scope: str = "write", **fields: str) -> str:
        key, key_id = keys.new_key()
        api_key = ApiKey(id=key_id, name="a test", scope=Scope(scope), created_at=timestamp(), **fields)
        api_key_table().add(api_key, keys.digest(key))
        return key

    return making


def decide(authorization: str | None, route: str = ROUTE_KEYS[0]) -> dict[str, Any]:
    """Ask the authorizer as API Gateway does (payload format 2.0)."""
    event = {
        "version": "2.0",
        "type": "REQUEST",
        "routeKey": route,
        "identitySource": None if authorization is None else [authorization, route],
        "headers": {} if authorization is None else {"authorization": authorization},
    }
    return load(AUTHORIZER.handler)(event, Context("authorize_request"))


def allows(authorization: str | None, route: str = ROUTE_KEYS[0]) -> bool:
    decision = decide(authorization, route)
    assert set(decision) <= {"isAuthorized", "context"}
    return decision["isAuthorized"] is True


def test_a_key_says_who_calls(make_key: MakeKey) -> None:
    key = make_key()
    assert decide(f"Bearer {key}") == {
        "isAuthorized": True,
        "context": {"key_id": keys.id_in(key), "key_name": "a test"},
    }


def test_a_key_for_reading_opens_the_routes_that_only_show_something(make_key: MakeKey) -> None:
    key = make_key("read")
    assert [route for route in ROUTE_KEYS if allows(f"Bearer {key}", route)] == READING
    assert READING != []


def test_a_key_for_writing_opens_all_routes(make_key: MakeKey) -> None:
    key = make_key("write")
    assert all(allows(f"Bearer {key}", route) for route in ROUTE_KEYS)


@pytest.mark.parametrize("form", ["bearer {}", "BEARER {}", "Bearer  {} "])
def test_the_scheme_is_read_as_rfc_9110_says(make_key: MakeKey, form: str) -> None:
    assert allows(form.format(make_key()))


@pytest.mark.parametrize(
    "form",
    [None, "", "{}", "Basic {}", "Bearer", "Bearer {}x", "Bearer x{}", "Bearer {} {}", "token {}", "Bearer gho_1"],
)
@pytest.mark.usefixtures("tables")
def test_anything_but_a_bearers_key_is_refused(make_key: MakeKey, form: str | None) -> None:
    key = make_key()
    assert not allows(form and form.format(key, key))


def test_a_wrong_key_of_a_known_id_is_refused(make_key: MakeKey) -> None:
    right = make_key()
    wrong = right[:17] + keys.new_key()[0][17:]
    assert keys.id_in(wrong) == keys.id_in(right)
    assert allows(f"Bearer {right}")
    assert not allows(f"Bearer {wrong}")
    assert not allows(f"Bearer {keys.new_key()[0]}")


def test_a_revoked_key_is_refused_from_then_on_and_keeps_its_first_date(
    make_key: MakeKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key()
    key_id = str(keys.id_in(key))
    assert allows(f"Bearer {key}")
    api_key_table().revoke(key_id)
    [revoked] = api_key_table().all()
    assert not allows(f"Bearer {key}")
    monkeypatch.setattr(keys_module, "timestamp", lambda: "2099-01-01T00:00:00.000Z")
    api_key_table().revoke(key_id)
    assert list(api_key_table().all()) == [revoked]
    with pytest.raises(ApiKeyNotFound):
        api_key_table().revoke("000000000000")


def test_a_key_is_good_until_it_expires(make_key: MakeKey) -> None:
    now = datetime.now(UTC)
    assert allows(f"Bearer {make_key(expires_at=timestamp(now + timedelta(minutes=1)))}")
    assert not allows(f"Bearer {make_key(expires_at=timestamp(now - timedelta(milliseconds=2)))}")


def test_the_last_use_is_noted_once_an_hour(
    make_key: MakeKey, tables: "DynamoDBClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key()
    assert [known.last_used_at for known in api_key_table().all()] == [None]
    written: list[str] = []
    original = BaseClient._make_api_call  # type: ignore[attr-defined]  # botocore's one way out

    def noted(client: BaseClient, operation: str, arguments: Any) -> Any:
        written.extend([operation] if operation == "UpdateItem" else [])
        return original(client, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", noted)
    for _ in range(3):
        assert allows(f"Bearer {key}")
    assert len(written) == 1
    tables.update_item(
        TableName="copilot_metrics_api_keys",
        Key={"id": {"S": str(keys.id_in(key))}},
        UpdateExpression="SET last_used_at = :long_ago",
        ExpressionAttributeValues={":long_ago": {"S": "2020-01-01T00:00:00.000Z"}},
    )
    assert allows(f"Bearer {key}")
    [known] = api_key_table().all()
    assert known.last_used_at is not None
    assert known.last_used_at > "2026"


def test_nobody_comes_in_while_the_keys_cannot_be_read(make_key: MakeKey, tables: "DynamoDBClient") -> None:
    key = make_key()
    tables.delete_table(TableName="copilot_metrics_api_keys")
    with pytest.raises(DatabaseUnavailable) as raised:
        decide(f"Bearer {key}")
    assert key not in repr(raised.value)


def test_a_last_use_that_cannot_be_noted_keeps_nobody_out(make_key: MakeKey, monkeypatch: pytest.MonkeyPatch) -> None:
    key = make_key()

    def failing(*_arguments: Any, **_names: Any) -> None:
        raise DatabaseUnavailable("busy")

    monkeypatch.setattr(keys_module, "update_if", failing)
    assert allows(f"Bearer {key}")


def test_no_key_is_kept_or_logged(
    make_key: MakeKey, tables: "DynamoDBClient", logged: io.StringIO, capfd: pytest.CaptureFixture[str]
) -> None:
    right = make_key()
    wrong = right[:17] + keys.new_key()[0][17:]
    for authorization in (f"Bearer {right}", f"Bearer {wrong}", f"Basic {right}"):
        decide(authorization)
    assert '"reason":"wrong"' in logged.getvalue()
    stored = repr(tables.scan(TableName="copilot_metrics_api_keys")["Items"])
    assert keys.digest(right) in stored
    printed = capfd.readouterr()
    for secret in (right[17:], wrong[17:]):
        assert secret not in stored + logged.getvalue() + printed.out + printed.err
