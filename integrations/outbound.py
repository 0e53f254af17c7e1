"""How the portal reaches what is not its own: which addresses a public name may have, the corporate proxy, and whose
certificates are trusted. No setting switches the verification of certificates off."""

from __future__ import annotations

import base64
import ipaddress
import re
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

import certifi
from django.core.exceptions import ImproperlyConfigured

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NOT_PUBLIC: Final[tuple[Network, ...]] = tuple(
    ipaddress.ip_network(block)
    for block in (
        # IANA's registries of special-purpose addresses, and multicast. Of IPv6 only 2000::/3 is given out at all.
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24"),
        *("192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
_GIVEN_OUT: Final = ipaddress.IPv6Network("2000::/3")
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_HOST: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]{2,45}", re.ASCII)
_PLAIN: Final = re.compile(r"[\x20-\x7e]*")


def is_public(address: str) -> bool:
    """Whether an address can be that of a service on the Internet: not one of this host, this network or nobody's, in
    whatever form it is written. Behind NAT64 the IPv4 address inside counts."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed in _NAT64:
            parsed = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        elif parsed not in _GIVEN_OUT or parsed.scope_id is not None:
            return False
    return not any(parsed in network for network in _NOT_PUBLIC)


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy that opens tunnels (CONNECT)."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)
    """The value of ``Proxy-Authorization``; empty: it asks for none."""


def proxy_of(url: str) -> Proxy | None:
    """The proxy of ``http://user:password@host:port``, percent-encoded where a password needs it; None for an empty text.

    Raises:
        ImproperlyConfigured: it is none. The message holds nothing of it: a password is in it.
    """
    if not url:
        return None
    wrong = ImproperlyConfigured(
        "OUTBOUND_PROXY is not an address such as http://proxy.example:3128 or http://user:password@proxy.example:3128, "
        "with a password's special characters percent-encoded."
    )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        user, password = unquote(parts.username or "", errors="strict"), unquote(parts.password or "", errors="strict")
    except ValueError:
        raise wrong from None
    plain = _HOST.fullmatch(host) and _PLAIN.fullmatch(user + password) and ":" not in user
    bare = parts.path in ("", "/") and not (parts.query or parts.fragment)
    if parts.scheme != "http" or port is None or not plain or not bare:
        raise wrong
    if "@" not in parts.netloc:
        return Proxy(host, port)
    return Proxy(host, port, "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def tls(ca_file: str) -> ssl.SSLContext:
    """Certificates and host names are verified, always. ``ca_file``: authorities in PEM to trust beside the public ones.

    Raises:
        ImproperlyConfigured: the file cannot be read, or holds no certificate.
    """
    context = ssl.create_default_context(cafile=certifi.where())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
            raise ImproperlyConfigured(
                f"OUTBOUND_CA_FILE is {ca_file}, which is no PEM file of certificates: {error}"
            ) from None
    return context
