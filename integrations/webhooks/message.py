"""What a webhook's request is made of: where it goes, and how it is signed. Pure.

Whoever receives one verifies it so (docs/operations.md tells it with an example): HMAC-SHA256 with the webhook's secret over the
header ``X-Pagewarden-Timestamp``, a full stop and the body as it came; in hex it must be one of the ``v1=`` values of
``X-Pagewarden-Signature``, and the timestamp a recent one.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

USER_AGENT: Final = "Pagewarden/0.1"
LONGEST_ADDRESS: Final = 2_000
_PLAIN: Final = re.compile(r"[!-~]+", re.ASCII)
_NAME: Final = re.compile(
    r"(?=.{4,253}\Z)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]*[a-z0-9]", re.ASCII
)
_INSIDE: Final = (".local", ".localhost", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa", ".onion")
"""Ends of names that mean something inside a network alone."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a webhook's requests go. ``target`` may hold a secret, as chat programs' addresses do: it is shown to nobody."""

    host: str
    """A name in small letters, or an IP address without brackets."""
    port: int
    target: str = field(repr=False)

    @property
    def is_ip(self) -> bool:
        return _ip(self.host) is not None

    @property
    def authority(self) -> str:
        """As the header ``Host`` has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == 443 else f"{host}:{self.port}"

    @property
    def hint(self) -> str:
        """What people recognise it by."""
        if len(self.target) < 16:
            return f"https://{self.authority}/…" if self.target != "/" else f"https://{self.authority}/"
        return f"https://{self.authority}/…{self.target[-4:]}"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def address_of(url: str) -> Address:
    """Read an address as it was typed.

    Raises:
        ValueError: it is none that a notice may be sent to. A sentence for people, with nothing of the address in it.
    """
    url = url.strip()
    if len(url) > LONGEST_ADDRESS or not _PLAIN.fullmatch(url):
        raise ValueError(
            f"An address is at most {LONGEST_ADDRESS:,} plain characters without blanks: write a host with umlauts as xn--…."
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").lower(), parts.port or 443
    except ValueError:
        raise ValueError("This is no address: it looks like https://hooks.example.com/path.") from None
    if parts.scheme.lower() != "https":
        raise ValueError("The address must begin with https://: notices name your services and people.")
    if "@" in parts.netloc or "#" in url or "\\" in url:
        raise ValueError("The address may hold no user name, no password, no backslash and no #.")
    if _ip(host) is None and (not _NAME.fullmatch(host) or host.endswith(_INSIDE)):
        raise ValueError("The address's host must be a full name on the Internet, such as hooks.example.com.")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Address(host, port, target)


def new_secret() -> str:
    """A signing secret of 256 bits, which says what it is."""
    return f"pws_{secrets.token_urlsafe(32)}"


def secret_name(generation: int) -> str:
    """What a secret is sealed as: one cannot be put in another's place."""
    return f"secret {generation}"


def signature(secret: str, at: int, body: bytes) -> str:
    """In hex. ``at``: seconds of Unix time, as the header has them."""
    return hmac.digest(secret.encode(), b"%d.%b" % (at, body), hashlib.sha256).hex()


def request(address: Address, secrets_: Sequence[str], *, delivery: str, event: str, at: int, body: bytes) -> bytes:
    """The whole request, byte for byte. ``secrets_``: one, or two while one takes the place of the other."""
    signed = ",".join(f"v1={signature(secret, at, body)}" for secret in secrets_)
    lines = (
        f"POST {address.target} HTTP/1.1",
        f"Host: {address.authority}",
        f"User-Agent: {USER_AGENT}",
        "Accept: */*",
        "Accept-Encoding: identity",
        "Connection: close",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        f"X-Pagewarden-Delivery: {delivery}",
        f"X-Pagewarden-Event: {event}",
        f"X-Pagewarden-Timestamp: {at}",
        f"X-Pagewarden-Signature: {signed}",
    )
    return "\r\n".join((*lines, "", "")).encode("ascii") + body
