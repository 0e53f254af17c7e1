"""What tools that are answered from the mirror share: what they are given, and how they name things, times and pages of rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from integrations.gateway.integration import Unanswered
from integrations.models import Connection
from integrations.pagerduty.analysis.intended import Mark
from integrations.pagerduty.analysis.model import Account, Problem, Span
from integrations.pagerduty.tools.arguments import NAMED, is_id, several
from integrations.pagerduty.tools.asking import Given
from integrations.pagerduty.tools.names import MAXIMUM_CANDIDATES
from integrations.pagerduty.tools.slim import plain, utc
from integrations.sweep import Sweep
from policies.core.call import Target
from policies.core.text import shown

if TYPE_CHECKING:
    from integrations.history import History

FEW, SOME, MANY = 3, 25, 500
"""Rows of a list within a row: of one of many things, of the one that was asked for, and in full."""
MINUTE: Final = 60


@dataclass(frozen=True)
class Mirror:
    """What is kept of one connection; what costs more is worked out when it is called."""

    account: Account
    as_of: dt.datetime
    unread: Mapping[str, str]
    """Part, in words → why it could not be read."""
    sweep: Callable[[], Sweep]
    """From now to 12 weeks ahead."""
    marks: Callable[[], Mapping[str, Sequence[tuple[Mark, str]]]]
    """Gaps that the team means to be there, each with its reason, by policy id."""
    connection: Connection
    history: Callable[[], History]
    """Its incidents."""


Answer = tuple[dict[str, Any], tuple[Target, ...]]
"""A document, and what it is about."""


def id_of(given: Given, parameter: str, known: Mapping[str, Any]) -> str:
    """The id that an argument stands for: it is one, or an exact name that one thing alone has."""
    text, words = str(given[parameter]), NAMED[parameter.removesuffix("_id")]
    if text in known:
        return text
    quoted = repr(shown(text, 64))
    names = {id: one if isinstance(one, str) else str(one.name) for id, one in known.items()}
    folded = text.strip().casefold()
    exact = [id for id, name in names.items() if name.casefold() == folded]
    if len(exact) == 1:
        return exact[0]
    near = exact or [id for id, name in names.items() if folded in name.casefold()]
    candidates = tuple({"id": id, "name": shown(names[id], 120)} for id in near[:MAXIMUM_CANDIDATES])
    if exact:
        raise wrong(
            parameter,
            f"{len(exact)} {several(words)} are named {quoted}.",
            "Pass the id of the one you mean.",
            candidates,
        )
    if candidates:
        problem = f"No {words} is named exactly {quoted}; these come near."
        raise wrong(parameter, problem, "Pass the id of the one you mean.", candidates)
    like = "has the id" if is_id(text) else "is named"
    problem = f"No {words} in the portal's mirror {like} {quoted}."
    remedy = "It may be new, gone, or outside what the connection reaches: look with "
    raise wrong(parameter, problem, f"{remedy}list_{several(words).replace(' ', '_')}, which asks PagerDuty itself.")


def wrong(parameter: str, problem: str, remedy: str, candidates: tuple[Mapping[str, Any], ...] = ()) -> Unanswered:
    return Unanswered(problem, remedy, about=parameter, candidates=candidates)


def page_of(rows: Sequence[Any], given: Given) -> tuple[Sequence[Any], dict[str, Any]]:
    limit, offset = given["limit"], given["offset"]
    page = rows[offset : offset + limit]
    more = {"more": {"offset": offset + limit}} if offset + limit < len(rows) else {}
    return page, {"count": len(page), "total": len(rows), **more}


def listed(told: dict[str, Any], name: str, rows: list[Any], count: int) -> None:
    """``rows`` under a name, with how many there are beyond them; nothing, where there are none."""
    if rows:
        told[name] = rows
    if count > len(rows):
        told[f"{name}_not_shown"] = count - len(rows)


def reference(id: str, name: str) -> dict[str, str]:
    return {"id": plain(id, 64), **({"name": plain(name, 200)} if name else {})}


def sentences(problems: Sequence[Problem]) -> list[str]:
    return [
        plain(f"{one.where}: {one.words}" if one.where and one.where not in one.words else one.words, 500)
        for one in problems
    ]


def span_of(span: Span, given: Given) -> dict[str, Any]:
    return {"start": time_of(span.start, given), "end": time_of(span.end, given), "minutes": minutes(span.seconds)}


def minutes(seconds: int) -> int | float:
    """Whole, where they are; nothing that there is becomes none."""
    return seconds // MINUTE if seconds % MINUTE == 0 else round(seconds / MINUTE, 1)


def time_of(at: int, given: Given) -> Any:
    return utc(iso(at), given)


def iso(at: int) -> str:
    return f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
