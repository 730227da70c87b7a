"""The local server answers as API Gateway and Lambda do."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.server import LocalApi
from infra.stack import Function, Route, Stack

ECHO = """
import json

def handler(event, context):
    return {"statusCode": 200, "headers": {"x-function": context.function_name}, "body": json.dumps(event)}
"""
RAISING = """
def handler(event, context):
    raise RuntimeError("gho_canary")
"""
BINARY = """
def handler(event, context):
    return {"statusCode": 201, "body": "AAEC/w==", "isBase64Encoded": True}
"""


@pytest.fixture
def api(tmp_path: Path) -> LocalApi:
    """An API of three functions, one of them behind two overlapping routes."""
    files = {}
    for name, source in {"echo": ECHO, "raising": RAISING, "binary": BINARY}.items():
        files[name] = tmp_path / name / "handler.py"
        files[name].parent.mkdir()
        files[name].write_text(source)
    routes = (
        Route("GET", "/things/{thing_id}", Function("One", files["echo"])),
        Route("GET", "/things/all", Function("All", files["echo"])),
        Route("POST", "/things", Function("New", files["echo"])),
        Route("GET", "/raising", Function("Raising", files["raising"])),
        Route("GET", "/binary", Function("Binary", files["binary"])),
    )
    return LocalApi(Stack(routes=routes))


def call(api: LocalApi, method: str, url: str, **request: Any) -> httpx.Response:
    async def calling() -> httpx.Response:
        transport = httpx.ASGITransport(api, client=("127.0.0.1", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
            return await client.request(method, url, **request)

    return asyncio.run(calling())


def test_an_event_has_the_form_that_api_gateway_gives_it(api: LocalApi) -> None:
    event = call(
        api,
        "GET",
        "/things/a%20b?x=1&y=%C3%BC&x=2&empty=",
        headers=[("X-Twice", "one"), ("x-twice", "two"), ("Cookie", "a=1; b=2"), ("User-Agent", "tester")],
    ).json()
    assert event["version"] == "2.0"
    assert event["routeKey"] == event["requestContext"]["routeKey"] == "GET /things/{thing_id}"
    assert event["rawPath"] == "/things/a b"
    assert event["rawQueryString"] == "x=1&y=%C3%BC&x=2&empty="
    assert event["queryStringParameters"] == {"x": "1,2", "y": "ü", "empty": ""}
    assert event["pathParameters"] == {"thing_id": "a b"}
    assert event["headers"]["x-twice"] == "one,two"
    assert event["headers"]["x-forwarded-proto"] == "http"
    assert "cookie" not in event["headers"]
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["requestContext"]["domainName"] == "localhost:8000"
    assert event["requestContext"]["stage"] == "$default"
    assert event["requestContext"]["http"] == {
        "method": "GET",
        "path": "/things/a b",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "tester",
    }
    assert event["isBase64Encoded"] is False
    assert "body" not in event


def test_what_a_request_lacks_its_event_lacks(api: LocalApi) -> None:
    event = call(api, "POST", "/things").json()
    assert not {"body", "queryStringParameters", "pathParameters", "cookies"} & set(event)


def test_text_bodies_arrive_as_they_are_and_others_in_base64(api: LocalApi) -> None:
    assert call(api, "POST", "/things", content="ünï".encode()).json()["body"] == "ünï"
    event = call(api, "POST", "/things", content=b"\xff\x00").json()
    assert (base64.b64decode(event["body"]), event["isBase64Encoded"]) == (b"\xff\x00", True)


def test_a_literal_route_comes_before_one_with_a_parameter(api: LocalApi) -> None:
    assert call(api, "GET", "/things/all").headers["x-function"] == "All"
    assert call(api, "GET", "/things/7").headers["x-function"] == "One"


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/things/1/2"), ("GET", "/things/"), ("PUT", "/things")]
)
def test_what_no_route_matches_is_not_found(api: LocalApi, method: str, path: str) -> None:
    answer = call(api, method, path)
    assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


def test_a_function_that_raises_is_an_internal_error_that_tells_nothing(
    api: LocalApi, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = call(api, "GET", "/raising")
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal Server Error"})
    printed = capsys.readouterr()
    assert "RuntimeError" in printed.err
    assert "gho_canary" not in printed.out + printed.err


def test_binary_answers_are_decoded(api: LocalApi) -> None:
    answer = call(api, "GET", "/binary")
    assert (answer.status_code, answer.content) == (201, b"\x00\x01\x02\xff")


def test_a_body_larger_than_lambda_takes_is_refused(api: LocalApi) -> None:
    answer = call(api, "POST", "/things", content=b"x" * (6 * 1024 * 1024 + 1))
    assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "rebound.example"},
        {"host": "localhost.example:8000"},
        {"host": ""},
        {"origin": "https://page.example"},
        {"origin": "null"},
        {"origin": "http://localhost.example:8000"},
    ],
)
def test_a_page_of_another_site_can_not_drive_it(api: LocalApi, headers: dict[str, str]) -> None:
    assert call(api, "POST", "/things", headers=headers).status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "127.0.0.1:8000"},
        {"host": "[::1]:8000"},
        {"host": "LOCALHOST"},
        {"origin": "http://localhost:3000"},
    ],
)
def test_this_machine_can(api: LocalApi, headers: dict[str, str]) -> None:
    assert call(api, "POST", "/things", headers=headers).status_code == 200


def test_a_request_is_one_line_without_its_query(api: LocalApi, capsys: pytest.CaptureFixture[str]) -> None:
    call(api, "GET", "/things/1?token=gho_canary")
    (line,) = capsys.readouterr().out.splitlines()
    assert "GET /things/1 200" in line
    assert "gho_canary" not in line


def test_a_path_can_not_write_lines_of_its_own(api: LocalApi, capsys: pytest.CaptureFixture[str]) -> None:
    call(api, "GET", "/things/%0aforged%1b[31m")
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_every_route_of_the_template_has_a_handler_that_loads() -> None:
    api = LocalApi(Stack.from_template())
    answer = call(api, "GET", "/plugins/copilot_metrics/accounts/x")
    assert json.loads(answer.text)["code"] in {"invalid_input", "plugin_disabled"}


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "null"])
def test_an_origin_that_is_none_is_refused(api: LocalApi, origin: str) -> None:
    assert call(api, "GET", "/things/all", headers={"origin": origin}).status_code == 403


def test_a_caller_does_not_choose_the_scheme_of_links(api: LocalApi) -> None:
    event = call(api, "GET", "/things/all", headers={"x-forwarded-proto": "javascript"}).json()
    assert event["headers"]["x-forwarded-proto"] == "http"


def test_a_request_that_was_broken_off_is_not_executed(api: LocalApi) -> None:
    sent: list[Any] = []
    messages = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "POST", "path": "/things", "headers": [(b"host", b"localhost")]}
    asyncio.run(api(scope, receive, send))
    assert sent == []


AUTHORIZER = """
def handler(event, context):
    assert "body" not in event
    if event["identitySource"] == ["broken", event["routeKey"]]:
        raise RuntimeError("gho_canary")
    return {"isAuthorized": event["identitySource"] == ["Bearer right", "POST /things"], "context": {"key_id": "1"}}
"""


@pytest.fixture
def closed(tmp_path: Path) -> LocalApi:
    """An API of an open route and one behind an authorizer."""
    for name, source in {"echo": ECHO, "authorizer": AUTHORIZER}.items():
        (tmp_path / f"{name}.py").write_text(source)
    echo, authorizer = Function("Echo", tmp_path / "echo.py"), Function("Authorizer", tmp_path / "authorizer.py")
    routes = (Route("POST", "/things", echo, authorizer), Route("GET", "/things", echo, authorizer))
    return LocalApi(Stack(routes=(*routes, Route("GET", "/open", echo))), closed=True)


@pytest.mark.parametrize(
    ("authorization", "status", "said"),
    [
        (None, 401, {"message": "Unauthorized"}),
        ("", 401, {"message": "Unauthorized"}),
        ("Bearer wrong", 403, {"message": "Forbidden"}),
        ("broken", 500, {"message": "Internal Server Error"}),
    ],
)
def test_an_authorizer_keeps_out_as_api_gateway_does(
    closed: LocalApi, authorization: str | None, status: int, said: dict[str, str]
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    answer = call(closed, "POST", "/things", headers=headers, content=b"{}")
    assert (answer.status_code, answer.json()) == (status, said)


def test_an_authorizer_lets_in_by_route_and_adds_to_the_event(closed: LocalApi) -> None:
    right = {"authorization": "Bearer right"}
    answer = call(closed, "POST", "/things", headers=right, content=b"{}")
    assert answer.json()["requestContext"]["authorizer"] == {"lambda": {"key_id": "1"}}
    assert call(closed, "GET", "/things", headers=right).status_code == 403
    assert call(closed, "GET", "/open").status_code == 200


def test_only_this_runs_own_functions_can_invoke_one(
    api: LocalApi, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen = tmp_path / "seen"
    (tmp_path / "one" / "handler.py").parent.mkdir()
    (tmp_path / "one" / "handler.py").write_text(
        f"import pathlib\ndef handler(event, context): pathlib.Path({str(seen)!r}).write_text(event['after'])\n"
    )
    own = LocalApi(Stack(routes=(Route("GET", "/one", Function("Own", tmp_path / "one" / "handler.py")),)))
    path, signed = "/2015-03-31/functions/Own/invocations", {"authorization": "AWS4 Credential=OWNKEY/20261123/x"}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWNKEY")
    assert call(own, "POST", path, content=b'{"after": "1"}').status_code == 403
    assert (
        call(own, "POST", path, content=b'{"after": "1"}', headers={"authorization": "Bearer OWNKEY"}).status_code
        == 403
    )
    assert call(own, "POST", path, content=b"{", headers=signed).status_code == 400
    assert call(api, "POST", path, content=b"{}", headers=signed).status_code == 404
    assert not seen.exists()
    assert call(own, "POST", path, content=b'{"after": "1"}', headers=signed).status_code == 202
    own._workers.shutdown()
    assert seen.read_text() == "1"
