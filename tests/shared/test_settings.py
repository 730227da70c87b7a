"""The environment becomes settings, or says which variable is wrong."""

import pytest

from copilot_metrics.errors import SettingInvalid
from copilot_metrics.proxies import ProxyRules
from copilot_metrics.settings import Settings


def test_an_empty_environment_has_the_documented_defaults() -> None:
    settings = Settings.from_environment({"COPILOT_METRICS__TOKEN_SECRET": "", "COPILOT_METRICS__GITHUB_API_URL": " "})
    assert settings == Settings(
        plugins_enabled=frozenset(),
        token_secret=None,
        token_secret_parameter=None,
        github_api_url="https://api.github.com",
        accounts_table="copilot_github_accounts",
        metrics_table="copilot_metrics",
    )


@pytest.mark.parametrize(
    ("plugins", "enabled"),
    [
        ("copilot_metrics", True),
        ("hello,analytics,items,copilot_metrics", True),
        (" hello , copilot_metrics ", True),
        ("", False),
        ("hello", False),
        ("copilot_metrics_2", False),
        ("COPILOT_METRICS", False),
    ],
)
def test_the_plugin_is_enabled_by_its_name_in_the_list(plugins: str, enabled: bool) -> None:  # noqa: FBT001  # a table
    assert Settings.from_environment({"PLUGINS_ENABLED": plugins}).enabled is enabled


@pytest.mark.parametrize("url", ["https://api.tenant.ghe.com", "http://127.0.0.1:9999", "https://ghe.example/api/v3/"])
def test_another_github_is_taken_without_its_last_slash(url: str) -> None:
    settings = Settings.from_environment({"COPILOT_METRICS__GITHUB_API_URL": url})
    assert settings.github_api_url == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["api.github.com", "ftp://api.github.com", "https://", "https://user:pw@example.com", "https://a?b", "https://a b"],
)
def test_what_is_not_an_address_is_refused(url: str) -> None:
    with pytest.raises(SettingInvalid, match="COPILOT_METRICS__GITHUB_API_URL must be") as raised:
        Settings.from_environment({"COPILOT_METRICS__GITHUB_API_URL": url})
    assert "pw" not in str(raised.value)


def test_settings_do_not_print_the_secret() -> None:
    assert "ab" * 32 not in repr(Settings(token_secret="ab" * 32))


@pytest.mark.parametrize("url", ["http://[", "http://localhost:abc", "http://localhost:99999", "api.github.com"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(SettingInvalid):
        Settings.from_environment({"COPILOT_METRICS__GITHUB_API_URL": url})


def test_proxies_are_allowed_by_name_and_network() -> None:
    settings = Settings.from_environment({"COPILOT_METRICS__ALLOWED_PROXIES": " proxy.example , 10.1.0.0/16,::1"})
    assert settings.proxy_rules == ProxyRules.parsed(["proxy.example", "10.1.0.0/16", "::1"])


def test_a_proxy_that_cannot_be_allowed_is_refused() -> None:
    with pytest.raises(SettingInvalid, match="COPILOT_METRICS__ALLOWED_PROXIES must be"):
        Settings.from_environment({"COPILOT_METRICS__ALLOWED_PROXIES": "http://proxy.example"})
