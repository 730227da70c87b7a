"""Tokens are sealed for one account under one secret, and open for nothing else."""

import dataclasses
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from argon2 import Parameters, Type
from argon2.low_level import hash_secret_raw

from copilot_metrics.errors import TokenUnreadable
from copilot_metrics.models import SealedToken
from copilot_metrics.secret import TokenSecret, TokenSecrets
from copilot_metrics.vault import ARGON2ID, TokenVault

TOKEN = "gho_canary"
CHEAPEST = Parameters(Type.ID, 19, 16, 32, time_cost=1, memory_cost=8, parallelism=1)  # only for testing


def vault(byte: int = 1) -> TokenVault:
    return TokenVault(secrets(byte), CHEAPEST)


def secrets(*newest_first: int) -> TokenSecrets:
    return TokenSecrets([TokenSecret(bytes([byte]) * 32) for byte in newest_first])


def seal(token: str = TOKEN) -> SealedToken:
    return vault().seal(token, account_id=1, github_user_id=1001)


@pytest.mark.parametrize("token", [TOKEN, "x", "x" * 1024])
def test_a_sealed_token_opens_for_its_account(token: str) -> None:
    assert vault().open(seal(token), account_id=1, github_user_id=1001) == token


def test_a_sealed_token_holds_nothing_of_the_token() -> None:
    assert TOKEN not in str(dataclasses.asdict(seal()))
    assert TOKEN.encode() not in seal().ciphertext


def test_every_record_has_a_salt_and_a_nonce_of_its_own() -> None:
    sealed = [seal() for _ in range(20)]
    assert {len(one.salt) for one in sealed} == {16}
    assert {len(one.nonce) for one in sealed} == {12}
    for part in ("salt", "nonce", "ciphertext"):
        assert len({getattr(one, part) for one in sealed}) == 20


@pytest.mark.parametrize(("account_id", "github_user_id"), [(2, 1001), (1, 1002), (11, 1)])
def test_a_record_copied_to_another_account_does_not_open(account_id: int, github_user_id: int) -> None:
    with pytest.raises(TokenUnreadable, match="import the account again"):
        vault().open(seal(), account_id=account_id, github_user_id=github_user_id)


def test_another_secret_is_said_to_be_another_secret() -> None:
    with pytest.raises(TokenUnreadable, match="another COPILOT_METRICS__TOKEN_SECRET"):
        vault(2).open(seal(), account_id=1, github_user_id=1001)


def test_an_older_secret_opens_what_it_sealed_and_the_newest_seals() -> None:
    both = TokenVault(secrets(2, 1), CHEAPEST)
    assert both.open(seal(), account_id=1, github_user_id=1001) == TOKEN
    newer = both.seal(TOKEN, account_id=1, github_user_id=1001)
    assert vault(2).open(newer, account_id=1, github_user_id=1001) == TOKEN
    with pytest.raises(TokenUnreadable, match="another COPILOT_METRICS__TOKEN_SECRET"):
        vault(1).open(newer, account_id=1, github_user_id=1001)


@pytest.mark.parametrize(
    "change",
    [
        {"ciphertext": b""},
        {"ciphertext": b"x" * 26},
        {"nonce": b"x" * 12},
        {"nonce": b""},
        {"salt": b"x" * 16},
        {"salt": b""},
        {"kdf": "argon2id$v=19$m=16,t=1,p=1"},
        {"kdf": "argon2id$v=16$m=8,t=1,p=1"},
        {"kdf": "argon2i$v=19$m=8,t=1,p=1"},
        {"kdf": ""},
    ],
)
def test_a_changed_record_does_not_open(change: dict[str, bytes]) -> None:
    with pytest.raises(TokenUnreadable, match="damaged"):
        vault().open(dataclasses.replace(seal(), **change), account_id=1, github_user_id=1001)  # type: ignore[arg-type]  # the parameters name the fields


@pytest.mark.parametrize(
    "kdf", ["m=999999999,t=1,p=1", "m=8,t=999,p=1", "m=9999,t=1,p=999", "m=8,t=0,p=1", "m=8,t=1,p=0"]
)
def test_a_changed_record_can_not_make_opening_expensive(kdf: str) -> None:
    with pytest.raises(TokenUnreadable, match="damaged"):
        vault().open(dataclasses.replace(seal(), kdf=f"argon2id$v=19${kdf}"), account_id=1, github_user_id=1001)


def test_a_record_opens_whatever_cost_is_the_default_by_then() -> None:
    later = TokenVault(secrets(1), ARGON2ID)
    assert later.open(seal(), account_id=1, github_user_id=1001) == TOKEN


def test_a_key_is_derived_once_for_each_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[bytes] = []

    def noted(**arguments: Any) -> bytes:
        derived.append(arguments["salt"])
        return hash_secret_raw(**arguments)

    monkeypatch.setattr("copilot_metrics.vault.hash_secret_raw", noted)
    first, second = seal(), seal()
    for sealed in (first, second, first, second):
        assert vault().open(sealed, account_id=1, github_user_id=1001) == TOKEN
    assert derived == [first.salt, second.salt]


def test_no_more_keys_are_derived_at_once_than_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, at_once = threading.Lock(), [0]
    most = 0

    def slow(**_arguments: Any) -> bytes:
        nonlocal most
        with lock:
            at_once[0] += 1
            most = max(most, at_once[0])
        time.sleep(0.02)
        with lock:
            at_once[0] -= 1
        return bytes(32)

    monkeypatch.setattr("copilot_metrics.vault.hash_secret_raw", slow)
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(4 * cores) as pool:
        list(pool.map(lambda _: seal(), range(8 * cores)))
    assert most == cores


def test_a_known_key_opens_nothing_for_another_secret_or_account() -> None:
    sealed = seal()
    for other, account_id in ((vault(2), 1), (vault(), 2)):
        with pytest.raises(TokenUnreadable):
            other.open(dataclasses.replace(sealed), account_id=account_id, github_user_id=1001)
    forged = dataclasses.replace(sealed, key_id=secrets(2).newest.key_id)
    with pytest.raises(TokenUnreadable):
        vault(2).open(forged, account_id=1, github_user_id=1001)


def test_the_default_cost_is_the_recommended_one() -> None:
    sealed = TokenVault(secrets(1)).seal(TOKEN, account_id=1, github_user_id=1001)
    assert sealed.kdf == "argon2id$v=19$m=19456,t=2,p=1"
