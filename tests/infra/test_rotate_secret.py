"""Changing the token secret, whatever happens meanwhile."""

import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from copilot_metrics.errors import TokenUnreadable
from copilot_metrics.models import StoredToken
from copilot_metrics.schemas import GitHubUser
from copilot_metrics.secret import TokenSecrets, parsed_secrets, token_secrets
from copilot_metrics.settings import Settings
from copilot_metrics.tables import AccountTable, account_table
from copilot_metrics.vault import TokenVault
from infra.admin import rotate_secret
from infra.admin.rotate_secret import rotate
from infra.admin.secret_store import SecretStore
from infra.local.problem import Problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ssm import SSMClient

OLD = "ab" * 32
NAME = "/copilot-metrics/token-secret"


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rotate_secret, "_wait", lambda _console, _seconds, _until: None)
    monkeypatch.setattr(os, "cpu_count", lambda: 0.5)  # moto isn't made for threads


@pytest.fixture
def store(tables: "DynamoDBClient", tmp_path: Path) -> SecretStore:
    assert tables is not None
    store = SecretStore(NAME, tmp_path / "token_secret")
    store._ssm().put_parameter(Name=NAME, Type="SecureString", Value=OLD)
    return store


def vault(text: str) -> TokenVault:
    return TokenVault(TokenSecrets(parsed_secrets(text, source="a test")))


def add(user_id: int, token: str, secret: str = OLD) -> int:
    user = GitHubUser(id=user_id, login="octo", node_id="U", avatar_url="")
    return account_table().upsert(
        user, lambda account_id: vault(secret).seal(token, account_id=account_id, github_user_id=user_id)
    )


def opened(account_id: int, secrets: str) -> str:
    stored = account_table().get_token(account_id)
    return vault(secrets).open(stored.sealed, account_id=account_id, github_user_id=stored.github_user_id)


def run(store: SecretStore, *, finish: bool = False) -> tuple[bool, str]:
    with io.StringIO() as said:
        done = rotate(store, Console(file=said, width=300), finish=finish)
        return done, said.getvalue()


def test_every_token_is_sealed_under_a_new_secret_and_then_the_old_one_goes(store: SecretStore, tmp_path: Path) -> None:
    for user_id in (5, 6, 7):
        add(user_id, f"gho_canary-{user_id}")
    done, said = run(store)
    new, old = store.read()
    assert (done, old) == (True, OLD)
    assert "3 sealed again" in said
    assert "can go" in said
    assert [opened(account_id, new) for account_id in (1, 2, 3)] == ["gho_canary-5", "gho_canary-6", "gho_canary-7"]
    assert "Nothing to do." in run(store)[1]
    done, said = run(store, finish=True)
    assert (done, store.read()) == (True, (new,))
    assert (tmp_path / "token_secret").read_text() == f"{new}\n"
    assert (tmp_path / "token_secret").stat().st_mode & 0o777 == 0o600
    assert run(store, finish=True) == (True, "There is only one secret: nothing to finish.\n")
    for secret in (new, OLD, "gho_canary"):
        assert secret not in said


def test_an_interrupted_rotation_goes_on_with_the_same_secret(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for user_id in range(1, 7):
        add(user_id, "gho_canary")
    original = rotate_secret.Rotation.seal_again

    def interrupted(rotation: rotate_secret.Rotation, account_id: int) -> str:
        if account_id in {3, 5}:
            raise KeyboardInterrupt
        return original(rotation, account_id)

    with monkeypatch.context() as interrupting:
        interrupting.setattr(rotate_secret.Rotation, "seal_again", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(store)
    new, old = store.read()
    assert opened(1, new) == "gho_canary"
    assert opened(6, f"{new},{old}") == "gho_canary"
    assert run(store)[0] is True
    assert store.read() == (new, old)
    assert [opened(account_id, new) for account_id in range(1, 7)] == ["gho_canary"] * 6


@pytest.mark.parametrize("finish", [False, True])
def test_what_was_sealed_under_the_old_secret_meanwhile_is_found(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch, *, finish: bool
) -> None:
    add(5, "gho_canary")
    run(store)
    original = rotate_secret._seal_all_again

    def imported_meanwhile(rotation: rotate_secret.Rotation, console: Console) -> dict[str, set[int]]:
        outcomes = original(rotation, console)
        add(6, "gho_late")
        return outcomes

    with monkeypatch.context() as racing:
        racing.setattr(rotate_secret, "_seal_all_again", imported_meanwhile)
        done, said = run(store, finish=finish)
    assert (done, len(store.read())) == (False, 2)
    assert "1 accounts were sealed under an older secret meanwhile: run it again" in said
    assert run(store, finish=True)[0] is True
    assert opened(2, store.read()[0]) == "gho_late"


@pytest.mark.parametrize("meanwhile", ["imported", "removed"])
def test_an_import_or_a_removal_that_comes_between_wins(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    add(5, "gho_before")
    original: Callable[..., bool] = AccountTable.replace_token

    def replacing(table: AccountTable, stored: StoredToken, sealed: object) -> bool:
        if meanwhile == "imported":
            add(5, "gho_after", store.read()[0])
        else:
            table.begin_removal(1)
        return original(table, stored, sealed)

    monkeypatch.setattr(AccountTable, "replace_token", replacing)
    done, said = run(store)
    assert done is True
    assert "1 replaced meanwhile" in said
    if meanwhile == "imported":
        assert opened(1, store.read()[0]) == "gho_after"
    else:
        assert list(account_table().ids()) == []


def test_a_token_that_cannot_be_opened_is_said_and_left_and_keeps_nothing_up(store: SecretStore) -> None:
    add(5, "gho_canary")
    add(6, "gho_canary", "cd" * 32)
    done, said = run(store)
    assert done is True
    assert "1 sealed again, 1 unreadable" in said
    assert "unreadable The token of account 2 was encrypted under another" in said
    assert run(store, finish=True)[0] is True
    with pytest.raises(TokenUnreadable):
        opened(2, store.read()[0])


def test_a_running_function_opens_what_was_sealed_again(store: SecretStore, monkeypatch: pytest.MonkeyPatch) -> None:
    add(5, "gho_canary")
    settings = Settings(token_secret_parameter=NAME)
    before = token_secrets(settings)
    run(store)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 12)  # as long as the command waits
    stored = account_table().get_token(1)
    assert TokenVault(before).open(stored.sealed, account_id=1, github_user_id=5) == "gho_canary"


def test_the_parameter_keeps_its_kms_key(store: SecretStore) -> None:
    ssm: SSMClient = store._ssm()
    ssm.put_parameter(Name=NAME, Type="SecureString", Value=OLD, Overwrite=True, KeyId="alias/our-own")
    store.replace([OLD], ["cd" * 32, OLD])
    [described] = ssm.describe_parameters()["Parameters"]
    assert (described["KeyId"], store.read()) == ("alias/our-own", ("cd" * 32, OLD))


def test_a_secret_from_the_environment_is_changed_there() -> None:
    with pytest.raises(Problem, match="put a new one before it there"):
        rotate(SecretStore(None), Console(file=io.StringIO()), finish=False)


def test_two_commands_at_once_lose_no_secret(
    store: SecretStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Both have read the one secret, and each puts a new one before it."""
    original = SecretStore._write
    first, second = "11" * 32, "22" * 32
    raced: list[int] = []

    def overtaken(writing: SecretStore, secrets: list[str]) -> int:
        if not raced:
            raced.append(1)
            original(SecretStore(NAME), [first, OLD])
        return original(writing, secrets)

    monkeypatch.setattr(SecretStore, "_write", overtaken)
    store.replace([OLD], [second, OLD])
    assert store.read() == (second, OLD, first)
    assert (tmp_path / "token_secret").read_text().strip().split(",") == [second, OLD, first]
    with pytest.raises(Problem, match="changed meanwhile"):
        store.replace([OLD], [first, OLD])
    add(5, "gho_canary", first)
    assert run(store)[0] is True
    assert opened(1, second) == "gho_canary"
