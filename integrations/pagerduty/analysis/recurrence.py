"""When a shift of a v3 schedule recurs: the part of RFC 5545 that schedules use. Times are local ones, without a zone.

The simulated PagerDuty reads recurrences by this module, too: what a rule means is the RFC's to say, not PagerDuty's, so
there is nothing to be found by writing it twice.
"""

from __future__ import annotations

import bisect
import datetime as dt
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import itemgetter
from typing import Final, Literal
from zoneinfo import ZoneInfo

from dateutil import rrule

from integrations.pagerduty.analysis.zones import zone_of

FIRST_YEAR: Final = 1970
LAST_YEAR: Final = 2199
FREQUENCIES: Final[dict[str, Literal[0, 1, 2, 3, 4, 5, 6]]] = {
    "HOURLY": rrule.HOURLY,
    "DAILY": rrule.DAILY,
    "WEEKLY": rrule.WEEKLY,
    "MONTHLY": rrule.MONTHLY,
    "YEARLY": rrule.YEARLY,
}
DAYS: Final = {
    "MO": rrule.MO,
    "TU": rrule.TU,
    "WE": rrule.WE,
    "TH": rrule.TH,
    "FR": rrule.FR,
    "SA": rrule.SA,
    "SU": rrule.SU,
}
MOST_DATES: Final = 366
_LINE: Final = re.compile(
    r"(?P<name>RRULE|EXDATE|RDATE)(?:;TZID=(?P<zone>[^;:]+)|;VALUE=[A-Z-]+)*:(?P<text>.*)", re.ASCII | re.IGNORECASE
)
_STAMP: Final = re.compile(r"(\d{8})(?:T(\d{6})(Z?))?", re.ASCII)
_BYDAY: Final = re.compile(r"([+-]?[1-5])?(MO|TU|WE|TH|FR|SA|SU)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Recurrence:
    """A recurrence set of RFC 5545, as far as schedules use it. Times are local ones, without a zone."""

    frequency: str
    interval: int = 1
    days: tuple[tuple[int, str], ...] = ()
    """BYDAY: which of the month (0: each), and the day."""
    month_days: tuple[int, ...] = ()
    week_start: str = "MO"
    count: int | None = None
    until: dt.datetime | None = None
    left_out: frozenset[dt.datetime] = frozenset()
    added: tuple[dt.datetime, ...] = ()

    def period(self) -> dt.timedelta | None:
        """After which it repeats itself exactly; None: months have no length."""
        if self.frequency == "HOURLY":
            return dt.timedelta(hours=math.lcm(self.interval, 168) if self.days else self.interval)
        if self.frequency == "DAILY":
            return dt.timedelta(days=math.lcm(self.interval, 7) if self.days else self.interval)
        return dt.timedelta(weeks=self.interval) if self.frequency == "WEEKLY" else None

    def walk(self, first: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
        """The rule's occurrences from ``first`` on, before ``until``; without COUNT, UNTIL and single dates."""
        days = [DAYS[day](which) if which else DAYS[day] for which, day in self.days]
        for start in rrule.rrule(
            FREQUENCIES[self.frequency],
            dtstart=first,
            interval=self.interval,
            wkst=DAYS[self.week_start],
            byweekday=days or None,
            bymonthday=self.month_days or None,
            until=until,
        ):
            if start >= until:
                return
            yield start


@lru_cache(maxsize=1024)
def recurrence(lines: tuple[str, ...], zone: str) -> Recurrence:
    """Read ``recurrence``. Raises ``ValueError`` with what is wrong with it."""
    rules = [line for line in lines if line.upper().startswith("RRULE:")]
    if len(rules) != 1:
        raise ValueError("must contain exactly one RRULE")
    left_out: list[dt.datetime] = []
    added: list[dt.datetime] = []
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError("may contain RRULE, EXDATE and RDATE only")
        if match["name"].upper() == "RRULE":
            continue
        own = None if match["zone"] is None else _zone(match["zone"])
        dates = [_moment(part, zone, own) for part in match["text"].split(",")]
        (left_out if match["name"].upper() == "EXDATE" else added).extend(dates)
    if len(left_out) + len(added) > MOST_DATES:
        raise ValueError(f"must not name more than {MOST_DATES} dates")
    return _rule(rules[0][6:], zone, frozenset(left_out), tuple(sorted(added)))


def _rule(text: str, zone: str, left_out: frozenset[dt.datetime], added: tuple[dt.datetime, ...]) -> Recurrence:
    parts = [part.partition("=") for part in text.upper().split(";") if part]
    found = {name: value for name, _, value in parts}
    if len(found) != len(parts):
        raise ValueError("names a part of its RRULE twice")
    if unknown := found.keys() - {"FREQ", "INTERVAL", "BYDAY", "BYMONTHDAY", "WKST", "COUNT", "UNTIL"}:
        raise ValueError(f"has an RRULE with a part that is not supported: {min(unknown)}")
    frequency = found.get("FREQ", "")
    if frequency not in FREQUENCIES:
        raise ValueError(f"must have a FREQ of {', '.join(FREQUENCIES)}")
    if "COUNT" in found and "UNTIL" in found:
        raise ValueError("must not have both COUNT and UNTIL")
    days = []
    for part in found["BYDAY"].split(",") if "BYDAY" in found else ():
        match = _BYDAY.fullmatch(part)
        if match is None or (match[1] and frequency not in ("MONTHLY", "YEARLY")):
            raise ValueError("has a BYDAY that is no day of its FREQ")
        days.append((int(match[1] or 0), match[2]))
    month_days = (
        tuple(_whole(part, -28, 28) for part in found["BYMONTHDAY"].split(",")) if "BYMONTHDAY" in found else ()
    )
    if month_days and (frequency != "MONTHLY" or 0 in month_days):
        raise ValueError("has a BYMONTHDAY that is no day of its FREQ")
    if found.get("WKST", "MO") not in DAYS:
        raise ValueError("has a WKST that is no day")
    return Recurrence(
        frequency,
        _whole(found.get("INTERVAL", "1"), 1, 1000),
        tuple(days),
        month_days,
        found.get("WKST", "MO"),
        _whole(found["COUNT"], 1, 10_000) if "COUNT" in found else None,
        _moment(found["UNTIL"], zone, None, dt.time(23, 59, 59)) if "UNTIL" in found else None,
        left_out,
        added,
    )


def _zone(name: str) -> ZoneInfo:
    try:
        return zone_of(name)
    except ValueError:
        raise ValueError("has a TZID that is no time zone") from None


def _whole(text: str, low: int, high: int) -> int:
    if not re.fullmatch(r"[+-]?\d{1,7}", text, re.ASCII) or not low <= int(text) <= high:
        raise ValueError(f"has a number that is not from {low} to {high}")
    return int(text)


def _moment(text: str, zone: str, own: ZoneInfo | None, clock: dt.time = dt.time()) -> dt.datetime:
    """A date or a time of RFC 5545, as the local time of ``zone``; a date alone is that ``clock`` of its day."""
    match = _STAMP.fullmatch(text.strip())
    if match is None:
        raise ValueError("has a date that cannot be read")
    found = dt.datetime.combine(dt.datetime.strptime(match[1], "%Y%m%d").date(), clock)  # noqa: DTZ007
    if match[2]:
        found = dt.datetime.strptime(match[1] + match[2], "%Y%m%d%H%M%S")  # noqa: DTZ007
    if not FIRST_YEAR <= found.year <= LAST_YEAR:
        raise ValueError("has a date out of reach")
    if match[3] or own:
        moment = found.replace(tzinfo=dt.UTC if match[3] else own)
        return moment.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
    return found


@lru_cache(maxsize=1024)
def _in_a_period(rule: Recurrence, first: dt.datetime) -> int:
    period = rule.period()
    return 0 if period is None else sum(1 for _ in rule.walk(first, first + period))


def starts(
    rule: Recurrence, first: dt.datetime, low: dt.datetime, high: dt.datetime
) -> Iterator[tuple[int, dt.datetime]]:
    """The local starts from ``low`` to before ``high``, each with its number, counted from the first; single dates come last."""
    number, begin, period = 0, first, rule.period()
    if period is not None and low > first:
        # What repeats itself need not be walked through from its beginning.
        skipped = (low - first) // period
        number, begin = skipped * _in_a_period(rule, first), first + skipped * period
    end = high if rule.until is None else min(high, rule.until + dt.timedelta(seconds=1))
    for start in rule.walk(begin, end):
        if rule.count is not None and number >= rule.count:
            break
        if start >= low and start not in rule.left_out:
            yield number, start
        number += 1
    added = [start for start in rule.added if low <= start < high and start not in rule.left_out]
    if added:
        yield from _added(rule, first, added)


def _added(rule: Recurrence, first: dt.datetime, added: Sequence[dt.datetime]) -> Iterator[tuple[int, dt.datetime]]:
    """An RDATE is one more shift of whoever had the last one; none where the rule itself has one. ``added``: in order."""
    back = rule.period() or dt.timedelta(days=366 * rule.interval)
    end = added[0] if rule.until is None else min(added[0], rule.until)
    low = first if rule.count is not None else max(first, end - back)
    # One walk for all of them.
    before = list(starts(replace(rule, added=()), first, low, added[-1] + dt.timedelta(seconds=1)))
    for start in added:
        place = bisect.bisect_right(before, start, key=itemgetter(1))
        if not place or before[place - 1][1] != start:
            yield (before[place - 1][0] if place else 0), start


def ever_starts(rule: Recurrence, first: dt.datetime) -> bool:
    """Whether its steps ever meet its days. Asked before it is walked, which would not end where they do not."""
    if rule.frequency not in ("HOURLY", "DAILY") or not rule.days:
        return True
    step = dt.timedelta(hours=rule.interval * (1 if rule.frequency == "HOURLY" else 24))
    wanted = {list(DAYS).index(day) for _, day in rule.days}
    return any((first + number * step).weekday() in wanted for number in range(168))
