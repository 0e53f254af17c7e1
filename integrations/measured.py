"""What is measured of a connection's incidents, looking back from now: for pages and tools alike, so that both say the same. A
result is kept in the process as long as the log that it was made of is the newest.

Every process imports this, and few of them measure: what takes numpy is imported where it is used.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from integrations.models import Connection
from integrations.pagerduty.analysis.model import Account, Span

if TYPE_CHECKING:
    from integrations.history import History
    from integrations.pagerduty.analysis.incidents import Chosen, Log
    from integrations.pagerduty.analysis.load import Duties, Hours, Load, Own
    from integrations.pagerduty.analysis.response import By, Group, LevelTimes, Response

T = TypeVar("T")
Definition = Literal["api", "insights"]
DEFINITIONS: Final[tuple[Definition, ...]] = ("api", "insights")
"""By whose hours of the day interruptions are told apart: those of PagerDuty's API, or of its Insights."""

DAYS: Final = (28, 90, 365)
"""That may be looked back on."""
USUAL: Final = 90
DAY: Final = 86_400
HOUR: Final = 3_600
CONNECTIONS: Final = 64
"""Of so many a process keeps results: of those used last."""
RESULTS: Final = 128
"""Of each."""


@dataclass(frozen=True)
class Period:
    """A time that is looked back on, as far as everything is known of it."""

    connection: Connection
    history: History
    days: int
    asked: Span
    """As many days as were asked for, up to the hour that it is."""
    window: Span
    """The part of it that is known: incidents created in it are counted."""
    until: int
    """Until when it is known what became of them."""

    @property
    def is_whole(self) -> bool:
        return self.window.start == self.asked.start

    @property
    def log(self) -> Log:
        return self.history.log


def period(connection: Connection, history: History, days: int, now: dt.datetime) -> Period | None:
    """None: nothing of it is known yet."""
    end = int(now.timestamp()) // HOUR * HOUR
    asked, known = Span(end - days * DAY, end), history.known
    if known is None:
        return None
    window = Span(max(asked.start, known.start), min(asked.end, known.end))
    return Period(connection, history, days, asked, window, known.end) if window.end > window.start else None


def responded(period: Period, chosen: Chosen | None = None) -> Response:
    """How fast the incidents that were created in the period were answered."""
    from integrations.pagerduty.analysis.incidents import EVERY
    from integrations.pagerduty.analysis.response import response

    which = chosen or EVERY
    key = ("response", period.window, period.until, which)
    return kept(period, key, lambda: response(period.log, period.window, period.until, which))


def responded_by(
    period: Period, by: By, chosen: Chosen | None = None, zone: ZoneInfo | None = None
) -> tuple[Group, ...]:
    """The same by one thing; hours by the clock of ``zone``, or UTC."""
    from integrations.pagerduty.analysis.incidents import EVERY
    from integrations.pagerduty.analysis.response import grouped

    which = chosen or EVERY
    key = ("grouped", period.window, period.until, by, which, zone.key if zone is not None and by == "hour" else "")
    return kept(period, key, lambda: grouped(period.log, period.window, period.until, by, which, zone))


def not_slowest(measured: Response) -> str:
    """Why no level is named as the slowest, as a sentence."""
    reached = [each for each in measured.levels if each.reached]
    if not reached:
        return "No incident came to any level, so none can be named as the slowest."
    if len(reached) == 1:
        return f"Incidents came to level {reached[0].level} alone, so there is none to compare it with."
    return "Too few incidents came to more than one level to tell which of them answers slowest."


def levels_of(period: Period, policy_id: str) -> tuple[LevelTimes, ...]:
    """The same of one policy by level."""
    from integrations.pagerduty.analysis.response import policy_levels

    key = ("levels", period.window, period.until, policy_id)
    return kept(period, key, lambda: policy_levels(period.log, period.window, period.until, policy_id))


def hours_of(definition: Definition) -> Hours:
    from integrations.pagerduty.analysis.load import API_HOURS, INSIGHTS_HOURS

    return INSIGHTS_HOURS if definition == "insights" else API_HOURS


def turns(period: Period) -> tuple[Duties, Span | None]:
    """Who was on call since incidents are known, and of which part of that it is known of all schedules; None: of none. Kept
    where it is made: it changes while the log does not."""
    from integrations.history import duties

    known = period.history.known
    start = known.start if known is not None else period.window.start
    return duties(period.connection, Span(start, period.window.end))


def loaded(
    period: Period, account: Account, *, definition: Definition = "api", chosen: Chosen | None = None
) -> Load | None:
    """What being on call cost whom in the part of the period of which it is known who was. None: that is known of no part."""
    from integrations.pagerduty.analysis.incidents import EVERY
    from integrations.pagerduty.analysis.load import load

    which = chosen or EVERY
    had, known = turns(period)
    window = _both(period.window, known)
    if known is None or window is None:
        return None
    key = ("load", window, known, definition, which, id(account), id(had))
    # With what it was made of, so that its id is no other's as long as this is kept.
    _, found = kept(
        period,
        key,
        lambda: (
            (account, had),
            load(account, period.log, had, window, known=known, hours=hours_of(definition), chosen=which),
        ),
    )
    return found


def by_month(
    period: Period, account: Account, *, zone: str, definition: Definition = "api", chosen: Chosen | None = None
) -> tuple[Load, ...]:
    """The same by calendar month of ``zone``, the oldest first, of all that is known."""
    from integrations.pagerduty.analysis.incidents import EVERY
    from integrations.pagerduty.analysis.load import months

    which = chosen or EVERY
    had, turned = turns(period)
    known = _both(period.history.known, turned)
    if known is None:
        return ()
    key = ("months", known, zone, definition, which, id(account), id(had))
    _, found = kept(
        period,
        key,
        lambda: (
            (account, had),
            months(account, period.log, had, known, zone=zone, hours=hours_of(definition), chosen=which),
        ),
    )
    return found


def own(
    period: Period, account: Account, user: str, *, definition: Definition = "api", chosen: Chosen | None = None
) -> Own:
    """When one person was interrupted, in as much of the period as ``loaded`` tells of."""
    from integrations.pagerduty.analysis.incidents import EVERY
    from integrations.pagerduty.analysis.load import own as own_of

    which = chosen or EVERY
    window = _both(period.window, turns(period)[1]) or period.window
    key = ("own", window, definition, which, user, id(account))
    _, found = kept(
        period,
        key,
        lambda: (
            account,
            own_of(account, period.log, user, window, hours=hours_of(definition), chosen=which),
        ),
    )
    return found


def _both(one: Span | None, other: Span | None) -> Span | None:
    if one is None or other is None:
        return None
    start, end = max(one.start, other.start), min(one.end, other.end)
    return Span(start, end) if end > start else None


_kept: OrderedDict[UUID, tuple[Log, OrderedDict[Hashable, Any]]] = OrderedDict()
_lock = threading.Lock()


def kept(period: Period, key: Hashable, make: Callable[[], T]) -> T:
    """What ``make`` gives, once for each key as long as the connection's log is this one. Safe to call from any thread."""
    pk, log = period.connection.pk, period.log
    with _lock:
        last = _kept.get(pk)
        if last is None or last[0] is not log:
            # Results of an earlier log would hold it, too.
            last = _kept[pk] = (log, OrderedDict())
            while len(_kept) > CONNECTIONS:
                _kept.popitem(last=False)
        _kept.move_to_end(pk)
        results = last[1]
        if key in results:
            results.move_to_end(key)
            found: T = results[key]
            return found
    made = make()
    with _lock:
        results[key] = made
        while len(results) > RESULTS:
            results.popitem(last=False)
    return made
