"""Names beside ids, where PagerDuty's answer has ids alone: read by calls of the caller's own, few and at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from integrations.pagerduty.tools.asking import Ask, Run, Told
from integrations.pagerduty.tools.slim import names_of

LISTS: Final = {
    "user": ("users", "list_users and get_user_data"),
    "technical_service": ("services", "list_services and get_service"),
    "business_service": ("business_services", "list_business_services and get_business_service"),
}
"""Kind → the path and key of its list, and the tools that whoever looks names up must be allowed."""
FEW: Final = 3
"""So many are read one by one; of more, first the beginning of the list."""
MOST: Final = 10
"""So many are read one by one at most."""


async def names(kind: str, ids: Iterable[str], run: Run) -> tuple[dict[str, str], Told | None]:
    """Id → name, of all whose name could be read; and what kept the others from it, or None."""
    key, tools = LISTS[kind]
    wanted = list(dict.fromkeys(ids))
    found: dict[str, str] = {}
    failures: list[Told] = []
    if len(wanted) > FEW:
        told = await run(Ask("GET", f"/{key}", (("limit", "100"),)))
        if told.kind:
            failures.append(told)
        else:
            listed = names_of(told.document.get(key, ()))
            found = {id: listed[id] for id in wanted if id in listed}
    left = [id for id in wanted if id not in found]
    answers = await asyncio.gather(*(run(Ask("GET", f"/{key}/{id}")) for id in left[:MOST]))
    for told in answers:
        if told.kind:
            failures.append(told)
        else:
            found |= names_of([row for row in told.document.values() if isinstance(row, Mapping)])
    missing = [id for id in wanted if id not in found]
    if not missing:
        return found, None
    first = failures[0] if failures else Told(kind="failed", error={"problem": f"They are over {MOST}."})
    return found, _explained(first, missing, tools)


def _explained(told: Told, missing: list[str], tools: str) -> Told:
    """Why names are missing, and of what."""
    problem = f"{len(missing)} names could not be looked up: {told.error.get('problem', '')}"
    remedy = f"The ids stand without them. To look names up, {tools} are needed. {told.error.get('remedy', '')}"
    error: dict[str, Any] = {**told.error, "problem": problem, "remedy": remedy.strip(), "ids": missing}
    return Told(kind=told.kind, error=error)


def named(id: str, known: Mapping[str, str]) -> dict[str, str]:
    """``{"id", "name"}`` of what has a known name; else its id alone."""
    return {"id": id, "name": known[id]} if known.get(id) else {"id": id}
