"""A user's way through the service, on the real database and over real sockets."""

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.end_to_end.running import LocalRun
from tests.stand_ins.github import LARGEST, GitHubStandIn

ACCOUNT_FIELDS = {
    "id",
    "login",
    "github_user_id",
    "node_id",
    "avatar_url",
    "created_at",
    "updated_at",
    "paused",
    "last_fetch",
}


def everything(client: httpx.Client, path: str) -> list[Any]:
    """Follow a list's links to its end."""
    items: list[Any] = []
    url: str | None = path
    while url is not None:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        items += answer.json()
        url = answer.links.get("next", {}).get("url")
    return items


def test_what_was_acknowledged_is_still_there_after_a_restart_and_after_a_kill(
    github: GitHubStandIn, tmp_path: Path
) -> None:
    running = LocalRun(tmp_path / "data", github.url)
    with running:
        assert running.client.get("/accounts").json() == []
        first = running.import_account("gho_user-1")
        second = running.import_account("gho_user-2-numbers")
        fetched = [running.fetch_metrics(first), running.fetch_metrics(second), running.fetch_metrics(first)]
        assert (first, second, fetched) == (1, 2, [1, 2, 3])
        account = running.client.get(f"/accounts/{first}")
        assert set(account.json()) == ACCOUNT_FIELDS
        assert account.json()["last_fetch"]["status"] == "ok"
        assert account.json() | {"created_at": "", "updated_at": "", "last_fetch": {}} == {
            "id": 1,
            "login": "octo-1",
            "github_user_id": 1,
            "node_id": "U_1",
            "avatar_url": "https://avatars.example/u/1?v=4",
            "created_at": "",
            "updated_at": "",
            "paused": False,
            "last_fetch": {},
        }
        accounts, metrics = running.client.get("/accounts"), running.client.get("/metrics")
        assert [item["id"] for item in accounts.json()] == [2, 1]
        assert [(item["account_id"], item["id"]) for item in metrics.json()] == [(1, 3), (2, 2)]
        assert '"exact": 93.50, "large": 123456789012345678901234567890, "huge": 1e400' in metrics.text

        assert running.stop() == 0
        running.start()
        assert running.client.get("/accounts").text == accounts.text
        assert running.client.get("/metrics").text == metrics.text

        last = running.fetch_metrics(first)
        running.kill()
        running.start()
        assert running.client.get(f"/metrics/{first}").json()["id"] == last
        assert running.fetch_metrics(first) > last
        assert running.import_account("gho_user-3") == 3


def test_fifty_imports_of_one_user_at_once_make_one_account(service: LocalRun) -> None:
    with ThreadPoolExecutor(50) as pool:
        ids = set(pool.map(service.import_account, ["gho_user-50"] * 50))
    assert len(ids) == 1
    assert [account["login"] for account in everything(service.client, "/accounts")].count("octo-50") == 1


def test_imports_of_many_users_at_once_make_an_account_each(service: LocalRun) -> None:
    users = range(5000, 5040)
    with ThreadPoolExecutor(20) as pool:
        ids = list(pool.map(service.import_account, [f"gho_user-{user}" for user in users]))
    assert len(set(ids)) == len(users)
    known = {account["id"]: account["github_user_id"] for account in everything(service.client, "/accounts?limit=7")}
    assert [known[account_id] for account_id in ids] == list(users)


def test_fifty_fetches_of_one_account_at_once_store_fifty_snapshots_and_the_newest_is_the_latest(
    service: LocalRun,
) -> None:
    account_id = service.import_account("gho_user-51")
    with ThreadPoolExecutor(50) as pool:
        ids = list(pool.map(service.fetch_metrics, [account_id] * 50))
    assert len(set(ids)) == 50
    assert service.client.get(f"/metrics/{account_id}").json()["id"] == max(ids)
    latest = {item["account_id"]: item["id"] for item in everything(service.client, "/metrics?limit=3")}
    assert latest[account_id] == max(ids)


def test_lists_come_in_pages_that_hold_everything_once(service: LocalRun) -> None:
    for user in range(60, 67):
        service.fetch_metrics(service.import_account(f"gho_user-{user}"))
    accounts = [account["id"] for account in everything(service.client, "/accounts")]
    assert accounts == sorted(accounts, reverse=True)
    assert [account["id"] for account in everything(service.client, "/accounts?limit=2")] == accounts
    metrics = [item["account_id"] for item in everything(service.client, "/metrics")]
    assert metrics == sorted(metrics)
    assert [item["account_id"] for item in everything(service.client, "/metrics?limit=2")] == metrics


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
    service: LocalRun, case: str, status: int, code: str
) -> None:
    account_id = service.import_account("gho_user-70")
    kept = service.fetch_metrics(account_id)
    assert service.import_account(f"gho_user-70-{case}") == account_id
    answer = service.client.post(f"/metrics/fetch/{account_id}")
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["status"]) == (status, code, status), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert problem["detail"].endswith((".", "seconds."))
    assert "gho_user" not in answer.text
    assert ("retry-after" in answer.headers) == (status == 429)
    assert service.client.get(f"/metrics/{account_id}").json()["id"] == kept


def test_a_github_that_keeps_us_waiting_is_a_timeout(service: LocalRun) -> None:
    def code(case: str) -> tuple[int, str]:
        answer = service.client.post("/accounts/import", json={"token": f"gho_user-71-{case}-on-user"})
        return answer.status_code, answer.json()["code"]

    with ThreadPoolExecutor(3) as pool:  # each takes as long as we wait at most
        assert list(pool.map(code, ["slow", "slow-headers", "hang"])) == [(504, "github_timeout")] * 3


@pytest.mark.parametrize("case", ["refused", "html-on-user", "array-on-user", "endless-on-user", "echo-on-user"])
def test_an_account_that_github_does_not_vouch_for_is_not_stored(service: LocalRun, case: str) -> None:
    answer = service.client.post("/accounts/import", json={"token": f"gho_user-72-{case}"})
    assert answer.status_code in {401, 502}
    assert 72 not in {account["github_user_id"] for account in everything(service.client, "/accounts")}


def test_the_largest_payload_that_fits_is_kept_and_served(service: LocalRun) -> None:
    account_id = service.import_account("gho_user-73-large")
    service.fetch_metrics(account_id)
    payload = service.client.get(f"/metrics/{account_id}").json()["payload"]
    assert len(json.dumps(payload)) == LARGEST


def test_an_account_without_copilot_has_a_snapshot_that_says_so(service: LocalRun) -> None:
    account_id = service.import_account("gho_user-74-no-copilot")
    service.fetch_metrics(account_id)
    assert service.client.get(f"/metrics/{account_id}").json()["payload"]["access_type_sku"] == "no_access"


def test_neither_a_token_nor_the_secret_is_in_any_file_or_line_of_a_run(github: GitHubStandIn, tmp_path: Path) -> None:
    tokens = ["gho_user-777001", "gho_user-777001-echo", "gho_user-777001-down", "gho_user-777002-refused"]
    running = LocalRun(tmp_path / "data", github.url)
    with running:
        for token in tokens:
            answer = running.client.post("/accounts/import", json={"token": token, "proxy": None})
            assert token not in answer.text
            running.client.post("/accounts/import", json={"token": token + "\n"})
            running.client.post("/accounts/import", json={"token": token, "token2": token})
            running.client.post("/accounts/import", content=json.dumps(token), headers={"content-type": "text/plain"})
            running.client.post("/metrics/fetch/1")
        secret = (tmp_path / "data" / "token_secret").read_text().strip()
        assert running.client.get("/metrics/1").status_code == 200
    hunted = [form for text in (*tokens, secret) for form in forms(text)]
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file.name != "token_secret"]
    assert any(file.suffix == ".db" for file in files)
    assert any(file.suffix == ".log" and b"POST" in file.read_bytes() for file in files)
    found = [(file, form) for file in files for form in hunted if form in file.read_bytes()]
    assert found == []


def forms(text: str) -> list[bytes]:
    """How a text could hide: as it is, in hexadecimal digits, and in base64."""
    raw = text.encode()
    return [raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1]]
