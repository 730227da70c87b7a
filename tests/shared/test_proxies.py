"""Where a caller's proxy may be."""

import re
import socket
from typing import Any

import pytest

from copilot_metrics.errors import InvalidInput
from copilot_metrics.proxies import ProxyRules

INSIDE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",  # noqa: S104  # an address to refuse
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "100.64.0.1",
    "169.254.169.254",
    "169.254.170.2",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fd00:ec2::254",
    "ff02::1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
]


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def answer(_host: str, port: int, **_hints: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", answer)


@pytest.mark.parametrize("address", INSIDE)
def test_addresses_inside_are_refused_however_they_are_written(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, address)
    with pytest.raises(InvalidInput, match=r"^proxy: must have a public address") as refused:
        ProxyRules().addresses("proxy.example", 9090)
    assert address not in str(refused.value)  # what a name means inside is nobody's business outside


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
def test_public_addresses_are_allowed(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    resolving(monkeypatch, address)
    assert ProxyRules().addresses("proxy.example", 9090) == [address]


def test_of_several_addresses_the_public_ones_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "10.0.0.1", "8.8.8.8", "::1", "8.8.4.4")
    assert ProxyRules().addresses("proxy.example", 9090) == ["8.8.8.8", "8.8.4.4"]


@pytest.mark.parametrize(
    "entry", ["proxy.example", "PROXY.example", "10.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "10.0.0.1/32"]
)
def test_what_the_operator_names_is_allowed(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    resolving(monkeypatch, "10.0.0.1")
    assert ProxyRules.parsed([entry, "fd00::/8"]).addresses("Proxy.Example", 9090) == ["10.0.0.1"]


@pytest.mark.parametrize(
    "entry", ["other.example", "example", "proxy.example.other", "10.0.0.2", "10.1.0.0/16", "::/0"]
)
def test_what_the_operator_names_allows_nothing_else(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    resolving(monkeypatch, "10.0.0.1")
    with pytest.raises(InvalidInput):
        ProxyRules.parsed([entry]).addresses("proxy.example", 9090)


@pytest.mark.parametrize(
    "entry", ["", "*", "*.example", "http://proxy.example", "a:b", "10.0.0.300", "10.0.0.1/8", "::g"]
)
def test_what_is_neither_a_name_nor_a_network_is_refused(entry: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(entry)}$"):
        ProxyRules.parsed([entry])
