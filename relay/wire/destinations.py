"""Which addresses a request may be sent to: decided on the address connected to, after every name was resolved.

A URL comes from the configuration, but what its host resolves to is said by somebody's DNS, and it may change: to the
database beside us, or to the metadata service of a cloud. ``outbound: {deny_private: true}`` denies what does not lie
in the public Internet. An IPv4 address counts in every form it may be written in: mapped (RFC 4291 section 2.5.5.2),
compatible (2.5.5.1), translated (NAT64, RFC 6052 and 8215; SIIT, RFC 2765 section 2.1), 6to4 (RFC 3056), Teredo (RFC
4380) and ISATAP (RFC 5214). What is allowed is allowed in all of these forms, unless another address in it is not.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network
_TRANSLATED: Final = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"), IPv6Network("::ffff:0:0:0/96"))
_COMPATIBLE: Final = IPv6Network("::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)  # the upper half of an interface identifier


@dataclass(frozen=True, slots=True)
class Destinations:
    """What ``outbound`` states."""

    deny_private: bool = False
    allow: tuple[Network, ...] = ()

    def why_denied(self, address: str) -> str | None:
        """Return why nothing may be sent to an address, None where it may: ``10.0.0.5 is a private address ...``."""
        if not self.deny_private:
            return None
        try:
            asked = ip_address(address.partition("%")[0])
        except ValueError:
            return f"{address} is no address"
        inner = _inner(asked)
        private = [each for each in inner if _kind(each) is not None]
        if self._allows(asked) or (any(map(self._allows, inner)) and all(map(self._allows, private))):
            return None
        kind = next((kind for each in (asked, *inner) if (kind := _kind(each))), None)
        return None if kind is None else f"{address} is {kind} (outbound.deny_private)"

    def _allows(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.allow if network.version == address.version)


def parse_network(text: str) -> Network:
    """Return the network of ``10.2.0.0/16`` or of one address. Raises ``ValueError``."""
    return ip_network(text, strict=True)


def _inner(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """Return the IPv4 addresses that an IPv6 address stands for."""
    if isinstance(address, IPv4Address):
        return []
    number = int(address)
    low = IPv4Address(number & 0xFFFFFFFF)
    found = [each for each in (address.ipv4_mapped, address.sixtofour, *(address.teredo or ())) if each is not None]
    translated = any(address in network for network in _TRANSLATED)
    compatible = address in _COMPATIBLE and number > 0xFFFF  # ::1 and :: are themselves
    if translated or compatible or (number >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(low)
    return found


def _kind(address: IPv4Address | IPv6Address) -> str | None:
    """Return what an address is that lies not in the public Internet."""
    if address.is_unspecified:
        return "no address of a host"
    if address.is_loopback:
        return "a loopback address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if isinstance(address, IPv6Address) and address.is_site_local:
        return "a private address"
    if address.is_private:
        return "a private address"
    return None if address.is_global else "a reserved address"
