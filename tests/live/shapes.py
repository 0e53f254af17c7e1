"""What a JSON answer looks like, and how two of them differ. Of an answer only paths and JSON types are kept: no value.

A path is spelled ``incidents[]<incident>.priority<priority>.id``: ``[]`` is any item of a list, ``<…>`` the ``type`` that an
object says of itself, for a list of PagerDuty's may hold objects of many kinds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

Shape = dict[str, Counter[str]]
"""Path → JSON type → how often it was there."""
FREE: Final = frozenset(
    {
        "config",
        "configuration",
        "configuration_schema",
        "custom_attributes",
        "custom_details",
        "default_value",
        "details",
        "enrichment_data",
        "errors",
        "metadata",
        "options",
        "secrets",
        "secrets_schema",
        "value",
    }
)
"""Fields that hold whatever an account put there, with names of its own: nothing inside is looked at."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,59}", re.ASCII)
"""What PagerDuty's own names look like. Others are somebody's, and shown as ``*``."""


@dataclass(frozen=True, slots=True, order=True)
class Difference:
    path: str
    only: str
    """Who alone has it: ``live`` or ``sandbox``; empty: both have it, with different types."""
    live: tuple[str, ...]
    sandbox: tuple[str, ...]

    def __str__(self) -> str:
        if self.only:
            return f"only {self.only}: {self.path} ({', '.join(self.live or self.sandbox)})"
        return f"types differ: {self.path} (live {', '.join(self.live)}; sandbox {', '.join(self.sandbox)})"


def add(shape: Shape, document: Any) -> None:
    """Merge the shape of ``document`` into ``shape``."""
    for path, kind in _walk(document, "$"):
        shape.setdefault(path, Counter())[kind] += 1


def _walk(node: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        kind = node.get("type")
        if isinstance(kind, str) and _NAME.fullmatch(kind):
            yield path, "object"
            path = f"{path}<{kind}>"
        yield path, "object"
        for name, value in node.items():
            field = f"{path}.{name if _NAME.fullmatch(name) else '*'}"
            if name in FREE:
                yield field, "anything"
            else:
                yield from _walk(value, field)
    elif isinstance(node, list):
        yield path, "array"
        for item in node:
            yield from _walk(item, f"{path}[]")
    else:
        yield path, json_type(node)


def json_type(value: Any) -> str:
    """``integer`` is told from ``number``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, str):
        return "string"
    return "integer" if isinstance(value, int) else "number"


def compare(live: Shape, sandbox: Shape) -> list[Difference]:
    """Where the two differ, as far as both have been seen.

    Told: a field that only the live account's objects have; one that all of the sandbox's objects of the same kind have and
    none of the live account's; a type of a live value that the sandbox never gives. ``null`` says nothing of a type, and what
    is in a list that one side has empty is not compared.
    """
    found = []
    for path, types in live.items():
        owner = path.rpartition(".")[0]
        if path not in sandbox:
            if path.endswith(("[]", ">")) or owner not in sandbox:
                continue
            found.append(Difference(path, "live", tuple(sorted(types)), ()))
        elif known := sandbox[path].keys() - {"null"}:
            known |= {"integer"} if "number" in known else set()
            if types.keys() - {"null"} - known:
                found.append(Difference(path, "", tuple(sorted(types)), tuple(sorted(sandbox[path]))))
    for path, types in sandbox.items():
        owner = path.rpartition(".")[0]
        if path in live or path.endswith(("[]", ">")) or owner not in live:
            continue
        if types.total() == sandbox[owner]["object"]:
            found.append(Difference(path, "sandbox", (), tuple(sorted(types))))
    return sorted(found)


def unknown_kinds(live: Shape, sandbox: Shape) -> list[str]:
    """Paths of objects whose ``type`` the sandbox does not show there: nothing inside them could be compared."""
    return sorted(path for path in live if path.endswith(">") and path not in sandbox and _seen(path, sandbox))


def _seen(path: str, shape: Shape) -> bool:
    """Whether ``shape`` has objects at the path at all, whatever their type."""
    return shape.get(path.rpartition("<")[0], Counter())["object"] > 0


def named(path: Iterable[str | int]) -> str:
    """Where in a document something is, without names of an account's own."""
    text = "$"
    for part in path:
        if isinstance(part, int):
            text += "[]"
            continue
        text += f".{part if _NAME.fullmatch(part) else '*'}"
        if part in FREE:
            break
    return text
