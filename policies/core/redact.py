"""What an entry may keep of a call's arguments: by shape, from an allow-list; everything else becomes a length and a digest.

Kept: booleans, nulls, times, ids in fields that hold ids, numbers too short to be a phone's, and the very words that the
catalogue lists for a field. A digest is keyed, so that equal values can be matched by whoever holds the key and guessed by
nobody else.
"""

from __future__ import annotations

import functools
import hmac
import re
from collections.abc import Mapping
from typing import Any, Final

_FIELD: Final = re.compile(r"[a-z]+(?:_[a-z]+)*(?:\[\])?", re.ASCII)
_ID_FIELD: Final = re.compile(r"(?:.*_)?ids?(?:\[\])?", re.ASCII)
# An id mixes letters and digits; letters around a phone number are none. (``policies`` knows no service's ids by name.)
_ID: Final = re.compile(
    r"(?![A-Z0-9]*\d{7})[A-Z][A-Z0-9]{5,13}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII
)
_TIME: Final = re.compile(
    r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])"
    r"(?:T(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-][01]\d:?[0-5]\d)?)?"
    r"|(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d",
    re.ASCII,
)
_ZONE: Final = re.compile(r"(?:UTC|[A-Z][a-z]{2,12}/[A-Z][A-Za-z_]{2,20}(?:/[A-Z][A-Za-z_]{2,20})?)", re.ASCII)
_NUMBER: Final = re.compile(r"-?\d{1,6}", re.ASCII)
_PRODUCT: Final = re.compile(r"[A-Za-z][A-Za-z-]{1,30}/\d{1,3}(?:\.\d{1,3}){0,2}(?![\d.])", re.ASCII)
LARGEST: Final = 999_999
"""Numbers beyond it could be somebody's phone."""

MAXIMUM_DEPTH: Final = 10
MAXIMUM_ITEMS: Final = 500
"""Values of one call's arguments that are looked at; the rest is one digest."""


class Redactor:
    """Redacts with one digest key."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        # The same few programs call again and again.
        self.client_name = functools.lru_cache(maxsize=256)(self._client_name)

    def digest(self, text: str) -> str:
        """16 hexadecimal digits of HMAC-SHA256. Lone surrogates are allowed: hostile text gets a digest too."""
        return hmac.digest(self._key, text.encode("utf-8", "surrogatepass"), "sha256").hex()[:16]

    def string(self, text: str) -> dict[str, Any]:
        """What stands for a string that is not kept: ``{"length": 12, "digest": "…"}``."""
        return {"length": len(text), "digest": self.digest(text)}

    def _client_name(self, text: str) -> str | dict[str, Any]:
        """A User-Agent's first product (``python-requests/2.32``), where it has that form."""
        match = _PRODUCT.match(text)
        return match[0] if match else self.string(text) if text else ""

    def arguments(self, arguments: Mapping[str, Any], keep: Mapping[str, frozenset[str]]) -> dict[str, Any]:
        """``{"path": {...}, "query": {...}, "body": ...}`` as an entry keeps it; parts that are empty are left out."""
        left = [MAXIMUM_ITEMS]
        return {part: self._value(part, value, keep, left, 0) for part, value in arguments.items() if value}

    def _value(self, name: str, value: Any, keep: Mapping[str, frozenset[str]], left: list[int], depth: int) -> Any:
        left[0] -= 1
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, int | float):
            short = -LARGEST <= value <= LARGEST and round(value, 3) == value
            return value if short else self.string(repr(value))
        if isinstance(value, str):
            return value if _may_keep(name, value, keep) else self.string(value)
        if depth >= MAXIMUM_DEPTH or left[0] <= 0:
            return {"left_out": len(value)}
        if isinstance(value, Mapping):
            kept: dict[str, Any] = {}
            for key, item in value.items():
                if left[0] <= 0:
                    kept["~left_out"] = len(value) - len(kept)
                    break
                field = str(key)
                shown = field if len(field) <= 40 and _FIELD.fullmatch(field) else f"~{self.digest(field)}"
                kept[shown] = self._value(field, item, keep, left, depth + 1)
            return kept
        listed: list[Any] = []
        for item in value:
            if left[0] <= 0:
                listed.append({"left_out": len(value) - len(listed)})
                break
            listed.append(self._value(name, item, keep, left, depth + 1))
        return listed


def _may_keep(name: str, text: str, keep: Mapping[str, frozenset[str]]) -> bool:
    if not text:
        return True
    if len(text) > 60:
        return False
    words = keep.get(name, frozenset())
    return (
        text in words
        or ("#number" in words and _NUMBER.fullmatch(text) is not None)
        or ("#zone" in words and _ZONE.fullmatch(text) is not None)
        or _TIME.fullmatch(text) is not None
        or (_ID_FIELD.fullmatch(name) is not None and _ID.fullmatch(text) is not None)
    )
