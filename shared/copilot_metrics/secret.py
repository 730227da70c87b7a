"""The token secret: from the environment, or from the SSM parameter that the environment names."""

import hashlib
import re
import time
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from copilot_metrics.errors import SecretNotConfigured, SecretUnavailable
from copilot_metrics.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_ssm import SSMClient

VARIABLE = "COPILOT_METRICS__TOKEN_SECRET"
PARAMETER_VARIABLE = f"{VARIABLE}_PARAMETER"
HOW_TO_MAKE_ONE = "set it to 64 hexadecimal characters, made with: openssl rand -hex 32"
REREAD_SECONDS = 300
"""A warm function notices a parameter's new value after this long at most."""


@dataclass(frozen=True)
class TokenSecret:
    """The 256 random bits that every token's key is derived from."""

    key: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        """Name the secret without telling anything about it: a truncated hash of 256 random bits."""
        return hashlib.sha256(b"copilot-metrics key id\0" + self.key).hexdigest()[:16]


def token_secret(settings: Settings) -> TokenSecret:
    """Return the secret; the variable comes before the parameter.

    Raises SecretNotConfigured where there is none or it isn't 64 hexadecimal characters, SecretUnavailable where
    SSM doesn't answer.
    """
    if settings.token_secret is not None:
        return _parsed(settings.token_secret, source="its value")
    if settings.token_secret_parameter is not None:
        period = int(time.monotonic() // REREAD_SECONDS)
        return _parsed(
            _parameter_value(settings.token_secret_parameter, period),
            source=f"the value of the SSM parameter {settings.token_secret_parameter}",
        )
    raise SecretNotConfigured(f"{VARIABLE} not configured: {HOW_TO_MAKE_ONE}")


def check_secret(settings: Settings) -> None:
    """Tell whether the secret is there, without reading one kept in SSM.

    Raises as token_secret does. A parameter is only looked for by its tags, which needs no right to its value.
    """
    if settings.token_secret is None and settings.token_secret_parameter is not None:
        try:
            _ssm().list_tags_for_resource(ResourceType="Parameter", ResourceId=settings.token_secret_parameter)
        except (BotoCoreError, ClientError) as error:
            raise _ssm_error(error, settings.token_secret_parameter) from None
    else:
        token_secret(settings)


def _parsed(text: str, *, source: str) -> TokenSecret:
    if not re.fullmatch(r"[0-9A-Fa-f]{64}", text.strip()):
        raise SecretNotConfigured(
            f"{VARIABLE} not configured: {source} is not 64 hexadecimal characters; {HOW_TO_MAKE_ONE}"
        )
    return TokenSecret(bytes.fromhex(text.strip()))


@cache
def _ssm() -> "SSMClient":
    return boto3.client(
        "ssm", config=Config(connect_timeout=2, read_timeout=3, retries={"mode": "standard", "total_max_attempts": 3})
    )


@lru_cache(maxsize=1)
def _parameter_value(name: str, _period: int) -> str:
    try:
        return _ssm().get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
    except (BotoCoreError, ClientError) as error:
        raise _ssm_error(error, name) from None


def _ssm_error(error: BotoCoreError | ClientError, name: str) -> SecretNotConfigured | SecretUnavailable:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else type(error).__name__
    if code in {"ParameterNotFound", "InvalidResourceId"}:
        message = f"{VARIABLE} not configured: there is no SSM parameter {name}, which {PARAMETER_VARIABLE} names"
        return SecretNotConfigured(message)
    message = f"{VARIABLE} can't be read from the SSM parameter {name} right now ({code})"
    return SecretUnavailable(message, retry_after=5)
