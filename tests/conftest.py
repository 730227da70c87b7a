"""What all tests share: a clean environment, tables as the template declares them, and functions to invoke."""

import importlib.util
import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import moto
import pytest
import pytest_socket
import respx

from copilot_metrics import aws, batch, continuation, dynamodb, github, observability, queue, secret, settings, vault
from copilot_metrics import tables as tables_
from infra.local.lambdas import Context
from infra.stack import ROOT, Stack

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

SECRET = "0123456789abcdef" * 4
PREFIX = "/plugins/copilot_metrics"
STACK = Stack.from_template()
# Not the client for DynamoDB: it is expensive to make, and moto answers it whichever test it was made in.
CACHES = (
    settings.settings,
    aws._session,
    tables_._recent,
    vault._key,
    secret._ssm,
    secret._parameter,
    github.github_client,
    queue._sqs,
    continuation._lambda,
    batch._workers,
)


@pytest.fixture(autouse=True)
def _no_network(request: pytest.FixtureRequest) -> Iterator[None]:
    """Unit tests have no network; tests on real parts have loopback."""
    if {"black_box", "end_to_end", "infra"} & set(request.path.parts):
        yield
        return
    pytest_socket.disable_socket(allow_unix_socket=True)
    yield
    pytest_socket.enable_socket()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """An environment that leads nowhere, and objects made from it that no other test sees."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "COPILOT_", "PLUGINS_")):
            monkeypatch.delenv(name)
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "eu-central-1",
        "PLUGINS_ENABLED": "hello,copilot_metrics",
        "COPILOT_METRICS__TOKEN_SECRET": SECRET,
    }.items():
        monkeypatch.setenv(name, value)
    for cached in CACHES:
        cached.cache_clear()
    yield monkeypatch
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture(autouse=True)
def logged() -> Iterator[io.StringIO]:
    """What is logged; pytest doesn't capture it, as the logger keeps the output of the moment it was made."""
    (handler,) = logging.getLogger(observability.logger.service).handlers
    assert isinstance(handler, logging.StreamHandler)
    with io.StringIO() as stream:
        before = handler.setStream(stream)
        yield stream
        handler.setStream(before)


@pytest.fixture
def tables() -> "Iterator[DynamoDBClient]":
    """The template's tables in moto, and a client to look into them."""
    with moto.mock_aws():
        client = dynamodb.dynamodb()
        for table in STACK.tables:
            client.create_table(**table)
        yield client


@pytest.fixture
def github_api() -> Iterator[respx.MockRouter]:
    """GitHub, as far as a test says what it answers."""
    with respx.mock(base_url="https://api.github.com", assert_all_called=False) as router:
        yield router


@dataclass(frozen=True)
class Answer:
    """What a function answered."""

    event: dict[str, Any]

    @property
    def status(self) -> int:
        return int(self.event["statusCode"])

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.event["headers"])

    @property
    def text(self) -> str:
        return str(self.event["body"])

    @cached_property
    def json(self) -> Any:
        return json.loads(self.text)


Invoke = Callable[..., Answer]
ROUTES = {route.function.handler.parent.name: route for route in STACK.routes}


@pytest.fixture
def invoke() -> Invoke:
    """Invoke a function, named by its folder, with the event of a request."""

    def invoking(
        function: str,
        *,
        parameters: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
        body: Any = None,
        **changes: Any,
    ) -> Answer:
        event = http_event(function, parameters or {}, query or {}, body) | changes
        return Answer(load(ROUTES[function].function.handler)(event, Context(function, "a-request-id")))

    return invoking


def http_event(function: str, parameters: dict[str, str], query: dict[str, str], body: Any) -> dict[str, Any]:
    """An HTTP API's event, payload format 2.0; a body that isn't text is sent as JSON."""
    route = ROUTES[function]
    path = route.path.format(**parameters)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": path,
        "rawQueryString": urlencode(query),
        "headers": {"accept": "*/*", "content-type": "application/json", "x-forwarded-proto": "https"},
        "requestContext": {
            "domainName": "api.example",
            "http": {"method": route.method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1"},
            "requestId": "an-api-request-id",
            "routeKey": route.key,
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }
    if parameters:
        event["pathParameters"] = parameters
    if query:
        event["queryStringParameters"] = query
    if body is not None:
        event["body"] = body if isinstance(body, str) else json.dumps(body)
    return event


def load(handler: Path) -> Callable[[dict[str, Any], Context], dict[str, Any]]:
    """Import a function's handler."""
    spec = importlib.util.spec_from_file_location(f"tested_{handler.parent.name}", handler)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    handle: Callable[[dict[str, Any], Context], dict[str, Any]] = module.handler
    return handle


PAYLOADS = {file.stem: file.read_text() for file in sorted((ROOT / "tests" / "payloads").glob("*.json"))}


def github_user(user_id: int = 1001) -> dict[str, Any]:
    """GitHub's answer to /user."""
    return {
        "id": user_id,
        "login": f"octo-{user_id}",
        "node_id": f"U_{user_id}",
        "avatar_url": f"https://avatars.example/u/{user_id}?v=4",
        "name": None,
        "type": "User",
    }
