"""The batch: fetching all accounts against the ideal and one at a time, its failures, and the dispatcher's growth.

``python -m tests.benchmarks.batch [--accounts 1000] [--dispatch 100000]``. GitHub is a stand-in that answers in 100 ms.
Every ratio compares figures of one run on one machine.
"""

import argparse
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from copilot_metrics.secret import TokenSecrets
from copilot_metrics.vault import TokenVault
from tests.end_to_end.parts import SECRET, Parts, parts
from tests.stand_ins.github import GitHubStandIn
from tests.stand_ins.sqs import CountingQueue

LATENCY = 0.1
CORES = os.cpu_count() or 1


def derivation_seconds() -> float:
    """One key's derivation, on one core."""
    vault = TokenVault(TokenSecrets([SECRET]))
    started = time.perf_counter()
    for _ in range(20):
        vault.seal("gho_token", account_id=1, github_user_id=1)
    return (time.perf_counter() - started) / 20


@contextmanager
def running() -> Iterator[Parts]:
    """Fresh parts and a fresh stand-in."""
    with (
        tempfile.TemporaryDirectory() as folder,
        GitHubStandIn(latency=LATENCY) as github,
        parts(Path(folder) / "parts", github.url) as some,
    ):
        yield some


def drain(some: Parts, concurrency: int, until: int) -> float:
    """Let one worker process drain the queue down to so many messages; return the seconds it took."""
    started = time.perf_counter()
    with some.worker(COPILOT_METRICS__FETCH_CONCURRENCY=str(concurrency)):
        while some.left() > until:
            time.sleep(0.1)
        return time.perf_counter() - started


def speed(accounts: int, derivation: float) -> None:
    """Fetch all accounts at growing concurrency."""
    print(f"| concurrency | {accounts} accounts, s | ideal, s | share of the ideal | times one at a time |")
    print("|---|---|---|---|---|")
    with running() as some:
        one_at_a_time = 0.0
        for run, concurrency in enumerate((1, 4, 20, 40)):
            # One at a time takes minutes: a part of it tells the rate.
            count = accounts // 10 if concurrency == 1 else accounts
            if not run:
                some.import_accounts({n: f"gho_user-{n}" for n in range(1, count + 1)})
            elif len(some.statuses()) < accounts:
                some.import_accounts({n: f"gho_user-{n}" for n in range(accounts // 10 + 1, accounts + 1)})
            some.dispatch(f"2026-11-23T{run + 1:02}:00:00Z")
            seconds = drain(some, concurrency, 0) * accounts / count
            one_at_a_time = one_at_a_time or seconds
            ideal = accounts * LATENCY / concurrency + accounts * derivation / min(CORES, concurrency)
            figures = f"{seconds:.1f} | {ideal:.1f} | {ideal / seconds:.0%} | {one_at_a_time / seconds:.1f}"
            print(f"| {concurrency} | {figures} |", flush=True)


def failures(accounts: int) -> None:
    """Fetch accounts of which some fail in each way; show how each kind ended."""
    cases = ["revoked"] * 5 + ["down"] * 5 + ["limited"] * 5 + ["hang"] * 2 + [""] * 83
    kinds = {n: cases[n % 100] for n in range(1, accounts + 1)}
    with running() as some:
        some.import_accounts({n: f"gho_user-{n}" + (f"-{kind}" if kind else "") for n, kind in kinds.items()})
        some.dispatch("2026-11-23T01:00:00Z")
        with some.worker():
            while None in some.statuses().values():
                time.sleep(1)
        ended = Counter((kinds[user], status) for user, status in some.statuses().items())
        stored = Counter(Counter(some.stored()).values())
    print("\n| GitHub's answer | status | accounts |\n|---|---|---|")
    for (kind, status), count in sorted(ended.items(), key=str):
        print(f"| {kind or 'good'} | {status} | {count} |")
    print(f"\nSnapshots per account that has any: {dict(stored)}")


def growth(most: int) -> None:
    """Dispatch ever more accounts."""
    print("\n| accounts | messages | s | messages/s | memory grown, MB |\n|---|---|---|---|---|")
    with running() as some, CountingQueue() as queue:
        some.environment["AWS_ENDPOINT_URL_SQS"] = queue.url
        made, count = 0, 1000
        while count <= most:
            generate(some, range(made + 1, count + 1))
            made = count
            took = some.dispatch(f"2026-11-23T{len(str(count)):02}:00:00Z")
            rate = took["queued"] / took["seconds"]
            print(
                f"| {count} | {took['queued']} | {took['seconds']:.1f} | {rate:.0f} | {took['kilobytes'] / 1024:.0f} |",
                flush=True,
            )
            count *= 10


def generate(some: Parts, ids: range) -> None:
    """Put accounts into the table that hold just what the dispatcher looks at."""

    def put(chunk: list[int]) -> None:
        requests: Any = [
            {"PutRequest": {"Item": {"id": {"N": str(i)}, "kind": {"S": "account"}, "schedule": {"S": "on"}}}}
            for i in chunk
        ]
        some.dynamodb.batch_write_item(RequestItems={"copilot_github_accounts": requests})

    numbers = list(ids)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, (numbers[start : start + 25] for start in range(0, len(numbers), 25))))


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--dispatch", type=int, default=100_000)
    arguments = parser.parse_args()
    derivation = derivation_seconds()
    print(f"{CORES} cores, one derivation {derivation * 1000:.1f} ms, GitHub answers in {LATENCY * 1000:.0f} ms\n")
    if arguments.accounts:
        speed(arguments.accounts, derivation)
        failures(arguments.accounts)
    growth(arguments.dispatch)


if __name__ == "__main__":
    main()
