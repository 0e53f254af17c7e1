"""Ids in place of names, found by a search call of the caller's own: decided and recorded like any other."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from integrations.pagerduty.tools.arguments import NAMED, is_id, named, several
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Told, Wrong
from policies.core.text import shown

MAXIMUM_CANDIDATES: Final = 10
OF_ME: Final = "get_user_data"
"""The tool to which ``me`` is the owner of the token."""
MAXIMUM_NAMES: Final = 20
"""Of one call: each is a search, or two."""


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


async def identified(tool: str, given: Given, run: Run) -> Given:
    """A tool's arguments with every name replaced by the id it stands for, all looked up at once.

    Raises ``Wrong`` for a name that nothing or several things have, ``Failed`` where it could not be looked up."""
    wanted: dict[tuple[str, str], None] = {}
    for parameter, value in given.arguments.items():
        if kind := named(parameter):
            for text in value if isinstance(value, list) else [value]:
                if text == "me" and tool == OF_ME:
                    continue
                if text == "me" and kind == "user":
                    # PagerDuty takes it for the id of nobody, and answers that nobody has incidents or is on call.
                    raise Wrong(f"{parameter}: me has a meaning for {OF_ME} alone.", "Pass the user's id or name.")
                if not _stays(parameter, text):
                    wanted[kind, text] = None
    if not wanted:
        return given
    if len(wanted) > MAXIMUM_NAMES:
        remedy = "Pass ids in place of names: a list tool shows both."
        raise Wrong(f"{len(wanted)} names would have to be looked up, and {MAXIMUM_NAMES} can be.", remedy)
    # All are awaited, whichever fails: none goes on, unseen, after the answer.
    looked = await asyncio.gather(*(_find(kind, name, run) for kind, name in wanted), return_exceptions=True)
    ids: dict[tuple[str, str], str] = {}
    for key, told in zip(wanted, looked, strict=True):
        if isinstance(told, BaseException):
            raise told
        ids[key] = told
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
    # Users may have the name of another, who need not be among the first.
    beyond = kind == "user" and any(told.document.get("more") for told in answers)
    if len(exact) == 1 and not beyond:
        return str(next(iter(exact)))
    near = {**exact, **{row["id"]: row for row in rows}}
    candidates = tuple(map(_candidate, [*near.values()][:MAXIMUM_CANDIDATES]))
    quoted = repr(shown(name, 64))
    if beyond:
        raise Wrong(f"Too many users answer to {quoted} to say who is meant.", "Pass the user's id.", candidates)
    if exact:
        raise Wrong(
            f"{len(exact)} {several(words)} are named {quoted}.", "Pass the id of the one you mean.", candidates
        )
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


def _candidate(row: Mapping[str, Any]) -> dict[str, str]:
    """Of users of one name the addresses tell who is who."""
    address = {"email": shown(str(row["email"]), 120)} if row.get("email") else {}
    return {"id": row["id"], "name": shown(_name(row), 120), **address}


def _is_named(row: Mapping[str, Any], name: str) -> bool:
    folded = name.strip().casefold()
    return folded in (_name(row).casefold(), str(row.get("email", "")).casefold())
