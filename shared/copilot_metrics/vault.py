"""Sealing and opening tokens: the only module that sees a token and a key together."""

import os
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache
from typing import Final

from argon2 import Parameters, Type
from argon2.exceptions import HashingError
from argon2.low_level import ARGON2_VERSION, hash_secret_raw
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from copilot_metrics.errors import TokenUnreadable
from copilot_metrics.models import SealedToken
from copilot_metrics.secret import TokenSecret, TokenSecrets

KEY_BYTES = 32
SALT_BYTES = 16
NONCE_BYTES = 12

ARGON2ID: Final = Parameters(
    type=Type.ID,
    version=ARGON2_VERSION,
    salt_len=SALT_BYTES,
    hash_len=KEY_BYTES,
    time_cost=2,
    memory_cost=19456,
    parallelism=1,
)
"""OWASP's Password Storage Cheat Sheet's first choice (19 MiB, t=2, p=1). See docs/adr/ for why not more."""

KNOWN_KEYS: Final = 10_000
"""How many derived keys a process remembers, of those that it used last. It has the secret that they come from, too."""

# A changed record must not make a function fill its memory or run for minutes.
MAX_MEMORY_KIB = 1 << 20
MAX_TIME_COST = 16
MAX_PARALLELISM = 16


class TokenVault:
    """Seals tokens with AES-256-GCM under keys that Argon2id derives from a secret and a salt per record."""

    def __init__(self, secrets: TokenSecrets, parameters: Parameters = ARGON2ID) -> None:
        """Take the secrets, and Argon2id's cost for what is sealed from now on."""
        self._secrets = secrets
        self._parameters = parameters

    def seal(self, token: str, *, account_id: int, github_user_id: int) -> SealedToken:
        """Encrypt a token for one account; the result can't be opened for another."""
        # In the call, never at import: a snapshot of a started function would repeat them.
        salt, nonce = os.urandom(SALT_BYTES), os.urandom(NONCE_BYTES)
        secret = self._secrets.newest
        kdf = _encode(self._parameters)
        key = _key(secret, salt, kdf)
        return SealedToken(
            ciphertext=AESGCM(key).encrypt(nonce, token.encode(), _bound_to(account_id, github_user_id)),
            nonce=nonce,
            salt=salt,
            kdf=kdf,
            key_id=secret.key_id,
        )

    def open(self, sealed: SealedToken, *, account_id: int, github_user_id: int) -> str:
        """Decrypt the token of an account.

        Raises TokenUnreadable where a secret sealed it that isn't there, or the record isn't as it was sealed for this
        account; SecretUnavailable where that can't be told.
        """
        secret = self._secrets.find(sealed.key_id)
        if secret is None:
            raise TokenUnreadable(
                f"The token of account {account_id} was encrypted under another COPILOT_METRICS__TOKEN_SECRET "
                f"(key id {sealed.key_id}, now {', '.join(self._secrets.key_ids)}): set that one again (several may be "
                "set, newest first, with commas between), or import the account anew."
            )
        try:
            key = _key(secret, sealed.salt, sealed.kdf)
            return AESGCM(key).decrypt(sealed.nonce, sealed.ciphertext, _bound_to(account_id, github_user_id)).decode()
        except (InvalidTag, HashingError, ValueError):
            raise TokenUnreadable(
                f"The stored token of account {account_id} is damaged or belongs to another account: "
                "import the account again."
            ) from None


@lru_cache(KNOWN_KEYS)
def _key(secret: TokenSecret, salt: bytes, kdf: str) -> bytes:
    parameters = _decode(kdf)
    derivation = _derivers().submit(
        hash_secret_raw,
        secret=secret.key,
        salt=salt,
        time_cost=parameters.time_cost,
        memory_cost=parameters.memory_cost,
        parallelism=parameters.parallelism,
        hash_len=KEY_BYTES,
        type=parameters.type,
        version=parameters.version,
    )
    return derivation.result()


@cache
def _derivers() -> ThreadPoolExecutor:
    """Return the threads that derive, one for each core.

    A derivation fills a core, so that more at once gain nothing, and needs 19 MiB, which the C library keeps for each
    thread that ever had them.
    """
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="derive")


def _bound_to(account_id: int, github_user_id: int) -> bytes:
    """Return the associated data that ties a ciphertext to its account (RFC 5116, section 2.1)."""
    return f"copilot-metrics token account={account_id} github_user={github_user_id}".encode()


def _encode(parameters: Parameters) -> str:
    return (
        f"argon2id$v={parameters.version}"
        f"$m={parameters.memory_cost},t={parameters.time_cost},p={parameters.parallelism}"
    )


def _decode(kdf: str) -> Parameters:
    match = re.fullmatch(r"argon2id\$v=(\d{1,3})\$m=(\d{1,9}),t=(\d{1,3}),p=(\d{1,3})", kdf)
    if match is None:
        raise ValueError("unknown key derivation")
    version, memory, time_cost, parallelism = map(int, match.groups())
    if (
        version != ARGON2_VERSION
        or not 8 * parallelism <= memory <= MAX_MEMORY_KIB
        or not 1 <= time_cost <= MAX_TIME_COST
        or not 1 <= parallelism <= MAX_PARALLELISM
    ):
        raise ValueError("key derivation out of bounds")
    return Parameters(Type.ID, version, SALT_BYTES, KEY_BYTES, time_cost, memory, parallelism)
