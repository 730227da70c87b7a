"""Against what a user would otherwise run: tests/benchmarks/peer, with the same GitHub and the same data."""

import itertools
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
import httpx

from infra.local.services import running_environment
from infra.stack import ROOT
from tests.benchmarks import data
from tests.benchmarks.measuring import Cost, api_process, cost, cpu_seconds, scratch
from tests.benchmarks.report import Ratio, Report, figure
from tests.end_to_end.running import PREFIX, LocalRun, free_port, user_environment
from tests.stand_ins.github import GitHubStandIn

UVICORN = ROOT / ".tools" / "peer" / "bin" / "uvicorn"
LATENCY = 0.1
NOWHERE = "http://127.0.0.1:1"
"""GitHub's address where it isn't asked."""
ACCOUNTS = (10, 100, 1000)
HISTORY = (1, 10, 100, 1000)
ALL = 1000
UNCOMPRESSED = {"accept-encoding": "identity"}
"""The peer knows nothing else."""
PEER_SAMPLE = 100
"""The peer fetches its accounts one by one, so this many tell how long more take."""


@dataclass(frozen=True)
class Service:
    """One of the two."""

    client: httpx.Client
    pid: int
    fill: Callable[[range, range, int], None]
    """Add snapshots of accounts for some rounds of fetches; the last number says how many accounts there are."""

    def call(self, method: str, path: str, **arguments: object) -> httpx.Response:
        """Make a request that has to succeed."""
        answer = self.client.request(method, path, **arguments)  # type: ignore[arg-type]  # httpx's own
        answer.raise_for_status()
        return answer


@contextmanager
def peer(folder: Path, github_url: str) -> Iterator[Service]:
    """Run the peer."""
    port, file = free_port(), folder / "peer.db"
    environment = {
        **user_environment(),
        "GITHUB_API_URL": github_url,
        "COPILOT_METRICS__TOKEN_SECRET": "00" * 32,
        "DATABASE_URL": f"sqlite:///{file}",
    }
    command = [str(UVICORN), "app:app", "--port", str(port), "--log-level", "warning", "--no-access-log"]
    process = subprocess.Popen(command, cwd=Path(__file__).with_name("peer"), env=environment)

    def fill(ids: range, rounds: range, _accounts: int) -> None:
        moment = "2026-11-23 19:05:19.165000"
        with sqlite3.connect(file) as database:
            database.executemany(
                "INSERT OR IGNORE INTO copilot_github_accounts VALUES (?, ?, ?, '', '', '', '', '', ?, ?)",
                ((i, f"octo-{i}", 10**6 + i, moment, moment) for i in ids),
            )
            database.executemany(
                "INSERT INTO copilot_metrics (account_id, fetched_at, payload) VALUES (?, ?, ?)",
                ((i, moment, data.PAYLOAD) for _ in rounds for i in ids),
            )

    url = f"http://127.0.0.1:{port}{PREFIX}"
    with httpx.Client(base_url=url, headers=UNCOMPRESSED, timeout=600, trust_env=False) as client:
        try:
            while True:
                try:
                    client.get("/accounts")
                    break
                except httpx.TransportError:
                    time.sleep(0.1)
            yield Service(client, process.pid, fill)
        finally:
            process.kill()
            process.wait()


@contextmanager
def ours(folder: Path, github_url: str) -> Iterator[Service]:
    """``make run``."""
    with LocalRun(folder / "data", github_url, POWERTOOLS_LOG_LEVEL="ERROR") as run:
        environment = running_environment(run.data)
        database = boto3.client(
            "dynamodb",
            endpoint_url=environment["AWS_ENDPOINT_URL_DYNAMODB"],
            region_name=environment["AWS_DEFAULT_REGION"],
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

        def fill(ids: range, rounds: range, accounts: int) -> None:
            data.add_snapshots(database, ids, rounds, accounts)
            data.point(database, ids, rounds[-1], accounts)

        run.client.timeout = httpx.Timeout(600)
        run.client.headers.update(UNCOMPRESSED)
        yield Service(run.client, api_process(run.pid), fill)


def measure(report: Report, *, most_accounts: int, most_history: int) -> None:
    """Measure all of it."""
    report.say("## Against what a user would otherwise run", "")
    report.say(
        "The peer is the specification as it is written: FastAPI, SQLAlchemy and SQLite under uvicorn "
        "(`tests/benchmarks/peer`). Ours is `make run`, with DynamoDB Local, a Java server on the same cores, behind "
        "it: *own* has our process without it. Both databases' files are in memory where the machine allows. SQLite is "
        "in the peer's own process and answers one account in well under a millisecond; DynamoDB Local takes one or "
        "two, and botocore seven tenths to ask it: where few snapshots are read, the peer is faster for that alone."
    )
    report.say(
        "",
        "The peer reads all rows to find the newest of each account, derives keys with 100 MiB, and fetches accounts "
        "one after the other, as is easily written: a better query would make its `latest for all` as flat as ours, "
        f"and threads its fetches faster. Fetching all is extrapolated from {PEER_SAMPLE} of them. *Ours* is of a warm "
        "function where nothing else is said.",
    )
    head = ("call", "GitHub, ms", "peer, ms", "ours, ms", "times faster", "peer own", "ours own")
    report.table(head, _calls(report))
    report.say("### Fetching all of 1,000 accounts", "")
    report.table(("GitHub, ms", "peer, s", "ours", "s", "times faster"), _fetch_all(report))
    report.say(
        "### The latest metrics", "", "*New* is the first call after every account was fetched, *again* the ones after."
    )
    report.table(
        (
            *("accounts", "snapshots each", "one: peer, ms", "ours", "times faster", "peer own", "ours own"),
            *("all: peer, ms", "ours, new", "ours, again", "own, again", "times faster", "by own"),
        ),
        _latest(report, most_accounts, most_history),
    )


def _calls(report: Report) -> Iterator[tuple[str, ...]]:
    for latency in (0.0, LATENCY):
        with scratch() as folder, GitHubStandIn(latency=latency) as github:
            measured: list[dict[str, Cost]] = []
            for start in (peer, ours):
                with start(Path(folder), github.url) as service:
                    measured.append(_import_and_fetch(service))
        for name in measured[0]:
            before, after = (costs[name] for costs in measured)
            times = before.passed / after.passed
            where = f"GitHub answers in {latency * 1000:.0f} ms"
            report.ratios.append(Ratio(f"{name}, {where}", "peer", times, at_least=1))
            yield (
                *(name, f"{latency * 1000:.0f}", f"{before.passed:.1f}", f"{after.passed:.1f}", figure(times)),
                *(f"{before.own:.1f}", f"{after.own:.1f}"),
            )


def _import_and_fetch(service: Service) -> dict[str, Cost]:
    users = itertools.count(1)

    def imported() -> int:
        answer = service.call("POST", "/accounts/import", json={"token": f"gho_user-{next(users)}"})
        return int(answer.json()["account_id"])

    ids = itertools.cycle([imported() for _ in range(20)])
    return {
        "import": cost(imported, service.pid, times=20, warm=0),
        "fetch": cost(lambda: service.call("POST", f"/metrics/fetch/{next(ids)}"), service.pid, times=20, warm=0),
        "fetch again": cost(lambda: service.call("POST", f"/metrics/fetch/{next(ids)}"), service.pid, times=20),
    }


def _fetch_all(report: Report) -> Iterator[tuple[str, ...]]:
    with scratch() as folder, GitHubStandIn(latency=LATENCY) as github:
        with peer(Path(folder), github.url) as service:
            for user in range(1, PEER_SAMPLE + 1):
                service.call("POST", "/accounts/import", json={"token": f"gho_user-{user}"})
            one = cost(_each(service, PEER_SAMPLE), service.pid, times=PEER_SAMPLE, warm=0).passed
            peer_seconds = one * ALL / 1000
        with ours(Path(folder), github.url) as service:
            with ThreadPoolExecutor(8) as pool:
                tokens = ({"token": f"gho_user-{user}"} for user in range(1, ALL + 1))
                list(pool.map(lambda body: service.call("POST", "/accounts/import", json=body), tokens))
            for name in ("the first time", "again", "again"):
                seconds = _fetched_all(service, github)
                times = peer_seconds / seconds
                report.ratios.append(Ratio(f"fetching all of {ALL:,} accounts, {name}", "peer", times, at_least=20))
                yield f"{LATENCY * 1000:.0f}", f"{peer_seconds:.0f}", name, f"{seconds:.1f}", figure(times)


def _each(service: Service, count: int) -> Callable[[], object]:
    ids = itertools.cycle(range(1, count + 1))
    return lambda: service.call("POST", f"/metrics/fetch/{next(ids)}")


def _fetched_all(service: Service, github: GitHubStandIn) -> float:
    """Queue the fetch of all accounts, and return the seconds until all are stored."""
    asked = len(github.requests)
    started = time.perf_counter()
    due = service.call("POST", "/metrics/fetch").json()["due"]
    while len(github.requests) < asked + ALL:
        time.sleep(0.05)
    while True:
        fetches = [account["last_fetch"] or {"at": ""} for account in service.call("GET", "/accounts").json()]
        if min(fetch["at"] for fetch in fetches) >= due:
            return time.perf_counter() - started
        time.sleep(0.1)


def _latest(report: Report, most_accounts: int, most_history: int) -> Iterator[tuple[str, ...]]:
    for accounts in (count for count in ACCOUNTS if count <= most_accounts):
        with (
            scratch() as folder,
            peer(Path(folder), NOWHERE) as theirs,
            ours(Path(folder), NOWHERE) as own,
        ):
            ids, rounds = range(1, accounts + 1), 0
            flat: list[float] = []
            for history in (count for count in HISTORY if count <= most_history):
                for service in (theirs, own):
                    service.fill(ids, range(rounds, history), accounts)
                rounds = history
                yield _latest_row(report, theirs, own, accounts, history, flat)
            if accounts == ALL:
                what = f"latest for all, {rounds:,} snapshots each"
                report.ratios.append(Ratio(what, "ours, 1 each", flat[-1] / flat[0], at_most=1.2, note="flat"))


def _latest_row(
    report: Report, theirs: Service, own: Service, accounts: int, history: int, flat: list[float]
) -> tuple[str, ...]:
    one = [_latest_for_one(service, accounts) for service in (theirs, own)]
    started = time.perf_counter()
    own.call("GET", "/metrics")
    new = (time.perf_counter() - started) * 1000
    again = cost(lambda: own.call("GET", "/metrics"), own.pid, times=100 if accounts < ALL else 30, warm=5)
    before = cpu_seconds(theirs.pid)
    started = time.perf_counter()
    theirs.call("GET", "/metrics")
    few = time.perf_counter() - started > 1
    first = Cost((time.perf_counter() - started) * 1000, (cpu_seconds(theirs.pid) - before) * 1000)
    peers = first if few else cost(lambda: theirs.call("GET", "/metrics"), theirs.pid, times=30)
    flat.append(again.passed)
    times, by_own = peers.passed / again.passed, peers.own / max(again.own, 0.1)
    where = f"{accounts:,} accounts, {history:,} snapshots each"
    aim = 50 if (accounts, history) == (ALL, 100) else 1
    one_by_own = one[0].own / max(one[1].own, 0.1)
    report.ratios.append(
        Ratio(
            *(f"latest for one, {where}", "peer", one[0].passed / one[1].passed),
            at_least=1,
            note=f"by own time {figure(one_by_own)}",
        )
    )
    report.ratios.append(
        Ratio(f"latest for all, {where}", "peer", times, at_least=aim, note=f"by own time {figure(by_own)}")
    )
    return (
        *(f"{accounts:,}", f"{history:,}", f"{one[0].passed:.1f}", f"{one[1].passed:.1f}"),
        *(figure(one[0].passed / one[1].passed), f"{one[0].own:.1f}", f"{one[1].own:.1f}"),
        *(f"{peers.passed:.1f}", f"{new:.1f}", f"{again.passed:.1f}", f"{again.own:.1f}", figure(times)),
        figure(by_own),
    )


def _latest_for_one(service: Service, account_id: int) -> Cost:
    return cost(lambda: service.call("GET", f"/metrics/{account_id}"), service.pid, times=200, warm=20)
