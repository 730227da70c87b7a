"""What GitHub's answers mean to the client; the sockets are tested in end_to_end/."""

import gzip
import json
import time
import traceback
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpx
import pytest
import respx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from copilot_metrics import __version__
from copilot_metrics.errors import (
    CopilotMetricsError,
    GitHubError,
    GitHubFailed,
    GitHubTimeout,
    PayloadTooLarge,
    ProxyFailed,
    RateLimited,
    TokenRefused,
)
from copilot_metrics.github import GitHubClient, github_client
from copilot_metrics.models import MAX_PAYLOAD_BYTES
from copilot_metrics.schemas import GitHubUser

API = "https://api.github.example"
TOKEN = "gho_canary0123456789"
ESCAPED_TOKEN = rf"\u0067{TOKEN[1:]}"
PROXY = "http://octo:invented-password@127.0.0.1:9"
PAYLOADS = sorted((Path(__file__).parents[1] / "payloads").glob("*.json"))
A_USER = {"id": 1001, "login": "octo-1001", "node_id": "U_1001", "avatar_url": "https://avatars.example/u/1001"}
DAY = 24 * 3600


@dataclass(frozen=True)
class Endpoint:
    path: str
    authorization: str
    ask: Callable[[GitHubClient, str], object]


USER = Endpoint("/user", f"token {TOKEN}", GitHubClient.user)
USAGE = Endpoint("/copilot_internal/user", f"Bearer {TOKEN}", GitHubClient.copilot_usage)
on_both = pytest.mark.parametrize("endpoint", [USER, USAGE], ids=["user", "usage"])


@pytest.fixture
def github() -> Iterator[respx.MockRouter]:
    with respx.mock(base_url=API, assert_all_called=False) as router:
        yield router


@pytest.fixture
def client() -> GitHubClient:
    return GitHubClient(API)


def ask(client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, answer: httpx.Response) -> object:
    github.get(endpoint.path).mock(return_value=answer)
    return endpoint.ask(client, TOKEN)


def failure(
    client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, answer: httpx.Response
) -> CopilotMetricsError:
    with pytest.raises(CopilotMetricsError) as caught:
        ask(client, github, endpoint, answer)
    return caught.value


def assert_says_nothing_secret(error: CopilotMetricsError) -> None:
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert TOKEN not in shown
    assert "invented-password" not in shown


class TestWhatIsAsked:
    @on_both
    def test_a_request_carries_these_headers_and_no_others(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        ask(client, github, endpoint, httpx.Response(200, json=A_USER))
        [call] = github.calls
        assert call.request.method == "GET"
        assert str(call.request.url) == f"{API}{endpoint.path}"
        assert call.request.content == b""
        assert dict(call.request.headers) == {
            "host": "api.github.example",
            "accept": "application/json",
            "accept-encoding": "identity",
            "connection": "keep-alive",
            "user-agent": f"copilot-metrics/{__version__}",
            "authorization": endpoint.authorization,
        }

    @on_both
    def test_cookies_of_one_answer_do_not_go_out_with_the_next_accounts_request(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        ask(client, github, endpoint, httpx.Response(200, json=A_USER, headers={"set-cookie": "session=octo; Path=/"}))
        endpoint.ask(client, "gho_canary-of-another")
        assert "cookie" not in github.calls.last.request.headers

    def test_the_address_may_have_a_path(self, github: respx.MockRouter) -> None:
        route = github.get("/api/v3/user").respond(json=A_USER)
        GitHubClient(f"{API}/api/v3").user(TOKEN)
        assert route.called

    def test_a_refused_token_is_not_tried_again(self, client: GitHubClient, github: respx.MockRouter) -> None:
        failure(client, github, USER, httpx.Response(401))
        assert len(github.calls) == 1

    def test_a_process_has_one_client_for_an_address(self) -> None:
        assert github_client(API) is github_client(API)
        assert github_client(API) is not github_client(f"{API}/api/v3")


class TestUser:
    def test_a_user_is_what_github_says_without_what_is_not_kept(
        self, client: GitHubClient, github: respx.MockRouter
    ) -> None:
        body = {**A_USER, "name": "Octo Cat", "email": None, "a_field_nobody_knows": {"nested": [1]}}
        assert ask(client, github, USER, httpx.Response(200, json=body)) == GitHubUser.model_validate(A_USER)

    def test_the_largest_id_there_is_stays_exact(self, client: GitHubClient, github: respx.MockRouter) -> None:
        github.get("/user").respond(json={**A_USER, "id": 2**63 - 1})
        assert client.user(TOKEN).id == 2**63 - 1

    @pytest.mark.parametrize("field", ["id", "login", "node_id", "avatar_url"])
    @pytest.mark.parametrize("lie", ["missing", None, [], {}, True])
    def test_a_user_with_a_field_that_is_none_is_refused(
        self, client: GitHubClient, github: respx.MockRouter, field: str, lie: object
    ) -> None:
        body = {**A_USER, field: lie}
        if lie == "missing":
            del body[field]
        error = failure(client, github, USER, httpx.Response(200, json=body))
        assert type(error) is GitHubFailed
        assert f"({field})" in error.detail

    @pytest.mark.parametrize("lie", ["1001", "", 0, -1001, 2**63, 10**400, 1001.0, 1001.5])
    def test_an_id_that_is_no_positive_number_of_64_bits_is_refused(
        self, client: GitHubClient, github: respx.MockRouter, lie: object
    ) -> None:
        error = failure(client, github, USER, httpx.Response(200, json={**A_USER, "id": lie}))
        assert type(error) is GitHubFailed
        assert "(id)" in error.detail

    @pytest.mark.parametrize("lie", ["", "x" * 256, 1001])
    def test_a_login_that_is_no_name_is_refused(
        self, client: GitHubClient, github: respx.MockRouter, lie: object
    ) -> None:
        error = failure(client, github, USER, httpx.Response(200, json={**A_USER, "login": lie}))
        assert type(error) is GitHubFailed
        assert "(login)" in error.detail
        assert "x" * 256 not in error.detail

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"null",
            b"[]",
            b'"octo-1001"',
            b"<html>Welcome</html>",
            json.dumps([A_USER]).encode(),
            json.dumps(A_USER).encode()[:-1],
            json.dumps(A_USER).encode() + b"}",
            json.dumps(A_USER).encode("utf-16"),
            json.dumps({**A_USER, "login": "\xfc"}, ensure_ascii=False).encode("latin-1"),
            b'{"id": NaN, "login": "octo", "node_id": "U", "avatar_url": ""}',
            b'{"id": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        ],
    )
    def test_what_is_not_a_user_at_all_is_refused(
        self, client: GitHubClient, github: respx.MockRouter, body: bytes
    ) -> None:
        error = failure(client, github, USER, httpx.Response(200, content=body))
        assert type(error) is GitHubFailed
        assert "isn't a JSON object" in error.detail

    def test_a_user_larger_than_any_is_not_read(self, client: GitHubClient, github: respx.MockRouter) -> None:
        body = {"bio": "x" * 70_000, **A_USER}
        assert type(failure(client, github, USER, httpx.Response(200, json=body))) is GitHubFailed

    def test_no_access_is_about_the_token(self, client: GitHubClient, github: respx.MockRouter) -> None:
        error = failure(client, github, USER, httpx.Response(403, json={"message": "Resource not accessible"}))
        assert type(error) is TokenRefused
        assert "Resource not accessible" in error.detail

    def test_no_such_endpoint_is_about_the_address(self, client: GitHubClient, github: respx.MockRouter) -> None:
        error = failure(client, github, USER, httpx.Response(404, json={"message": "Not Found"}))
        assert type(error) is GitHubFailed
        assert "COPILOT_METRICS__GITHUB_API_URL" in error.detail


class TestUsage:
    @pytest.mark.parametrize("file", PAYLOADS, ids=lambda file: file.stem)
    def test_a_payload_is_returned_byte_for_byte(
        self, client: GitHubClient, github: respx.MockRouter, file: Path
    ) -> None:
        github.get(USAGE.path).respond(content=file.read_bytes())
        assert client.copilot_usage(TOKEN).encode() == file.read_bytes()

    def test_there_are_payloads_to_try(self) -> None:
        assert {"no_access", "overdrawn"} <= {file.stem for file in PAYLOADS}

    @pytest.mark.parametrize(
        "text",
        [
            "{}",
            ' \r\n\t{ "a" :1}\n\n',
            '{"a": 93.50, "b": 1e400, "c": -0.0, "d": 123456789012345678901234567890, "e": 1E+2}',
            f'{{"more digits than Python converts": {"9" * 5000}}}',
            '{"same": 1, "same": 2}',
            r'{"escaped": "\u00fc\/\ud83d\ude00\u0000", "half": "\ud800"}',
            '{"plain": "ünï 😀\u2028\u202e"}',
            '{"null": null, "": [[], {}]}',
        ],
    )
    def test_valid_json_is_not_changed(self, client: GitHubClient, github: respx.MockRouter, text: str) -> None:
        github.get(USAGE.path).respond(content=text.encode())
        assert client.copilot_usage(TOKEN) == text

    def test_what_the_content_type_says_changes_nothing(self, client: GitHubClient, github: respx.MockRouter) -> None:
        github.get(USAGE.path).respond(
            content='{"a": "ü"}'.encode(), headers={"content-type": "text/html; charset=latin-1"}
        )
        assert client.copilot_usage(TOKEN) == '{"a": "ü"}'

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b" ",
            b"null",
            b"[]",
            b'[{"a": 1}]',
            b"93.5",
            b'"{}"',
            b"<html>Welcome</html>",
            b'{"a": 1',
            b'{"a": 1}}',
            b'{"a": 1}{"b": 2}',
            b"{'a': 1}",
            b'{"a": 1,}',
            b'{"a": 01}',
            b'{"a": NaN}',
            b'{"a": [Infinity]}',
            b'{"a": -Infinity}',
            b'{"a": "\n"}',
            b'{"a": "\xfc"}',
            b'\xef\xbb\xbf{"a": 1}',
            '{"a": 1}'.encode("utf-16"),
            b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
            b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        ],
    )
    def test_what_is_not_a_json_object_is_refused(
        self, client: GitHubClient, github: respx.MockRouter, body: bytes
    ) -> None:
        error = failure(client, github, USAGE, httpx.Response(200, content=body))
        assert type(error) is GitHubFailed
        assert "isn't a JSON object" in error.detail

    def test_a_payload_that_just_fits_is_returned(self, client: GitHubClient, github: respx.MockRouter) -> None:
        text = json.dumps({"a": "x" * (MAX_PAYLOAD_BYTES - len('{"a": ""}'))})
        github.get(USAGE.path).respond(content=text.encode())
        assert client.copilot_usage(TOKEN) == text

    @pytest.mark.parametrize("beyond", [1, 1_000_000])
    def test_a_payload_that_does_not_fit_says_so(
        self, client: GitHubClient, github: respx.MockRouter, beyond: int
    ) -> None:
        text = json.dumps({"a": "x" * (MAX_PAYLOAD_BYTES - len('{"a": ""}') + beyond)})
        assert (
            type(failure(client, github, USAGE, httpx.Response(200, content=text.encode("ascii")))) is PayloadTooLarge
        )

    @pytest.mark.parametrize("status", [403, 404])
    def test_a_kind_of_token_that_copilot_does_not_accept_is_refused(
        self, client: GitHubClient, github: respx.MockRouter, status: int
    ) -> None:
        error = failure(client, github, USAGE, httpx.Response(status, json={"message": "Not for you"}))
        assert type(error) is TokenRefused
        assert "Not for you" in error.detail
        assert error.retry_after is None

    def test_no_copilot_is_an_answer(self, client: GitHubClient, github: respx.MockRouter) -> None:
        github.get(USAGE.path).respond(json={"access_type_sku": "no_access"})
        assert json.loads(client.copilot_usage(TOKEN)) == {"access_type_sku": "no_access"}


@on_both
class TestFailures:
    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"retry-after": "30"},
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9999999999"},
        ],
    )
    def test_bad_credentials_are_never_taken_for_a_limit(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, headers: dict[str, str]
    ) -> None:
        answer = httpx.Response(401, json={"message": "Bad credentials, says the rate limit"}, headers=headers)
        error = failure(client, github, endpoint, answer)
        assert type(error) is TokenRefused
        assert error.retry_after is None
        assert "Bad credentials" in error.detail

    @pytest.mark.parametrize("status", [201, 202, 204, 206, 301, 302, 304, 307, 308, 400, 410, 422, 451, 500, 502, 503])
    def test_any_other_status_is_githubs_failure(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, status: int
    ) -> None:
        answer = httpx.Response(status, json=A_USER, headers={"location": "https://elsewhere.example/user"})
        error = failure(client, github, endpoint, answer)
        assert type(error) is GitHubFailed
        assert f"HTTP {status}" in error.detail
        assert error.retry_after is None
        assert len(github.calls) == 1

    @pytest.mark.parametrize(
        "location", ["mailto:octo@example.com", "https://xn--a/", "http://[", "//", "http://a:99999999/"]
    )
    def test_a_redirect_to_nonsense_is_githubs_failure(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, location: str
    ) -> None:
        answer = httpx.Response(302, headers=[(b"location", location.encode("latin-1"))])
        assert type(failure(client, github, endpoint, answer)) is GitHubFailed

    @pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "unheard-of"])
    def test_a_compressed_answer_is_not_read(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, coding: str
    ) -> None:
        body = json.dumps(A_USER).encode()
        packed = gzip.compress(body) if "gzip" in coding else body
        answer = httpx.Response(200, stream=httpx.ByteStream(packed), headers={"content-encoding": coding})
        error = failure(client, github, endpoint, answer)
        assert type(error) is GitHubFailed
        assert "compressed" in error.detail

    def test_a_compressed_failure_keeps_its_meaning(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        packed = gzip.compress(b'{"message": "Bad credentials"}')
        answer = httpx.Response(401, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"})
        assert type(failure(client, github, endpoint, answer)) is TokenRefused

    @pytest.mark.parametrize(
        ("problem", "expected"),
        [
            (httpx.ConnectTimeout, GitHubTimeout),
            (httpx.ReadTimeout, GitHubTimeout),
            (httpx.WriteTimeout, GitHubTimeout),
            (httpx.PoolTimeout, GitHubTimeout),
            (httpx.ConnectError, GitHubFailed),
            (httpx.ReadError, GitHubFailed),
            (httpx.WriteError, GitHubFailed),
            (httpx.RemoteProtocolError, GitHubFailed),
            (httpx.LocalProtocolError, GitHubFailed),
        ],
    )
    def test_a_way_that_fails_is_told_without_its_own_words(
        self,
        client: GitHubClient,
        github: respx.MockRouter,
        endpoint: Endpoint,
        problem: type[httpx.TransportError],
        expected: type[GitHubError],
    ) -> None:
        github.get(endpoint.path).mock(side_effect=problem(f"went wrong with {TOKEN}"))
        with pytest.raises(GitHubError) as caught:
            endpoint.ask(client, TOKEN)
        assert type(caught.value) is expected
        assert_says_nothing_secret(caught.value)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (httpx.ProxyError, ProxyFailed),
        (httpx.ConnectError, ProxyFailed),
        (httpx.RemoteProtocolError, ProxyFailed),
        (httpx.ConnectTimeout, GitHubTimeout),
        (httpx.ReadTimeout, GitHubTimeout),
    ],
)
def test_a_proxy_that_fails_is_told_without_its_credentials(
    client: GitHubClient,
    github: respx.MockRouter,
    problem: type[httpx.TransportError],
    expected: type[GitHubError],
) -> None:
    github.get("/user").mock(side_effect=problem(f"went wrong with {PROXY} and {TOKEN}"))
    with pytest.raises(GitHubError) as caught:
        client.user(TOKEN, PROXY)
    assert type(caught.value) is expected
    assert "through the proxy" in caught.value.detail or "The proxy" in caught.value.detail
    assert_says_nothing_secret(caught.value)


@pytest.mark.parametrize(("status", "expected"), [(401, TokenRefused), (429, RateLimited), (500, GitHubFailed)])
def test_what_github_answers_through_a_proxy_means_the_same(
    client: GitHubClient, github: respx.MockRouter, status: int, expected: type[GitHubError]
) -> None:
    github.get("/user").respond(status)
    with pytest.raises(GitHubError) as caught:
        client.user(TOKEN, PROXY)
    assert type(caught.value) is expected


@on_both
class TestRateLimits:
    def seconds(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, answer: httpx.Response
    ) -> int:
        error = failure(client, github, endpoint, answer)
        assert type(error) is RateLimited
        assert error.retry_after is not None
        assert f"try again in {error.retry_after} seconds" in error.detail
        return error.retry_after

    @pytest.mark.parametrize("status", [301, 400, 403, 404, 422, 429, 500, 502, 503])
    def test_any_failure_that_says_when_to_come_back_is_a_limit(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, status: int
    ) -> None:
        assert self.seconds(client, github, endpoint, httpx.Response(status, headers={"retry-after": "17"})) == 17

    @pytest.mark.parametrize(
        ("value", "seconds"),
        [("1", 1), ("0", 1), (" 30 ", 30), ("86400", DAY), ("86401", DAY), ("999999999", DAY)],
    )
    def test_seconds_are_taken_between_one_and_a_day(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, value: str, seconds: int
    ) -> None:
        answer = httpx.Response(429, headers={"retry-after": value})
        assert self.seconds(client, github, endpoint, answer) == seconds

    @pytest.mark.parametrize(("ahead", "expected"), [(600, range(590, 602)), (-600, [1]), (0, [1]), (3 * DAY, [DAY])])
    def test_a_date_is_taken_between_one_second_and_a_day(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, ahead: int, expected: Container[int]
    ) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=ahead)
        answer = httpx.Response(429, headers={"retry-after": format_datetime(moment, usegmt=True)})
        assert self.seconds(client, github, endpoint, answer) in expected

    def test_a_date_in_any_zone_or_none_is_understood(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        moment = datetime.now(UTC) + timedelta(seconds=600)
        for value in (f"{moment:%a, %d %b %Y %H:%M:%S} -0000", f"{moment:%a %b %d %H:%M:%S %Y}"):
            answer = httpx.Response(429, headers={"retry-after": value})
            assert 590 <= self.seconds(client, github, endpoint, answer) <= 601

    @pytest.mark.parametrize("value", ["", "soon", "-5", "1.5", "1e3", "0x10", "30 s", "Wed, 99 Nov 2026 25:00:00 GMT"])
    def test_nonsense_is_a_minute(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, value: str
    ) -> None:
        assert self.seconds(client, github, endpoint, httpx.Response(429, headers={"retry-after": value})) == 60

    @pytest.mark.parametrize(
        "value",
        [
            "9" * 500,
            "Wed, 21 Oct 99999999999 07:28:00 GMT",
            "Wed, 21 Oct 2026 07:28:00 +99999999999999999999",
            "Wed, 21 Oct 2026 99999999999:28:00 GMT",
            "Sat, 01 Jan 0001 00:00:00 +2359",
            "Fri, 31 Dec 9999 23:59:59 -2359",
        ],
    )
    def test_a_date_outside_of_all_calendars_is_still_a_limit(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, value: str
    ) -> None:
        answer = httpx.Response(429, headers={"retry-after": value})
        assert 1 <= self.seconds(client, github, endpoint, answer) <= DAY

    @pytest.mark.parametrize("status", [403, 429])
    @pytest.mark.parametrize(("ahead", "expected"), [(90, range(80, 92)), (-90, [1]), (3 * DAY, [DAY])])
    def test_a_used_up_budget_waits_for_its_reset(  # two lists of cases on both endpoints
        self,
        client: GitHubClient,
        github: respx.MockRouter,
        endpoint: Endpoint,
        *,
        status: int,
        ahead: int,
        expected: Container[int],
    ) -> None:
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + ahead)}
        assert self.seconds(client, github, endpoint, httpx.Response(status, headers=headers)) in expected

    @pytest.mark.parametrize("reset", [None, "", "soon", "-90", "1.5", "9" * 500])
    def test_a_used_up_budget_without_a_reset_is_a_minute(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, reset: str | None
    ) -> None:
        headers = {"x-ratelimit-remaining": "0"} | ({} if reset is None else {"x-ratelimit-reset": reset})
        assert self.seconds(client, github, endpoint, httpx.Response(403, headers=headers)) == 60

    def test_retry_after_goes_before_the_reset(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        headers = {
            "retry-after": "17",
            "x-ratelimit-remaining": "0",
            "x-ratelimit-reset": str(int(time.time()) + 3000),
        }
        assert self.seconds(client, github, endpoint, httpx.Response(403, headers=headers)) == 17

    def test_a_limit_with_budget_left_is_not_about_the_reset(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        headers = {"x-ratelimit-remaining": "4711", "x-ratelimit-reset": str(int(time.time()) + 3000)}
        assert self.seconds(client, github, endpoint, httpx.Response(429, headers=headers)) == 60

    def test_too_many_requests_without_a_word_is_a_minute(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        assert self.seconds(client, github, endpoint, httpx.Response(429)) == 60

    @pytest.mark.parametrize(
        "message",
        [
            "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.",
            "API Rate Limit exceeded for user ID 1001.",
            "You have triggered an abuse detection mechanism.",
            "Maximum number of login attempts exceeded. Please try again later.",
        ],
    )
    def test_a_limit_that_only_the_message_tells_is_a_minute(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, message: str
    ) -> None:
        assert self.seconds(client, github, endpoint, httpx.Response(403, json={"message": message})) == 60

    def test_an_answer_that_used_up_the_budget_is_an_answer(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "9999999999", "retry-after": "30"}
        assert ask(client, github, endpoint, httpx.Response(200, json=A_USER, headers=headers))

    def test_no_access_with_budget_left_is_about_the_token(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        headers = {"x-ratelimit-remaining": "4711", "x-ratelimit-reset": str(int(time.time()) + 3000)}
        answer = httpx.Response(403, json={"message": "Forbidden"}, headers=headers)
        assert type(failure(client, github, endpoint, answer)) is TokenRefused


@on_both
class TestWhatIsRepeated:
    @pytest.mark.parametrize("note", [TOKEN, f"your token: {TOKEN}!", f"token {TOKEN}"])
    def test_an_answer_with_the_token_in_it_is_not_accepted(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, note: str
    ) -> None:
        for body in ({**A_USER, "note": note}, {**A_USER, note: 1}, {**A_USER, "login": note}):
            error = failure(client, github, endpoint, httpx.Response(200, json=body))
            assert type(error) is GitHubFailed
            assert "token itself" in error.detail
            assert_says_nothing_secret(error)

    def test_an_answer_with_the_token_in_escaped_letters_is_not_accepted(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint
    ) -> None:
        body = json.dumps({**A_USER, "login": "LOGIN"}).replace("LOGIN", ESCAPED_TOKEN)
        assert json.loads(body)["login"] == TOKEN
        error = failure(client, github, endpoint, httpx.Response(200, content=body.encode()))
        assert type(error) is GitHubFailed
        assert_says_nothing_secret(error)

    @pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 429, 500])
    @pytest.mark.parametrize("said", [TOKEN, f"not {TOKEN}", ESCAPED_TOKEN])
    def test_a_failure_does_not_repeat_the_token(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, status: int, said: str
    ) -> None:
        answer = httpx.Response(status, content=f'{{"message": "Bad credentials: {said}"}}'.encode())
        error = failure(client, github, endpoint, answer)
        assert f"HTTP {status}" in error.detail
        assert "Bad credentials" not in error.detail
        assert_says_nothing_secret(error)

    @pytest.mark.parametrize("status", [401, 403, 429, 500])
    def test_control_characters_in_a_message_do_no_harm(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, status: int
    ) -> None:
        said = "Bad\r\nlevel: ERROR\x00 \x1b[31mcredentials\u202e\u2028\x85\x7f\ud800"
        error = failure(client, github, endpoint, httpx.Response(status, content=json.dumps({"message": said})))
        assert error.detail.isprintable()
        assert "Bad  level: ERROR  " in error.detail

    def test_a_long_message_is_cut(self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint) -> None:
        error = failure(client, github, endpoint, httpx.Response(500, json={"message": "x" * 10_000}))
        assert "x" * 200 in error.detail
        assert len(error.detail) < 400

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"<html>Unicorn!</html>",
            b"null",
            b"[]",
            b'"message"',
            b"{}",
            b'{"message": null}',
            b'{"message": 1}',
            b'{"message": {"message": "nested"}}',
            b'{"message": " \\n "}',
            b'{"message": "cut off',
            b'{"message": "\xff"}',
            b'{"message": ' + b"9" * 5000 + b"}",
            b'{"a": ' + b"[" * 10_000 + b"]" * 10_000 + b"}",
            b'{"message": "' + b"x" * 100_000 + b'"}',
        ],
    )
    def test_a_failure_without_a_message_is_told_by_its_status(
        self, client: GitHubClient, github: respx.MockRouter, endpoint: Endpoint, body: bytes
    ) -> None:
        error = failure(client, github, endpoint, httpx.Response(500, content=body))
        assert type(error) is GitHubFailed
        assert error.detail.startswith("GitHub failed (HTTP 500); ")


@on_both
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    status=st.integers(200, 599),
    body=st.binary(max_size=100) | st.from_type(dict[str, str | int | None]).map(json.dumps),
    retry_after=st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    remaining=st.none() | st.sampled_from(["0", "1", "x"]),
    reset=st.none() | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_whatever_is_answered_is_an_answer_or_a_known_error(
    client: GitHubClient,
    github: respx.MockRouter,
    endpoint: Endpoint,
    *,
    status: int,
    body: bytes | str,
    retry_after: str | None,
    remaining: str | None,
    reset: str | None,
) -> None:
    named = {"retry-after": retry_after, "x-ratelimit-remaining": remaining, "x-ratelimit-reset": reset}
    headers = {name: value for name, value in named.items() if value is not None}
    try:
        ask(client, github, endpoint, httpx.Response(status, content=body, headers=headers))
    except CopilotMetricsError as error:
        assert isinstance(error, RateLimited) == (error.retry_after is not None)  # noqa: PT017  # an answer is fine too
    else:
        assert status == 200
