"""An escalation policy as a picture: its levels one under the other, each along the minutes in which it has an incident that
nobody acknowledges, with how fast it was answered there. Pure geometry; a table beside it tells the same.

Along the time a place is a percentage of the picture's width, so that it fits every screen and its letters stay as large as they
are. Down the picture it is pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from integrations.pagerduty.analysis.model import Policy

if TYPE_CHECKING:
    # It comes with numpy, which no page needs until it tells of incidents.
    from integrations.pagerduty.analysis.response import LevelTimes

AXIS, ROW, FOOT = 26, 64, 34
"""Pixels: the minutes at the top, a level, and what becomes of it after the last."""
BAR, TRACK = 22, 47
"""Pixels from a row's top: the bar of its delay, and the line of its answers."""
STEPS: Final = (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 720, 1_440, 2_880, 10_080)
"""Minutes between the marks of the axis."""
MARKS: Final = 6
LONGER: Final = 1.5
"""How far the picture goes beyond the last delay for the sake of answers that take longer."""
State = Literal["reached", "nobody", "unknown"]


@dataclass(frozen=True, slots=True)
class Standing:
    """What is drawn of a level besides its delay."""

    names: tuple[str, ...]
    """Who is reached now."""
    state: State
    """``nobody``: it is skipped at once; ``unknown``: whether is not known."""
    gaps: int
    """Times ahead in which it reaches nobody by itself."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How fast it was answered there: percentages of the width, from when it comes to the level."""

    median: float
    low: float
    high: float
    p90: float | None
    """None: not known, because more than a tenth went unanswered; or beyond the picture."""
    is_late: bool
    """Whether the median is longer than the delay: most of what comes there goes on before somebody answers."""


@dataclass(frozen=True, slots=True)
class Rung:
    number: int
    y: int
    x: float
    width: float
    begins: int
    """Minutes after the incident, where every level before reaches somebody."""
    delay: int
    round_robin: bool
    standing: Standing
    answers: Answers | None

    @property
    def who(self) -> str:
        if self.standing.state == "unknown" and not self.standing.names:
            return "who is on call now is not known"
        if not self.standing.names:
            return "nobody now: skipped at once"
        return ", ".join(self.standing.names)

    @property
    def short(self) -> str:
        """The same where there is little room."""
        first, *others = self.standing.names or (self.who,)
        more = f" +{len(others)}" if others else ""
        return f"{first if len(first) <= 26 else first[:25] + '…'}{more}"

    @property
    def comes(self) -> str:
        return f"after {lasting(self.begins)}" if self.begins else "at once"

    @property
    def end(self) -> float:
        """Where its delay is over."""
        return round(self.x + self.width, 2)

    @property
    def ends_late(self) -> bool:
        """Whether what stands at its end must be written before it."""
        return self.x + self.width > 80


@dataclass(frozen=True, slots=True)
class Ladder:
    rungs: tuple[Rung, ...]
    height: int
    ticks: tuple[tuple[float, str], ...]
    ends: float
    """Where the last delay is over."""
    loops: int
    minutes: int
    """Once through."""

    @property
    def foot(self) -> int:
        return self.height - FOOT + 12

    @property
    def total(self) -> int:
        """Minutes, with all repeats."""
        return self.minutes * (self.loops + 1)

    @property
    def total_told(self) -> str:
        return lasting(self.total)

    @property
    def after(self) -> str:
        if self.loops:
            times = "once more" if self.loops == 1 else f"{self.loops} times more"
            return f"again from level 1, {times}: {lasting(self.total)} in all"
        return f"ends here: after {lasting(self.minutes)} nobody else is told"

    @property
    def said(self) -> str:
        """The picture in sentences."""
        levels = "; ".join(
            f"level {rung.number} {'at once' if not rung.begins else f'after {lasting(rung.begins)}'}: {rung.who}"
            f"{', one of them in turn' if rung.round_robin else ''}"
            for rung in self.rungs
        )
        return (
            f"{len(self.rungs)} level{'' if len(self.rungs) == 1 else 's'}: {levels}. After the last it {self._after}."
        )

    @property
    def _after(self) -> str:
        return f"begins {self.after}" if self.loops else self.after


def lasting(minutes: int) -> str:
    """``45 min``, ``2 h``, ``2 h 5 min``, ``3 d 4 h``."""
    days, rest = divmod(minutes, 1_440)
    hours, left = divmod(rest, 60)
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (left, "min")) if count]
    return " ".join(parts[:2]) or "0 min"


def extent(policy: Policy, times: Sequence[LevelTimes | None]) -> float:
    """Minutes that a picture of it must hold. Two that are to be compared are drawn to the larger one's."""
    total = sum(level.delay for level in policy.levels)
    begins, longest = 0, float(total)
    for level, measured in zip(policy.levels, times, strict=True):
        if measured is not None and measured.times.median.seconds is not None:
            far = measured.times.p90.seconds or measured.times.median.high or measured.times.median.seconds
            longest = max(longest, begins + far / 60)
        begins += level.delay
    return max(1.0, min(longest, LONGER * total))


def ladder(
    policy: Policy, standings: Sequence[Standing], times: Sequence[LevelTimes | None], most: float | None = None
) -> Ladder:
    """``times``: what was measured at each level, None where nothing is known. ``most``: minutes that the width stands for."""
    wide = most or extent(policy, times)

    def place(minutes: float) -> float:
        return round(min(100.0, 100 * minutes / wide), 2)

    rungs, begins = [], 0
    for number, (level, standing, measured) in enumerate(zip(policy.levels, standings, times, strict=True), 1):
        x = place(begins)
        width = max(place(begins + level.delay) - x, 0.5)
        answers = _answers(measured, begins, level.delay, wide)
        y = AXIS + (number - 1) * ROW
        rungs.append(Rung(number, y, x, width, begins, level.delay, level.round_robin, standing, answers))
        begins += level.delay
    height = AXIS + len(rungs) * ROW + FOOT
    return Ladder(tuple(rungs), height, _ticks(wide), place(begins), policy.loops, begins)


def _answers(measured: LevelTimes | None, begins: int, delay: int, wide: float) -> Answers | None:
    if measured is None or measured.times.median.seconds is None:
        return None
    median, p90 = measured.times.median, measured.times.p90

    def place(seconds: float) -> float:
        return round(min(100.0, 100 * (begins + seconds / 60) / wide), 2)

    seconds = measured.times.median.seconds
    low, high = (seconds if each is None else each for each in (median.low, median.high))
    beyond = p90.seconds is None or begins + p90.seconds / 60 > wide
    late = seconds > delay * 60
    return Answers(place(seconds), place(low), place(high), None if beyond else place(p90.seconds or 0), late)


def _ticks(wide: float) -> tuple[tuple[float, str], ...]:
    step = next((each for each in STEPS if wide / each <= MARKS), STEPS[-1])
    count = int(wide // step)
    # The last one's word would stand beyond the edge.
    return tuple(
        (round(100 * each * step / wide, 2), lasting(each * step) if each else "0")
        for each in range(count + 1)
        if 100 * each * step / wide <= 94
    )
