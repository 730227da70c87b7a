"""``make bench``: the service against its peer, its floor, and itself; prints Markdown, writes docs/benchmarks.md."""

import argparse
from pathlib import Path

from infra.stack import ROOT
from tests.benchmarks import against_peer, floor
from tests.benchmarks.report import Report

PARTS = ("peer", "floor")


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS)
    parser.add_argument("--accounts", type=int, default=1000, help="the most accounts beside the peer")
    parser.add_argument("--history", type=int, default=1000, help="the most snapshots of each")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "benchmarks.md")
    arguments = parser.parse_args()
    report = Report()
    if "peer" in arguments.only:
        against_peer.measure(report, most_accounts=arguments.accounts, most_history=arguments.history)
    if "floor" in arguments.only:
        floor.measure(report)
    report.write(arguments.to)


if __name__ == "__main__":
    main()
