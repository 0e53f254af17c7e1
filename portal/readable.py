"""A tool's answer as a page shows it: JSON into definition lists, tables and lists, of a size that a page can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from policies.core.text import shown

LONGEST: Final = 2_000
"""Characters of one text."""
LINE: Final = 300
"""Characters of a list of words that stands in one line."""
ROWS: Final = 100
COLUMNS: Final = 7
"""Of a table; objects of more fields are folds of their own."""
DEEPEST: Final = 6


@dataclass(frozen=True, slots=True)
class Node:
    """One value. ``kind`` says which of the rest counts: ``text``, ``facts``, ``table``, ``folds`` or ``items``."""

    kind: str
    text: str = ""
    outside: bool = False
    """The text was written by others: in PagerDuty, or by what sends to it."""
    facts: list[tuple[str, Node]] = field(default_factory=list)
    columns: list[str] = field(default_factory=list)
    rows: list[list[tuple[str, Node]]] = field(default_factory=list)
    """Of a table: cells, each with its column's name."""
    items: list[Node] = field(default_factory=list)
    folds: list[tuple[str, Node]] = field(default_factory=list)
    """Heading and content."""
    more: int = 0
    """How many rows are not shown."""


def readable(value: Any, depth: int = 0) -> Node:
    if isinstance(value, Mapping):
        if set(value) == {"outside"}:
            written = value["outside"]
            if isinstance(written, Mapping) and depth < DEEPEST:
                return readable({name: {"outside": item} for name, item in written.items()}, depth)
            if isinstance(written, list) and depth < DEEPEST:
                return readable([{"outside": item} for item in written], depth + 1)
            return Node("text", _text(written), outside=True)
        if (named := _named(value)) is not None:
            return named
        if depth >= DEEPEST:
            return Node("text", shown(str(dict(value)), LONGEST))
        return Node("facts", facts=[(_words(name), readable(item, depth + 1)) for name, item in value.items()])
    if isinstance(value, list):
        return _list(value, depth)
    return Node("text", _text(value))


def _named(value: Mapping[str, Any]) -> Node | None:
    """What is only a reference to something, in one line: its name and its id. None: it is more."""
    if not (value.keys() <= {"id", "name", "type"} and isinstance(value.get("id"), str) and "name" in value):
        return None
    name = readable(value["name"])
    return Node("text", f"{name.text} ({shown(value['id'], 64)})", outside=name.outside)


def _list(value: list[Any], depth: int) -> Node:
    more = max(len(value) - ROWS, 0)
    part = value[:ROWS]
    objects = [item for item in part if isinstance(item, Mapping) and set(item) != {"outside"}]
    if not part:
        return Node("text", "none")
    if depth >= DEEPEST:
        return Node("text", shown(str(value), LONGEST))
    words = [_text(item) for item in part if not isinstance(item, Mapping | list)]
    if len(words) == len(part) and sum(map(len, words)) <= LINE:
        return Node("text", ", ".join(words), more=more)
    if len(objects) < len(part) or all(_named(item) is not None for item in objects):
        return Node("items", items=[readable(item, depth + 1) for item in part], more=more)
    columns = list(dict.fromkeys(str(name) for item in objects for name in item))
    if len(columns) > COLUMNS or depth > 2:
        return Node("folds", folds=[(_heading(item), readable(item, depth + 1)) for item in objects], more=more)
    rows = [[(_words(name), readable(item.get(name), depth + 1)) for name in columns] for item in objects]
    return Node("table", columns=[_words(name) for name in columns], rows=rows, more=more)


def _heading(item: Mapping[str, Any]) -> str:
    """What an object is called, in its own words: its id and its name."""
    told = []
    for name in ("id", "title", "name", "summary"):
        value = item.get(name)
        text = value.get("outside") if isinstance(value, Mapping) else value
        if isinstance(text, str) and text and text not in told:
            told.append(text)
    return shown(" · ".join(told[:2]) or "one of them", 120)


def _words(name: object) -> str:
    words = shown(str(name), 60).replace("_", " ")
    return words[:1].upper() + words[1:]


def _text(value: Any) -> str:
    if value is None or value == "":
        return "—"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return shown(str(value), LONGEST)
