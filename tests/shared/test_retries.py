"""Pauses, and where their randomness comes from."""

import random

from copilot_metrics import aws, retries


def test_functions_that_start_from_one_snapshot_pause_for_different_times() -> None:
    """Python seeds ``random`` when it is imported; a snapshot of a started function has that state in it."""
    snapshot = random.getstate()
    seen = set()
    for _ in range(2):
        random.setstate(snapshot)
        aws._session.cache_clear()
        delays = tuple(retries.growing_delay(6) for _ in range(20))
        aws.client("sqs", read_seconds=1)
        seen |= {delays, random.getstate()}
    assert len(seen) == 4
