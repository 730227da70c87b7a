"""The API's description for programs: ``make openapi`` writes it to docs/openapi.json.

Paths come from template.yaml, bodies from the schemas and models that the functions use.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from copilot_metrics import __version__
from copilot_metrics.api import MAX_ID, MAX_LIMIT
from copilot_metrics.models import Account
from copilot_metrics.schemas import AccountChange, ImportRequest
from infra.stack import ROOT, Route, Stack

DOCUMENT: Final = ROOT / "docs" / "openapi.json"
ALWAYS: Final = (404, 500, 503)
"""The plugin may be disabled, a part may be missing, and a fault is never ruled out."""
GITHUB: Final = (401, 429, 502, 504)
KEYS: Final = (401, 403, 429)
"""What API Gateway itself answers: no key, not this one, too many requests."""

Schema = dict[str, Any]


@dataclass(frozen=True)
class Operation:
    """What a function does, for readers."""

    summary: str
    answer: Schema | None
    """The body's schema; None for an answer without one."""
    status: HTTPStatus = HTTPStatus.OK
    body: type[BaseModel] | None = None
    fails: tuple[int, ...] = ()
    pages: bool = False


def _object(**properties: Schema) -> Schema:
    return {"type": "object", "required": list(properties), "properties": properties}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _list(name: str) -> Schema:
    return {"type": "array", "items": _ref(name)}


ID: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": MAX_ID}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
OPERATIONS: Final[Mapping[str, Operation]] = {
    "import_account": Operation(
        "Import a GitHub account by its access token",
        _object(account_id=ID),
        body=ImportRequest,
        fails=(*GITHUB, 413, 415, 422),
    ),
    "list_accounts": Operation("List the accounts, newest first", _list("Account"), fails=(422,), pages=True),
    "get_account": Operation("Read an account", _ref("Account"), fails=(422,)),
    "update_account": Operation(
        "Pause an account, or let the schedule fetch it again",
        _ref("Account"),
        body=AccountChange,
        fails=(413, 415, 422),
    ),
    "delete_account": Operation(
        "Remove an account, its token and its metrics", None, status=HTTPStatus.NO_CONTENT, fails=(422,)
    ),
    "fetch_metrics": Operation(
        "Fetch an account's metrics from GitHub now", _object(metrics_id=ID), fails=(*GITHUB, 413, 422)
    ),
    "fetch_all_metrics": Operation(
        "Queue the fetch of all accounts",
        _object(queued={"type": "integer", "minimum": 0}, due=TIME, complete={"type": "boolean"}),
        status=HTTPStatus.ACCEPTED,
    ),
    "get_latest_metrics": Operation("Read an account's latest metrics", _ref("Metrics"), fails=(422,)),
    "list_latest_metrics": Operation(
        "Read the latest metrics of all accounts, by account id", _list("Metrics"), fails=(422,), pages=True
    ),
    "check_health": Operation("Is everything there?", _ref("Health")),
}
PAGES: Final[list[Schema]] = [
    {
        "name": "limit",
        "in": "query",
        "description": "How many at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
    },
    {
        "name": "cursor",
        "in": "query",
        "description": "Where the page starts: from the Link header of the one before, unchanged.",
        "schema": {"type": "string"},
    },
]


def document() -> Schema:
    """Return the API's description (OpenAPI 3.1)."""
    paths: dict[str, Schema] = {}
    for route in Stack.from_template().routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Copilot Metrics",
            "version": __version__,
            "description": "Import GitHub accounts, fetch and keep their Copilot plan and quotas.",
        },
        "servers": [{"url": "http://localhost:8000", "description": "make run"}],
        "security": [{"key": []}],
        "paths": paths,
        "components": {"schemas": _schemas(), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}},
    }


def _operation(route: Route) -> Schema:
    name = route.function.handler.parent.name
    operation = OPERATIONS[name]
    parameters = PAGES if operation.pages else []
    if "{account_id}" in route.path:
        parameters = [{"name": "account_id", "in": "path", "required": True, "schema": ID}]
    described: Schema = {"operationId": name, "summary": operation.summary, "responses": _responses(route, operation)}
    if parameters:
        described["parameters"] = parameters
    if operation.body is not None:
        body = {"application/json": {"schema": _ref(operation.body.__name__)}}
        described["requestBody"] = {"required": True, "content": body}
    if route.authorizer is None:
        described["security"] = []
    return described


def _responses(route: Route, operation: Operation) -> Schema:
    good: Schema = {"description": operation.status.phrase}
    if operation.answer is not None:
        good["content"] = {"application/json": {"schema": operation.answer}}
    if operation.pages:
        link = {"description": 'The next page\'s address, rel="next" (RFC 8288).', "schema": {"type": "string"}}
        good["headers"] = {"link": link}
    answers = {str(int(operation.status)): good}
    closed = () if route.authorizer is None else KEYS
    for status in sorted({*operation.fails, *ALWAYS, *closed}):
        content = {"application/problem+json": {"schema": _ref("Problem")}}
        if status in {*closed, 500}:
            content["application/json"] = {"schema": _ref("GatewayMessage")}
        if status == HTTPStatus.SERVICE_UNAVAILABLE and operation.answer == _ref("Health"):
            content["application/json"] = {"schema": _ref("Health")}
        answers[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return answers


def _schemas() -> dict[str, Schema]:
    schemas: dict[str, Schema] = {
        "Metrics": _object(id=ID, account_id=ID, fetched_at=TIME, payload={"type": "object"}),
        "Health": _object(
            status={"enum": ["ok", "unavailable"]}, database={"type": "string"}, secret={"type": "string"}
        ),
        "Problem": {
            **_object(
                type={"type": "string"},
                title={"type": "string"},
                status={"type": "integer"},
                detail={"type": "string", "description": "For people: what is wrong, and what to do."},
                code={"type": "string", "description": "For programs."},
            ),
            "description": "RFC 9457. Where a field is wrong, `field` names it.",
        },
        "GatewayMessage": {**_object(message={"type": "string"}), "description": "What API Gateway itself answers."},
    }
    for model in (Account, ImportRequest, AccountChange):
        schema = TypeAdapter(model).json_schema(ref_template="#/components/schemas/{model}", mode="serialization")
        schemas |= schema.pop("$defs", {})
        schemas[model.__name__] = schema
    return dict(sorted(schemas.items()))


def text() -> str:
    """Return the document as it is written."""
    return json.dumps(document(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(text())
