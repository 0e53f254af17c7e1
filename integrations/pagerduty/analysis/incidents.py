"""Incidents and what happened to them: as rows, one for each incident, and as columns of all of them, which analyses count.

``log_reading.py`` makes rows of PagerDuty's documents. All instants are whole seconds of Unix time (UTC).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from integrations.pagerduty.analysis.model import Span

Instants = NDArray[np.int64]
Codes = NDArray[np.int32]

KINDS: Final = (
    "trigger",
    "assign",
    "notify",
    "escalate",
    "acknowledge",
    "unacknowledge",
    "resolve",
    "reopen",
    "snooze",
    "urgency_change",
    "request",
    "respond",
    "other",
    "restart",
)
"""Of steps. ``assign``: to somebody, whoever did it; ``request`` and ``respond``: of responders, who were asked to join and did;
``restart``: the policy began again at its first level, as it repeats or another was put in its place. New ones at the end, as
what is kept may name them by their places."""
WAYS: Final = ("", "email", "phone", "sms", "push", "timeout", "manual", "auto")
"""How: somebody was notified, it was escalated (``timeout``: nobody answered; ``manual``: somebody passed it on), it was resolved
(``auto``: by its monitor)."""
ORDER: Final[Mapping[str, int]] = {
    "trigger": 0,
    "acknowledge": 1,
    "respond": 1,
    "escalate": 2,
    "restart": 2,
    "assign": 3,
    "request": 3,
}
"""Of steps at the same second: PagerDuty's ids do not tell which was first. Whoever answered did so before it went on to others,
and it goes to them before they are notified. All others: 4."""
KIND: Final[Mapping[str, int]] = {name: code for code, name in enumerate(KINDS)}
WAY: Final[Mapping[str, int]] = {name: code for code, name in enumerate(WAYS)}
URGENCIES: Final = ("high", "low")
STATUSES: Final = ("triggered", "acknowledged", "resolved")


class Step(NamedTuple):
    """A log entry, or for each of its people one."""

    id: str
    """Of the log entry."""
    at: int
    kind: str
    """One of ``KINDS``."""
    user: str
    """Whom it was assigned or escalated to, who was notified, who acknowledged or resolved it; empty: nobody, or no person."""
    way: str = ""
    """One of ``WAYS``."""
    by: str = ""
    """Who did it, where that is a person."""


@dataclass(frozen=True, slots=True)
class Incident:
    id: str
    created: int
    number: int = 0
    title: str = ""
    service_id: str = ""
    policy_id: str = ""
    urgency: str = "high"
    """``high`` or ``low``, as it is now."""
    priority: str = ""
    """Its name, ``P1``; empty: none."""
    team_ids: tuple[str, ...] = ()
    status: str = "triggered"
    """``triggered``, ``acknowledged`` or ``resolved``."""
    resolved: int | None = None
    steps: tuple[Step, ...] = ()
    """By their time."""


@dataclass(frozen=True, eq=False)
class Log:
    """Columns of incidents by their creation (then id), and of their steps by incident and time. Ids stand once, in tuples, and
    are named by their places there; -1: none."""

    ids: tuple[str, ...]
    created: Instants
    resolved: Instants
    """-1: it is not."""
    service: Codes
    policy: Codes
    priority: Codes
    urgency: NDArray[np.int8]
    """Places in ``URGENCIES``."""
    status: NDArray[np.int8]
    """Places in ``STATUSES``."""
    team_starts: Instants
    """The teams of incident ``i`` are ``team[team_starts[i]:team_starts[i + 1]]``."""
    team: Codes
    step_starts: Instants
    """The steps of incident ``i`` are those from ``step_starts[i]`` to before ``step_starts[i + 1]``."""
    at: Instants
    kind: NDArray[np.int8]
    """Places in ``KINDS``."""
    way: NDArray[np.int8]
    """Places in ``WAYS``."""
    user: Codes
    by: Codes
    services: tuple[str, ...]
    policies: tuple[str, ...]
    priorities: tuple[str, ...]
    teams: tuple[str, ...]
    users: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def place(self) -> Mapping[str, int]:
        """Of each incident, by id."""
        return {id: place for place, id in enumerate(self.ids)}

    @cached_property
    def incident(self) -> Codes:
        """Of each step, the place of its incident."""
        return np.repeat(np.arange(len(self.ids), dtype=np.int32), np.diff(self.step_starts))

    def created_in(self, window: Span) -> slice:
        """The places of those that were created in a window."""
        low, high = np.searchsorted(self.created, [window.start, window.end])
        return slice(int(low), int(high))


class Book:
    """Rows that come and change, from which the columns are made: keeps of each row what the columns need and no more."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[tuple[int, ...], tuple[int, ...], NDArray[np.int64]]] = {}
        self._codes: dict[str, dict[str, int]] = {
            name: {} for name in ("services", "policies", "priorities", "teams", "users")
        }

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, incidents: Iterable[Incident]) -> None:
        """Those that are new, and those that are others than before, in place of what was held of them."""
        for one in incidents:
            fixed = (
                one.created,
                -1 if one.resolved is None else one.resolved,
                self._code("services", one.service_id),
                self._code("policies", one.policy_id),
                self._code("priorities", one.priority),
                URGENCIES.index(one.urgency) if one.urgency in URGENCIES else 0,
                STATUSES.index(one.status) if one.status in STATUSES else 0,
            )
            teams = tuple(self._code("teams", team) for team in one.team_ids if team)
            steps = np.array(
                [
                    (
                        step.at,
                        KIND.get(step.kind, KIND["other"]),
                        WAY.get(step.way, 0),
                        self._code("users", step.user),
                        self._code("users", step.by),
                    )
                    for step in sorted(one.steps, key=lambda step: (step.at, ORDER.get(step.kind, 4)))
                ],
                dtype=np.int64,
            ).reshape(-1, 5)
            self._rows[one.id] = (fixed, teams, steps)

    def drop(self, ids: Iterable[str]) -> None:
        for id in ids:
            self._rows.pop(id, None)

    def _code(self, name: str, value: str) -> int:
        codes = self._codes[name]
        return codes.setdefault(value, len(codes)) if value else -1

    def log(self) -> Log:
        order = sorted(self._rows, key=lambda id: (self._rows[id][0][0], id))
        rows = [self._rows[id] for id in order]
        fixed = np.array([row[0] for row in rows], dtype=np.int64).reshape(-1, 7)
        steps = np.concatenate([row[2] for row in rows]) if rows else np.zeros((0, 5), np.int64)
        return Log(
            ids=tuple(order),
            created=fixed[:, 0].copy(),
            resolved=fixed[:, 1].copy(),
            service=fixed[:, 2].astype(np.int32),
            policy=fixed[:, 3].astype(np.int32),
            priority=fixed[:, 4].astype(np.int32),
            urgency=fixed[:, 5].astype(np.int8),
            status=fixed[:, 6].astype(np.int8),
            team_starts=_starts([len(row[1]) for row in rows]),
            team=np.array([team for row in rows for team in row[1]], dtype=np.int32),
            step_starts=_starts([len(row[2]) for row in rows]),
            at=steps[:, 0].copy(),
            kind=steps[:, 1].astype(np.int8),
            way=steps[:, 2].astype(np.int8),
            user=steps[:, 3].astype(np.int32),
            by=steps[:, 4].astype(np.int32),
            services=tuple(self._codes["services"]),
            policies=tuple(self._codes["policies"]),
            priorities=tuple(self._codes["priorities"]),
            teams=tuple(self._codes["teams"]),
            users=tuple(self._codes["users"]),
        )


def _starts(lengths: Sequence[int]) -> Instants:
    starts = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(np.array(lengths, dtype=np.int64), out=starts[1:])
    return starts


def log_of(incidents: Iterable[Incident]) -> Log:
    book = Book()
    book.take(incidents)
    return book.log()


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which incidents are counted: those to which all of it applies. Empty: all."""

    policy_id: str = ""
    service_id: str = ""
    team_id: str = ""
    """PagerDuty's."""
    urgency: str = ""
    priority: str = ""


EVERY: Final = Chosen()


def chosen_in(log: Log, window: Span, chosen: Chosen = EVERY) -> NDArray[np.bool_]:
    """Of each incident, whether it was created in the window and is among the chosen."""
    found = (log.created >= window.start) & (log.created < window.end)
    for column, values, value in (
        (log.policy, log.policies, chosen.policy_id),
        (log.service, log.services, chosen.service_id),
        (log.urgency, URGENCIES, chosen.urgency),
        (log.priority, log.priorities, chosen.priority),
    ):
        if value:
            found &= column == (values.index(value) if value in values else -2)
    if chosen.team_id:
        code = log.teams.index(chosen.team_id) if chosen.team_id in log.teams else -2
        of = np.repeat(np.arange(len(log)), np.diff(log.team_starts))[log.team == code]
        mine = np.zeros(len(log), dtype=np.bool_)
        mine[of] = True
        found &= mine
    return found
