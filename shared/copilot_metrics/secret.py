"""The token secrets: from the environment, or from the SSM parameter that the environment names.

One is enough; while the secret is being changed there are several, newest first.
"""

import hashlib
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from copilot_metrics import aws
from copilot_metrics.errors import SecretNotConfigured, SecretUnavailable
from copilot_metrics.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

VARIABLE = "COPILOT_METRICS__TOKEN_SECRET"
PARAMETER_VARIABLE = f"{VARIABLE}_PARAMETER"
HOW_TO_MAKE_ONE = "set it to 64 hexadecimal characters, made with: openssl rand -hex 32"
MAX_AGE_SECONDS = 300
"""A warm function notices a parameter's new value after this long at most."""
MAX_AGE_OF_UNKNOWN_SECONDS = 10
"""And after this long where a record names a secret that it doesn't know."""


@dataclass(frozen=True)
class TokenSecret:
    """256 random bits that tokens' keys are derived from."""

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Name the secret without telling anything about it: a truncated hash of 256 random bits."""
        return hashlib.sha256(b"copilot-metrics key id\0" + self.key).hexdigest()[:16]


class TokenSecrets:
    """The secret that tokens are sealed under, and those before it that some may still be sealed under."""

    def __init__(
        self, secrets: Sequence[TokenSecret], reread: Callable[[], Sequence[TokenSecret]] | None = None
    ) -> None:
        """Take at least one secret, newest first, and how to look for newer ones where that can be done."""
        self._secrets = tuple(secrets)
        self._reread = reread

    @property
    def newest(self) -> TokenSecret:
        """The one for what is sealed from now on."""
        return self._secrets[0]

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The names of all, newest first."""
        return tuple(secret.key_id for secret in self._secrets)

    def find(self, key_id: str) -> TokenSecret | None:
        """Return the secret of this name, None where there is none. Raises SecretUnavailable or SecretNotConfigured."""
        if key_id not in self.key_ids and self._reread is not None:
            self._secrets = tuple(self._reread())
        return next((secret for secret in self._secrets if secret.key_id == key_id), None)


def token_secrets(settings: Settings) -> TokenSecrets:
    """Return the secrets; the variable comes before the parameter.

    Raises SecretNotConfigured where there is none or one isn't 64 hexadecimal characters, SecretUnavailable where
    SSM doesn't answer.
    """
    if settings.token_secret is not None:
        return TokenSecrets(parsed_secrets(settings.token_secret, source="its value"))
    name = settings.token_secret_parameter
    if name is None:
        raise SecretNotConfigured(f"{VARIABLE} not configured: {HOW_TO_MAKE_ONE}")

    def read(max_age: int = MAX_AGE_SECONDS) -> tuple[TokenSecret, ...]:
        return parsed_secrets(_parameter(name).value(max_age), source=f"the value of the SSM parameter {name}")

    return TokenSecrets(read(), reread=lambda: read(MAX_AGE_OF_UNKNOWN_SECONDS))


def check_secret(settings: Settings) -> None:
    """Tell whether the secret is there, without reading one kept in SSM.

    Raises as token_secrets does. A parameter is only looked for by its tags, which needs no right to its value.
    """
    if settings.token_secret is None and settings.token_secret_parameter is not None:
        try:
            _ssm().list_tags_for_resource(ResourceType="Parameter", ResourceId=settings.token_secret_parameter)
        except (BotoCoreError, ClientError) as error:
            raise _ssm_error(error, settings.token_secret_parameter) from None
    else:
        token_secrets(settings)


def parsed_secrets(text: str, *, source: str) -> tuple[TokenSecret, ...]:
    """Return the secrets in a text, which an error calls ``source``. Raises SecretNotConfigured."""
    secrets = text.replace(",", " ").split()
    if not secrets or not all(re.fullmatch(r"[0-9A-Fa-f]{64}", secret) for secret in secrets):
        raise SecretNotConfigured(
            f"{VARIABLE} not configured: {source} is not 64 hexadecimal characters "
            f"(or several such secrets, newest first, with commas between); {HOW_TO_MAKE_ONE}"
        )
    return tuple(TokenSecret(bytes.fromhex(secret)) for secret in secrets)


@cache
def _ssm() -> "SSMClient":
    made: SSMClient = aws.client("ssm", read_seconds=3)
    return made


class _Parameter:
    """An SSM parameter, read when what is known of it is too old."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._value = ""
        self._read_at = -float("inf")

    def value(self, max_age: int) -> str:
        if time.monotonic() - self._read_at > max_age:
            try:
                self._value = _ssm().get_parameter(Name=self._name, WithDecryption=True)["Parameter"]["Value"]
            except (BotoCoreError, ClientError) as error:
                raise _ssm_error(error, self._name) from None
            self._read_at = time.monotonic()
        return self._value


@cache
def _parameter(name: str) -> _Parameter:
    return _Parameter(name)


def _ssm_error(error: BotoCoreError | ClientError, name: str) -> SecretNotConfigured | SecretUnavailable:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    if code in {"ParameterNotFound", "InvalidResourceId"}:
        message = f"{VARIABLE} not configured: there is no SSM parameter {name}, which {PARAMETER_VARIABLE} names"
        return SecretNotConfigured(message)
    message = f"{VARIABLE} can't be read from the SSM parameter {name} right now ({code})"
    return SecretUnavailable(message, retry_after=5)
