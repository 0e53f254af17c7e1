"""Ids in place of names, found by a search call of the caller's own: decided and recorded like any other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from integrations.pagerduty.tools.arguments import NAMED, is_id, named
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Told, Wrong
from policies.core.text import shown

MAXIMUM_CANDIDATES: Final = 10


@dataclass(frozen=True, slots=True)
class _Search:
    tool: str
    """The tool that whoever searches must be allowed."""
    lists: tuple[tuple[str, str], ...]
    """Paths to search, each with the key of its rows."""


SEARCHES: Final[Mapping[str, _Search]] = {
    "service": _Search("list_services", (("/services", "services"),)),
    "schedule": _Search("list_schedules", (("/schedules", "schedules"), ("/v3/schedules", "schedules"))),
    "escalation_policy": _Search("list_escalation_policies", (("/escalation_policies", "escalation_policies"),)),
    "team": _Search("list_teams", (("/teams", "teams"),)),
    "user": _Search("list_users", (("/users", "users"),)),
}
"""Where a thing with a unique name is looked for."""


async def identified(given: Given, run: Run, *, me: bool = False) -> Given:
    """The arguments with every name replaced by the id it stands for, all looked up at once. ``me``: whether the tool takes
    that word for whoever the connection's token belongs to.

    Raises ``Wrong`` for a name that nothing or several things have, ``Failed`` where it could not be looked up."""
    wanted: dict[tuple[str, str], None] = {}
    for parameter, value in given.arguments.items():
        if kind := named(parameter):
            for text in value if isinstance(value, list) else [value]:
                if not (_stays(parameter, text) or (me and text == "me")):
                    wanted[kind, text] = None
    if not wanted:
        return given
    ids = dict(zip(wanted, await asyncio.gather(*(_find(kind, name, run) for kind, name in wanted)), strict=True))
    found = dict(given.arguments)
    for parameter, value in given.arguments.items():
        if kind := named(parameter):
            found[parameter] = (
                [ids.get((kind, text), text) for text in value]
                if isinstance(value, list)
                else ids.get((kind, value), value)
            )
    return dataclasses.replace(given, arguments=found)


def _stays(parameter: str, text: str) -> bool:
    """Whether it is an id already, or a word that stands for something else."""
    return is_id(text) or (text == "empty_member" and "member" in parameter)


async def _find(kind: str, name: str, run: Run) -> str:
    search = SEARCHES[kind]
    query = (("query", name), ("limit", "100"))
    answers = await asyncio.gather(*(run(Ask("GET", path, query)) for path, _ in search.lists))
    rows: list[Mapping[str, Any]] = []
    for told, (_, key) in zip(answers, search.lists, strict=True):
        if told.kind:
            raise Failed(_explained(told, kind, name, search.tool))
        rows += told.document.get(key, ())
    words = NAMED[kind]
    exact = {row["id"]: row for row in rows if _is_named(row, name)}
    if len(exact) == 1:
        return str(next(iter(exact)))
    candidates = tuple(
        {"id": row["id"], "name": shown(_name(row), 120)} for row in [*exact.values(), *rows][:MAXIMUM_CANDIDATES]
    )
    quoted = repr(shown(name, 64))
    if exact:
        raise Wrong(f"{len(exact)} {words}s are named {quoted}.", "Pass the id of the one you mean.", candidates)
    if candidates:
        raise Wrong(
            f"No {words} is named exactly {quoted}; these come near.", "Pass the id of the one you mean.", candidates
        )
    raise Wrong(f"No {words} is named {quoted}.", f"Find the {words}'s id with {search.tool}, and pass that.")


def _explained(told: Told, kind: str, name: str, tool: str) -> Told:
    """A failed search, with what to do without it."""
    words = NAMED[kind]
    quoted = repr(shown(name, 64))
    problem = f"The {words} {quoted} could not be looked up by its name: {told.error.get('problem', '')}"
    remedy = f"Pass the {words}'s id in place of its name. To look names up, {tool} is needed. {told.error.get('remedy', '')}"
    return dataclasses.replace(told, error={**told.error, "problem": problem, "remedy": remedy.strip()})


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("name") or row.get("summary") or "")


def _is_named(row: Mapping[str, Any], name: str) -> bool:
    folded = name.strip().casefold()
    return folded in (_name(row).casefold(), str(row.get("email", "")).casefold())
