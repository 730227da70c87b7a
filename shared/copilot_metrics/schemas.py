"""What comes in from outside and isn't trusted: request bodies and GitHub's answers.

The only module that uses pydantic, so that the functions which only read start without it.
"""

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, WithJsonSchema

PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
SECRET_TEXT = {"type": "string", "format": "password", "writeOnly": True}
TOKEN_SCHEMA = {**SECRET_TEXT, "minLength": 1, "maxLength": 1024, "pattern": "^[!-~]+$"}
PROXY_SCHEMA = {
    "anyOf": [
        {**SECRET_TEXT, "maxLength": 2048, "pattern": f"^({'|'.join(PROXY_SCHEMES)})://[!-~]+$"},
        {"type": "null"},
    ]
}


def _usable_token(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not re.fullmatch(r"[\x21-\x7e]{1,1024}", text):
        raise ValueError("must be a GitHub token: 1 to 1024 printable ASCII characters without spaces or line breaks")
    return token


def _usable_proxy(proxy: SecretStr | None) -> SecretStr | None:
    if proxy is None:
        return None
    text = proxy.get_secret_value()
    message = f"must be an address such as http://localhost:9090, its scheme one of {', '.join(PROXY_SCHEMES)}"
    try:
        parts = urlsplit(text)
        usable = (
            re.fullmatch(r"[\x21-\x7e]{1,2048}", text)
            and parts.scheme in PROXY_SCHEMES
            and parts.hostname
            and parts.port != 0
            and parts.path in {"", "/"}
            and not parts.query
            and not parts.fragment
        )
    except ValueError:
        usable = False
    if not usable:
        raise ValueError(message) from None
    return proxy


class ImportRequest(BaseModel):
    """The body of ``POST /accounts/import``."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    token: Annotated[SecretStr, AfterValidator(_usable_token), WithJsonSchema(TOKEN_SCHEMA)]
    """A GitHub access token of the account to import."""
    proxy: Annotated[SecretStr | None, AfterValidator(_usable_proxy), WithJsonSchema(PROXY_SCHEMA)] = None
    """A proxy for this one call to GitHub; secret, as it may carry credentials."""


class AccountChange(BaseModel):
    """The body of ``PATCH /accounts/{account_id}``."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, strict=True)

    paused: bool
    """Whether the schedule leaves the account out."""


class GitHubUser(BaseModel):
    """What is kept of GitHub's answer to ``GET /user`` (GitHub REST API: Get the authenticated user)."""

    model_config = ConfigDict(extra="ignore", frozen=True, hide_input_in_errors=True, strict=True)

    id: Annotated[int, Field(gt=0, lt=2**63)]
    login: Annotated[str, Field(min_length=1, max_length=255)]
    node_id: Annotated[str, Field(max_length=255)]
    avatar_url: Annotated[str, Field(max_length=2048)]
