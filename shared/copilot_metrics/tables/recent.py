"""The snapshots that this process has read. They never change, so a warm function needn't read one twice."""

import sys
import threading
from collections.abc import Iterable
from typing import Final

from cachetools import LRUCache

from copilot_metrics.models import Snapshot

MAX_BYTES: Final = 32 * 1024 * 1024
OVERHEAD: Final = 1024
"""Bytes of the objects around a payload, roughly."""

SnapshotKey = tuple[int, int]
"""An account's id and the snapshot's."""


class RecentSnapshots:
    """Snapshots by key, the last used ones. Safe to share between threads."""

    def __init__(self, most_bytes: int = MAX_BYTES) -> None:
        """Keep as many as fit into so many bytes."""
        self._kept: LRUCache[SnapshotKey, Snapshot] = LRUCache(
            most_bytes,
            # Not its length: one emoji makes Python keep four bytes for each character.
            getsizeof=lambda snapshot: sys.getsizeof(snapshot.payload) + OVERHEAD,
        )
        self._lock = threading.Lock()

    def find(self, keys: Iterable[SnapshotKey]) -> dict[SnapshotKey, Snapshot]:
        """Return those of the snapshots that are kept."""
        with self._lock:
            return {key: snapshot for key in keys if (snapshot := self._kept.get(key)) is not None}

    def keep(self, snapshots: Iterable[Snapshot]) -> None:
        """Keep snapshots, instead of those that weren't used for the longest time."""
        with self._lock:
            for snapshot in snapshots:
                if self._kept.getsizeof(snapshot) <= self._kept.maxsize:
                    self._kept[snapshot.account_id, snapshot.id] = snapshot
