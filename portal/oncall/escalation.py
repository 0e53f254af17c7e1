"""What escalation pages show of policies: what is wrong with each, what was muted, what it carries, how fast it is answered."""

from __future__ import annotations

import datetime as dt
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Final

from django.urls import reverse
from django.utils.http import urlencode

from integrations.measured import USUAL, Period, levels_of, period, responded_by
from integrations.models import Connection
from integrations.pagerduty.analysis.coverage import level_gaps, unknown_in
from integrations.pagerduty.analysis.escalation import SEVERITIES, Change, Finding, Severity, Unjudged
from integrations.pagerduty.analysis.model import Account, Policy, Span, Target
from integrations.review import Muted, open_by_policy, reviewed
from integrations.sweep import WEEKS
from portal.oncall.coverage import Line, OnCall, Seen, at, line_of, on_call
from portal.oncall.ladder import Ladder, Standing, State, ladder, lasting
from portal.oncall.response import duration, interval
from portal.oncall.strips import lasts

if TYPE_CHECKING:
    # They come with numpy, which no page needs until it tells of incidents.
    from integrations.history import History
    from integrations.pagerduty.analysis.response import Estimate, Group, LevelTimes, Slowest

RANK: Final[Mapping[Severity, int]] = {severity: place for place, severity in enumerate(SEVERITIES)}


def escalation_page(connection: Connection, policy_id: str, **query: int | str) -> str:
    path = reverse("escalation", args=[connection.pk, policy_id])
    return f"{path}?{urlencode(query)}" if query else path


# What incidents tell


@dataclass(frozen=True)
class Answering:
    """How incidents of one connection were answered: counted when it is asked for."""

    name: str
    """The connection's, with its team's."""
    history: History
    period: Period | None
    """None: nothing is known of it."""

    @property
    def since(self) -> dt.datetime | None:
        """Since when incidents are known, where that is not all of what was asked for."""
        return at(self.period.window.start) if self.period is not None and not self.period.is_whole else None

    @cached_property
    def by_policy(self) -> Mapping[str, Group]:
        found = responded_by(self.period, "policy") if self.period is not None else ()
        return {group.key: group for group in found}

    def incidents(self, policy_id: str) -> int | None:
        """None: not known."""
        if self.period is None:
            return None
        group = self.by_policy.get(policy_id)
        return group.incidents if group is not None else 0

    def median(self, policy_id: str) -> Estimate | None:
        """Until somebody acknowledges. None: not known."""
        group = self.by_policy.get(policy_id)
        times = group.times.get("acknowledge") if group is not None else None
        return times.median if times is not None and times.median.seconds is not None else None

    def levels(self, policy_id: str) -> tuple[LevelTimes, ...]:
        return levels_of(self.period, policy_id) if self.period is not None else ()

    def slowest(self, policy_id: str) -> Slowest | None:
        from integrations.pagerduty.analysis.response import slowest_of

        return slowest_of(self.levels(policy_id)) if self.incidents(policy_id) else None


def answering(connection: Connection, now: dt.datetime, days: int = USUAL) -> Answering:
    from integrations.history import history

    found = history(connection)
    return Answering(f"{connection.team}, {connection.name}", found, period(connection, found, days, now))


# What is wrong


@dataclass
class Review:
    """Of one policy, or of what is about none."""

    open: list[Finding] = field(default_factory=list)
    """The worst first."""
    muted: list[Muted] = field(default_factory=list)
    unjudged: list[Unjudged] = field(default_factory=list)


@dataclass(frozen=True)
class Reviews:
    """Of one connection."""

    by_policy: Mapping[str, Review]
    open_incidents: Mapping[str, int]
    """By policy id; empty: not known."""
    window: Span
    """What was looked at."""

    def of(self, policy_id: str) -> Review:
        """Empty: of what is about no policy."""
        return self.by_policy.get(policy_id, NOTHING)


NOTHING: Final = Review()


def reviews(seen: Seen, answers: Answering, now: dt.datetime) -> Reviews:
    open_incidents = open_by_policy(answers.history.log) if answers.period is not None else {}
    told = reviewed(seen.connection, seen.sweep, now, open_incidents=open_incidents)
    found: defaultdict[str, Review] = defaultdict(Review)
    for finding in told.findings:
        found[finding.policy_id].open.append(finding)
    for muted in told.muted:
        found[muted.finding.policy_id].muted.append(muted)
    for unjudged in told.unjudged:
        found[unjudged.policy_id].unjudged.append(unjudged)
    return Reviews(dict(found), open_incidents, told.window)


@dataclass(frozen=True, slots=True)
class Difference:
    """One line of a diff."""

    where: str
    before: str
    """Empty: there was none."""
    after: str
    """Empty: there is none any more."""
    is_open: bool = False
    """What comes instead is for people to choose."""


def changed(change: Change, account: Account) -> Difference:
    """What mends something, as a line of a diff in words."""
    say: Callable[[Any], str] = partial(_value, account=account)
    match change.path:
        case ("num_loops",):
            where, say = "Repeats", partial(_counted, say=times)
        case ("escalation_rules", int(place), "escalation_delay_in_minutes"):
            where, say = f"Level {place + 1}, goes on after", partial(_counted, say=minutes)
        case ("escalation_rules", int(place), "targets", *_):
            where = f"Level {place + 1}, tells"
        case ("escalation_rules", int(place), *rest):
            where = f"Level {place + 1}{', ' + _words(rest) if rest else ''}"
        case path:
            where = _words(path).capitalize()
    kind, id = change.document
    if kind and kind != "policy":
        where = f"{_named(id, account) or id}: {where}"
    return Difference(where, say(change.before), say(change.after), is_open=change.after is None)


def _words(path: Sequence[str | int]) -> str:
    """Places in lists are told, but for one at the end: that is one more, or the one that ``before`` tells."""
    shown = path[:-1] if path and isinstance(path[-1], int) else path
    return " › ".join(str(each + 1 if isinstance(each, int) else each).replace("_", " ") for each in shown)


def _counted(value: Any, say: Callable[[int], str]) -> str:
    return say(value) if isinstance(value, int) else "" if value is None else str(value)


def _value(value: Any, account: Account) -> str:
    """Of a document, in words: references by the names of what they name."""
    if value is None or value == []:
        return ""
    if isinstance(value, Mapping):
        if isinstance(value.get("targets"), list):
            delay = value.get("escalation_delay_in_minutes")
            return f"{_value(value['targets'], account)}{f', {minutes(delay)}' if isinstance(delay, int) else ''}"
        id = str(value.get("id", ""))
        return _named(id, account) or str(value.get("summary") or value.get("name") or id or value.get("type") or "")
    if isinstance(value, list | tuple):
        return ", ".join(_value(each, account) for each in value)
    if isinstance(value, str):
        return account.teams.get(value) or value.replace("_", " ")
    return str(value)


def _named(id: str, account: Account) -> str:
    """Empty: it is not known."""
    for known in (account.schedules, account.people, account.services, account.policies):
        if id in known:
            return known[id].name
    return account.teams.get(id, "")


def minutes(count: int) -> str:
    return f"{count} minute{'' if count == 1 else 's'}"


def times(loops: int) -> str:
    return "never" if not loops else "once" if loops == 1 else f"{loops} times"


# Policies, the worst first


@dataclass(frozen=True)
class Case:
    """A policy in the list."""

    seen: Seen
    policy: Policy
    review: Review
    answering: Answering

    @property
    def page(self) -> str:
        return escalation_page(self.seen.connection, self.policy.id)

    @property
    def worst(self) -> int:
        """By ``SEVERITIES``; beyond them: nothing is wrong."""
        return min((RANK[each.rule.severity] for each in self.review.open), default=len(SEVERITIES))

    @cached_property
    def counts(self) -> list[tuple[Severity, int]]:
        return severities(self.review.open)

    @property
    def services(self) -> int:
        return len(self.seen.sweep.services_of.get(self.policy.id, ()))

    @property
    def titles(self) -> list[str]:
        """What is wrong in a few words, each once, the worst first."""
        return list(dict.fromkeys(each.rule.title for each in self.review.open))

    @cached_property
    def incidents(self) -> int | None:
        return self.answering.incidents(self.policy.id)

    @cached_property
    def median(self) -> str:
        """Such as *4 min (3 min to 6 min)*; empty: not known."""
        found = self.answering.median(self.policy.id)
        return estimated(found) if found is not None else ""

    @cached_property
    def slowest(self) -> Slowest | None:
        return self.answering.slowest(self.policy.id)

    @property
    def slowest_told(self) -> str:
        return estimated(self.slowest.level.times.median) if self.slowest is not None else ""


def severities(found: Iterable[Finding]) -> list[tuple[Severity, int]]:
    """How many of each, the worst first."""
    counts = Counter(each.rule.severity for each in found)
    return [(severity, counts[severity]) for severity in SEVERITIES if severity in counts]


def worst_first(cases: Iterable[Case]) -> list[Case]:
    def key(case: Case) -> tuple[Any, ...]:
        counts = case.counts
        at_worst = counts[0][1] if counts else 0
        return (
            case.worst, -at_worst, -len(case.review.open), -(case.incidents or 0), case.policy.name.casefold(), case.policy.id,
        )  # fmt: skip

    return sorted(cases, key=key)


def estimated(found: Estimate) -> str:
    """With its interval, where that is known and says more."""
    if found.seconds is None:
        return "not known"
    told, between = duration(found.seconds), interval(found)
    return told if between in ("", told) else f"{told} ({between})"


def name_of(target: Target, account: Account) -> str:
    if target.kind == "user":
        return target.name or account.name_of(target.id)
    schedule = account.schedules.get(target.id)
    return schedule.name if schedule else target.name or target.id


# One policy's levels


def standings(seen: Seen, policy: Policy, now: int, window: Span) -> list[Standing]:
    """Of each level: who is on call, and how often nobody will be."""
    gaps = level_gaps(policy, seen.sweep.rendered, window)
    found = []
    for number, (level, missing) in enumerate(zip(policy.levels, gaps, strict=True), 1):
        people = tuple(dict.fromkeys(one.name for one in on_call(seen, policy, number, now)))
        unknown = bool(unknown_in(level, seen.sweep.rendered))
        state: State = "reached" if people else "unknown" if unknown else "nobody"
        found.append(Standing(people, state, 0 if unknown else len(missing)))
    return found


def by_level(levels: Sequence[LevelTimes], policy: Policy) -> list[LevelTimes | None]:
    """What was measured at each level of a policy: None where nothing came to it."""
    known = {each.level: each for each in levels}
    return [known.get(number) for number in range(1, len(policy.levels) + 1)]


@dataclass(frozen=True, slots=True)
class LevelShown:
    number: int
    begins: int
    delay: int
    round_robin: bool
    targets: list[tuple[str, str, str]]
    """Name, the id of the schedule where it is one that is mirrored, and what else is to be said."""
    now: list[OnCall]
    is_known: bool
    gaps: tuple[int, str]
    """How often it reaches nobody ahead, and for how long in all."""
    times: LevelTimes | None

    @property
    def answered(self) -> str:
        found = self.times.times.median if self.times is not None else None
        return estimated(found) if found is not None and found.seconds is not None else ""

    @property
    def begins_told(self) -> str:
        return lasting(self.begins)

    @property
    def is_late(self) -> bool:
        """Whether half of what comes to it goes on before somebody answers."""
        seconds = self.times.times.median.seconds if self.times is not None else None
        return seconds is not None and seconds > 60 * self.delay

    @property
    def p90(self) -> str:
        found = self.times.times.p90.seconds if self.times is not None else None
        return duration(found) if found is not None else ""


class One:
    """A policy as somebody looks at it."""

    def __init__(self, seen: Seen, policy: Policy, now: dt.datetime, days: int) -> None:
        self.seen = seen
        self.policy = policy
        self.now = now
        self.days = days
        self.line: Line = line_of(seen, policy, now, 7 * WEEKS)
        self.answering: Answering = answering(seen.connection, now, days)
        self.reviews = reviews(seen, self.answering, now)
        self.review = self.reviews.of(policy.id)
        self.times = by_level(self.answering.levels(policy.id), policy)

    @property
    def found(self) -> list[Finding]:
        """All that is wrong, muted or not."""
        return [*self.review.open, *(muted.finding for muted in self.review.muted)]

    @property
    def account(self) -> Account:
        return self.seen.sweep.account

    @property
    def here(self) -> str:
        return escalation_page(
            self.seen.connection, self.policy.id, **({} if self.days == USUAL else {"days": self.days})
        )

    @property
    def manager(self) -> str:
        return f"Only a manager of {self.seen.connection.team.name} or an administrator may"

    def ladder(self, policy: Policy, times: list[LevelTimes | None], most: float | None = None) -> Ladder:
        window = self.line.window
        return ladder(policy, standings(self.seen, policy, window.start, window), times, most)

    def levels(self, policy: Policy, times: list[LevelTimes | None]) -> list[LevelShown]:
        window, rendered, shown, begins = self.line.window, self.seen.sweep.rendered, [], 0
        for number, (level, gaps) in enumerate(
            zip(policy.levels, level_gaps(policy, rendered, window), strict=True), 1
        ):
            known = not unknown_in(level, rendered)
            shown.append(
                LevelShown(
                    number,
                    begins,
                    level.delay,
                    level.round_robin,
                    [self._target(target) for target in level.targets],
                    on_call(self.seen, policy, number, window.start),
                    known,
                    (len(gaps), lasts(sum(gap.seconds for gap in gaps))) if known else (0, ""),
                    times[number - 1],
                )
            )
            begins += level.delay
        return shown

    def _target(self, target: Target) -> tuple[str, str, str]:
        there = target.kind == "schedule" and target.id in self.account.schedules
        said = "deleted in PagerDuty" if target.deleted else ""
        if not said and target.kind == "schedule" and not there:
            said = "not mirrored: who is on call is not known"
        return name_of(target, self.account), target.id if there else "", said
