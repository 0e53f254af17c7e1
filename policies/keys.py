"""Agent keys: ``pwk_<prefix>_<secret>``. The prefix finds the row; a peppered HMAC of the whole proves the secret."""

from __future__ import annotations

import functools
import hashlib
import hmac
import re
import secrets
from typing import Final

from django.conf import settings

ALPHABET: Final = "abcdefghijkmnpqrstuvwxyz23456789"
"""Without l, o, 0 and 1: people read keys aloud."""
PREFIX_LENGTH: Final = 8
SECRET_LENGTH: Final = 32
_KEY: Final = re.compile(rf"pwk_([{ALPHABET}]{{{PREFIX_LENGTH}}})_([{ALPHABET}]{{{SECRET_LENGTH}}})", re.ASCII)


def new_key() -> tuple[str, str]:
    """A fresh prefix and secret (160 bits)."""
    prefix, secret = (
        "".join(secrets.choice(ALPHABET) for _ in range(length)) for length in (PREFIX_LENGTH, SECRET_LENGTH)
    )
    return prefix, secret


def shown(prefix: str, secret: str) -> str:
    return f"pwk_{prefix}_{secret}"


def parse_key(text: str) -> tuple[str, str] | None:
    """Prefix and secret of a key; None for anything that is not one."""
    match = _KEY.fullmatch(text)
    return (match[1], match[2]) if match else None


@functools.lru_cache(maxsize=4)
def _pepper(secret_key: str) -> bytes:
    return hashlib.blake2b(secret_key.encode(), person=b"agent-keys", digest_size=32).digest()


def digest_of(prefix: str, secret: str) -> str:
    """HMAC-SHA256 of the key, in hexadecimal; without ``SECRET_KEY`` a stolen table cannot be searched for it."""
    return hmac.digest(_pepper(settings.SECRET_KEY), shown(prefix, secret).encode("ascii"), "sha256").hex()


def matches(stored: str, prefix: str, secret: str) -> bool:
    """Compared in constant time."""
    return hmac.compare_digest(stored, digest_of(prefix, secret))
