"""Every function, with the event of a usual call."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from copilot_metrics.keys import digest, new_key
from copilot_metrics.models import ApiKey, Scope, timestamp
from copilot_metrics.secret import TokenSecrets
from copilot_metrics.tables import ApiKeyTable
from copilot_metrics.vault import TokenVault
from tests.benchmarks import data
from tests.benchmarks.rig import Event, Rig, messages, request
from tests.end_to_end.parts import SECRET

ACCOUNTS = 400


@dataclass(frozen=True)
class Function:
    """One function, and what it is asked."""

    name: str
    event: Callable[[int], Event]
    """For the n-th call, from 1."""
    most: float | None = None
    """How many floors its start may take."""
    often: int = 100
    """How many calls tell what one takes."""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def next_event(self) -> Event:
        """Return the event of another call."""
        return self.event(next(self._numbers))


def every_function(running: Rig) -> Iterator[Function]:
    """Fill the tables, and yield the functions, each with a call that succeeds however often it is made."""
    data.add_snapshots(running.database, range(1, ACCOUNTS + 1), range(1), ACCOUNTS)
    give_tokens(running, range(1, ACCOUNTS + 1))
    key, key_id = new_key()
    ApiKeyTable(running.database, "copilot_metrics_api_keys").add(
        ApiKey(key_id, "bench", Scope.READ, timestamp()), digest(key)
    )
    listing = request("GET", "/accounts", query={"limit": "10"})
    keyed = {**listing, "type": "REQUEST", "identitySource": [f"Bearer {key}", listing["routeKey"]]}
    moments = (datetime(2026, 11, 23, tzinfo=UTC) + timedelta(minutes=n) for n in itertools.count())
    yield Function("AuthorizeRequest", lambda _: keyed, 1.3)
    yield Function("ListAccounts", lambda _: listing, 1.3)
    yield Function("GetAccount", lambda n: request("GET", f"/accounts/{n}"), 1.3)
    yield Function("GetLatestMetrics", lambda n: request("GET", f"/metrics/{n}"), 1.3)
    yield Function("ListLatestMetrics", lambda _: request("GET", "/metrics", query={"limit": "10"}), 1.3)
    yield Function("CheckHealth", lambda _: request("GET", "/health"), 1.3)
    yield Function("ImportAccount", lambda n: request("POST", "/accounts/import", body=_token(n)), 1.8)
    yield Function("FetchMetrics", lambda n: request("POST", f"/metrics/fetch/{n}"), 1.8)
    yield Function("ProcessFetches", lambda n: messages([n], timestamp(next(moments) + timedelta(days=365))), 1.8)
    yield Function("FetchAllMetrics", lambda _: request("POST", "/metrics/fetch"), often=20)
    yield Function("DispatchFetches", lambda _: {"time": f"{next(moments):%Y-%m-%dT%H:%M:%SZ}"}, often=20)
    yield Function("UpdateAccount", lambda n: request("PATCH", f"/accounts/{n}", body={"paused": bool(n % 2)}))
    # From the end, so that the others still find theirs.
    removed = itertools.count(ACCOUNTS, -1)
    yield Function("DeleteAccount", lambda _: request("DELETE", f"/accounts/{next(removed)}"), often=20)


def _token(n: int) -> dict[str, str]:
    return {"token": f"gho_user-{10**6 + n}"}


def give_tokens(running: Rig, ids: range) -> None:
    """Put accounts with a token of their own each, as an import does, so that each needs its own key."""
    vault = TokenVault(TokenSecrets([SECRET]))
    data.add_accounts(
        running.database,
        ids,
        seal=lambda i: vault.seal(f"gho_user-{10**6 + i}", account_id=i, github_user_id=10**6 + i),
    )
