"""The token secret is found where the environment says, or what is missing is said."""

import time
from typing import TYPE_CHECKING

import boto3
import moto
import pytest

from copilot_metrics.errors import SecretNotConfigured, SecretUnavailable, Unavailable
from copilot_metrics.secret import TokenSecret, check_secret, token_secrets
from copilot_metrics.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_ssm import SSMClient

KEPT = "fe" * 32
NAMED = Settings(token_secret_parameter="/copilot-metrics/token-secret")


@pytest.fixture
def ssm() -> "Iterator[SSMClient]":
    with moto.mock_aws():
        yield boto3.client("ssm")


def keep(ssm: "SSMClient", value: str) -> None:
    ssm.put_parameter(Name="/copilot-metrics/token-secret", Type="SecureString", Value=value)


def test_the_variable_is_used() -> None:
    assert token_secrets(Settings(token_secret="AB" * 32)).newest.key == b"\xab" * 32


def test_the_variable_comes_before_the_parameter(ssm: "SSMClient") -> None:
    keep(ssm, KEPT)
    both = Settings(token_secret="ab" * 32, token_secret_parameter="/copilot-metrics/token-secret")
    assert token_secrets(both).newest.key == b"\xab" * 32


def test_the_parameter_is_used_and_decrypted(ssm: "SSMClient") -> None:
    keep(ssm, KEPT + "\n")
    assert token_secrets(NAMED).newest.key == b"\xfe" * 32


def test_the_parameter_is_read_once_while_it_is_fresh(ssm: "SSMClient") -> None:
    keep(ssm, KEPT)
    token_secrets(NAMED)
    ssm.delete_parameter(Name="/copilot-metrics/token-secret")
    assert token_secrets(NAMED).newest.key == b"\xfe" * 32


@pytest.mark.parametrize("text", ["", "ab" * 31, "ab" * 33, "xy" * 32, "ab" * 31 + "a ", "\u0661" * 64])
def test_anything_but_64_hexadecimal_characters_is_refused_with_how_to_make_them(text: str) -> None:
    with pytest.raises(SecretNotConfigured) as raised:
        token_secrets(Settings(token_secret=text))
    assert str(raised.value).startswith("COPILOT_METRICS__TOKEN_SECRET not configured: ")
    assert "openssl rand -hex 32" in str(raised.value)
    assert not text or text not in str(raised.value)


@pytest.mark.parametrize("check", [token_secrets, check_secret])
def test_no_secret_at_all_is_said_in_the_specifications_words(check: object) -> None:
    with pytest.raises(SecretNotConfigured, match=r"^COPILOT_METRICS__TOKEN_SECRET not configured: set it to 64 hex"):
        check(Settings())  # type: ignore[operator]  # both are functions of settings


@pytest.mark.parametrize("check", [token_secrets, check_secret])
@pytest.mark.usefixtures("ssm")
def test_a_missing_parameter_is_said(check: object) -> None:
    with pytest.raises(SecretNotConfigured, match="no SSM parameter /copilot-metrics/token-secret"):
        check(NAMED)  # type: ignore[operator]  # both are functions of settings


@pytest.mark.parametrize("check", [token_secrets, check_secret])
def test_ssm_that_can_not_be_reached_is_not_a_missing_secret(environment: pytest.MonkeyPatch, check: object) -> None:
    environment.delenv("AWS_ACCESS_KEY_ID")
    environment.delenv("AWS_SECRET_ACCESS_KEY")
    environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
    environment.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    environment.setenv("AWS_CONFIG_FILE", "/dev/null")
    with pytest.raises(SecretUnavailable, match="NoCredentialsError") as raised:
        check(NAMED)  # type: ignore[operator]  # both are functions of settings
    assert isinstance(raised.value, Unavailable)


def test_a_malformed_parameter_is_said_without_its_value(ssm: "SSMClient") -> None:
    keep(ssm, "gho_canary")
    with pytest.raises(
        SecretNotConfigured, match="SSM parameter /copilot-metrics/token-secret is not 64 hex"
    ) as raised:
        token_secrets(NAMED)
    assert "gho_canary" not in str(raised.value)


def test_the_health_check_finds_the_parameter_without_reading_it(
    ssm: "SSMClient", environment: pytest.MonkeyPatch
) -> None:
    keep(ssm, KEPT)
    asked = []
    make_api_call = type(ssm)._make_api_call  # type: ignore[attr-defined]  # botocore's one way out

    def noted(client: object, operation: str, arguments: object) -> object:
        asked.append(operation)
        return make_api_call(client, operation, arguments)

    environment.setattr("botocore.client.BaseClient._make_api_call", noted)
    check_secret(NAMED)
    assert asked == ["ListTagsForResource"]


def test_key_ids_tell_secrets_apart_and_nothing_about_them() -> None:
    first, second = TokenSecret(b"\1" * 32), TokenSecret(b"\2" * 32)
    assert first.key_id == TokenSecret(b"\1" * 32).key_id != second.key_id
    assert (b"\1" * 4).hex() not in first.key_id
    assert "\\x01" not in repr(first)


def test_several_secrets_are_known_newest_first(ssm: "SSMClient") -> None:
    keep(ssm, f"{KEPT}, {'ab' * 32}\n{'cd' * 32}")
    for secrets in (token_secrets(NAMED), token_secrets(Settings(token_secret=f"{KEPT},{'ab' * 32} {'cd' * 32}"))):
        assert secrets.newest.key == b"\xfe" * 32
        found = [secrets.find(TokenSecret(bytes([byte]) * 32).key_id) for byte in (0xCD, 0xAB, 0x11)]
        assert [secret and secret.key[0] for secret in found] == [0xCD, 0xAB, None]


@pytest.mark.parametrize("text", [f"{KEPT},", f",{KEPT}"])
def test_a_comma_too_many_is_no_secret(text: str) -> None:
    assert token_secrets(Settings(token_secret=text)).key_ids == (TokenSecret(b"\xfe" * 32).key_id,)


def test_one_malformed_secret_among_several_is_refused() -> None:
    with pytest.raises(SecretNotConfigured) as raised:
        token_secrets(Settings(token_secret=f"{KEPT},abcabc"))
    assert KEPT not in str(raised.value)
    assert "abcabc" not in str(raised.value)


def test_a_secret_that_came_after_the_parameter_was_read_is_found_soon(
    ssm: "SSMClient", monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(ssm, KEPT)
    newer = TokenSecret(b"\xab" * 32)
    token_secrets(NAMED)
    ssm.put_parameter(
        Name="/copilot-metrics/token-secret", Type="SecureString", Value=f"{'ab' * 32},{KEPT}", Overwrite=True
    )
    assert token_secrets(NAMED).find(newer.key_id) is None  # read a moment ago
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 11)
    secrets = token_secrets(NAMED)
    assert secrets.find(newer.key_id) == newer
    assert secrets.newest == newer
