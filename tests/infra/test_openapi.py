"""The API's description is that of the API."""

from infra.openapi import DOCUMENT, OPERATIONS, document, text
from infra.stack import Stack


def test_the_written_description_is_the_current_one() -> None:
    assert DOCUMENT.read_text() == text(), "run make openapi"


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(OPERATIONS) == {route.function.handler.parent.name for route in Stack.from_template().routes}


def test_only_health_is_described_as_open() -> None:
    operations = [operation for path in document()["paths"].values() for operation in path.values()]
    assert [operation["operationId"] for operation in operations if operation.get("security") == []] == ["check_health"]


def test_the_token_and_the_proxy_are_described_as_secrets() -> None:
    properties = document()["components"]["schemas"]["ImportRequest"]["properties"]
    assert properties["token"]["format"] == "password"
    assert properties["proxy"]["anyOf"][0]["format"] == "password"
