"""What the service keeps and answers.

Plain dataclasses: the functions that only read must start without pydantic, which costs a third of their cold
start. What strangers send is checked in ``schemas.py``.
"""

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Generic, TypeVar

MAX_PAYLOAD_BYTES = 399 * 1024
"""A DynamoDB item holds 400 KB, attribute names and keys included (AWS: Service, account, and table quotas)."""


def timestamp(moment: datetime | None = None) -> str:
    """Return a moment (now by default) as RFC 3339 in UTC with milliseconds: ``2026-11-14T09:00:00.000Z``."""
    moment = moment or datetime.now(UTC)
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True)
class SealedToken:
    """An encrypted token and all that is needed, beside the secret, to open it again."""

    ciphertext: bytes
    nonce: bytes
    salt: bytes
    kdf: str
    """Argon2id's parameters, as its encoded form writes them: ``argon2id$v=19$m=19456,t=2,p=1``."""
    key_id: str
    """Which secret sealed it; says nothing about the secret itself."""


class FetchStatus(StrEnum):
    """How an account's last fetch ended."""

    OK = "ok"
    TOKEN_INVALID = "token_invalid"  # noqa: S105  # a status
    """GitHub refused the token; the schedule leaves the account out until it is imported again."""
    LIMITED = "limited"
    """GitHub asked to wait; the fetch comes back when it may."""
    RETRYING = "retrying"
    """It failed, and is tried again soon."""
    FAILING = "failing"
    """It failed, and is tried again when the schedule comes round."""


@dataclass(frozen=True)
class LastFetch:
    """How and when an account's last fetch ended."""

    status: FetchStatus
    at: str
    reason: str | None = None


@dataclass(frozen=True)
class FetchRequest:
    """The queue's message: an account whose metrics should be no older than a moment."""

    account_id: int
    due: str
    """When the metrics were due, as ``timestamp`` writes it. A fetch that began later serves this request, too."""

    def to_json(self) -> str:
        """Return the message's body."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "FetchRequest":
        """Read a message's body. Raises ValueError where it isn't one."""
        match json.loads(text):
            case {"account_id": int(account_id), "due": str(due)}:
                return cls(account_id, timestamp(datetime.fromisoformat(due)))
        raise ValueError("not a fetch request")


@dataclass(frozen=True)
class Account:
    """An imported GitHub account, as the API shows it. Never holds the token."""

    id: int
    login: str
    github_user_id: int
    node_id: str
    avatar_url: str
    created_at: str
    updated_at: str
    paused: bool = False
    """Whether the schedule leaves the account out."""
    last_fetch: LastFetch | None = None

    def to_json(self) -> str:
        """Return the documented body, and beside it ``paused`` and ``last_fetch``."""
        last_fetch = None if self.last_fetch is None else vars(self.last_fetch)  # asdict takes longer than all the rest
        return json.dumps({**vars(self), "last_fetch": last_fetch}, ensure_ascii=False)


@dataclass(frozen=True)
class StoredToken:
    """What a fetch needs to know of an account."""

    account_id: int
    github_user_id: int
    sealed: SealedToken
    paused: bool = False
    status: FetchStatus | None = None
    """The last fetch's; None before the first, and after each import."""
    fresh_as_of: str | None = None
    """When the last fetch that succeeded began, or was due: requests due until then are served."""
    not_before: str | None = None
    """When GitHub allows the next fetch, where it limited the last one."""


@dataclass(frozen=True)
class Snapshot:
    """One fetched payload."""

    id: int
    account_id: int
    fetched_at: str
    payload: str = field(repr=False)
    """A JSON object as text, exactly as GitHub sent it."""

    def to_json(self) -> str:
        """Return the documented body.

        The payload is set in as it is, not decoded and encoded again: so every float, large integer and unknown
        field arrives as GitHub wrote it. It was checked to be a JSON object before it was stored.
        """
        head = json.dumps({"id": self.id, "account_id": self.account_id, "fetched_at": self.fetched_at})
        return f'{head[:-1]}, "payload": {self.payload}}}'


class Scope(StrEnum):
    """What an API key is good for."""

    READ = "read"
    """The routes that only show something: GET."""
    WRITE = "write"
    """All routes."""

    def allows(self, method: str) -> bool:
        """Tell whether this is enough for a route's method."""
        return self is Scope.WRITE or method == "GET"


@dataclass(frozen=True)
class ApiKey:
    """What is known of an API key; the key itself is nowhere."""

    id: str
    name: str
    """Who or what it is for."""
    scope: Scope
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None
    """Within an hour or so."""


Item = TypeVar("Item", Account, Snapshot)


@dataclass(frozen=True)
class Page(Generic[Item]):
    """A part of a list, and where the next part starts."""

    items: tuple[Item, ...]
    after: int | None = None
    """The id after which the list goes on; None at its end."""
