"""How it is measured: medians of calls, and what a process has used (Linux's /proc)."""

import os
import signal
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

RAM_DISK = Path("/dev/shm")  # noqa: S108  # emptied by whoever made a folder in it
TICKS = os.sysconf("SC_CLK_TCK")
PERIOD_SECONDS = 0.02
CHECK_SECONDS = 0.001


@dataclass(frozen=True)
class Cost:
    """What one call took, in milliseconds."""

    passed: float
    own: float
    """Of the answering process's processor time; a mean, as the clock for it is coarse."""


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """Return a folder, in memory where this machine has that: no disk is measured."""
    return tempfile.TemporaryDirectory(dir=RAM_DISK if RAM_DISK.is_dir() else None)


def cost(call: Callable[[], object], pid: int, *, times: int, warm: int = 1) -> Cost:
    """Make a call again and again; ``pid`` answers it."""
    for _ in range(warm):
        call()
    passed = []
    before = cpu_seconds(pid)
    for _ in range(times):
        started = time.perf_counter()
        call()
        passed.append(time.perf_counter() - started)
    return Cost(statistics.median(passed) * 1000, (cpu_seconds(pid) - before) / times * 1000)


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process has used, in user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def api_process(pid: int) -> int:
    """Return the process that answers, in the local run that ``pid`` has started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    (api,) = (child for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())
    return int(api)


@contextmanager
def processor_share(pid: int, share: float) -> Iterator[None]:
    """Let a process have so much of one core, as Lambda does: in periods, in which it stops once its part is used."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {max(os.sched_getaffinity(0))})
    clock = (~pid << 3) | 2  # Linux: CPUCLOCK_SCHED of a process, what clock_getcpuclockid(3) returns
    ended = threading.Event()

    def hold() -> None:
        limit = time.clock_gettime(clock)
        while not ended.is_set():
            end = time.monotonic() + PERIOD_SECONDS
            # What wasn't used is gone, what was used too much counts.
            limit = min(limit, time.clock_gettime(clock)) + share * PERIOD_SECONDS
            while time.monotonic() < end:
                if time.clock_gettime(clock) >= limit:
                    os.kill(pid, signal.SIGSTOP)
                    time.sleep(max(0.0, end - time.monotonic()))
                    os.kill(pid, signal.SIGCONT)
                else:
                    time.sleep(CHECK_SECONDS)

    holding = threading.Thread(target=hold)
    if share < 1:
        holding.start()
    try:
        yield
    finally:
        ended.set()
        if share < 1:
            holding.join()
