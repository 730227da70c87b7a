"""AWS's bill for the batch, from what was measured and from list prices."""

from collections.abc import Iterator, Mapping

from copilot_metrics.tables.recent import MAX_BYTES, OVERHEAD
from tests.benchmarks import data
from tests.benchmarks.growth import Units
from tests.benchmarks.report import Report

PRICES_OF = "November 2026"
"""us-east-1, x86, in US dollars, from AWS's price lists."""
MILLION = 10**6
WRITE_UNIT = 0.625 / MILLION
READ_UNIT = 0.125 / MILLION
STORED_GB_MONTH = 0.25 + 0.20
"""The table's, and its backups' (point-in-time recovery)."""
GB_SECOND = 0.0000166667
INVOCATION = 0.20 / MILLION
QUEUE_REQUEST = 0.40 / MILLION
LOGGED_GB = 0.50
HTTP_REQUEST = 1.00 / MILLION

HOURS = 730
"""In a month."""
BATCH = 20
QUEUE_BATCH = 10
LOGGED_BYTES = 1300
"""For each invocation of process_fetches: its own two lines and Lambda's."""
ITEM_OVERHEAD = 100
"""Bytes that DynamoDB adds to each item it stores (AWS: DynamoDB item sizes and formats)."""
GIGABYTE = 10**9
POLLS = 5 * 3 * 60
"""Requests for messages in an hour, also where there are none: five pollers, 20 s each (AWS Lambda with SQS)."""
READINGS = 12
"""In an hour."""
IN_A_PAGE = 5000
SECONDS_A_PAGE = 1.0
GB_READING = 0.5
ACCOUNTS = (10, 1000, 100_000)


def say(report: Report, units: Mapping[str, Units], gigabyte_seconds: float) -> None:
    """Say what a month costs; ``gigabyte_seconds`` are for each fetch."""
    report.say(
        "## AWS's bill",
        "",
        f"US dollars a month for accounts fetched hourly, at us-east-1's list prices of {PRICES_OF}, nothing taken off "
        "for AWS's free tiers. *Read* is `GET /metrics`, all pages of it, every five minutes, by one warm function. "
        "*Kept* is what a year's snapshots cost to keep, each month, with their backups.",
    )
    head = ("accounts", "fetches", "DynamoDB", "Lambda", "SQS", "logs", "a month", "read", "kept, after a year")
    report.table(head, _rows(units, gigabyte_seconds))


def _rows(units: Mapping[str, Units], gigabyte_seconds: float) -> Iterator[tuple[str, ...]]:
    fetch, queued = units["ProcessFetches"], units["DispatchFetches"]
    for accounts in ACCOUNTS:
        fetches = accounts * HOURS
        invocations = max(fetches / BATCH, HOURS)
        read, written = fetch.read + queued.read, fetch.written + queued.written
        database = fetches * (read * READ_UNIT + written * WRITE_UNIT)
        functions = fetches * gigabyte_seconds * GB_SECOND + (invocations + HOURS) * INVOCATION
        # Sent, received and deleted in tens.
        queue = (3 * max(fetches / QUEUE_BATCH, HOURS) + POLLS * HOURS) * QUEUE_REQUEST
        logs = invocations * LOGGED_BYTES / GIGABYTE * LOGGED_GB
        kept = 12 * fetches * (len(data.PAYLOAD) + ITEM_OVERHEAD) / GIGABYTE * STORED_GB_MONTH
        new, again = (units[name].read for name in ("GET /metrics", "GET /metrics again"))
        if accounts * (len(data.PAYLOAD) + OVERHEAD) > MAX_BYTES:
            again = new  # more than a function keeps: read in order, none is there any more the next time
        # Of an hour's readings, the first finds all snapshots new.
        units_read = HOURS * accounts * (new + (READINGS - 1) * again)
        calls = HOURS * READINGS * -(-accounts // IN_A_PAGE)
        reading = units_read * READ_UNIT + calls * (HTTP_REQUEST + INVOCATION + SECONDS_A_PAGE * GB_READING * GB_SECOND)
        yield (
            *(f"{accounts:,}", f"{fetches:,}", f"{database:,.2f}", f"{functions:,.2f}", f"{queue:,.2f}"),
            *(f"{logs:,.2f}", f"{database + functions + queue + logs:,.2f}", f"{reading:,.2f}"),
            f"{kept:,.2f}",
        )
