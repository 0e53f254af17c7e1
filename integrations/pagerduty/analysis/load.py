"""What being on call costs whom: hours, pages, nights and rests, and how evenly that is shared.

Hours of the day are by the person's own clock and by PagerDuty's API definition, unless others are given. An interruption is a
notification other than by e-mail; those of one person within a minute are one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from integrations.pagerduty.analysis.incidents import EVERY, Chosen, Log
from integrations.pagerduty.analysis.model import Account, Span


@dataclass(frozen=True, slots=True)
class Hours:
    """Of the day, 0 to 24, by a person's own clock; sleep comes before the others. The default: as PagerDuty's API counts."""

    business: tuple[int, int] = (8, 18)
    """On weekdays; the rest of what is not sleep is off hours."""
    sleep: tuple[int, int] = (22, 8)
    """Every day."""
    weekend: tuple[int, ...] = (6, 7)
    """Monday 1."""


API_HOURS: Final = Hours()
INSIGHTS_HOURS: Final = Hours(sleep=(21, 8))
"""As PagerDuty's Insights count."""


class Duty(NamedTuple):
    """A time in which somebody is on call."""

    start: int
    end: int
    user: str
    level: int
    """Of an escalation policy, from 1; 0: of a schedule that no policy pages."""
    schedule_id: str = ""
    """Empty: named by the policy itself."""
    policy_id: str = ""


@dataclass(frozen=True, slots=True)
class PersonLoad:
    user: str
    seconds: int
    """On call, by whatever schedules and levels: at once counts once."""
    level_1: int
    """Seconds."""
    level_2_plus: int
    """Seconds on later levels and not on the first."""
    pages: int
    """Incidents that they were notified of, otherwise than by e-mail."""
    sleep_pages: int
    """Of these, those that notified them in sleep hours at least once."""
    interruptions: int
    business: int
    off: int
    sleep: int
    """Interruptions."""
    longest_run: int
    """Seconds on call without a break."""
    short_rests: int
    """Breaks between turns under 11 hours."""
    weekend_seconds: int
    nights_woken: int
    """Of their own nights, those with an interruption in sleep hours."""
    earlier: Mapping[str, float] = field(default_factory=dict)
    """Their own mean of the same length of time over up to six earlier ones that are known: ``seconds``, ``pages``,
    ``interruptions``, ``sleep``. Empty: none is known."""

    @property
    def weekend_share(self) -> float:
        """0 to 1."""
        return self.weekend_seconds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Fairness:
    """How evenly one thing is shared among those who are eligible for it."""

    what: str
    """``seconds``, ``weighted`` (nights and weekends double), ``pages``, ``interruptions`` or ``sleep_pages``."""
    people: int
    gini: float | None
    """0: all alike, towards 1: one has it all. None, here and below: nothing is claimed."""
    cv: float | None
    """Standard deviation by mean."""
    pairwise: float | None
    """0 to 100: over all pairs the mean of the lesser's share of the greater's."""
    most: tuple[str, float] | None
    """Who has most, and its share of all, 0 to 1."""
    untold: str
    """Why nothing is claimed, as a sentence; empty: it is."""


@dataclass(frozen=True, slots=True)
class Load:
    window: Span
    people: tuple[PersonLoad, ...]
    """All who were on call or paged in it, the most sleep interruptions first, then pages, then hours."""
    fairness: Mapping[str, Fairness]
    """By ``what``."""
    heat: tuple[tuple[int, ...], ...]
    """Interruptions: seven weekdays from Monday of 24 hours each, by each person's own clock."""


def load(
    account: Account,
    log: Log,
    duties: Sequence[Duty],
    window: Span,
    *,
    known: Span,
    hours: Hours = API_HOURS,
    chosen: Chosen = EVERY,
    cycle: int | None = None,
) -> Load:
    """``known``: since and until when duties and log tell everything: earlier times of comparison lie inside it. ``cycle``:
    seconds of one whole rotation, of which fairness needs two; None: it is not known, and each eligible person must have begun
    two turns or be on call through half of the window."""
    raise NotImplementedError


def months(
    account: Account, log: Log, duties: Sequence[Duty], known: Span, *, zone: str, hours: Hours = API_HOURS
) -> tuple[Load, ...]:
    """By calendar month of ``zone``, the oldest first: for trends. Months that ``known`` holds in part are left out."""
    raise NotImplementedError


def gini(values: Sequence[float]) -> float:
    raise NotImplementedError


def variation(values: Sequence[float]) -> float:
    """Standard deviation (of the whole population) by mean; of nothing but zeros 0."""
    raise NotImplementedError


def pairwise(values: Sequence[float]) -> float:
    """0 to 100."""
    raise NotImplementedError
