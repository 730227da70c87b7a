"""POST /accounts/import."""

import base64
import io
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import respx

from copilot_metrics.github import GitHubClient
from copilot_metrics.schemas import GitHubUser
from tests.conftest import Invoke, github_user
from tests.functions.conftest import CANARY, ImportAccount, assert_problem

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Hunt = Callable[..., None]


@pytest.fixture(autouse=True)
def _known_user(github_api: respx.MockRouter) -> None:
    github_api.get("/user").respond(json=github_user())


def nothing_stored(tables: "DynamoDBClient") -> bool:
    return not any(tables.scan(TableName=name)["Items"] for name in tables.list_tables()["TableNames"])


@pytest.mark.usefixtures("tables")
def test_an_import_answers_the_accounts_id(invoke: Invoke, hunt: Hunt) -> None:
    answer = invoke("import_account", body={"token": CANARY})
    assert (answer.status, answer.text) == (200, '{"account_id": 1}')
    assert answer.headers["content-type"] == "application/json"
    hunt(answer)


def test_a_second_import_keeps_the_id(import_account: ImportAccount) -> None:
    assert [import_account(5), import_account(6), import_account(5, "gho_newer")] == [1, 2, 1]


def test_the_new_token_is_the_one_that_is_used(
    import_account: ImportAccount, invoke: Invoke, github_api: respx.MockRouter
) -> None:
    import_account(5, "gho_older")
    import_account(5, "gho_newer")
    route = github_api.get("/copilot_internal/user").respond(json={})
    invoke("fetch_metrics", parameters={"account_id": "1"})
    assert route.calls.last.request.headers["authorization"] == "Bearer gho_newer"


@pytest.mark.usefixtures("tables")
def test_a_body_in_base64_is_read(invoke: Invoke) -> None:
    body = base64.b64encode(json.dumps({"token": CANARY}).encode()).decode()
    assert invoke("import_account", body=body, isBase64Encoded=True).status == 200


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        (None, None),
        ("http://localhost:9090", "http://localhost:9090"),
        ("https://user:pw@proxy.example:8443/", "https://user:pw@proxy.example:8443/"),
        ("socks5://[::1]:1080", "socks5://[::1]:1080"),
        ("socks5h://proxy.example", "socks5h://proxy.example"),
    ],
)
def test_the_proxy_is_passed_on(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, proxy: str | None, expected: str | None
) -> None:
    asked: list[str | None] = []

    def user(_client: GitHubClient, _token: str, proxy: str | None = None) -> GitHubUser:
        asked.append(proxy)
        return GitHubUser.model_validate(github_user())

    monkeypatch.setattr(GitHubClient, "user", user)
    assert invoke("import_account", body={"token": CANARY, "proxy": proxy}).status == 200
    assert asked == [expected]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "token"),
        ({"token": None}, "token"),
        ({"token": ""}, "token"),
        ({"token": 7}, "token"),
        ({"token": True}, "token"),
        ({"token": [CANARY]}, "token"),
        ({"token": {"token": CANARY}}, "token"),
        ({"token": f"{CANARY}\n"}, "token"),
        ({"token": f"{CANARY}\r\nx-forged: 1"}, "token"),
        ({"token": f" {CANARY}"}, "token"),
        ({"token": f"{CANARY}\x00"}, "token"),
        ({"token": f"{CANARY}ü"}, "token"),
        ({"token": CANARY + "x" * 1024}, "token"),
        ({"token": CANARY, "proxy": ""}, "proxy"),
        ({"token": CANARY, "proxy": 9090}, "proxy"),
        ({"token": CANARY, "proxy": "localhost:9090"}, "proxy"),
        ({"token": CANARY, "proxy": "ftp://localhost"}, "proxy"),
        ({"token": CANARY, "proxy": "file:///etc/passwd"}, "proxy"),
        ({"token": CANARY, "proxy": "http://"}, "proxy"),
        ({"token": CANARY, "proxy": "http://localhost:99999"}, "proxy"),
        ({"token": CANARY, "proxy": "http://localhost:0"}, "proxy"),
        ({"token": CANARY, "proxy": "http://[::1"}, "proxy"),
        ({"token": CANARY, "proxy": "http://localhost/path"}, "proxy"),
        ({"token": CANARY, "proxy": f"http://{CANARY}\r\n@localhost"}, "proxy"),
        ({"token": CANARY, "tokens": CANARY}, "tokens"),
        ([CANARY], "body"),
        (CANARY, "body"),
        (f'"{CANARY}"', "body"),
        ("", "body"),
        ("null", "body"),
        ("{", "body"),
        ('{"token": "' + CANARY, "body"),
        ('{"token": "\ud800"}', "body"),
        ("[" * 10_000, "body"),
    ],
)
def test_a_body_that_can_not_be_used_is_refused_by_its_field_and_nothing_is_asked_or_stored(
    invoke: Invoke, tables: "DynamoDBClient", github_api: respx.MockRouter, hunt: Hunt, body: Any, field: str
) -> None:
    answer = invoke("import_account", body=body)
    assert_problem(answer, 422, "invalid_input")
    assert answer.json["field"] == field
    assert answer.json["detail"].startswith(f"{field}: ")
    assert not github_api.calls
    assert nothing_stored(tables)
    hunt(answer)


@pytest.mark.usefixtures("tables")
def test_a_missing_body_is_refused(invoke: Invoke) -> None:
    assert_problem(invoke("import_account"), 422, "invalid_input")


@pytest.mark.usefixtures("tables")
def test_a_body_that_is_not_base64_is_refused(invoke: Invoke) -> None:
    assert_problem(invoke("import_account", body="%%%", isBase64Encoded=True), 422, "invalid_input")


def test_a_huge_body_is_refused(invoke: Invoke, tables: "DynamoDBClient", hunt: Hunt) -> None:
    answer = invoke("import_account", body={"token": CANARY, "proxy": "x" * 1_000_000})
    assert_problem(answer, 413, "request_too_large")
    assert nothing_stored(tables)
    hunt(answer)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(invoke: Invoke, media_type: str) -> None:
    answer = invoke("import_account", body={"token": CANARY}, headers={"content-type": media_type})
    assert_problem(answer, 415, "unsupported_media_type")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("media_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_json_is_recognised_however_it_is_written(invoke: Invoke, media_type: str) -> None:
    answer = invoke("import_account", body={"token": CANARY}, headers={"content-type": media_type})
    assert answer.status == 200


@pytest.mark.parametrize(
    ("github", "status", "code"),
    [
        ({"status_code": 401, "json": {"message": f"Bad credentials {CANARY}"}}, 401, "github_token_refused"),
        ({"status_code": 403, "json": {"message": "Forbidden"}}, 401, "github_token_refused"),
        ({"status_code": 404}, 502, "github_failed"),
        ({"status_code": 429, "headers": {"retry-after": "17"}}, 429, "github_rate_limited"),
        ({"status_code": 500, "text": CANARY}, 502, "github_failed"),
        ({"text": "<html>"}, 502, "github_failed"),
        ({"json": github_user() | {"login": CANARY}}, 502, "github_failed"),
        ({"json": github_user() | {"id": CANARY}}, 502, "github_failed"),
        ({"text": "x" * 100_000}, 502, "github_failed"),
    ],
)
def test_what_github_says_is_answered_and_nothing_is_stored(
    invoke: Invoke,
    tables: "DynamoDBClient",
    github_api: respx.MockRouter,
    hunt: Hunt,
    github: dict[str, Any],
    status: int,
    code: str,
) -> None:
    github_api.get("/user").respond(**github)
    answer = invoke("import_account", body={"token": CANARY})
    assert_problem(answer, status, code)
    assert answer.headers.get("retry-after") == ("17" if status == 429 else None)
    assert nothing_stored(tables)
    hunt(answer)


@pytest.mark.parametrize(
    ("failure", "status"), [(httpx.ReadTimeout, 504), (httpx.ConnectError, 502), (httpx.LocalProtocolError, 502)]
)
def test_a_github_that_can_not_be_reached_is_answered(
    invoke: Invoke,
    tables: "DynamoDBClient",
    github_api: respx.MockRouter,
    hunt: Hunt,
    failure: type[Exception],
    status: int,
) -> None:
    github_api.get("/user").mock(side_effect=failure(f"illegal header value {CANARY}"))
    answer = invoke("import_account", body={"token": CANARY})
    assert answer.status == status
    assert nothing_stored(tables)
    hunt(answer)


@pytest.mark.parametrize("secret", ["", "too-short", "zz" * 32])
def test_without_a_secret_no_token_is_sent_anywhere(
    invoke: Invoke,
    tables: "DynamoDBClient",
    github_api: respx.MockRouter,
    environment: pytest.MonkeyPatch,
    secret: str,
) -> None:
    environment.setenv("COPILOT_METRICS__TOKEN_SECRET", secret)
    answer = invoke("import_account", body={"token": CANARY})
    assert_problem(answer, 503, "secret_not_configured")
    assert "COPILOT_METRICS__TOKEN_SECRET not configured" in answer.json["detail"]
    assert not github_api.calls
    assert nothing_stored(tables)


def test_without_a_database_the_answer_says_so(invoke: Invoke, tables: "DynamoDBClient", hunt: Hunt) -> None:
    tables.delete_table(TableName="copilot_github_accounts")
    answer = invoke("import_account", body={"token": CANARY})
    assert_problem(answer, 503, "database_unavailable")
    assert answer.headers["retry-after"] == "1"
    hunt(answer)


@pytest.mark.usefixtures("tables")
def test_a_fault_of_ours_is_an_answer_and_a_log_line_without_what_it_was_about(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, hunt: Hunt, logged: io.StringIO
) -> None:
    def broken(_client: GitHubClient, token: str, _proxy: str | None = None) -> GitHubUser:
        raise RuntimeError(f"a library's message about {token}") from ValueError(token)

    monkeypatch.setattr(GitHubClient, "user", broken)
    answer = invoke("import_account", body={"token": CANARY})
    assert_problem(answer, 500, "internal_error")
    assert "a-request-id" in answer.json["detail"]
    line = json.loads(logged.getvalue().splitlines()[-1])
    assert line["where"][0] == "RuntimeError"
    assert "broken" in line["where"][-1]
    hunt(answer)
