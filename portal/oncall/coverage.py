"""What the coverage pages show of escalation policies: when one reaches nobody, how bad that is, and what is meant to be so."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from uuid import UUID

from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode

from integrations import mirror
from integrations.intended import mark_of, marks_of
from integrations.models import Connection, IntendedGap
from integrations.pagerduty.analysis.coverage import Hole, danger, standing
from integrations.pagerduty.analysis.intended import missing
from integrations.pagerduty.analysis.model import Policy, Service, Slice, Span
from integrations.sweep import DAY, WEEKS, Sweep, swept
from portal.oncall.strips import Drawing, Kind, day_map, days_of, lasts, strip

CHOICES: Final = (4, WEEKS)
"""Weeks that may be looked at."""


def at(instant: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(instant, dt.UTC)


@dataclass(frozen=True)
class Seen:
    """What of one connection's mirror somebody looks at."""

    connection: Connection
    kept: mirror.Kept
    sweep: Sweep
    marks: Mapping[str, Sequence[IntendedGap]]
    """By policy id."""

    @cached_property
    def knows_incidents(self) -> bool:
        return bool(self.sweep.rates)

    def services(self, policy_id: str) -> list[Service]:
        """Those that use it, by name."""
        found = (self.sweep.account.services[each] for each in self.sweep.services_of.get(policy_id, ()))
        return sorted(found, key=lambda service: service.name.casefold())

    def rates_of(self, policy_id: str) -> list[float]:
        """Incidents per hour of all its services, for each hour of the week; empty: not known."""
        rates = self.sweep.rates
        each = [rates[one] for one in self.sweep.services_of.get(policy_id, ()) if rates.get(one)]
        return [sum(hour) for hour in zip(*each, strict=True)]


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which a policy reaches nobody, and should."""

    span: Span
    danger: float
    """Unreachable minutes × incidents per hour; 0 where incidents are not known."""
    is_open: bool
    """Whether it goes on beyond what is looked at."""

    @property
    def starts(self) -> dt.datetime:
        return at(self.span.start)

    @property
    def ends(self) -> dt.datetime:
        return at(self.span.end)

    @property
    def lasts(self) -> str:
        return lasts(self.span.seconds)

    @property
    def expected(self) -> float:
        """Incidents."""
        return self.danger / 60

    @property
    def expected_told(self) -> str:
        return f"{self.expected:.1f}" if self.expected >= 0.05 else "hardly any"

    @property
    def is_long(self) -> bool:
        """Longer than an override is for."""
        return self.span.seconds > 7 * DAY

    @property
    def has_begun(self) -> bool:
        return self.starts <= timezone.now()


@dataclass(frozen=True)
class Line:
    """A policy as it is looked at from ``window.start`` on, which is now."""

    seen: Seen
    policy: Policy
    window: Span
    gaps: tuple[Gap, ...]
    """By start."""
    lower: tuple[Hole, ...]
    """Where the first level reaches nobody and a later one does."""
    unsure: tuple[Span, ...]
    """Where it cannot be told whether anybody is: a schedule that decides it is not mirrored."""
    meant: tuple[Span, ...]
    """Gaps that are intended."""

    @property
    def connection(self) -> Connection:
        return self.seen.connection

    @property
    def page(self) -> str:
        return policy_page(self.connection, self.policy.id)

    @property
    def paged(self) -> str:
        return paged_page(self.connection, policy_id=self.policy.id)

    @cached_property
    def services(self) -> list[Service]:
        return self.seen.services(self.policy.id)

    @cached_property
    def unreachable(self) -> int:
        """Seconds."""
        return sum(gap.span.seconds for gap in self.gaps)

    @property
    def minutes(self) -> int:
        """Unreachable ones, a begun one too."""
        return -(-self.unreachable // 60)

    @cached_property
    def danger(self) -> float:
        return sum(gap.danger for gap in self.gaps)

    @property
    def next(self) -> Gap | None:
        return self.gaps[0] if self.gaps else None

    @property
    def unreachable_lasts(self) -> str:
        return lasts(self.unreachable)

    @property
    def meant_lasts(self) -> str:
        return lasts(sum(span.seconds for span in self.meant))

    @property
    def lower_lasts(self) -> str:
        return lasts(sum(hole.span.seconds for hole in self.lower))

    @property
    def lower_levels(self) -> list[int]:
        return sorted({hole.reached for hole in self.lower if hole.reached is not None})

    @property
    def unsure_lasts(self) -> str:
        return lasts(sum(span.seconds for span in self.unsure))

    @cached_property
    def percent(self) -> str:
        """How much of the time somebody is reached. What is meant not to be counts as not reached; what is not quite all is never
        told as all."""
        missing = self.unreachable + sum(span.seconds for span in (*self.meant, *self.unsure))
        hundredths = (self.window.seconds - missing) * 10_000 // max(self.window.seconds, 1)
        return f"{hundredths / 100:.2f}".rstrip("0").rstrip(".")

    @property
    def spans(self) -> dict[Kind, list[Span]]:
        return {
            "nobody": [gap.span for gap in self.gaps],
            "lower": [hole.span for hole in self.lower],
            "unsure": list(self.unsure),
            "intended": list(self.meant),
        }

    @cached_property
    def strip(self) -> Drawing:
        zone = timezone.get_current_timezone()
        return strip(days_of(self.window, zone), self.spans, zone)

    @cached_property
    def map(self) -> Drawing:
        zone = timezone.get_current_timezone()
        return day_map(days_of(self.window, zone), self.spans, zone)

    @property
    def told(self) -> str:
        """The drawing in a sentence."""
        said = []
        if self.gaps:
            said.append(f"nobody is reached for {self.unreachable_lasts}, in {counted(len(self.gaps), 'gap')}")
        if self.meant:
            said.append(f"{self.meant_lasts} are meant to be without anybody")
        if self.unsure:
            said.append(f"of {self.unsure_lasts} it cannot be told")
        if self.lower:
            said.append(f"only a later level is reached for {self.lower_lasts}")
        days = -(-self.window.seconds // DAY)
        return f"Of the next {days} days: {'; '.join(said) or 'somebody is reached all the time'}."


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def policy_page(connection: Connection, policy_id: str, **query: int | str) -> str:
    path = reverse("coverage-policy", args=[connection.pk, policy_id])
    return f"{path}?{urlencode(query)}" if query else path


def paged_page(connection: Connection, *, policy_id: str = "", service_id: str = "", instant: int | None = None) -> str:
    """``/paged/`` of a policy or a service; ``instant``: not now."""
    kind, key = ("service", service_id) if service_id else ("policy", policy_id)
    query = {"of": f"{kind}.{key}.{connection.pk}"}
    if instant is not None:
        query["at"] = at(instant).strftime("%Y-%m-%dT%H:%MZ")
    return f"{reverse('paged')}?{urlencode(query)}"


def look(connections: Sequence[Connection], now: dt.datetime) -> list[Seen]:
    """What is mirrored of these connections; those of which nothing is yet are left out. The same few look-ups for any number."""
    kept = (
        {key: each for key, each in mirror.kept_of(connections).items() if each.as_of is not None}
        if connections
        else {}
    )
    by_connection: dict[UUID, dict[str, Sequence[IntendedGap]]] = {}
    for (connection, policy), rows in (marks_of(list(kept), now) if kept else {}).items():
        by_connection.setdefault(connection, {})[policy] = rows
    return [
        Seen(row, kept[row.pk], swept(row, kept[row.pk].account, now), by_connection.get(row.pk, {}))
        for row in connections
        if row.pk in kept
    ]


def once(seen: Iterable[Seen]) -> list[tuple[Seen, Policy]]:
    """Their policies: one that several connections of an account mirror once, by the first of them."""
    found: dict[tuple[str, str], tuple[Seen, Policy]] = {}
    for each in seen:
        for policy in each.sweep.account.policies.values():
            found.setdefault((each.connection.region, policy.id), (each, policy))
    return list(found.values())


def line_of(seen: Seen, policy: Policy, now: dt.datetime, days: int) -> Line:
    start = int(now.timestamp())
    window = Span(start, min(start + days * DAY, seen.sweep.window.end))
    marks = [mark_of(row) for row in seen.marks.get(policy.id, ())]
    found = missing(seen.sweep.holes.get(policy.id, ()), marks, window)
    rates = seen.rates_of(policy.id) if found.nobody else []
    gaps = tuple(Gap(span, danger(span, rates), span.end >= window.end) for span in found.nobody)
    return Line(seen, policy, window, gaps, found.lower, found.unsure, found.meant)


def worst_first(lines: Iterable[Line]) -> list[Line]:
    return sorted(
        lines,
        key=lambda line: (-line.danger, -line.unreachable, -len(line.unsure), -len(line.lower), line.policy.name),
    )


def dangerous_first(lines: Iterable[Line]) -> list[tuple[Line, Gap]]:
    """Their gaps, the most dangerous first; of those that are alike the sooner."""
    pairs = [(line, gap) for line in lines for gap in line.gaps]
    return sorted(pairs, key=lambda pair: (-pair[1].danger, -pair[1].span.seconds, pair[1].span, pair[0].policy.name))


def fits(seen: Seen, policy: Policy, *, pagerduty_team: str = "", service: str = "", text: str = "") -> bool:
    """Whether a policy is among what is asked for. ``text`` is looked for in its name, its services' and its schedules'."""
    account = seen.sweep.account
    if pagerduty_team and pagerduty_team not in policy.team_ids:
        return False
    if service and service not in seen.sweep.services_of.get(policy.id, ()):
        return False
    if not text:
        return True
    wanted = text.casefold()
    schedules = (
        account.schedules[target.id].name
        for level in policy.levels
        for target in level.targets
        if target.id in account.schedules
    )
    names = (policy.name, policy.id, *(each.name for each in seen.services(policy.id)), *schedules)
    return any(wanted in name.casefold() for name in names)


def unheard(seen: Iterable[Seen]) -> list[tuple[str, str]]:
    """Services that are in use and have no escalation policy: name and the page that tells what becomes of their incidents."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for each in seen:
        account = each.sweep.account
        for service in account.services.values():
            if standing(account, service) == "no_policy":
                key = (each.connection.region, service.id)
                found.setdefault(key, (service.name, paged_page(each.connection, service_id=service.id)))
    return sorted(found.values(), key=lambda row: row[0].casefold())


@dataclass(frozen=True, slots=True)
class OnCall:
    """Somebody who is reached, and by what."""

    user: str
    name: str
    schedule_id: str
    """Empty: the policy names them itself."""
    schedule: str
    until: dt.datetime | None


def on_call(seen: Seen, policy: Policy, level: int, instant: int) -> list[OnCall]:
    """Who a level (from 1) reaches at an instant."""
    account, found = seen.sweep.account, []
    for target in policy.levels[level - 1].targets:
        if target.deleted:
            continue
        if target.kind == "user":
            found.append(OnCall(target.id, account.name_of(target.id), "", "", None))
            continue
        name = account.schedules[target.id].name if target.id in account.schedules else target.name
        for one in at_instant(seen.sweep.rendered.get(target.id, ()), instant):
            found.append(OnCall(one.user, account.name_of(one.user), target.id, name, at(one.end)))
    return found


def at_instant(slices: Iterable[Slice], instant: int) -> list[Slice]:
    return [one for one in slices if one.user and one.start <= instant < one.end]
