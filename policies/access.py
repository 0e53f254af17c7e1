"""Who could use a tool on a day: every agent key and person of a team, judged by the configuration of each moment of it."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

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


@dataclass(slots=True)
class Access:
    """What one holder could use, and when."""

    holder: Holder
    tools: dict[str, list[Span]] = field(default_factory=dict)
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


Could = dict[tuple[Holder, str], dt.datetime | None]
"""Holder and tool → when the holder's key expires; None: it does not."""


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
    spans: dict[tuple[Holder, str], list[Span]] = {}
    could: dict[int, Could] = {}
    until: dict[int, dt.datetime] = dict.fromkeys(teams, end)

    def close(team_id: int, since: dt.datetime) -> None:
        """What was so of a team from ``since`` until what came after it."""
        for key, expires_at in could.pop(team_id, {}).items():
            last = min(until[team_id], expires_at) if expires_at else until[team_id]
            if since < last:
                told = spans.setdefault(key, [])
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
        if change.at < end:
            if not judged:
                could, judged = _judged(there, teams, tools, risk), True
            moved = teams if change.team_id is None else [change.team_id] if change.team_id in until else []
            for team_id in moved:
                close(team_id, change.at)
            there.undo(change)
            could |= _judged(there, moved, tools, risk)
        else:
            there.undo(change)
    if not judged:
        could = _judged(there, teams, tools, risk)
    for team_id in teams:
        close(team_id, begin)
    rows: dict[Holder, Access] = {}
    order = {name: place for place, name in enumerate(tools)}
    for (holder, name), told in sorted(spans.items(), key=lambda pair: order[pair[0][1]]):
        rows.setdefault(holder, Access(holder)).tools[name] = told[::-1]
    found = sorted(
        rows.values(), key=lambda row: (row.holder.team, row.holder.team_id, row.holder.kind, row.holder.name)
    )
    return Found(found, begin, end, newest, frozenset(there.unknown))


def _judged(
    there: Configuration, teams: Collection[int], tools: Mapping[str, Tool], risk: Risk | None
) -> dict[int, Could]:
    """Team → who of it could use what, by the configuration as it is there."""
    policy = there.policy()
    wanted = [tool for tool in tools.values() if risk is None or policy.risk(tool) is risk]
    keys: dict[int, list[Key]] = defaultdict(list)
    for key in there.keys.values():
        keys[key.team_id].append(key)
    everywhere = {email for email, person in there.people.items() if person.role}
    found: dict[int, Could] = {}
    for team_id in teams:
        if team_id not in there.teams:
            continue
        could: Could = {}
        for key in keys[team_id]:
            if not key.is_revoked:
                principal = there.agent(key)
                _add(could, policy, principal, principal.credential, wanted, key.expires_at)
        for email in (there.members[team_id].keys() | everywhere) & there.people.keys():
            person = there.people[email]
            principal = there.person(person, team_id)
            if principal.role in (Role.MANAGER, Role.MEMBER):
                _add(could, policy, principal, person.email, wanted, None)
        found[team_id] = could
    return found


def _add(
    could: Could,
    policy: Policy,
    principal: Principal,
    known_by: str,
    tools: Sequence[Tool],
    expires_at: dt.datetime | None,
) -> None:
    holder = Holder(
        principal.team_id or 0,
        principal.team,
        principal.kind,
        principal.id,
        principal.name,
        known_by,
        principal.role.value if principal.kind is Kind.PERSON else _narrowed(principal),
    )
    for tool in tools:
        if decide(policy, principal, tool, "").allowed:
            could[holder, tool.name] = expires_at


def _narrowed(principal: Principal) -> str:
    if principal.narrowed_to is None:
        return "not narrowed"
    return f"narrowed to {len(principal.narrowed_to)} tool{'' if len(principal.narrowed_to) == 1 else 's'}"
