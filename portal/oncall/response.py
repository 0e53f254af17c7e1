"""What the page of response times shows: figures in words, the drawings beside them, and the same as rows of a file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from django.urls import reverse
from django.utils.http import urlencode

from integrations.measured import not_slowest
from integrations.models import Connection
from integrations.pagerduty.analysis.model import Account
from portal.oncall.coverage import at, paged_page

if TYPE_CHECKING:
    # They bring numpy, which most processes never need.
    from integrations.pagerduty.analysis.response import By, Estimate, Group, LevelTimes, Measure, Response, Times

TABS: Final[Mapping[By, str]] = {
    "policy": "Policy",
    "level": "Level",
    "service": "Service",
    "team": "Team",
    "urgency": "Urgency",
    "priority": "Priority",
    "hour": "Hour",
}
"""By what the tables are, and what a row is called."""
TITLES: Final[Mapping[Measure, tuple[str, str, str]]] = {
    "acknowledge": ("Acknowledged", "From creation to the first acknowledgement.", "acknowledged"),
    "engage": ("Engaged", "From creation until somebody acknowledges it, or joins when asked.", "engaged with"),
    "mobilise": (
        "Mobilised",
        "From there until a second person joins, where one was called.",
        "joined by a second person",
    ),
    "resolve": ("Resolved", "From creation to resolution.", "resolved"),
}
"""Measure → its card's title, what is measured, and what had not happened."""
STAGES: Final[Mapping[Measure, str]] = {
    "notify": "somebody is notified",
    "acknowledge": "somebody acknowledges",
    "mobilise": "a second responder joins",
    "resolve": "it is resolved",
}
SECOND, MINUTE, HOUR, DAY = 1, 60, 3_600, 86_400
STEPS: Final = (
    *(1, 5, 10, 15, 30, MINUTE, 2 * MINUTE, 5 * MINUTE, 10 * MINUTE, 15 * MINUTE, 30 * MINUTE),
    *(HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY),
)
"""Seconds between the marks of an axis."""
MARKS: Final = 5


def duration(seconds: float) -> str:
    """Such as *48 s*, *4 min 12 s*, *1 h 20 min*, *2 d 3 h*."""
    whole = round(seconds)
    if whole == 0 and seconds > 0:
        return "under 1\N{NO-BREAK SPACE}s"
    parts = [
        (whole // DAY, "d"),
        (whole % DAY // HOUR, "h"),
        (whole % HOUR // MINUTE, "min"),
        (whole % MINUTE, "s"),
    ]
    first = next((place for place, (count, _) in enumerate(parts) if count), len(parts) - 1)
    # A number is never in another line than its unit.
    return (
        " ".join(f"{count}\N{NO-BREAK SPACE}{unit}" for count, unit in parts[first : first + 2] if count)
        or "0\N{NO-BREAK SPACE}s"
    )


def told(estimate: Estimate) -> str:
    return "" if estimate.seconds is None else duration(estimate.seconds)


def interval(estimate: Estimate) -> str:
    """Empty: neither end is known."""
    low, high = (None if each is None else duration(each) for each in (estimate.low, estimate.high))
    if high is None:
        return f"{low} or more" if low else ""
    if low is None:
        return f"up to {high}"
    return low if low == high else f"{low} to {high}"


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one measure, in words."""

    times: Times

    @property
    def median(self) -> str:
        return told(self.times.median)

    @property
    def median_interval(self) -> str:
        return interval(self.times.median)

    @property
    def p90(self) -> str:
        return told(self.times.p90)

    @property
    def p90_interval(self) -> str:
        return interval(self.times.p90)

    @property
    def count(self) -> int:
        return self.times.count

    @property
    def not_yet(self) -> int:
        return self.times.count - self.times.happened

    @property
    def mean(self) -> str:
        return "" if self.times.mean is None else duration(self.times.mean)


@dataclass(frozen=True, slots=True)
class Card:
    title: str
    means: str
    lacking: str
    """What had not happened to those that did not: *acknowledged*."""
    figures: Figures


def cards(response: Response) -> list[Card]:
    return [Card(*TITLES[name], Figures(response.times[name])) for name in TITLES if name in response.times]


# Drawings. Across, a place is a percentage of the width, so that letters stay as large as they are on any screen.


@dataclass(frozen=True, slots=True)
class Tick:
    x: float
    words: str


@dataclass(frozen=True, slots=True)
class Bar:
    name: str
    y: int
    x: float
    width: float
    words: str
    """Its figure."""
    whisker: tuple[float, float] | None
    """The interval."""
    mark: float | None
    """The baseline."""
    is_main: bool
    is_open: bool = False
    """Whether the interval has no end."""


@dataclass(frozen=True, slots=True)
class Chart:
    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    height: int
    words: str
    """The same as a sentence."""

    @property
    def axis(self) -> int:
        """Where the axis lies."""
        return self.height - AXIS


ROW, AXIS = 46, 22
"""Pixels: of a bar with its name, and of the axis below."""


def _scale(longest: float) -> tuple[float, tuple[Tick, ...]]:
    """How long the width is, and the marks along it."""
    longest = max(longest, 1.0)
    step = next((each for each in STEPS if longest / each <= MARKS), 0) or DAY * max(1, round(longest / DAY / MARKS))
    width = longest * 1.02
    return width, tuple(
        Tick(100 * place * step / width, duration(place * step) if place else "0")
        for place in range(int(width // step) + 1)
        # A mark at the very edge would be cut off.
        if 100 * place * step / width < 94
    )


def waterfall(response: Response) -> Chart | None:
    """From creation to resolution, stage by stage; None: there is not one of which a median is known."""
    known = [each for each in response.waterfall if each.times.median.seconds is not None]
    if not known:
        return None
    width, ticks = _scale(max(each.starts + (each.times.median.seconds or 0.0) for each in known))
    bars = []
    for place, stage in enumerate(known):
        seconds = stage.times.median.seconds or 0.0
        x, wide = 100 * stage.starts / width, max(100 * seconds / width, 0.4)
        bars.append(
            Bar(
                f"until {STAGES.get(stage.name, stage.name)}",
                place * ROW,
                round(x, 2),
                round(wide, 2),
                duration(seconds),
                None,
                None,
                stage.name == "acknowledge",
            )
        )
    words = "; ".join(f"{bar.words} {bar.name}" for bar in bars)
    return Chart(tuple(bars), ticks, len(bars) * ROW + AXIS, f"One after the other, each by its median: {words}.")


def waited(level: LevelTimes) -> float | None:
    """Seconds that half wait there; where that is not known, that they wait at least."""
    median = level.times.median
    return next((each for each in (median.seconds, median.low, level.at_least) if each is not None), None)


def waited_told(level: LevelTimes) -> str:
    """Empty: it is not known."""
    seconds = waited(level)
    if seconds is None:
        return ""
    return duration(seconds) if level.times.median.seconds is not None else f"over {duration(seconds)}"


def levels_chart(response: Response) -> Chart | None:
    """Each level's median with its interval, and the mean from creation as a mark; None: there are not two to compare."""
    known = [(each, seconds) for each in response.levels if (seconds := waited(each)) is not None]
    if len(known) < 2:
        return None
    slowest = response.slowest.level.level if response.slowest else 0
    width, ticks = _scale(
        max(max(each.times.median.high or 0.0, seconds, each.naive or 0.0) for each, seconds in known)
    )
    bars = []
    for place, (level, seconds) in enumerate(known):
        _, low, high = level.times.median
        # An end that is not known is open: it lies anywhere beyond.
        start = 100 * (low if low is not None else seconds) / width
        end = 100 * high / width if high is not None else 100.0
        bars.append(
            Bar(
                f"Level {level.level}",
                place * ROW,
                0.0,
                round(max(100 * seconds / width, 0.4), 2),
                f"{waited_told(level)} · {level.answered:,} of {level.reached:,}",
                (round(start, 2), round(end, 2)),
                None if level.naive is None else round(100 * level.naive / width, 2),
                level.level == slowest,
                high is None,
            )
        )
    words = "; ".join(f"{bar.name.lower()} {bar.words}" for bar in bars)
    return Chart(tuple(bars), ticks, len(bars) * ROW + AXIS, f"Medians from when an incident comes to it: {words}.")


@dataclass(frozen=True, slots=True)
class Column:
    """An hour of the day."""

    hour: int
    x: float
    width: float
    top: float
    height: float
    is_known: bool
    words: str


def columns(groups: Sequence[Group]) -> tuple[list[Column], str]:
    """How long until half are acknowledged, by the hour of creation: 24 columns of a picture 100 high, and how long the highest
    is."""
    by_hour = {int(each.key): each for each in groups}
    seconds = {
        hour: each.times["acknowledge"].median.seconds for hour, each in by_hour.items() if "acknowledge" in each.times
    }
    most = max((each for each in seconds.values() if each is not None), default=0.0) or 1.0
    found = []
    for hour in range(24):
        value, count = seconds.get(hour), by_hour[hour].incidents if hour in by_hour else 0
        height = 100 * value / most if value is not None else 0.0
        words = f"{hour:02}:00: " + (
            f"{duration(value)}, {count:,} incidents" if value is not None else f"not known, {count:,} incidents"
        )
        found.append(
            Column(
                hour,
                round(hour * 100 / 24 + 0.4, 2),
                round(100 / 24 - 0.8, 2),
                round(100 - height, 1),
                round(height, 1),
                value is not None,
                words,
            )
        )
    return found, duration(most)


# The slowest level


def slowest_told(response: Response) -> tuple[str, str]:
    """Which level answers slowest, and how sure that is; or why none is named, and nothing."""
    slowest = response.slowest
    if slowest is None:
        return not_slowest(response), ""
    level, following = slowest.level, slowest.next
    words = f"Level {level.level} answers slowest: " + (
        f"half of what comes to it is acknowledged there within {waited_told(level)}"
        if level.times.median.seconds is not None
        else f"more than half of what comes to it is not acknowledged there within {duration(waited(level) or 0.0)}"
    )
    if following is not None:
        words += f", at level {following.level} half is within {waited_told(following)}"
    if slowest.sure:
        return f"{words}.", "Their intervals are far apart: it is no chance."
    return f"{words}.", "Their intervals are not far enough apart to be sure of it."


# Rows


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table."""

    name: str
    page: str
    """Its own; empty: it has none."""
    incidents: int
    acknowledge: Figures
    resolve: Figures
    is_main: bool = False


@dataclass(frozen=True, slots=True)
class LevelLine:
    level: LevelTimes
    figures: Figures
    median: str
    naive: str
    is_main: bool


def level_lines(response: Response) -> list[LevelLine]:
    slowest = response.slowest.level.level if response.slowest else 0
    return [
        LevelLine(
            each,
            Figures(each.times),
            waited_told(each),
            "" if each.naive is None else duration(each.naive),
            each.level == slowest,
        )
        for each in response.levels
    ]


def lines(groups: Sequence[Group], by: By, account: Account, connection: Connection) -> list[Line]:
    return [
        Line(
            name_of(each.key, by, account),
            page_of(each.key, by, account, connection),
            each.incidents,
            Figures(each.times["acknowledge"]),
            Figures(each.times["resolve"]),
        )
        for each in groups
    ]


def name_of(key: str, by: By, account: Account) -> str:
    """What a row is called: what is gone from the mirror goes by its id."""
    match by:
        case "policy":
            found = account.policies[key].name if key in account.policies else key
        case "service":
            found = account.services[key].name if key in account.services else key
        case "team":
            found = account.teams.get(key, key)
        case "hour":
            return f"{int(key):02}:00"
        case "level":
            return f"Level {key}"
        case _:
            found = key
    return found or "none"


def page_of(key: str, by: By, account: Account, connection: Connection) -> str:
    if by == "policy" and key in account.policies:
        return reverse("escalation", args=[connection.pk, key])
    if by == "service" and key in account.services:
        return paged_page(connection, service_id=key)
    return ""


def response_page(connection: Connection, **query: str | int) -> str:
    """``/escalations/response/`` of a connection; ``policy``, ``service``, …: of these alone."""
    return f"{reverse('response')}?{urlencode({'connection': str(connection.pk), **query})}"


# As a file

HEAD: Final = (
    *("since", "until", "by", "id", "name", "incidents", "measure", "count", "happened"),
    *("median_seconds", "median_low", "median_high", "p90_seconds", "p90_low", "p90_high", "mean_of_happened_seconds"),
)


def cells(
    response: Response, groups: Iterable[tuple[By, Sequence[Group]]], account: Account
) -> Iterator[tuple[object, ...]]:
    """A line for each measure, of all together first, then by each thing."""
    window = tuple(at(each).strftime("%Y-%m-%dT%H:%M:%SZ") for each in response.window)
    for measure, times in response.times.items():
        yield (*window, "all", "", "", response.incidents, measure, *_cells(times))
    for by, each in groups:
        for group in each:
            name = name_of(group.key, by, account)
            for measure, times in group.times.items():
                yield (*window, by, group.key, name, group.incidents, measure, *_cells(times))


def level_cells(response: Response) -> Iterator[tuple[object, ...]]:
    window = tuple(at(each).strftime("%Y-%m-%dT%H:%M:%SZ") for each in response.window)
    for level in response.levels:
        what = (level.level, f"Level {level.level}", level.reached, "acknowledge at the level")
        yield (*window, "level", *what, *_cells(level.times))


def _cells(times: Times) -> tuple[object, ...]:
    return (
        times.count,
        times.happened,
        *(_cell(each) for estimate in (times.median, times.p90) for each in estimate),
        _cell(times.mean),
    )


def _cell(seconds: float | None) -> object:
    return "" if seconds is None else round(seconds, 1)
