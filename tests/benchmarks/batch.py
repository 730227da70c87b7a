"""The batch: fetching many accounts against the ideal, at growing concurrency and with Lambda's memory sizes."""

import itertools
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from copilot_metrics.models import timestamp
from tests.benchmarks.functions import give_tokens
from tests.benchmarks.measuring import processor_share
from tests.benchmarks.report import Ratio, Report
from tests.benchmarks.rig import Rig, messages, rig
from tests.end_to_end.parts import parts
from tests.stand_ins.github import GitHubStandIn

LATENCY = 0.1
CORES = os.cpu_count() or 1
ACCOUNTS = 192
FEW = 24
"""Accounts where they are fetched one at a time, which takes long."""
CONCURRENCY = (1, 2, 4, 8, 16, 20, 32, 64)
A_WHOLE_CORE = 1769
"""MB for which Lambda gives one vCPU (AWS Lambda Developer Guide: Configure memory)."""
MEMORY = (512, 1024, A_WHOLE_CORE)
DEFAULT = (1024, 20)
"""The template's memory and concurrency."""
ROOM = 0.8
"""Of its memory, a function should leave some."""


@dataclass(frozen=True)
class Run:
    """What fetching some accounts took."""

    accounts: int
    seconds: float
    megabytes: float
    processor: float
    """Seconds for each account."""
    derivation: float
    """The same, of Argon2 alone, where nothing else runs."""


def measure(report: Report) -> float:
    """Measure all of it; return the GB seconds for each fetch with the template's setting."""
    report.say("## The batch", "")
    with rig(latency=LATENCY) as running:
        give_tokens(running, range(1, ACCOUNTS + 1))
        moments = (datetime(2026, 11, 23, tzinfo=UTC) + timedelta(days=365, minutes=n) for n in itertools.count())
        alone = _fetch(running, 1, FEW, timestamp(next(moments)))
        report.say(
            f"`process_fetches` alone, given batches as large as its concurrency; GitHub answers in "
            f"{LATENCY * 1000:.0f} ms, no account's key is known, one takes Argon2 {alone.derivation * 1000:.0f} ms. "
            f"*Ideal*: nothing but GitHub's time, or Argon2's on {CORES} cores where that is more."
        )
        head = ("concurrency", "accounts/s", "ideal", "share of it", "times one at a time", "peak memory, MB")
        report.table((*head, "processor, ms each"), _by_concurrency(report, running, alone, moments))
        report.say(
            "### With Lambda's memory sizes",
            "",
            f"Lambda gives processor time by memory: {A_WHOLE_CORE} MB are one core. The function is held to its part "
            "of one core of this machine, by stopping it in each 20 ms once that is used. GB seconds are what is paid.",
        )
        paid: dict[tuple[int, int], float] = {}
        report.table(
            (
                *("memory, MB", "concurrency", "accounts/s", "share of the ideal", "peak memory, MB"),
                *("GB seconds per 1,000", ""),
            ),
            _by_memory(running, alone, moments, paid),
        )
    for memory in MEMORY:
        some = {concurrency: cost for (size, concurrency), cost in paid.items() if size == memory}
        best = min(some, key=lambda concurrency: some[concurrency])
        report.say(f"Best with {memory} MB: {best} at a time, {some[best] * 1000:.0f} GB seconds per 1,000 fetches.")
    report.say("")
    report.say("### What fails", "", "Of 300 accounts, by what GitHub answers: how they ended.")
    report.table(("GitHub's answer", "status", "accounts"), _failures(300))
    return paid[DEFAULT]


def _by_concurrency(report: Report, running: Rig, alone: Run, moments: Iterator[datetime]) -> Iterator[tuple[str, ...]]:
    for concurrency in CONCURRENCY:
        run = alone if concurrency == 1 else _fetch(running, concurrency, ACCOUNTS, timestamp(next(moments)))
        rate = run.accounts / run.seconds
        ideal = min(concurrency / LATENCY, min(CORES, concurrency) / alone.derivation)
        report.ratios.append(Ratio(f"batch, {concurrency} at a time", "ideal", rate / ideal))
        yield (
            *(str(concurrency), f"{rate:.0f}", f"{ideal:.0f}", f"{rate / ideal:.0%}"),
            *(f"{rate * alone.seconds / alone.accounts:.1f}", f"{run.megabytes:.0f}", f"{run.processor * 1000:.0f}"),
        )


def _by_memory(
    running: Rig, alone: Run, moments: Iterator[datetime], paid: dict[tuple[int, int], float]
) -> Iterator[tuple[str, ...]]:
    for memory in MEMORY:
        share = memory / A_WHOLE_CORE
        for concurrency in CONCURRENCY[2:]:
            run = _fetch(running, concurrency, ACCOUNTS, timestamp(next(moments)), share)
            rate = run.accounts / run.seconds
            ideal = min(concurrency / LATENCY, share / alone.derivation)
            cost = memory / 1024 / rate
            fits = run.megabytes < ROOM * memory
            if fits:
                paid[memory, concurrency] = cost
            yield (
                *(str(memory), str(concurrency), f"{rate:.0f}", f"{rate / ideal:.0%}", f"{run.megabytes:.0f}"),
                *(f"{cost * 1000:.0f}", "" if fits else "too little memory"),
            )


def _fetch(running: Rig, concurrency: int, accounts: int, due: str, share: float | None = None) -> Run:
    ids = range(1, accounts + 1)
    batches = [messages(ids[start : start + concurrency], due) for start in range(0, accounts, concurrency)]
    with running.probe("ProcessFetches", COPILOT_METRICS__FETCH_CONCURRENCY=str(concurrency)) as probe:
        probe.call(messages([10**9], due))  # of no account: makes the clients
        if share is None:
            said = probe.call(*batches)
        else:
            with processor_share(probe.pid, share):
                said = probe.call(*batches)
    calls = said["calls"]
    assert not any(call["answer"]["batchItemFailures"] for call in calls)
    return Run(
        accounts=accounts,
        seconds=sum(call["ms"] for call in calls) / 1000,
        megabytes=said["kilobytes"] / 1024,
        processor=sum(call["cpu"] for call in calls) / 1000 / accounts,
        derivation=sum(call["derived"] for call in calls) / 1000 / accounts,
    )


def _failures(accounts: int) -> Iterator[tuple[str, ...]]:
    cases = ["revoked"] * 5 + ["down"] * 5 + ["limited"] * 5 + ["hang"] * 2 + [""] * 83
    kinds = {n: cases[n % 100] for n in range(1, accounts + 1)}
    with (
        tempfile.TemporaryDirectory() as folder,
        GitHubStandIn(latency=LATENCY) as github,
        parts(Path(folder) / "parts", github.url) as some,
    ):
        some.import_accounts({n: f"gho_user-{n}" + (f"-{kind}" if kind else "") for n, kind in kinds.items()})
        some.dispatch("2026-11-23T01:00:00Z")
        with some.worker():
            while None in some.statuses().values():
                time.sleep(1)
        ended = Counter((kinds[user], status) for user, status in some.statuses().items())
        stored = Counter(some.stored())
    assert set(stored.values()) == {1}
    for (kind, status), count in sorted(ended.items(), key=str):
        yield kind or "good", str(status), str(count)
