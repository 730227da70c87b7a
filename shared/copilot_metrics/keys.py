"""API keys: what they look like, and how one is told from another without keeping it."""

import hashlib
import hmac
import re
import secrets

KEY = re.compile(r"cmk_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
"""A prefix that secret scanners can know, the key's public id, and 256 random bits."""


def new_key() -> tuple[str, str]:
    """Return a new key and its id. The key is shown to its owner once, and kept by nobody else."""
    key_id = secrets.token_hex(6)
    return f"cmk_{key_id}_{secrets.token_urlsafe(32)}", key_id


def id_in(key: str) -> str | None:
    """Return the id that a text names, None where it doesn't have the form of a key."""
    match = KEY.fullmatch(key)
    return None if match is None else match[1]


def digest(key: str) -> str:
    """Return what is kept of a key: SHA-256, enough for 256 random bits that nobody can guess or list."""
    return hashlib.sha256(key.encode()).hexdigest()


def matches(key: str, kept: str) -> bool:
    """Tell whether this is the key that a digest was made of, in a time that says nothing about it."""
    return hmac.compare_digest(digest(key), kept)
