"""Where a proxy may be: a caller must not make this service connect to what only it can reach.

Source: OWASP, Server-Side Request Forgery Prevention Cheat Sheet. The address that was checked is the one that is
connected to, so that a name can't mean another one a moment later.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from copilot_metrics.errors import InvalidInput

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

TRANSLATING: Final = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16")))
"""IPv6 networks whose addresses stand for IPv4 ones, private ones among them (RFC 6052, RFC 8215, RFC 3056)."""


@dataclass(frozen=True)
class ProxyRules:
    """Public addresses, and those that the operator has named."""

    names: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()

    @classmethod
    def parsed(cls, entries: Iterable[str]) -> "ProxyRules":
        """Read host names, addresses and networks such as ``10.1.0.0/16``. Raises ValueError for anything else."""
        names: set[str] = set()
        networks: list[Network] = []
        for entry in entries:
            try:
                networks.append(ipaddress.ip_network(entry))
            except ValueError:
                if not re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9]([A-Za-z0-9_.-]{0,252})", entry):
                    raise ValueError(entry) from None
                names.add(entry.lower())
        return cls(frozenset(names), tuple(networks))

    def addresses(self, host: str, port: int) -> list[str]:
        """Return the host's addresses that may be connected to, in the resolver's order.

        Raises InvalidInput where it has only others, OSError or UnicodeError where it has none at all.
        """
        found = [str(entry[4][0]) for entry in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        allowed = [text for text in found if host.lower() in self.names or self._allows(ipaddress.ip_address(text))]
        if not allowed:
            raise InvalidInput(
                "proxy",
                "must have a public address; whoever runs this service can allow others with "
                "COPILOT_METRICS__ALLOWED_PROXIES",
            )
        return allowed

    def _allows(self, address: Address) -> bool:
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        if any(address in network for network in self.networks):
            return True
        return address.is_global and not address.is_multicast and not any(address in network for network in TRANSLATING)


PUBLIC_ONLY: Final = ProxyRules()
