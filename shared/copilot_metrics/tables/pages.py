"""Pages of lists: as many items as were asked for, or as one answer can carry."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final

from copilot_metrics.dynamodb import BATCH_KEYS, PARALLEL_BATCHES
from copilot_metrics.models import Item, Page

MAX_PAGE_BYTES: Final = 5_500_000
"""Of a list's body as Lambda sends it: a JSON string inside JSON, 6 MB at most (AWS Lambda quotas)."""


def filled_page(
    ids: Iterator[int], limit: int | None, load: Callable[[Sequence[int]], Mapping[int, Item]]
) -> Page[Item]:
    """Fill a page with what is loaded for the ids, in their order, up to ``limit`` items or the answer's size."""
    items: list[Item] = []
    weight = 0
    last: int | None = None
    at_least = 1
    while some := list(islice(ids, _next_read(len(items), weight, limit, at_least))):
        found = load(some)
        # Where many have nothing to show, reading a few at a time would take forever.
        at_least = 1 if found else 2 * len(some)
        for account_id in some:
            if account_id not in found:
                continue
            item = found[account_id]
            weight += len(json.dumps(item.to_json()))
            if items and (len(items) == limit or weight > MAX_PAGE_BYTES):
                return Page(tuple(items), after=last)
            items.append(item)
            last = account_id
    return Page(tuple(items))


def _next_read(items: int, weight: int, limit: int | None, at_least: int) -> int:
    """Return how many items to read next: in parallel once it is clear that they are small enough for the memory."""
    small = items and weight < MAX_PAGE_BYTES // 4
    most = BATCH_KEYS * (PARALLEL_BATCHES if small else 1)
    if limit is None:
        return most
    return min(max(limit - items + 1, at_least), most)  # one more tells whether the list goes on
