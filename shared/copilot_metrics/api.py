"""The HTTP entry point: events in, answers out, and every error as a problem response (RFC 9457).

API Gateway has done the routing: each function serves one route, and ``endpoint`` makes its handler.
"""

import base64
import gzip
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

from copilot_metrics.errors import (
    CopilotMetricsError,
    InvalidInput,
    PluginDisabled,
    RequestTooLarge,
    UnsupportedMediaType,
)
from copilot_metrics.models import Item, Page
from copilot_metrics.observability import logger, where
from copilot_metrics.settings import PLUGIN, settings

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext
    from pydantic import BaseModel

    Body = TypeVar("Body", bound=BaseModel)

Event = dict[str, Any]

MAX_BODY_BYTES = 16 * 1024
MAX_NAME = 100
"""Of a field's name that the caller wrote, as it comes back in an error."""
MIN_COMPRESSED = 4096
"""Of an answer; shorter ones fit into a few packets as they are."""
MAX_LIMIT = 10_000
MAX_ID = 10**15
"""Ids are small ascending integers; this many fit every JSON reader's numbers."""


@dataclass(frozen=True)
class Response:
    """An answer; ``body`` is JSON text."""

    body: str
    status: HTTPStatus = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)

    def to_event(self, *, gzip_accepted: bool = False) -> Event:
        """Return the answer as API Gateway takes it (payload format 2.0); a long one compressed where accepted."""
        headers = {"content-type": "application/json", "cache-control": "no-store", **self.headers}
        body, compressed = self.body, False
        if len(body) >= MIN_COMPRESSED:
            headers["vary"] = "accept-encoding"
            if gzip_accepted:
                headers["content-encoding"] = "gzip"
                body, compressed = base64.b64encode(gzip.compress(body.encode(), mtime=0)).decode(), True
        return {"statusCode": int(self.status), "headers": headers, "body": body, "isBase64Encoded": compressed}


class Request:
    """A request for one route, its parts checked as they are asked for. Every method raises InvalidInput."""

    def __init__(self, event: Event) -> None:
        """Take API Gateway's event (payload format 2.0)."""
        self._event = event

    def accepts_gzip(self) -> bool:
        """Tell whether the answer may be compressed (RFC 9110: Accept-Encoding)."""
        for coding in self._header("accept-encoding").lower().split(","):
            name, _, weight = coding.partition(";")
            if name.strip() == "gzip":
                return re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight) is None
        return False

    def account_id(self) -> int:
        """Return the path's account id."""
        return _positive("account_id", self._part("pathParameters").get("account_id", ""), MAX_ID)

    def body(self, schema: "type[Body]") -> "Body":
        """Return the body, checked. Raises also RequestTooLarge and UnsupportedMediaType."""
        from pydantic import ValidationError  # noqa: PLC0415  # functions without a body start without pydantic

        try:
            return schema.model_validate_json(self._json_body())
        except ValidationError as error:
            problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(str(part) for part in problem["loc"])[:MAX_NAME] or "body"
            raise InvalidInput(name, _readable(problem["type"], problem["msg"])) from None

    def list_page(self, name: str, read: Callable[[int | None, int | None], Page[Item]]) -> Response:
        """Answer the part of list ``name`` that ``limit`` and ``cursor`` ask for, with a Link to the next (RFC 8288).

        ``read`` is given how many items at most, and the id after which the page starts, None for either's default.
        """
        query = self._part("queryStringParameters")
        limit = _positive("limit", query["limit"], MAX_LIMIT) if "limit" in query else None
        after = _opened_cursor(name, query["cursor"]) if "cursor" in query else None
        page = read(limit, after)
        headers = {}
        if page.after is not None:
            headers["link"] = f'<{self._url(limit, _cursor(name, page.after))}>; rel="next"'
        return Response("[" + ", ".join(item.to_json() for item in page.items) + "]", headers=headers)

    def _json_body(self) -> bytes:
        media_type = self._header("content-type").partition(";")[0].strip().lower()
        if media_type != "application/json":
            raise UnsupportedMediaType("The body must be JSON: send it with the header content-type: application/json.")
        text = self._event.get("body") or ""
        try:
            body = base64.b64decode(text, validate=True) if self._event.get("isBase64Encoded") else text.encode()
        except ValueError:  # neither base64 nor UTF-8
            raise InvalidInput("body", "must be UTF-8") from None  # short
        if len(body) > MAX_BODY_BYTES:
            raise RequestTooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
        return body

    def _url(self, limit: int | None, cursor: str) -> str:
        query = urlencode({"cursor": cursor} if limit is None else {"limit": limit, "cursor": cursor})
        scheme = self._header("x-forwarded-proto") or "https"
        return f"{scheme}://{self._event['requestContext']['domainName']}{self._event['rawPath']}?{query}"

    def _part(self, name: str) -> dict[str, str]:
        """Return one of the event's parts, which is missing or null where the request has none."""
        return self._event.get(name) or {}

    def _header(self, name: str) -> str:
        """Return a header, empty where there is none. AWS writes names in lower case, SAM CLI as they were sent."""
        return next((value for sent, value in self._part("headers").items() if sent.lower() == name), "")


Handler = Callable[[Event, "LambdaContext"], Event]


def endpoint(answer: Callable[[Request], Response]) -> Handler:
    """Make a Lambda handler of a function that answers one route's requests.

    Whatever it raises becomes a problem response, and every request one line in the log.
    """

    @wraps(answer)
    def handler(event: Event, context: "LambdaContext") -> Event:
        started = time.monotonic()
        facts: dict[str, Any] = {"route": event.get("routeKey"), "request_id": context.aws_request_id}
        request, gzip_accepted = Request(event), False
        try:
            _check_enabled()
            gzip_accepted = request.accepts_gzip()
            response = answer(request)
        except CopilotMetricsError as error:
            facts["code"] = error.code
            response = _problem(error)
        except Exception as error:  # noqa: BLE001  # the caller gets an answer whatever happens
            facts |= {"code": "internal_error", "where": where(error)}
            response = _internal_error(context.aws_request_id)
        facts |= {"status": int(response.status), "milliseconds": round((time.monotonic() - started) * 1000, 1)}
        log = logger.error if response.status >= HTTPStatus.INTERNAL_SERVER_ERROR else logger.info
        log("request", extra=facts)
        return response.to_event(gzip_accepted=gzip_accepted)

    return handler


def _check_enabled() -> None:
    if not settings().enabled:
        raise PluginDisabled(f"The plugin is not enabled: PLUGINS_ENABLED must contain {PLUGIN}.")


def _problem(error: CopilotMetricsError) -> Response:
    members: dict[str, Any] = {"detail": error.detail, "code": error.code}
    if isinstance(error, InvalidInput):
        members["field"] = error.field
    headers = {} if error.retry_after is None else {"retry-after": str(error.retry_after)}
    return _problem_response(error.status, members, headers)


def _internal_error(request_id: str) -> Response:
    detail = f"Something went wrong here; the log has more under request_id {request_id}."
    members = {"detail": detail, "code": "internal_error", "request_id": request_id}
    return _problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, members, {})


def _problem_response(status: HTTPStatus, members: dict[str, Any], headers: dict[str, str]) -> Response:
    body = {"type": "about:blank", "title": status.phrase, "status": int(status), **members}
    headers = {"content-type": "application/problem+json", **headers}
    return Response(json.dumps(body, ensure_ascii=False), status, headers)


def _positive(name: str, text: str, most: int) -> int:
    if re.fullmatch(r"[1-9][0-9]{0,15}", text) and int(text) <= most:
        return int(text)
    raise InvalidInput(name, f"must be a whole number from 1 to {most}")  # short


def _cursor(name: str, after: int) -> str:
    return base64.urlsafe_b64encode(f"{name}:{after}".encode()).decode().rstrip("=")


def _opened_cursor(name: str, cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
    except ValueError:
        text = ""
    kind, _, after = text.partition(":")
    if kind == name and re.fullmatch(r"[1-9][0-9]{0,15}", after) and _cursor(name, int(after)) == cursor:
        return int(after)
    raise InvalidInput("cursor", "must be one from this list's own Link header, unchanged")  # short


def _readable(kind: str, message: str) -> str:
    return {
        "missing": "is required",
        "extra_forbidden": "is not a known field",
        "json_invalid": "must be valid JSON",
        "model_type": "must be a JSON object",
        "string_type": "must be a string",
        "bool_type": "must be true or false",
    }.get(kind, message.removeprefix("Value error, "))
