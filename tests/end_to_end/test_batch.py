"""The batch on the real database: concurrent workers, a kill, a second delivery."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.parts import Parts, parts
from tests.end_to_end.running import LocalRun
from tests.stand_ins.github import GitHubStandIn


@pytest.fixture
def slow_github() -> Iterator[GitHubStandIn]:
    with GitHubStandIn(latency=0.1) as stand_in:
        yield stand_in


@pytest.fixture
def running(tmp_path: Path, slow_github: GitHubStandIn) -> Iterator[Parts]:
    with parts(tmp_path / "parts", slow_github.url) as some:
        yield some


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_each_account_ends_in_its_right_state_and_the_good_ones_are_stored_once(
    running: Parts, slow_github: GitHubStandIn
) -> None:
    cases = dict(enumerate(["revoked", "down", "limited", "hang", "no-copilot"], 1))
    expected = {1: "token_invalid", 2: "retrying", 3: "limited", 4: "retrying", 5: "ok"} | dict.fromkeys(
        range(6, 61), "ok"
    )
    running.import_accounts({n: f"gho_user-{n}" + (f"-{cases[n]}" if n in cases else "") for n in expected})
    assert running.dispatch("2026-11-23T19:00:00Z")["queued"] == 60
    assert running.dispatch("2026-11-23T19:00:00Z")["queued"] == 0
    with running.worker():
        wait_until(lambda: running.statuses() == expected)
    assert Counter(running.stored()) == {n: 1 for n in range(1, 61) if expected_of(running, n) == "ok"}
    assert running.left() == 3
    asked = Counter(seen.headers["authorization"] for seen in slow_github.requests)
    assert set(asked.values()) == {1}


def expected_of(running: Parts, account_id: int) -> str | None:
    fetched = running.accounts.get(account_id).last_fetch
    return fetched.status if fetched else None


def test_a_worker_killed_in_the_middle_of_a_batch_loses_and_doubles_nothing(running: Parts) -> None:
    running.sqs.set_queue_attributes(QueueUrl=running.queue_url, Attributes={"VisibilityTimeout": "4"})
    running.import_accounts({n: f"gho_user-{n}" for n in range(1, 81)})
    assert running.dispatch("2026-11-23T19:00:00Z")["queued"] == 80
    with running.worker():
        wait_until(lambda: len(running.stored()) >= 5)
    killed_at = len(running.stored())
    assert killed_at < 80
    assert running.left() > 0
    with running.worker():
        wait_until(lambda: running.left() == 0)
    assert Counter(running.stored()) == dict.fromkeys(range(1, 81), 1)


def test_a_message_that_two_workers_have_at_once_is_stored_once(running: Parts) -> None:
    # Shorter than the fetch: each message is delivered again while it is in work.
    running.sqs.set_queue_attributes(QueueUrl=running.queue_url, Attributes={"VisibilityTimeout": "0"})
    running.import_accounts({n: f"gho_user-{n}" for n in range(1, 11)})
    running.dispatch("2026-11-23T19:00:00Z")
    with running.worker(), running.worker():
        wait_until(lambda: len(running.stored()) >= 10)
        time.sleep(2)
    assert Counter(running.stored()) == dict.fromkeys(range(1, 11), 1)


def test_the_local_run_fires_the_rule_and_drains_the_queue(tmp_path: Path, github: GitHubStandIn) -> None:
    data = tmp_path / "data"
    with LocalRun(data, github.url) as service:
        account_id = service.import_account("gho_user-1")
        answer = service.client.post("/metrics/fetch")
        assert answer.status_code == 202
        assert answer.json()["queued"] == 1
        wait_until(lambda: service.client.get(f"/metrics/{account_id}").status_code == 200)
        assert service.client.get(f"/accounts/{account_id}").json()["last_fetch"]["status"] == "ok"
    with LocalRun(data, github.url, FETCH_SCHEDULE="rate(1 day)") as service:
        # The day's moment lies before the fetch above, which has served it.
        wait_until(lambda: "process_fetches 1 accounts" in service.log.read_text())
        assert service.client.get(f"/metrics/{account_id}").json()["id"] == 1


def test_an_unknown_schedule_is_said(tmp_path: Path, github: GitHubStandIn) -> None:
    service = LocalRun(tmp_path / "data", github.url, FETCH_SCHEDULE="hourly")
    with pytest.raises(AssertionError):
        service.start()
    assert service.log.read_text().startswith("make run: The schedule 'hourly' isn't known locally")
