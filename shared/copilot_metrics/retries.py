"""Pauses between attempts: growing, and random, so that those who collided don't collide again.

Source: AWS Architecture Blog, Exponential Backoff And Jitter.
"""

import random
import time
from collections.abc import Iterator

from copilot_metrics.errors import CopilotMetricsError

FIRST_DELAY_SECONDS = 30
MAX_DELAY_SECONDS = 900

# The system's: what a seed makes would be the same in all functions that start from one snapshot.
_random = random.SystemRandom()


def attempts(seconds: float, exhausted: CopilotMetricsError) -> Iterator[None]:
    """Yield until the caller is done, pausing between attempts; raises ``exhausted`` when ``seconds`` are over."""
    end = time.monotonic() + seconds
    pause = 0.01
    while time.monotonic() < end:
        yield
        time.sleep(_random.uniform(0, pause))
        pause = min(pause * 2, 0.5)
    raise exhausted


def growing_delay(tries: int) -> int:
    """Return the seconds to wait after the given number of tries that failed."""
    most = min(FIRST_DELAY_SECONDS * 2 ** (tries - 1), MAX_DELAY_SECONDS)
    return _random.randint(most // 2, most)


def at_least(seconds: int) -> int:
    """Return a delay no shorter than asked for, and up to a tenth longer."""
    return seconds + _random.randint(1, max(1, seconds // 10))
