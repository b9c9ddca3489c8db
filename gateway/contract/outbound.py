"""The one rule for every URL that a person can type: which addresses may be connected to.

Only https to public addresses, unless the operator's allow-list (setting `OUTBOUND_ALLOW`) names the host or network:
`OUTBOUND_ALLOW=127.0.0.1,10.20.0.0/16,models.internal`. A name is resolved once, every address it has is checked, and the
connection goes to a checked address, so that a second answer of the resolver cannot lead elsewhere (DNS rebinding).
Redirects are never followed. `governance.http` (httpx2) and `gateway.plane.client` (aiohttp, also under `upstream.wire`) apply it when they connect.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAT64_LOCAL = ipaddress.ip_network("64:ff9b:1::/48")


class OutboundError(ValueError):
    """The URL or address may not be called. The message is fit for people and names no internal detail."""


@dataclass(frozen=True)
class AllowList:
    """Private hosts that the operator opened on purpose."""

    hosts: frozenset[str]
    networks: tuple[IpNetwork, ...]

    @classmethod
    def parse(cls, entries: Iterable[str]) -> AllowList:
        """From the entries of `OUTBOUND_ALLOW`: host names, addresses or networks."""
        hosts, networks = set(), []
        for entry in (entry.strip().lower() for entry in entries):
            if not entry:
                continue
            try:
                networks.append(ipaddress.ip_network(entry, strict=False))
            except ValueError:
                hosts.add(entry)
        return cls(frozenset(hosts), tuple(networks))

    def has_host(self, host: str) -> bool:
        return host.lower() in self.hosts

    def has_address(self, address: IpAddress) -> bool:
        return any(address.version == network.version and address in network for network in self.networks)


def _embedded_ipv4(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that hides in an IPv6 one: mapped, 6to4, Teredo, NAT64."""
    if address.ipv4_mapped:
        return address.ipv4_mapped
    if address.sixtofour:
        return address.sixtofour
    if address.teredo:
        return address.teredo[1]
    if address in _NAT64 or address in _NAT64_LOCAL:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return None


def is_public(address: IpAddress) -> bool:
    """True for an address on the public internet; false for loopback, private, link-local, CGNAT, multicast, reserved."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = _embedded_ipv4(address)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved and not address.is_unspecified


def check_address(host: str, address: str, allow: AllowList) -> None:
    """Raise OutboundError unless `host`, resolved to `address`, may be connected to."""
    ip = ipaddress.ip_address(address)
    if not (is_public(ip) or allow.has_host(host) or allow.has_address(ip)):
        raise OutboundError(f"{host} is a private address. An operator can open it with OUTBOUND_ALLOW.")


def check_url(url: str, allow: AllowList) -> None:
    """Raise OutboundError for a URL that can be refused without resolving: scheme, credentials, port, literal address."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise OutboundError("This is not a valid URL.") from error
    host = parts.hostname or ""
    if parts.scheme not in ("https", "http") or not host:
        raise OutboundError("The URL must start with https:// and name a host.")
    if not host.isascii():  # clients fold some letters and digits into ASCII ones, and connect elsewhere than is checked here
        raise OutboundError("Write the host in its ASCII form (xn--…).")
    if parts.username or parts.password:
        raise OutboundError("The URL must not contain a user name or password.")
    try:
        literal: IpAddress | None = ipaddress.ip_address(host)
    except ValueError:
        literal = None
    if literal is not None:
        check_address(host, host, allow)
    opened = allow.has_host(host) or (literal is not None and allow.has_address(literal))
    if not opened and parts.scheme != "https":
        raise OutboundError("The URL must use https.")
    if not opened and port not in (None, 443):
        raise OutboundError("Only port 443 may be called.")
