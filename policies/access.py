"""Who could use a tool on a day: every agent key and person of a team, judged by the configuration of each moment of it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from policies import past
from policies.core.call import Kind, Principal, Risk, Role, Tool
from policies.core.decide import Policy, decide
from policies.past import Configuration, Key

Span = tuple[dt.datetime, dt.datetime]


@dataclass(frozen=True, slots=True)
class Holder:
    """Somebody who could, as they were then."""

    team_id: int
    team: str
    kind: Kind
    id: str
    name: str
    known_by: str
    """Of a key ``pwk_`` and its prefix, of a person their e-mail."""
    as_what: str
    """Of a key what it is narrowed to, of a person their role."""


@dataclass(frozen=True, slots=True)
class Access:
    """What one holder could use, and when."""

    holder: Holder
    tools: Mapping[str, list[Span]]
    """Tool → the times of that day, in order."""


@dataclass(frozen=True, slots=True)
class Found:
    """``begin`` and ``end``: what was looked at of the day, which may not be over, or lie before the record begins."""

    rows: list[Access]
    begin: dt.datetime
    end: dt.datetime
    entries: int
    """The highest entry of configuration that it was made from; 0: none."""
    unknown: frozenset[str]
    """Kinds of changes since then that were not taken into account."""

    def all_day(self, spans: Sequence[Span]) -> bool:
        return len(spans) == 1 and spans[0] == (self.begin, self.end)


Could = dict[Holder, tuple[list[str], dt.datetime | None]]
"""Holder → the tools that they can use, and when their key expires; None: it does not."""


def who_could(
    teams: Collection[int],
    tools: Mapping[str, Tool],
    begin: dt.datetime,
    end: dt.datetime,
    risk: Risk | None = None,
) -> Found:
    """Who of ``teams`` could use which of ``tools`` between two moments, the second not in the future. ``risk``: only while a
    tool was of that risk.

    Raises:
        TooFar: too much has changed since.
    """
    there = past.present(teams, tools)
    newest = 0
    spans: dict[Holder, dict[str, list[Span]]] = {}
    could: dict[int, Could] = {}
    until: dict[int, dt.datetime] = dict.fromkeys(teams, end)

    def close(team_id: int, since: dt.datetime) -> None:
        """What was so of a team from ``since`` until what came after it."""
        for holder, (names, expires_at) in could.pop(team_id, {}).items():
            last = min(until[team_id], expires_at) if expires_at else until[team_id]
            if since >= last:
                continue
            of_holder = spans.setdefault(holder, {})
            for name in names:
                told = of_holder.setdefault(name, [])
                # Backwards: what comes next in time is there already.
                if told and told[-1][0] == last:
                    told[-1] = (since, told[-1][1])
                else:
                    told.append((since, last))
        until[team_id] = since

    judged = False
    for change in past.changes():
        newest = newest or change.id
        if change.at < begin:
            break
        if not judged and change.at < end:
            could, judged = _judged(there, teams, tools, risk), True
        if not there.undo(change) or not judged:
            continue
        moved = teams if change.team_id is None else [change.team_id] if change.team_id in until else []
        for team_id in moved:
            close(team_id, change.at)
        could |= _judged(there, moved, tools, risk)
    if not judged:
        could = _judged(there, teams, tools, risk)
    for team_id in teams:
        close(team_id, begin)
    order = {name: place for place, name in enumerate(tools)}
    rows = [
        Access(holder, {name: of_holder[name][::-1] for name in sorted(of_holder, key=order.__getitem__)})
        for holder, of_holder in spans.items()
    ]
    rows.sort(key=lambda row: (row.holder.team, row.holder.team_id, row.holder.kind, row.holder.name, row.holder.id))
    return Found(rows, begin, end, newest, frozenset(there.unknown))


def _judged(
    there: Configuration, teams: Collection[int], tools: Mapping[str, Tool], risk: Risk | None
) -> dict[int, Could]:
    """Team → who of it could use what, by the configuration as it is there."""
    policy = there.policy(teams)
    wanted = [tool for tool in tools.values() if risk is None or policy.risk(tool) is risk]
    keys: dict[int, list[Key]] = defaultdict(list)
    for key in there.keys.values():
        keys[key.team_id].append(key)
    everywhere = {email for email, person in there.people.items() if person.role}
    found: dict[int, Could] = {}
    for team_id in teams:
        if team_id not in there.teams:
            continue
        could = found[team_id] = {}
        for key in keys[team_id]:
            principal = there.agent(key)
            if not key.is_revoked and (names := _allowed(policy, principal, wanted)):
                could[_holder(principal, principal.credential)] = names, key.expires_at
        for email in (there.members[team_id].keys() | everywhere) & there.people.keys():
            principal = there.person(there.people[email], team_id)
            if principal.role in (Role.MANAGER, Role.MEMBER) and (names := _allowed(policy, principal, wanted)):
                could[_holder(principal, email)] = names, None
    return found


def _allowed(policy: Policy, principal: Principal, tools: Sequence[Tool]) -> list[str]:
    return [tool.name for tool in tools if decide(policy, principal, tool, "").allowed]


def _holder(principal: Principal, known_by: str) -> Holder:
    return Holder(
        principal.team_id or 0,
        principal.team,
        principal.kind,
        principal.id,
        principal.name,
        known_by,
        principal.role.value if principal.kind is Kind.PERSON else _narrowed(principal),
    )


def _narrowed(principal: Principal) -> str:
    if principal.narrowed_to is None:
        return "not narrowed"
    return f"narrowed to {len(principal.narrowed_to)} tool{'' if len(principal.narrowed_to) == 1 else 's'}"
