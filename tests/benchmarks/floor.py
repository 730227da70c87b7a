"""Against the floor: how much longer a function takes to start than a boto3 client, and what a warm one adds itself."""

import itertools
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import httpx

from copilot_metrics.keys import digest, new_key
from copilot_metrics.models import ApiKey, Scope, timestamp
from copilot_metrics.secret import TokenSecrets
from copilot_metrics.tables import ApiKeyTable
from copilot_metrics.vault import TokenVault
from infra.stack import ROOT
from tests.benchmarks import data
from tests.benchmarks.report import Ratio, Report
from tests.benchmarks.rig import BUILT, PROBE, PYTHON, Event, Probe, Rig, messages, request, rig
from tests.end_to_end.parts import SECRET
from tests.end_to_end.running import free_port

EMULATOR = ROOT / ".tools/sam/lib/python3.11/site-packages/samcli/local/rapid/aws-lambda-rie-x86_64"
FLOOR = 'import boto3\nclient = boto3.client("dynamodb")\ndef handler(event, context):\n    return {}\n'
ACCOUNTS = 400
STARTS = 15
WARM = 100


@dataclass(frozen=True)
class Function:
    """One function, and what it is asked."""

    name: str
    event: Callable[[int], Event]
    """For the n-th call, from 1."""
    most: float | None = None
    """How many floors its start may take."""


def measure(report: Report) -> None:
    """Measure all of it."""
    report.say("## Against the floor", "")
    report.say(
        "*Floor*: a function that imports boto3, makes a DynamoDB client and answers nothing. Each start is a fresh "
        "process of Lambda's Python with the built layer, until its first request (with its calls of DynamoDB, the "
        "queue or GitHub, which answers at once) is answered: under SAM's runtime emulator, and without it. *Loaded* "
        "is the part before the handler is called. *Own* is a warm call's time, less what it waits for sockets."
    )
    with rig() as running:
        functions = list(_functions(running))
        head = ("function", "emulator, ms", "times the floor", "fresh process, ms", "times the floor", "loaded, ms")
        report.table((*head, "warm, ms", "own, ms"), _rows(report, running, functions))


def _functions(running: Rig) -> Iterator[Function]:
    data.add_accounts(running.database, range(1, ACCOUNTS + 1))
    data.add_snapshots(running.database, range(1, ACCOUNTS + 1), range(1), ACCOUNTS)
    _give_tokens(running, range(1, ACCOUNTS + 1))
    key, key_id = new_key()
    ApiKeyTable(running.database, "copilot_metrics_api_keys").add(
        ApiKey(key_id, "bench", Scope.READ, timestamp()), digest(key)
    )
    listing = request("GET", "/accounts", query={"limit": "10"})
    keyed = {**listing, "type": "REQUEST", "identitySource": [f"Bearer {key}", listing["routeKey"]]}
    moments = (datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=n) for n in itertools.count())
    yield Function("AuthorizeRequest", lambda _: keyed, 1.3)
    yield Function("ListAccounts", lambda _: listing, 1.3)
    yield Function("GetAccount", lambda n: request("GET", f"/accounts/{n}"), 1.3)
    yield Function("GetLatestMetrics", lambda n: request("GET", f"/metrics/{n}"), 1.3)
    yield Function("ListLatestMetrics", lambda _: request("GET", "/metrics", query={"limit": "10"}), 1.3)
    yield Function("CheckHealth", lambda _: request("GET", "/health"), 1.3)
    yield Function("ImportAccount", lambda n: request("POST", "/accounts/import", body=_token(n)), 1.8)
    yield Function("FetchMetrics", lambda n: request("POST", f"/metrics/fetch/{n}"), 1.8)
    yield Function("ProcessFetches", lambda n: messages([n], timestamp(next(moments) + timedelta(days=365))), 1.8)
    yield Function("FetchAllMetrics", lambda _: request("POST", "/metrics/fetch"))
    yield Function("DispatchFetches", lambda _: {"time": f"{next(moments):%Y-%m-%dT%H:%M:%SZ}"})
    yield Function("UpdateAccount", lambda n: request("PATCH", f"/accounts/{n}", body={"paused": bool(n % 2)}))
    # From the end, so that the others still find theirs.
    removed = itertools.count(ACCOUNTS, -1)
    yield Function("DeleteAccount", lambda _: request("DELETE", f"/accounts/{next(removed)}"))


def _token(n: int) -> dict[str, str]:
    return {"token": f"gho_user-{10**6 + n}"}


def _give_tokens(running: Rig, ids: range) -> None:
    """Give each account a token of its own, as an import does, so that each needs its own key."""
    vault = TokenVault(TokenSecrets([SECRET]))
    data.add_accounts(
        running.database,
        ids,
        seal=lambda i: vault.seal(f"gho_user-{10**6 + i}", account_id=i, github_user_id=10**6 + i),
    )


def _rows(report: Report, running: Rig, functions: list[Function]) -> Iterator[tuple[str, ...]]:
    floor_code = BUILT / "Floor"
    floor_code.mkdir(exist_ok=True)
    (floor_code / "handler.py").write_text(FLOOR)
    plain = {name: value for name, value in running.environment.items() if name != "PYTHONPATH"}
    floor = Function("Floor", lambda _: {})
    floor_emulated = statistics.median(_emulated(floor, plain) for _ in range(STARTS))
    floor_fresh = statistics.median(_fresh(floor, plain)[0] for _ in range(STARTS))
    yield "floor", f"{floor_emulated:.0f}", "1", f"{floor_fresh:.0f}", "1", "", "", ""
    for function in functions:
        emulated = statistics.median(_emulated(function, running.environment) for _ in range(STARTS))
        fresh, loaded = (
            statistics.median(some)
            for some in zip(*(_fresh(function, running.environment) for _ in range(STARTS)), strict=True)
        )
        passed, own = _warm(running, function)
        times = emulated / floor_emulated
        if function.most is not None:
            report.ratios.append(
                Ratio(f"cold start, {function.name}", "floor", times, at_most=function.most, note="emulator")
            )
        yield (
            *(function.name, f"{emulated:.0f}", f"{times:.2f}", f"{fresh:.0f}", f"{fresh / floor_fresh:.2f}"),
            *(f"{loaded:.0f}", f"{passed:.1f}", f"{own:.1f}"),
        )


_calls: dict[str, Iterator[int]] = {}


def _event(function: Function) -> Event:
    return function.event(next(_calls.setdefault(function.name, itertools.count(1))))


def _fresh(function: Function, environment: dict[str, str]) -> tuple[float, float]:
    """Return the milliseconds from a process's start to its first answer, and to when the function was loaded."""
    with Probe([str(PYTHON), str(PROBE), str(BUILT / function.name / "handler.py")], environment) as probe:
        answered = probe.call(_event(function), measured=False)["answered"]
        return (answered - probe.started) * 1000, (probe.loaded - probe.started) * 1000


def _emulated(function: Function, environment: dict[str, str]) -> float:
    """Return the milliseconds from the first request for a function to its answer, its start between them."""
    port = free_port()
    code = BUILT / function.name
    process = subprocess.Popen(
        [
            *(str(EMULATOR), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
            *("--runtime-api-address", f"127.0.0.1:{free_port()}"),
            *(str(PYTHON), "-m", "awslambdaric", "handler.handler"),
        ],
        cwd=code,
        env={**environment, "LAMBDA_TASK_ROOT": str(code), "AWS_LAMBDA_FUNCTION_NAME": function.name},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}/2015-03-31/functions/function/invocations"
    try:
        with httpx.Client(trust_env=False, timeout=30) as client:
            while True:
                try:
                    client.get(f"http://127.0.0.1:{port}/")
                    break
                except httpx.TransportError:
                    time.sleep(0.01)
            event = _event(function)
            started = time.perf_counter()
            answer = client.post(url, json=event).json()
            passed = time.perf_counter() - started
        assert answer.get("statusCode", 200) in {200, 202, 204}, answer
        assert "errorMessage" not in answer, answer
        return passed * 1000
    finally:
        process.terminate()
        process.wait()


def _warm(running: Rig, function: Function) -> tuple[float, float]:
    times = 20 if function.name in {"DeleteAccount", "DispatchFetches", "FetchAllMetrics"} else WARM
    with running.probe(function.name) as probe:
        probe.call(*(_event(function) for _ in range(3)))
        calls = probe.call(*(_event(function) for _ in range(times)))["calls"]
    return (
        statistics.median(call["ms"] for call in calls),
        statistics.median(call["ms"] - call["waited"] for call in calls),
    )
