"""What ``/load/`` shows of what being on call costs: whose figures somebody may see, in which order, and how they are told."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo

from integrations import measured
from integrations.measured import DAY, HOUR, Definition
from integrations.pagerduty.analysis.model import Account
from portal.oncall import bars
from portal.oncall.bars import Drawn
from portal.oncall.one import lasting
from portal.oncall.seen import Seen, moment

if TYPE_CHECKING:
    from integrations.pagerduty.analysis.load import Fairness, Load, Night, PersonLoad

FEWEST: Final = 5
"""People of whom a distribution is shown to somebody who does not see their names."""
FEWEST_SUMMED: Final = 3
"""People of whom a sum is: of two, each would learn what the other has."""
MOST_TIMES: Final = 12
"""Of a night's interruptions."""
MANY: Final = 8
"""People whose months are drawn."""
LISTED: Final = 25
"""People whose months stand in a table."""
WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
DEFINED: Final[Mapping[Definition, tuple[str, str]]] = {
    "api": (
        "PagerDuty's API",
        "business hours are 08 to 18 on weekdays, sleep hours 22 to 08 on all days, off hours the rest",
    ),
    "insights": (
        "PagerDuty's Insights",
        "business hours are 08 to 18 on weekdays, sleep hours 21 to 08 on all days, off hours the rest",
    ),
}
"""By which hours of the day: whose they are, and what they say."""
SHARED: Final[Mapping[str, str]] = {
    "sleep_pages": "Pages in sleep hours",
    "pages": "Pages",
    "interruptions": "Interruptions",
    "weighted": "Hours, nights and weekends double",
    "seconds": "Hours on call",
}
"""What fairness is told of, the most telling first."""
EVEN: Final = ((0.15, "nearly even"), (0.3, "somewhat uneven"), (0.5, "uneven"))
"""Up to which Gini coefficient it is called so; beyond, very uneven."""


def thousands(number: float) -> str:
    """With a narrow space between thousands."""
    return f"{number:,.0f}".replace(",", "\u202f")


def percent(share: float) -> str:
    """What is little is never told as nothing, and what is not quite all never as all."""
    rounded = round(100 * share)
    if share > 0 and rounded == 0:
        return "under 1 %"
    return f"{min(rounded, 99) if share < 1 else 100} %"


def hours(seconds: float) -> str:
    return thousands(seconds / HOUR) if seconds >= 10 * HOUR or not seconds else f"{seconds / HOUR:.1f}"


COMPARED: Final[Sequence[tuple[str, str, float, Callable[[PersonLoad], float]]]] = (
    ("sleep", "sleep interruptions", 2, lambda one: one.sleep),
    ("pages", "pages", 3, lambda one: one.pages),
    ("seconds", "hours on call", 8 * HOUR, lambda one: one.seconds),
)
"""Name in ``PersonLoad.earlier``, words, by how much it must differ at least, and the figure."""


@dataclass(frozen=True)
class Line:
    """A person in a period."""

    load: PersonLoad
    name: str
    all_sleep_pages: int
    """Of everybody, in the same period."""
    most: int
    """Interruptions of whoever has most of those who are shown."""
    is_own: bool

    @property
    def user(self) -> str:
        return self.load.user

    @property
    def hours(self) -> str:
        return hours(self.load.seconds)

    @property
    def level_1(self) -> str:
        return hours(self.load.level_1)

    @property
    def share(self) -> float:
        """Of all pages in sleep hours."""
        return self.load.sleep_pages / self.all_sleep_pages if self.all_sleep_pages else 0.0

    @property
    def share_told(self) -> str:
        return percent(self.share)

    @property
    def parts(self) -> tuple[int, int, int]:
        return self.load.sleep, self.load.off, self.load.business

    @cached_property
    def bar(self) -> Drawn:
        return bars.bar(self.parts, self.most)

    @property
    def run(self) -> str:
        return lasting(self.load.longest_run // HOUR * HOUR) if self.load.longest_run >= HOUR else "—"

    @property
    def weekend(self) -> str:
        return percent(self.load.weekend_share) if self.load.seconds else "—"

    @property
    def is_compared(self) -> bool:
        return bool(self.load.earlier)

    @cached_property
    def against(self) -> list[tuple[str, str]]:
        """What differs from their own earlier times by a quarter and more: a sign, and words. Empty: nothing does."""
        found = []
        for name, words, least, of in COMPARED:
            now, before = of(self.load), self.load.earlier.get(name, 0.0)
            if abs(now - before) >= max(least, before / 4):
                sign, more = ("▲", "more") if now > before else ("▼", "fewer")
                usual = hours(before) if name == "seconds" else thousands(before)
                found.append((sign, f"{more} {words} (usually {usual})"))
        return found


SORTS: Final[Mapping[str, tuple[str, Callable[[Line], tuple[float, ...] | tuple[str, ...]]]]] = {
    "": ("worst first", lambda line: ()),
    "name": ("name", lambda line: (line.name.casefold(), line.user)),
    "hours": ("hours on call", lambda line: (-line.load.seconds,)),
    "level1": ("hours on level 1", lambda line: (-line.load.level_1,)),
    "pages": ("pages", lambda line: (-line.load.pages,)),
    "interruptions": ("interruptions", lambda line: (-line.load.interruptions,)),
    "sleep": ("pages in sleep hours", lambda line: (-line.load.sleep_pages,)),
    "run": ("longest run", lambda line: (-line.load.longest_run,)),
    "rests": ("short rests", lambda line: (-line.load.short_rests,)),
    "weekend": ("weekend share", lambda line: (-line.load.weekend_share,)),
}
"""By the word in an address: in which order people are listed. Of those that are alike the worst comes first."""


@dataclass(frozen=True)
class Reader:
    """Whose load somebody may see, of a connection."""

    seen: Seen
    sees_names: bool
    """Whether they manage the connection's team."""
    own: frozenset[str]
    """Whom of the account's people they are."""

    @property
    def account(self) -> Account:
        return self.seen.account

    def may_see(self, user: str) -> bool:
        return self.sees_names or user in self.own

    def lines(self, load: Load, order: str = "") -> list[Line]:
        """Of those whom they may see, and of no other."""
        shown = [one for one in load.people if self.may_see(one.user)]
        sleep_pages = sum(one.sleep_pages for one in load.people)
        most = max((one.interruptions for one in shown), default=0)
        lines = [Line(one, self.account.name_of(one.user), sleep_pages, most, one.user in self.own) for one in shown]
        # Whoever sees no others' load sees no share of theirs either, where it would tell it.
        if not self.may_sum(load):
            lines = [Line(line.load, line.name, 0, line.most, line.is_own) for line in lines]
        return sorted(lines, key=SORTS[order][1])

    def may_sum(self, load: Load) -> bool:
        return self.sees_names or len(load.people) >= FEWEST_SUMMED

    def may_spread(self, load: Load) -> bool:
        """Whether they see how it lies among people."""
        return self.sees_names or len(load.people) >= FEWEST

    def fairness(self, load: Load) -> list[Fair]:
        found = [Fair(load.fairness[what], load, self) for what in SHARED if what in load.fairness]
        return [fair for fair in found if self.sees_names or not fair.is_told or fair.found.people >= FEWEST]


@dataclass(frozen=True)
class Fair:
    """How evenly one thing is shared, in words."""

    found: Fairness
    load: Load
    reader: Reader

    @property
    def title(self) -> str:
        return SHARED[self.found.what]

    @property
    def is_told(self) -> bool:
        return self.found.gini is not None

    @property
    def verdict(self) -> str:
        gini = self.found.gini or 0.0
        return next((word for up_to, word in EVEN if gini < up_to), "very uneven")

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """Name, figure, and what it means."""
        found, told = self.found, []
        if found.gini is not None:
            told.append(("Gini", f"{found.gini:.2f}", "0: all have as much; towards 1: one has it all"))
        if found.cv is not None:
            told.append(
                ("Variation", f"{found.cv:.2f}", f"people are typically {percent_off(found.cv)} away from the mean")
            )
        if found.pairwise is not None:
            words = f"of any two, the one with less has on average {found.pairwise:.0f} % of what the other has"
            told.append(("Pairwise", f"{found.pairwise:.0f}", words))
        return told

    @property
    def most(self) -> str:
        """Who has most, in a sentence: with the name where it may be seen."""
        if self.found.most is None or not self.found.people:
            return "Nobody has any."
        user, share = self.found.most
        if user in self.reader.own:
            who = "You have"
        elif self.reader.sees_names:
            who = f"{self.reader.account.name_of(user)} has"
        else:
            who = "Whoever has most has"
        # Who takes no turns in the rotations may have a part, too: it is none that these could share.
        every = [(one.eligible, getattr(one, self.found.what)) for one in self.load.people]
        even = (
            sum(value for eligible, value in every if eligible) / self.found.people / sum(value for _, value in every)
        )
        told = f"{who} {percent(share)}; shared evenly, each of {self.found.people} would have {percent(even)}."
        return (
            f"{told} That is at least twice what anybody else has, and not by chance."
            if self.found.stands_out
            else told
        )


def percent_off(cv: float) -> str:
    return f"{round(100 * cv)} %"


@dataclass(frozen=True)
class Totals:
    """Of everybody together, without names."""

    people: int
    seconds: int
    pages: int
    sleep_pages: int
    sleep: int
    off: int
    business: int

    @property
    def hours(self) -> str:
        return hours(self.seconds)

    @property
    def interruptions(self) -> int:
        return self.sleep + self.off + self.business

    @property
    def parts(self) -> tuple[int, int, int]:
        return self.sleep, self.off, self.business

    @cached_property
    def bar(self) -> Drawn:
        return bars.bar(self.parts, self.interruptions)


def totals(load: Load) -> Totals:
    people = load.people
    return Totals(
        len(people),
        *(
            sum(getattr(one, name) for one in people)
            for name in ("seconds", "pages", "sleep_pages", "sleep", "off", "business")
        ),
    )


# By hour and weekday


@dataclass(frozen=True)
class Heat:
    week: tuple[tuple[int, ...], ...]

    @cached_property
    def drawn(self) -> Drawn:
        return bars.heat(self.week)

    @property
    def rows(self) -> list[tuple[str, tuple[int, ...]]]:
        return list(zip(WEEKDAYS, self.week, strict=True))

    @cached_property
    def total(self) -> int:
        return sum(map(sum, self.week))

    @property
    def told(self) -> str:
        """The drawing in a sentence."""
        if not self.total:
            return "No interruptions at any hour."
        most, day, hour = max(
            (value, -row, -col) for row, hours_ in enumerate(self.week) for col, value in enumerate(hours_)
        )
        at = f"{WEEKDAYS[-day]} from {-hour:02} to {-hour + 1:02}"
        return f"{thousands(self.total)} interruptions by hour and weekday; most, {thousands(most)}, on {at}."


@dataclass(frozen=True)
class NightShown:
    """One of the worst nights of a person."""

    night: Night
    zone: str
    """The person's."""

    @property
    def count(self) -> int:
        return len(self.night.at)

    @property
    def evening(self) -> str:
        """Of a night it is the date that counts, by the person's own clock, whoever reads of it."""
        return f"{self.night.date:%a} {self.night.date.day} {self.night.date:%b %Y}"

    @property
    def clocks(self) -> str:
        """When, by the person's own clock."""
        own = ZoneInfo(self.zone)
        times = [f"{dt.datetime.fromtimestamp(at, own):%H:%M}" for at in self.night.at]
        more = len(times) - MOST_TIMES
        return ", ".join(times[:MOST_TIMES]) + (f" and {more} more" if more > 0 else "")


# By month


@dataclass(frozen=True)
class Month:
    starts: dt.datetime
    totals: Totals
    most: str
    """Who had most pages in sleep hours, with the share; empty: nobody had any, or it may not be seen."""


@dataclass(frozen=True)
class Series:
    """Months of one person, or of all together (no user)."""

    user: str
    name: str
    parts: tuple[tuple[int, int, int], ...]
    """By month, as ``bars.KINDS`` has them."""
    most: int
    """What the highest column stands for."""
    pages: tuple[int, ...]
    sleep_pages: tuple[int, ...]
    seconds: tuple[int, ...]

    @cached_property
    def drawn(self) -> Drawn:
        return bars.columns(self.parts, self.most)

    @property
    def told(self) -> str:
        """The drawing in a sentence."""
        sums = [sum(part) for part in self.parts]
        if not any(sums):
            return f"{self.name}: no interruptions in {len(sums)} months."
        if len(sums) == 1:
            return f"{self.name}: {thousands(sums[0])} interruptions in a month, {thousands(self.nights)} of them in sleep hours."
        nights = sum(part[0] for part in self.parts)
        return (
            f"{self.name}: {thousands(sum(sums))} interruptions in {len(sums)} months, {thousands(nights)} of them in sleep "
            f"hours; {thousands(sums[0])} in the first and {thousands(sums[-1])} in the last."
        )

    @property
    def nights(self) -> int:
        return sum(part[0] for part in self.parts)


@dataclass(frozen=True)
class Trend:
    """Of all whole months that are known."""

    months: tuple[Month, ...]
    everybody: Series | None
    """None: a sum may not be seen."""
    people: tuple[Series, ...]
    """Those who may be seen, the most interrupted in sleep hours first, all on one scale."""

    @property
    def drawn(self) -> tuple[Series, ...]:
        return self.people[:MANY]

    @property
    def listed(self) -> tuple[Series, ...]:
        return self.people[:LISTED]

    @property
    def more(self) -> int:
        return max(len(self.people) - MANY, 0)

    @property
    def rows_of_one(self) -> list[tuple[dt.datetime, str, int, int, int, int, int]]:
        """Of the first person, by month: its start, hours on call, pages, those in sleep hours, and interruptions by kind."""
        one = self.people[0]
        return [
            (month.starts, hours(one.seconds[place]), one.pages[place], one.sleep_pages[place], *one.parts[place])
            for place, month in enumerate(self.months)
        ]

    @property
    def first(self) -> dt.datetime:
        return self.months[0].starts

    @property
    def last(self) -> dt.datetime:
        return self.months[-1].starts


def trend(reader: Reader, months: Sequence[Load], only: str = "") -> Trend | None:
    """``only``: of one person, whom the reader may see. None: no whole month is known."""
    if not months:
        return None
    sums = [totals(each) for each in months]
    by_user: dict[str, dict[int, PersonLoad]] = {}
    for place, each in enumerate(months):
        for one in each.people:
            if reader.may_see(one.user) and only in ("", one.user):
                by_user.setdefault(one.user, {})[place] = one
    most = max((one.interruptions for rows in by_user.values() for one in rows.values()), default=0)
    people = sorted(
        (_series(reader.account.name_of(user), user, rows, len(months), most) for user, rows in by_user.items()),
        key=lambda series: (-series.nights, -sum(series.pages), series.name.casefold(), series.user),
    )
    summed = all(reader.may_sum(each) or not each.people for each in months)
    everybody = Series(
        "",
        "Everybody",
        tuple(each.parts for each in sums),
        max(each.interruptions for each in sums),
        tuple(each.pages for each in sums),
        tuple(each.sleep_pages for each in sums),
        tuple(each.seconds for each in sums),
    )
    rows = tuple(
        Month(moment(each.window.start), one, _most(reader, each)) for each, one in zip(months, sums, strict=True)
    )
    return Trend(rows, everybody if summed and not only else None, tuple(people))


def _series(name: str, user: str, rows: Mapping[int, PersonLoad], count: int, most: int) -> Series:
    found = [rows.get(place) for place in range(count)]
    return Series(
        user,
        name,
        tuple((one.sleep, one.off, one.business) if one else (0, 0, 0) for one in found),
        most,
        tuple(one.pages if one else 0 for one in found),
        tuple(one.sleep_pages if one else 0 for one in found),
        tuple(one.seconds if one else 0 for one in found),
    )


def _most(reader: Reader, month: Load) -> str:
    every = sum(one.sleep_pages for one in month.people)
    if not every or not reader.sees_names:
        return ""
    worst = max(month.people, key=lambda one: one.sleep_pages)
    return f"{reader.account.name_of(worst.user)}, {percent(worst.sleep_pages / every)}"


# What is known


@dataclass(frozen=True)
class Known:
    """Of a period of a connection: what can be told, and why no more."""

    period: measured.Period | None
    load: Load | None

    @property
    def since(self) -> dt.datetime | None:
        return moment(self.load.window.start) if self.load else None

    @property
    def until(self) -> dt.datetime | None:
        return moment(self.load.window.end) if self.load else None

    @property
    def is_whole(self) -> bool:
        """Whether all that was asked for is known."""
        if self.period is None or self.load is None:
            return False
        return self.load.window.start <= self.period.asked.start

    @property
    def days(self) -> str:
        """As many as are known."""
        return lasting(self.load.window.seconds // HOUR * HOUR) if self.load else ""

    @property
    def is_stale(self) -> bool:
        """Whether the last day is not known."""
        return bool(self.period and self.period.asked.end - self.period.window.end > DAY)
