"""How fast somebody answers: times to acknowledge, engage, mobilise and resolve, and at which level it takes longest.

What is not answered yet, or went on to somebody else before it was, is not left out, as a mean of answered ones would: it counts
as not answered for as long as it was waited for (Kaplan-Meier).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from integrations.pagerduty.analysis.incidents import EVERY, Chosen, Log
from integrations.pagerduty.analysis.model import Span

Measure = Literal["notify", "acknowledge", "engage", "mobilise", "resolve"]
MEASURES: Final[tuple[Measure, ...]] = ("notify", "acknowledge", "engage", "mobilise", "resolve")
By = Literal["policy", "level", "service", "team", "urgency", "priority", "hour"]


class Estimate(NamedTuple):
    """Seconds, with a 95 % interval. None: not known, because as many did not happen; of an end of the interval likewise."""

    seconds: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True)
class Times:
    """Of one measure."""

    count: int
    """What is counted, those that did not happen included."""
    happened: int
    median: Estimate
    p90: Estimate
    mean: float | None
    """Seconds, of those that happened alone: what is told elsewhere, and misleads where much did not."""


@dataclass(frozen=True, slots=True)
class Group:
    key: str
    """An id; of a level its number, of an hour ``0`` to ``23``, of an urgency or priority its name; empty: none."""
    incidents: int
    times: Mapping[Measure, Times]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stretch of the way: ``notify`` from its creation to the first notification, ``acknowledge`` from there to the first
    acknowledgement, ``mobilise`` from there to the second responder's, ``resolve`` from there to its end."""

    name: Measure
    times: Times
    starts: float
    """Seconds after creation, by the medians of the stages before."""


class Answers(NamedTuple):
    """How many answered after so long, and how many were waited for until then: all that a Kaplan-Meier curve is made of. By
    time; times at which nobody answered are left out."""

    at: tuple[int, ...]
    """Seconds."""
    answered: tuple[int, ...]
    waiting: tuple[int, ...]
    """Just before: neither answered nor waited for no longer."""


@dataclass(frozen=True, slots=True)
class LevelTimes:
    """Of one level of a policy (``policy_id``), or of all policies' (empty)."""

    policy_id: str
    level: int
    reached: int
    """Incidents that came to it."""
    answered: int
    """That were acknowledged there."""
    times: Times
    """From when it came to the level to the acknowledgement there; what went on to another level was not answered so long."""
    naive: float | None
    """Seconds: the mean from creation to acknowledgement of those acknowledged there. The baseline."""
    answers: Answers | None = None
    """What ``times`` was made of, for what-ifs with other delays."""


@dataclass(frozen=True, slots=True)
class Slowest:
    """The level that answers slowest, of those of which enough is known to say so."""

    level: LevelTimes
    next: LevelTimes | None
    """The next slowest."""
    sure: bool
    """Whether their intervals are apart."""


@dataclass(frozen=True, slots=True)
class Response:
    window: Span
    incidents: int
    times: Mapping[Measure, Times]
    waterfall: tuple[Stage, ...]
    levels: tuple[LevelTimes, ...]
    """Over all policies that are counted, by level."""
    slowest: Slowest | None


def response(log: Log, window: Span, now: int, chosen: Chosen = EVERY) -> Response:
    """Of the incidents created in ``window``; what did not happen until ``now`` counts as waited for until then."""
    raise NotImplementedError


def grouped(log: Log, window: Span, now: int, by: By, chosen: Chosen = EVERY) -> tuple[Group, ...]:
    """The same by one thing, those with most incidents first (levels and hours in their order). ``hour``: of creation, UTC."""
    raise NotImplementedError


def policy_levels(log: Log, window: Span, now: int, policy_id: str) -> tuple[LevelTimes, ...]:
    """Of one policy, by level."""
    raise NotImplementedError


def slowest_of(levels: tuple[LevelTimes, ...]) -> Slowest | None:
    """None: of too few of them enough is known."""
    raise NotImplementedError
