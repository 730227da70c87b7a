"""The environment, read once into one frozen object."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import urlsplit

from copilot_metrics.errors import SettingInvalid
from copilot_metrics.proxies import PUBLIC_ONLY, ProxyRules

PLUGIN = "copilot_metrics"
GITHUB_API_URL = "https://api.github.com"


@dataclass(frozen=True)
class Settings:
    """What the environment asks for; the variables are listed in the README."""

    plugins_enabled: frozenset[str] = frozenset()
    token_secret: str | None = field(default=None, repr=False)
    token_secret_parameter: str | None = None
    github_api_url: str = GITHUB_API_URL
    accounts_table: str = "copilot_github_accounts"
    metrics_table: str = "copilot_metrics"
    api_keys_table: str = "copilot_metrics_api_keys"
    fetch_queue_url: str | None = None
    dispatch_function: str | None = None
    fetch_tries: int = 5
    fetch_concurrency: int = 20
    proxy_rules: ProxyRules = PUBLIC_ONLY

    @property
    def enabled(self) -> bool:
        """Whether ``PLUGINS_ENABLED`` contains this plugin."""
        return PLUGIN in self.plugins_enabled

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings; an empty variable counts as unset.

        Raises SettingInvalid for an address or a number that isn't one.
        """

        def value(name: str) -> str | None:
            return environment.get(name, "").strip() or None

        def count(name: str, default: int) -> int:
            text = value(name) or str(default)
            if not re.fullmatch(r"[1-9][0-9]{0,2}", text):
                raise SettingInvalid(f"{name} must be a whole number from 1 to 999")
            return int(text)

        return cls(
            plugins_enabled=frozenset(
                name.strip() for name in environment.get("PLUGINS_ENABLED", "").split(",") if name.strip()
            ),
            token_secret=value("COPILOT_METRICS__TOKEN_SECRET"),
            token_secret_parameter=value("COPILOT_METRICS__TOKEN_SECRET_PARAMETER"),
            github_api_url=_github_api_url(value("COPILOT_METRICS__GITHUB_API_URL") or cls.github_api_url),
            accounts_table=value("COPILOT_METRICS__ACCOUNTS_TABLE") or cls.accounts_table,
            metrics_table=value("COPILOT_METRICS__METRICS_TABLE") or cls.metrics_table,
            api_keys_table=value("COPILOT_METRICS__API_KEYS_TABLE") or cls.api_keys_table,
            fetch_queue_url=value("COPILOT_METRICS__FETCH_QUEUE_URL"),
            dispatch_function=value("COPILOT_METRICS__DISPATCH_FUNCTION"),
            fetch_tries=count("COPILOT_METRICS__FETCH_TRIES", cls.fetch_tries),
            fetch_concurrency=count("COPILOT_METRICS__FETCH_CONCURRENCY", cls.fetch_concurrency),
            proxy_rules=_proxy_rules(value("COPILOT_METRICS__ALLOWED_PROXIES") or ""),
        )


def _github_api_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port, parts = 0, urlsplit("")
    if (
        port == 0
        or parts.scheme not in {"http", "https"}
        or not parts.hostname
        or parts.username is not None
        or parts.query
        or parts.fragment
        or re.search(r"[\s\x00-\x1f]", url)
    ):
        raise SettingInvalid(
            "COPILOT_METRICS__GITHUB_API_URL must be an http(s) address without credentials or query, "
            f"such as {GITHUB_API_URL}"
        )
    return url.rstrip("/")


def _proxy_rules(text: str) -> ProxyRules:
    try:
        return ProxyRules.parsed(entry.strip() for entry in text.split(",") if entry.strip())
    except ValueError:
        raise SettingInvalid(
            "COPILOT_METRICS__ALLOWED_PROXIES must be host names, addresses or networks such as 10.1.0.0/16, "
            "with commas between"
        ) from None


@cache
def settings() -> Settings:
    """Return this process's settings, read on first use."""
    return Settings.from_environment(os.environ)
