"""``make bench``: the service against its peer, its floor, and itself; prints Markdown, writes docs/benchmarks.md."""

import argparse
from pathlib import Path

from infra.stack import ROOT
from tests.benchmarks import against_peer, batch, bill, floor, growth, layer
from tests.benchmarks.report import Report

PARTS = ("peer", "floor", "growth", "batch", "layer")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--accounts", type=int, default=1000, help="the most accounts beside the peer")
    parser.add_argument("--history", type=int, default=1000, help="the most snapshots of each")
    parser.add_argument("--growth", type=int, default=100_000, help="the most accounts where growth is measured")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    report = Report()
    units, gigabyte_seconds = None, None
    if "peer" in arguments.only:
        against_peer.measure(report, most_accounts=arguments.accounts, most_history=arguments.history)
    if "floor" in arguments.only:
        floor.measure(report)
    if "growth" in arguments.only:
        units = growth.measure(report, most_accounts=arguments.growth)
    if "batch" in arguments.only:
        gigabyte_seconds = batch.measure(report)
    if units is not None and gigabyte_seconds is not None:
        bill.say(report, units, gigabyte_seconds)
    if "layer" in arguments.only:
        layer.measure(report)
    report.write(arguments.to)


if __name__ == "__main__":
    main()
