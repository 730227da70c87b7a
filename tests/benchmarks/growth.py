"""Growth: what lists, "latest for all" and the dispatcher take at a hundred to a hundred thousand accounts."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.benchmarks import data
from tests.benchmarks.functions import every_function
from tests.benchmarks.report import Ratio, Report
from tests.benchmarks.rig import Probe, Rig, request, rig

LEAST = 100
IN_ONE_PAGE = 1000
"""Accounts whose latest metrics fit into one answer."""
MEBIBYTE = 1 << 20
BASE64 = 3 / 4
"""What of a compressed answer goes over the wire."""
LISTS = {"/accounts": "ListAccounts", "/metrics": "ListLatestMetrics"}
"""Paths, and the functions that answer them."""


@dataclass(frozen=True)
class Units:
    """What DynamoDB charges for."""

    read: float
    written: float


def measure(report: Report, *, most_accounts: int) -> dict[str, Units]:
    """Measure all of it; return the units that one call of each function takes.

    Of the dispatcher, and of the lists ("GET /metrics", and "GET /metrics again"), those for each account.
    """
    report.say("## Growth", "")
    with rig() as running:
        excess = _transactions_excess(running)
        report.say(
            "What one call takes, among 400 accounts (lists: of 10). *Units* are what DynamoDB Local says that it "
            f"would charge (`ReturnConsumedCapacity`); it counts transactions {excess:g} times as dear as AWS "
            "documents, and is corrected for that. *Bytes* are the answer's."
        )
        units: dict[str, Units] = {}
        report.table(("function", "requests", "read units", "write units", "bytes"), _calls(running, excess, units))
    report.say(
        "One snapshot for each account. *Page*: the first one, as large as one answer can be, from a warm function; "
        "*again* without what the first call had to read. *Whole*: all pages, one after the other."
    )
    with rig() as running:
        lists: dict[str, list[tuple[str, ...]]] = {path: [] for path in LISTS}
        dispatches = []
        each: dict[str, list[float]] = {path: [] for path in LISTS}
        made = 0
        while (size := max(made * 10, LEAST)) <= most_accounts:
            data.add_accounts(running.database, range(made + 1, size + 1))
            data.add_snapshots(running.database, range(made + 1, size + 1), range(1), size)
            made = size
            for path, function in LISTS.items():
                row, seconds, first, again = _list(running, function, path, size)
                if size <= IN_ONE_PAGE:
                    units[f"GET {path}"], units[f"GET {path} again"] = (
                        Units(read / size, 0) for read in (first, again)
                    )
                lists[path].append(row)
                each[path].append(seconds / size)
            row, units["DispatchFetches"] = _dispatch(running, size)
            dispatches.append(row)
    for path, rows in lists.items():
        report.say(f"### GET {path}")
        report.table(
            (
                *("accounts", "page, ms", "again, ms", "own, ms", "KB", "in gzip", "read units", "again"),
                *("whole, s", "pages", "MB", "read units", "peak memory, MB"),
            ),
            rows,
        )
        times = each[path][-1] / each[path][1]
        what = f"GET {path}, all pages: time for each account at {made:,} accounts"
        report.ratios.append(Ratio(what, f"{LEAST * 10:,} accounts", times))
    report.say("### The dispatcher")
    head = ("accounts", "s", "messages/s", "read units", "write units", "memory grown, MB")
    report.table(head, dispatches)
    return units


def _transactions_excess(running: Rig) -> float:
    """Return how many times as dear as on AWS a transaction is here: AWS doubles a write's units in one.

    Amazon DynamoDB Developer Guide: Managing complex workflows with transactions, capacity management.
    """
    answer = running.database.transact_write_items(
        TransactItems=[{"Put": {"TableName": "copilot_metrics_api_keys", "Item": {"id": {"S": "small"}}}}],
        ReturnConsumedCapacity="TOTAL",
    )
    return answer["ConsumedCapacity"][0]["CapacityUnits"] / 2


def _calls(running: Rig, excess: float, units: dict[str, Units]) -> Iterator[tuple[str, ...]]:
    for function in every_function(running):
        with running.probe(function.name) as probe:
            probe.call(function.next_event())
            call = probe.call(function.next_event())["calls"][0]
        taken = _units(call, excess)
        units[function.name] = taken
        yield (
            *(function.name, str(call["requests"]), f"{taken.read:g}", f"{taken.written:g}"),
            f"{call['bytes']:,}",
        )


def _units(call: dict[str, Any], excess: float) -> Units:
    return Units(call.get("read", 0), call.get("written", 0) + call.get("transacted", 0) / excess)


def _list(running: Rig, function: str, path: str, size: int) -> tuple[tuple[str, ...], float, float, float]:
    """Return a list's row, the seconds for all its pages, and the units that the first page reads, new and again."""
    few = request("GET", path, query={"limit": "1"})
    with running.probe(function) as probe:
        probe.call(few)
        first, again = probe.call(request("GET", path), request("GET", path))["calls"]
        (packed,) = probe.call(request("GET", path, encoding="gzip"))["calls"]
    with running.probe(function) as probe:
        probe.call(few)
        pages, kilobytes = _whole(probe, path)
    seconds = sum(page["ms"] for page in pages) / 1000
    row = (
        *(f"{size:,}", f"{first['ms']:.0f}", f"{again['ms']:.0f}", f"{again['ms'] - again['waited']:.0f}"),
        *(
            f"{first['bytes'] / 1024:,.0f}",
            f"{packed['bytes'] / 1024 * BASE64:,.0f}",
            f"{first['read']:g}",
            f"{again['read']:g}",
            f"{seconds:.2f}",
        ),
        *(str(len(pages)), f"{sum(page['bytes'] for page in pages) / MEBIBYTE:.1f}"),
        *(f"{sum(page['read'] for page in pages):,g}", f"{kilobytes / 1024:.0f}"),
    )
    return row, seconds, first["read"], again["read"]


def _whole(probe: Probe, path: str) -> tuple[list[dict[str, Any]], int]:
    query: dict[str, str] | None = None
    pages = []
    while True:
        said = probe.call(request("GET", path, query=query))
        pages += said["calls"]
        link = pages[-1]["link"]
        if link is None:
            return pages, said["kilobytes"]
        query = dict(parse_qsl(urlsplit(link.partition(">")[0].removeprefix("<")).query))


def _dispatch(running: Rig, size: int) -> tuple[tuple[str, ...], Units]:
    """Return the dispatcher's row, and the units for each account."""
    with running.probe("DispatchFetches") as probe:
        before = probe.call({"due": "2026-11-23T00:00:00.000Z", "after": size - LEAST})
        said = probe.call({"time": f"2026-11-23T{len(str(size)):02}:00:00Z"})
    (call,) = said["calls"]
    assert call["answer"]["queued"] == size
    taken = _units(call, 1)
    grown = (said["kilobytes"] - before["kilobytes"]) / 1024
    return (
        *(f"{size:,}", f"{call['ms'] / 1000:.1f}", f"{size / call['ms'] * 1000:,.0f}"),
        *(f"{taken.read:g}", f"{taken.written:g}", f"{grown:.0f}"),
    ), Units(taken.read / size, taken.written / size)
