"""Whose address counts: the connection's own, or behind trusted proxies the last one that is none of them."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from integrations.gateway.rest import Networks, client_ip

PROXIES = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "proxies", "address"),
    [
        ("203.0.113.9", None, PROXIES, "203.0.113.9"),
        ("203.0.113.9", b"198.51.100.1", PROXIES, "203.0.113.9"),  # nobody we know says so
        ("10.0.0.1", b"198.51.100.1", (), "10.0.0.1"),  # nobody is trusted
        ("10.0.0.1", b"198.51.100.1", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"6.6.6.6, 198.51.100.1", PROXIES, "198.51.100.1"),  # what the caller wrote itself comes first
        ("10.0.0.1", b"6.6.6.6, 198.51.100.1, 10.0.0.2", PROXIES, "198.51.100.1"),
        ("10.0.0.1", b"10.0.0.3, 10.0.0.2", PROXIES, "10.0.0.3"),  # from inside
        ("fd00::1", b"2001:db8::7", PROXIES, "2001:db8::7"),
        ("10.0.0.1", b"not an address", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b"\xff\x00, ::::", PROXIES, "10.0.0.1"),
        ("10.0.0.1", b", ".join([b"6.6.6.6"] * 5_000), PROXIES, "6.6.6.6"),
        ("", b"198.51.100.1", PROXIES, ""),
    ],
)
def test_the_callers_address(peer: str, forwarded: bytes | None, proxies: Networks, address: str) -> None:
    assert client_ip({"client": (peer, 1)}, forwarded, proxies) == address
