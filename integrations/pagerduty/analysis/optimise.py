"""What would share the load better, or get an answer sooner: proposals, before and after. None applies itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from integrations.pagerduty.analysis.incidents import Log
from integrations.pagerduty.analysis.load import API_HOURS, Hours
from integrations.pagerduty.analysis.model import Account, Slice, Span
from integrations.pagerduty.analysis.response import LevelTimes


class Turn(NamedTuple):
    start: int
    end: int
    user: str


class Swap(NamedTuple):
    """An override to be: ``to`` takes what is ``was``'s."""

    start: int
    end: int
    was: str
    to: str


@dataclass(frozen=True, slots=True)
class Share:
    """What one person has of the window."""

    user: str
    hours: float
    sleep: float
    """Expected sleep load: hours of their own sleep on call, each times the pages an hour that are expected then (1 where they
    are not known)."""
    short_rests: int


@dataclass(frozen=True, slots=True)
class Swaps:
    """The fewest overrides found that lower the load at night and how unevenly it lies."""

    schedule_id: str
    window: Span
    swaps: tuple[Swap, ...]
    before: tuple[Share, ...]
    after: tuple[Share, ...]
    """In the same order."""
    cost_before: float
    cost_after: float
    exact: bool
    """Whether no better exists, not only none was found."""
    words: tuple[str, ...]
    """What it comes to, as sentences; where there is none, why."""


@dataclass(frozen=True, slots=True)
class Constraints:
    rest: int = 11 * 3600
    """Seconds between two turns of somebody, at least; no swap makes it worse than it is."""
    most_changes: int = 12
    by_day: bool = True
    """Never to give somebody more hours in their sleep than whoever had the turn, each by their own clock."""
    away: Mapping[str, Sequence[Span]] | None = None
    """When people cannot take turns."""


USUAL: Final = Constraints()


def swaps(
    account: Account,
    schedule_id: str,
    slices: Sequence[Slice],
    window: Span,
    *,
    busy: Mapping[str, Sequence[Span]],
    rates: Sequence[float] = (),
    hours: Hours = API_HOURS,
    constraints: Constraints = USUAL,
) -> Swaps:
    """``slices``: who is on call on the schedule. ``busy``: when people are on call on other schedules. ``rates``: pages an hour
    in each of the week's 168 hours (UTC, from Monday)."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Delays:
    """Other delays of a policy, or another order of its levels."""

    policy_id: str
    before: tuple[int, ...]
    """Minutes, by level."""
    after: tuple[int, ...]
    order: tuple[int, ...]
    """Levels as they are now, from 1, in the order proposed."""
    expected_before: float | None
    """Seconds: median until somebody acknowledges, by what was measured at each level; None: not enough is known."""
    expected_after: float | None
    words: tuple[str, ...]


def delays(account: Account, policy_id: str, levels: Sequence[LevelTimes], log: Log) -> Delays | None:
    """None: nothing better is known than what it is."""
    raise NotImplementedError


def expected(minutes: Sequence[int], levels: Sequence[LevelTimes]) -> float | None:
    """Seconds until somebody acknowledges (median), with such delays: for what-ifs."""
    raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Second:
    """A schedule there already that would close gaps of a level."""

    policy_id: str
    level: int
    schedule_id: str
    closes: tuple[Span, ...]
    uncovered_before: int
    """Seconds in the window."""
    uncovered_after: int
    words: tuple[str, ...]


def second_schedules(
    account: Account, policy_id: str, rendered: Mapping[str, Sequence[Slice]], window: Span
) -> tuple[Second, ...]:
    """Those that close most first, at most five."""
    raise NotImplementedError
