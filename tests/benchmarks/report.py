"""What the benchmark says: one table of ratios, and the figures behind them, part by part."""

import os
import platform
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from infra.stack import ROOT


@dataclass(frozen=True)
class Ratio:
    """One row of the table: how many times faster, or how many times as much."""

    what: str
    against: str
    value: float
    at_least: float | None = None
    at_most: float | None = None
    note: str = ""

    def to_row(self) -> tuple[str, ...]:
        """Return the row's cells."""
        aim, met = "", ""
        if self.at_least is not None:
            aim, met = f"≥ {self.at_least:g}", "yes" if self.value >= self.at_least else "no"
        if self.at_most is not None:
            aim, met = f"≤ {self.at_most:g}", "yes" if self.value <= self.at_most else "no"
        return self.what, self.against, figure(self.value), aim, met, self.note


@dataclass
class Report:
    """What was measured so far; every line is printed when it is known."""

    ratios: list[Ratio] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)

    def say(self, *lines: str) -> None:
        """Add lines of Markdown."""
        for line in lines:
            print(line, flush=True)
            self.parts.append(line)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Add a table, row by row as they come."""
        self.say("", _line(head), _line(["---"] * len(head)))
        for row in rows:
            self.say(_line(row))
        self.say("")

    def write(self, file: Path) -> None:
        """Write everything to a file, the table of ratios first."""
        rows = [ratio.to_row() for ratio in self.ratios]
        head = ("what", "against", "ratio", "aim", "met", "")
        summary = [_line(head), _line(["---"] * len(head)), *map(_line, rows)]
        print("\n".join(summary), flush=True)
        text = "\n".join(["# Benchmarks", "", INTRODUCTION, "", f"{machine()}", "", *summary, "", *self.parts, ""])
        file.write_text(re.sub(r"\n{3,}", "\n\n", text), encoding="utf-8")


INTRODUCTION = """\
`make bench` writes this page. Every ratio compares figures of one run on one machine: ratios hold elsewhere,
milliseconds don't. Medians, where nothing else is said. *Own* is the processor time of the process that answers,
without the database's and GitHub's."""


def machine() -> str:
    """Name the machine, the day, and the code."""
    cpu = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607  # git, wherever it is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    gigabytes = int(memory[1]) / 2**20 if memory else 0
    return (
        f"Measured on {datetime.now(UTC):%Y-%m-%d} at {commit or 'an unknown commit'}: {os.cpu_count()} cores "
        f"({cpu[1] if cpu else platform.processor()}), {gigabytes:.0f} GB, {platform.system()} "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}."
    )


def figure(ratio: float) -> str:
    """Write a ratio with as many figures as mean something."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"
