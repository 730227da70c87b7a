"""From the schedule to the queue: one request for each account that is due."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from copilot_metrics.continuation import carry_on
from copilot_metrics.models import FetchRequest
from copilot_metrics.queue import FetchQueue, fetch_queue
from copilot_metrics.tables import AccountTable, DispatchTable, account_table, dispatch_table

ACCOUNTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Dispatched:
    """What a dispatch has done."""

    queued: int
    after: int | None = None
    """Where time ran out: the account id after which another has to go on. None where all are queued."""


class Dispatcher:
    """Queues the accounts that are due, however many there are."""

    def __init__(self, accounts: AccountTable, dispatches: DispatchTable, queue: FetchQueue) -> None:
        """Take the parts."""
        self._accounts = accounts
        self._dispatches = dispatches
        self._queue = queue

    def dispatch(self, due: str, *, seconds: float) -> Dispatched:
        """Queue every account for the moment ``due``, or go on where a dispatch that died has stopped.

        A second dispatch for the same moment queues nothing. Raises QueueUnavailable or DatabaseUnavailable; the
        same dispatch can be repeated then.
        """
        after = self._dispatches.begin(due)
        if after is None:
            return Dispatched(0)
        return self.carry_on(due, after=after, seconds=seconds)

    def carry_on(self, due: str, *, after: int, seconds: float) -> Dispatched:
        """Queue the accounts beyond the id ``after`` for the moment ``due``. Raises as dispatch does."""
        end = time.monotonic() + seconds
        queued = 0
        for account_ids in _chunks(self._accounts.ids_on_schedule(after=after)):
            if time.monotonic() > end:
                self._dispatches.finish(due, after)
                return Dispatched(queued, after)
            self._queue.send([FetchRequest(account_id, due) for account_id in account_ids])
            queued += len(account_ids)
            after = account_ids[-1]
            self._dispatches.save(due, after)
        self._dispatches.finish(due, after)
        return Dispatched(queued)


def dispatcher() -> Dispatcher:
    """Return the dispatcher as this process's environment asks for it. Raises QueueUnavailable without a queue."""
    return Dispatcher(account_table(), dispatch_table(), fetch_queue())


def hand_over(function_name: str, due: str, dispatched: Dispatched) -> None:
    """Where time ran out, have the function ``dispatch_fetches`` carry on. Raises QueueUnavailable."""
    if dispatched.after is not None:
        carry_on(function_name, {"due": due, "after": dispatched.after})


def _chunks(ids: Iterator[int]) -> Iterator[list[int]]:
    while chunk := list(islice(ids, ACCOUNTS_AT_ONCE)):
        yield chunk
