"""API Gateway and Lambda in one process: the template's routes, each calling its handler.

Follows what AWS documents for HTTP APIs: payload format 2.0, routing (a literal segment before a parameter), 404 for
what no route matches, 500 for a function that fails, 503 for one that takes too long.
"""

import asyncio
import base64
import json
import multiprocessing.connection
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from copilot_metrics.dynamodb import dynamodb
from copilot_metrics.queue import fetch_queue
from infra.local.events import Events, invoke, say
from infra.local.lambdas import Context, Handler, load
from infra.local.problem import Problem
from infra.stack import Function, Route, Stack

MAX_BODY_BYTES: Final = 6 * 1024 * 1024
"""What Lambda takes as one event; API Gateway's own limit is 10 MB."""
API_ARN: Final = "arn:aws:execute-api:us-east-1:000000000000:local"
TIMEOUT_SECONDS: Final = 30
MAX_CONCURRENCY: Final = 1000
"""Of all functions together (AWS Lambda quotas)."""
LOOPBACK_NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
INVOCATION: Final = re.compile(r"/2015-03-31/functions/(?P<name>\w+)/invocations")


class _BrokenOffError(Exception):
    """The client left before its request was complete."""


class LocalApi:
    """An ASGI application that answers as the deployed HTTP API does."""

    def __init__(self, stack: Stack, events: Events | None = None, *, closed: bool = False) -> None:
        """Load the handlers of the stack's functions; ``events`` run while the application does.

        Only where it is ``closed``, the routes' authorizers are asked.
        """
        self._closed = closed
        # As API Gateway selects: routes with more literal segments are more specific.
        routes = sorted(stack.routes, key=lambda route: route.path.count("{"))
        self._functions = {function.name: (function, load(function)) for function in stack.functions}
        self._routes = [(route, _pattern(route.path), self._functions[route.function.name][1]) for route in routes]
        self._workers = ThreadPoolExecutor(MAX_CONCURRENCY, thread_name_prefix="lambda")
        self._events = events

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request, or the application's own start and stop."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            raise RuntimeError(f"{scope['type']} isn't served here")
        started = time.monotonic()
        try:
            answer = await self._answer(scope, await asyncio.wait_for(_read(receive), TIMEOUT_SECONDS))
        except _BrokenOffError:
            return  # nobody waits for an answer, and what was meant is unknown
        except TimeoutError:
            answer = _message(408, "Request Timeout")
        await _send(answer, send)
        milliseconds = round((time.monotonic() - started) * 1000)
        # Without the query: what somebody puts there by mistake shouldn't stay on the screen.
        say(f"{scope['method']} {_printable(scope['path'])} {answer['statusCode']} {milliseconds} ms")

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup" and self._events is not None:
                self._events.start()
            if message["type"] == "lifespan.shutdown" and self._events is not None:
                await asyncio.to_thread(self._events.stop)
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _answer(self, scope: Message, body: bytes | None) -> dict[str, Any]:
        headers = _headers(scope)
        if not _from_this_machine(headers):
            return _message(403, "Requests for other hosts, or from other sites' pages, are refused here")
        if body is None:
            return _message(413, "Request Entity Too Large")
        for route, pattern, handler in self._routes:
            match = pattern.fullmatch(scope["path"])
            if match and route.method == scope["method"]:
                event = _event(route, scope, headers, match.groupdict(), body)
                if self._closed and route.authorizer is not None:
                    refusal = await self._refusal(route.authorizer, event)
                    if refusal is not None:
                        return refusal
                return await self._invoke(route, handler, event)
        return self._invoke_later(scope["path"], headers, body) or _message(404, "Not Found")

    def _invoke_later(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any] | None:
        """Invoke a function without waiting for it (AWS Lambda API Reference: Invoke); None for other paths.

        Only for this run's own functions, which sign with its access key.
        """
        invocation = INVOCATION.fullmatch(path)
        if invocation is None or invocation["name"] not in self._functions:
            return None
        key = os.environ.get("AWS_ACCESS_KEY_ID")
        if not key or f"Credential={key}/" not in headers.get("authorization", ""):
            return _message(403, "Missing Authentication Token")
        try:
            event = json.loads(body)
        except ValueError:
            return _message(400, "Could not parse request body into json")
        self._workers.submit(invoke, *self._functions[invocation["name"]], event)
        return {"statusCode": 202}

    async def _refusal(self, authorizer: Function, event: dict[str, Any]) -> dict[str, Any] | None:
        """Ask an authorizer, as the template declares it; None where it lets the request in, which it adds to then."""
        if not event["headers"].get("authorization"):
            return _message(401, "Unauthorized")
        request = {
            **{name: value for name, value in event.items() if name not in {"body", "isBase64Encoded"}},
            "type": "REQUEST",
            "routeArn": f"{API_ARN}/$default/{event['routeKey'].replace(' ', '')}",
            "identitySource": [event["headers"]["authorization"], event["routeKey"]],
        }
        context = Context(authorizer.name, seconds=TIMEOUT_SECONDS)
        handler = self._functions[authorizer.name][1]
        try:
            decision = await asyncio.get_running_loop().run_in_executor(self._workers, handler, request, context)
        except Exception as error:  # noqa: BLE001  # whatever an authorizer raises is API Gateway's 500
            print(f"{authorizer.name} raised {type(error).__name__}", file=sys.stderr)
            return _message(500, "Internal Server Error")
        if decision.get("isAuthorized") is not True:
            return _message(403, "Forbidden")
        event["requestContext"]["authorizer"] = {"lambda": decision.get("context")}
        return None

    async def _invoke(self, route: Route, handler: Handler, event: dict[str, Any]) -> dict[str, Any]:
        context = Context(route.function.name, event["requestContext"]["requestId"], seconds=TIMEOUT_SECONDS)
        call = asyncio.get_running_loop().run_in_executor(self._workers, handler, event, context)
        try:
            return await asyncio.wait_for(call, TIMEOUT_SECONDS)
        except TimeoutError:
            return _message(503, "Service Unavailable")
        except Exception as error:  # noqa: BLE001  # whatever a function raises is API Gateway's 500
            print(f"{route.function.name} raised {type(error).__name__}", file=sys.stderr)
            return _message(500, "Internal Server Error")


def keys_needed(environment: Mapping[str, str]) -> bool:
    """Tell whether ``AUTH`` turns API keys on. Raises Problem for anything but on and off."""
    value = environment.get("AUTH", "off")
    if value not in {"on", "off"}:
        raise Problem("AUTH must be on (API keys are needed) or off")
    return value == "on"


def create_app() -> LocalApi:
    """Return the application for this checkout's template."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A supervisor that was killed can't stop this process, which would keep the port.
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    # Once and now: each of a first burst of requests would make one.
    dynamodb()
    fetch_queue()
    stack = Stack.from_template()
    urls = {queue.name: os.environ[queue.name] for queue in stack.queues}
    return LocalApi(stack, Events(stack, urls, os.environ.get("FETCH_SCHEDULE")), closed=keys_needed(os.environ))


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(path)))


async def _read(receive: Receive) -> bytes | None:
    """Read the body to its end; None where it is too large for Lambda."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _BrokenOffError
        if len(body) <= MAX_BODY_BYTES:
            body += message.get("body", b"")
        if not message.get("more_body", False):
            return body if len(body) <= MAX_BODY_BYTES else None


def _headers(scope: Message) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in scope["headers"]:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _from_this_machine(headers: dict[str, str]) -> bool:
    """Tell whether a request was meant for this server: a web page must not drive it, even by rebinding a name."""
    origin = headers.get("origin")
    try:
        hosts = [headers.get("host", ""), *([] if origin is None else [urlsplit(origin).netloc])]
    except ValueError:
        return False
    return all(re.sub(r":\d+$", "", host).lower() in LOOPBACK_NAMES for host in hosts)


def _event(
    route: Route, scope: Message, headers: dict[str, str], parameters: dict[str, str], body: bytes
) -> dict[str, Any]:
    raw_query = scope["query_string"].decode("latin-1")
    query: dict[str, str] = {}
    for name, value in parse_qsl(raw_query, keep_blank_values=True):
        query[name] = f"{query[name]},{value}" if name in query else value
    cookies = headers.get("cookie")
    client = scope.get("client") or ("127.0.0.1", 0)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route.key,
        "rawPath": scope["path"],
        "rawQueryString": raw_query,
        "headers": {**{k: v for k, v in headers.items() if k != "cookie"}, "x-forwarded-proto": "http"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": headers["host"],
            "domainPrefix": "local",
            "http": {
                "method": scope["method"],
                "path": scope["path"],
                "protocol": f"HTTP/{scope['http_version']}",
                "sourceIp": client[0],
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": str(uuid.uuid4()),
            "routeKey": route.key,
            "stage": "$default",
            "time": datetime.now(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(time.time() * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = [cookie.strip() for cookie in cookies.split(";")]
    if query:
        event["queryStringParameters"] = query
    if parameters:
        event["pathParameters"] = parameters
    if body:
        event |= _body(body)
    return event


def _body(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode()}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode(), "isBase64Encoded": True}


def _message(status: int, message: str) -> dict[str, Any]:
    """Return an answer of API Gateway's own."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json"},
        "body": json.dumps({"message": message}),
    }


async def _send(answer: dict[str, Any], send: Send) -> None:
    text = answer.get("body", "")
    body = base64.b64decode(text) if answer.get("isBase64Encoded") else text.encode()
    headers = {**answer.get("headers", {}), "content-length": str(len(body))}
    await send(
        {
            "type": "http.response.start",
            "status": answer["statusCode"],
            "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        }
    )
    await send({"type": "http.response.body", "body": body})


def _printable(path: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in path)[:200]
