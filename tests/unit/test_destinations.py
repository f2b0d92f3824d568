"""Which addresses are denied: everything that is not the public Internet, in whatever form it is written."""

import pytest
from relay.wire.destinations import Destinations, parse_network

DENIED = {
    "10.0.0.5": "a private address",
    "172.16.0.1": "a private address",
    "192.168.1.1": "a private address",
    "100.64.0.1": "a reserved address",
    "127.0.0.1": "a loopback address",
    "127.8.9.10": "a loopback address",
    "0.0.0.0": "no address of a host",
    "169.254.169.254": "a link-local address",
    "224.0.0.1": "a multicast address",
    "239.255.255.250": "a multicast address",
    "240.0.0.1": "a private address",
    "255.255.255.255": "a private address",
    "192.0.2.1": "a private address",
    "::": "no address of a host",
    "::1": "a loopback address",
    "fe80::1": "a link-local address",
    "fe80::1%eth0": "a link-local address",
    "fc00::1": "a private address",
    "fec0::1": "a private address",
    "ff02::1": "a multicast address",
    "ff0e::1": "a multicast address",
    "::ffff:127.0.0.1": "a private address",
    "::ffff:10.0.0.5": "a private address",
    "::ffff:169.254.169.254": "a private address",
    "::10.0.0.5": "a private address",
    "64:ff9b::10.0.0.5": "a private address",
    "64:ff9b::127.0.0.1": "a loopback address",
    "64:ff9b::a9fe:a9fe": "a link-local address",
    "64:ff9b:1::10.0.0.5": "a private address",
    "::ffff:0:10.0.0.5": "a private address",
    "64:ff9b:1:7:8:9:a00:5": "a private address",
    "2002:a00:5::1": "a private address",
    "2002:7f00:1::": "a loopback address",
    "2001:0:4136:e378:8000:63bf:f5ff:fffa": "a private address",
    "2001:db8::5efe:10.0.0.5": "a private address",
    "2606:4700::200:5efe:10.0.0.5": "a private address",
    "not an address": "no address",
}


@pytest.mark.parametrize("address", DENIED)
def test_what_is_denied(address: str) -> None:
    """Each with what it is; nothing is denied unless that was asked for."""
    why = Destinations(deny_private=True).why_denied(address)
    assert why is not None
    assert why.startswith(f"{address} is ")
    assert Destinations().why_denied(address) is None
    if "ffff" not in address:
        assert DENIED[address] in why


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "203.208.40.1", "2606:4700:4700::1111", "64:ff9b::8.8.8.8", "2002:808:808::1"],
)
def test_what_is_not(address: str) -> None:
    """Public addresses, translated ones too."""
    assert Destinations(deny_private=True).why_denied(address) is None


def test_allowed_networks_hold_in_every_form() -> None:
    """What is allowed is allowed translated as well, and nothing beside it."""
    rules = Destinations(deny_private=True, allow=(parse_network("10.2.0.0/16"), parse_network("fd00:1::/32")))
    for address in ("10.2.3.4", "::ffff:10.2.3.4", "64:ff9b::10.2.3.4", "fd00:1::7"):
        assert rules.why_denied(address) is None, address
    beside = "2001:0:a02:304::80ff:fffe"  # Teredo, of the server 10.2.3.4 and the client 127.0.0.1
    for address in ("10.3.0.1", "::ffff:10.3.0.1", "fd00:2::7", "127.0.0.1", beside):
        assert rules.why_denied(address) is not None, address
