"""Pages of lists: as many items as were asked for, or as one answer can carry."""

import json
from collections.abc import Iterator
from typing import Final

from copilot_metrics.models import Item, Page

MAX_PAGE_BYTES: Final = 5_500_000
"""Of a list's body as Lambda sends it: a JSON string inside JSON, 6 MB at most (AWS Lambda quotas)."""


def filled_page(items: Iterator[tuple[int, Item]], limit: int | None) -> Page[Item]:
    """Fill a page with items, each after its account's id, up to ``limit`` of them or the answer's size.

    One item more than the page holds is taken, which tells whether the list goes on.
    """
    some: list[Item] = []
    weight = 0
    last: int | None = None
    for account_id, item in items:
        weight += len(json.dumps(item.to_json()))
        if some and (len(some) == limit or weight > MAX_PAGE_BYTES):
            return Page(tuple(some), after=last)
        some.append(item)
        last = account_id
    return Page(tuple(some))
