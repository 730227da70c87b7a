"""The service over HTTP, whatever it runs on: every endpoint, every error, and who may call."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.black_box.targets import Target, everything
from tests.stand_ins.github import LARGEST

CANARY = "gho_user-1-canary"
ENDPOINTS = [
    ("POST", "/accounts/import"),
    ("GET", "/accounts"),
    ("GET", "/accounts/1"),
    ("PATCH", "/accounts/1"),
    ("DELETE", "/accounts/1"),
    ("POST", "/metrics/fetch"),
    ("POST", "/metrics/fetch/1"),
    ("GET", "/metrics/1"),
    ("GET", "/metrics"),
]
invented_github = pytest.mark.invented_github
concurrent = pytest.mark.not_on(
    "sam", "stack", reason="each call at once starts a container or process of its own there"
)


def assert_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.json().get("code")) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == status
    assert "canary" not in answer.text


def test_health_is_open_and_tells_that_all_is_there(target: Target) -> None:
    answer = target.client(None).get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "database": "ok", "secret": "ok"})


class TestWhoMayCall:
    @pytest.mark.parametrize(("method", "path"), ENDPOINTS)
    def test_nobody_without_a_key(self, target: Target, method: str, path: str) -> None:
        answer = target.client(None).request(method, path)
        assert (answer.status_code, answer.json()["message"]) == (401, "Unauthorized")

    @pytest.mark.parametrize("authorization", ["Bearer cmk_000000000000_" + 43 * "A", "Bearer x", "Basic eA==", "x"])
    @pytest.mark.parametrize(("method", "path"), ENDPOINTS)
    def test_nobody_with_a_wrong_key(self, target: Target, method: str, path: str, authorization: str) -> None:
        answer = target.client(None).request(method, path, headers={"authorization": authorization})
        assert answer.status_code == 403, answer.text

    @pytest.mark.parametrize(("method", "path"), ENDPOINTS)
    def test_a_key_for_reading_is_for_reading(self, target: Target, method: str, path: str) -> None:
        if target.read_key is None:
            pytest.skip("no key for reading was given (READ_KEY=...)")
        status = target.client(target.read_key).request(method, path).status_code
        assert status in {200, 404} if method == "GET" else status == 403


class TestBadInput:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ("", "body"),
            ("{", "body"),
            ("[]", "body"),
            ("null", "body"),
            ("[" * 10_000, "body"),
            ('{"a":' * 1000 + "1" + "}" * 1000, "body"),
            ("{}", "token"),
            ('{"token": 7}', "token"),
            ('{"token": "gho_canary\\r\\nx-forged: 1"}', "token"),
            ('{"token": "gho_canary\\u0000"}', "token"),
            ('{"token": "gho_canary", "tokens": "gho_canary"}', "tokens"),
            ('{"token": "gho_canary", "proxy": "file:///etc/passwd"}', "proxy"),
            ('{"token": "gho_canary", "proxy": "http://169.254.169.254"}', "proxy"),
            ('{"token": "gho_canary", "proxy": "http://10.0.0.1:80"}', "proxy"),
        ],
    )
    def test_an_import_that_cannot_be_used_is_refused_by_its_field(
        self, client: httpx.Client, body: str, field: str
    ) -> None:
        answer = client.post("/accounts/import", content=body, headers={"content-type": "application/json"})
        assert_problem(answer, 422, "invalid_input")
        if field != "body":  # how deep a parser goes is its own affair
            assert answer.json()["field"] == field

    def test_a_body_that_is_not_declared_as_json_is_refused(self, client: httpx.Client) -> None:
        for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            answer = client.post(
                "/accounts/import", content='{"token": "gho_canary"}', headers={"content-type": media_type}
            )
            assert_problem(answer, 415, "unsupported_media_type")

    def test_a_huge_body_is_refused(self, client: httpx.Client) -> None:
        answer = client.post("/accounts/import", json={"token": "gho_canary", "proxy": "x" * 1_000_000})
        assert_problem(answer, 413, "request_too_large")

    @pytest.mark.parametrize(
        "account_id", ["0", "-1", "01", "1.0", "1e3", "x", "%20", "1%00", "%D9%A1", "9" * 16, "9" * 400]
    )
    @pytest.mark.parametrize(
        ("method", "path"), [("GET", "/accounts/{}"), ("DELETE", "/accounts/{}"), ("POST", "/metrics/fetch/{}")]
    )
    def test_an_id_that_cannot_be_one_is_refused(
        self, client: httpx.Client, method: str, path: str, account_id: str
    ) -> None:
        assert_problem(client.request(method, path.format(account_id)), 422, "invalid_input")

    @pytest.mark.parametrize("path", ["/accounts", "/metrics"])
    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=-1", "limit=10001", "limit=x", "limit=", "limit=1&limit=2", "cursor=", "cursor=x"]
    )
    def test_a_page_that_cannot_be_one_is_refused(self, client: httpx.Client, path: str, query: str) -> None:
        assert_problem(client.get(f"{path}?{query}"), 422, "invalid_input")

    def test_a_change_that_cannot_be_one_is_refused(self, client: httpx.Client) -> None:
        bodies: list[object] = [{}, {"paused": "true"}, {"paused": 1}, {"paused": True, "login": "x"}, []]
        for body in bodies:
            assert_problem(client.patch("/accounts/1", json=body), 422, "invalid_input")

    def test_an_account_that_is_not_there_is_not_found(self, client: httpx.Client) -> None:
        for method, path in (
            ("GET", "/accounts/999999999"),
            ("DELETE", "/accounts/999999999"),
            ("POST", "/metrics/fetch/999999999"),
            ("GET", "/metrics/999999999"),
        ):
            assert_problem(client.request(method, path), 404, "account_not_found")
        assert_problem(client.patch("/accounts/999999999", json={"paused": True}), 404, "account_not_found")


@pytest.mark.not_on("sam", reason="SAM CLI answers 403 to what no route matches")
def test_what_no_route_matches_is_not_found(client: httpx.Client) -> None:
    for method, path in (("GET", "/nothing"), ("PUT", "/accounts"), ("GET", "/accounts/1/2"), ("DELETE", "/metrics/1")):
        answer = client.request(method, path)
        assert (answer.status_code, answer.json()["message"]) == (404, "Not Found")


@invented_github
def test_an_account_is_imported_fetched_read_paused_and_removed(client: httpx.Client, target: Target) -> None:
    account_id = target.import_account(client, "gho_user-40-numbers")
    assert target.import_account(client, "gho_user-40-numbers") == account_id
    assert_problem(client.get(f"/metrics/{account_id}"), 404, "metrics_not_found")
    metrics_id = target.fetch_metrics(client, account_id)
    latest = client.get(f"/metrics/{account_id}")
    assert (latest.json()["id"], latest.json()["account_id"]) == (metrics_id, account_id)
    assert latest.headers["cache-control"] == "no-store"
    assert '"exact": 93.50, "large": 123456789012345678901234567890, "huge": 1e400' in latest.text
    account = client.get(f"/accounts/{account_id}").json()
    assert (account["login"], account["paused"], account["last_fetch"]["status"]) == ("octo-40", False, "ok")
    assert client.patch(f"/accounts/{account_id}", json={"paused": True}).json()["paused"] is True
    assert client.delete(f"/accounts/{account_id}").status_code == 204
    for path in (f"/accounts/{account_id}", f"/metrics/{account_id}"):
        assert_problem(client.get(path), 404, "account_not_found")


def test_all_accounts_are_queued(client: httpx.Client) -> None:
    answer = client.post("/metrics/fetch")
    assert (answer.status_code, set(answer.json())) == (202, {"queued", "due", "complete"}), answer.text


@invented_github
@pytest.mark.not_on("sam", reason="SAM CLI runs no functions for a queue")
def test_all_accounts_are_fetched_in_the_background(client: httpx.Client, target: Target) -> None:
    ids = [target.import_account(client, f"gho_user-{user}") for user in (41, 42, 43)]
    paused = target.import_account(client, "gho_user-44")
    client.patch(f"/accounts/{paused}", json={"paused": True})
    answer = client.post("/metrics/fetch")
    assert answer.status_code == 202, answer.text
    assert answer.json()["queued"] >= 3
    end = time.monotonic() + 60
    while any(client.get(f"/metrics/{account_id}").status_code == 404 for account_id in ids):
        assert time.monotonic() < end
        time.sleep(0.5)
    assert_problem(client.get(f"/metrics/{paused}"), 404, "metrics_not_found")


@invented_github
@concurrent
def test_fifty_imports_of_one_user_at_once_make_one_account(client: httpx.Client, target: Target) -> None:
    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(lambda token: target.import_account(client, token), ["gho_user-50"] * 50))
    assert len(ids) == 1
    assert [account["login"] for account in everything(client, "/accounts")].count("octo-50") == 1


@invented_github
@concurrent
def test_imports_of_many_users_at_once_make_an_account_each(client: httpx.Client, target: Target) -> None:
    users = range(5000, 5040)
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(lambda user: target.import_account(client, f"gho_user-{user}"), users))
    assert len(set(ids)) == len(users)
    known = {account["id"]: account["github_user_id"] for account in everything(client, "/accounts?limit=7")}
    assert [known[account_id] for account_id in ids] == list(users)


@invented_github
@concurrent
def test_fifty_fetches_of_one_account_at_once_store_fifty_snapshots_and_the_newest_is_the_latest(
    client: httpx.Client, target: Target
) -> None:
    account_id = target.import_account(client, "gho_user-51")
    with ThreadPoolExecutor(50) as pool:
        ids = list(pool.map(lambda _: target.fetch_metrics(client, account_id), range(50)))
    assert len(set(ids)) == 50
    assert client.get(f"/metrics/{account_id}").json()["id"] == max(ids)
    latest = {item["account_id"]: item["id"] for item in everything(client, "/metrics?limit=3")}
    assert latest[account_id] == max(ids)


@invented_github
def test_lists_come_in_pages_that_hold_everything_once(client: httpx.Client, target: Target) -> None:
    for user in range(60, 67):
        target.fetch_metrics(client, target.import_account(client, f"gho_user-{user}"))
    accounts = [account["id"] for account in everything(client, "/accounts")]
    assert accounts == sorted(accounts, reverse=True)
    assert [account["id"] for account in everything(client, "/accounts?limit=2")] == accounts
    metrics = [item["account_id"] for item in everything(client, "/metrics")]
    assert metrics == sorted(metrics)
    assert [item["account_id"] for item in everything(client, "/metrics?limit=2")] == metrics


@invented_github
@pytest.mark.parametrize(
    ("case", "status", "code"),
    [
        ("revoked", 401, "github_token_refused"),
        ("wrong-kind", 401, "github_token_refused"),
        ("limited", 429, "github_rate_limited"),
        ("limited-403", 429, "github_rate_limited"),
        ("secondary", 429, "github_rate_limited"),
        ("down", 502, "github_failed"),
        ("unavailable", 502, "github_failed"),
        ("html", 502, "github_failed"),
        ("array", 502, "github_failed"),
        ("nan", 502, "github_failed"),
        ("deep", 502, "github_failed"),
        ("truncated", 502, "github_failed"),
        ("closed", 502, "github_failed"),
        ("garbage", 502, "github_failed"),
        ("redirect", 502, "github_failed"),
        ("gzip", 502, "github_failed"),
        ("echo", 502, "github_failed"),
        ("echo-error", 401, "github_token_refused"),
        ("huge", 413, "payload_too_large"),
        ("endless", 413, "payload_too_large"),
    ],
)
def test_whatever_github_does_the_answer_says_so_and_the_last_snapshot_stays(
    client: httpx.Client, target: Target, case: str, status: int, code: str
) -> None:
    account_id = target.import_account(client, "gho_user-70")
    kept = target.fetch_metrics(client, account_id)
    assert target.import_account(client, f"gho_user-70-{case}") == account_id
    answer = client.post(f"/metrics/fetch/{account_id}")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"].endswith((".", "seconds."))
    assert "gho_user" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 429)
    assert client.get(f"/metrics/{account_id}").json()["id"] == kept


@invented_github
def test_a_github_that_keeps_us_waiting_is_a_timeout(client: httpx.Client) -> None:
    def code(case: str) -> tuple[int, str]:
        answer = client.post("/accounts/import", json={"token": f"gho_user-71-{case}-on-user"})
        return answer.status_code, answer.json()["code"]

    with ThreadPoolExecutor(3) as pool:  # each takes as long as we wait at most
        assert list(pool.map(code, ["slow", "slow-headers", "hang"])) == [(504, "github_timeout")] * 3


@invented_github
@pytest.mark.parametrize("case", ["refused", "html-on-user", "array-on-user", "endless-on-user", "echo-on-user"])
def test_an_account_that_github_does_not_vouch_for_is_not_stored(client: httpx.Client, case: str) -> None:
    answer = client.post("/accounts/import", json={"token": f"gho_user-72-{case}"})
    assert answer.status_code in {401, 502}
    assert 72 not in {account["github_user_id"] for account in everything(client, "/accounts")}


@invented_github
def test_the_largest_payload_that_fits_is_kept_and_served(client: httpx.Client, target: Target) -> None:
    account_id = target.import_account(client, "gho_user-73-large")
    target.fetch_metrics(client, account_id)
    for accepted in ("gzip", "identity"):
        answer = client.get(f"/metrics/{account_id}", headers={"accept-encoding": accepted})
        assert answer.headers.get("content-encoding", "identity") == accepted
        assert len(json.dumps(answer.json()["payload"])) == LARGEST


@invented_github
def test_an_account_without_copilot_has_a_snapshot_that_says_so(client: httpx.Client, target: Target) -> None:
    account_id = target.import_account(client, "gho_user-74-no-copilot")
    target.fetch_metrics(client, account_id)
    assert client.get(f"/metrics/{account_id}").json()["payload"]["access_type_sku"] == "no_access"
