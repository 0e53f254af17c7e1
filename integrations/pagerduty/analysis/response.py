"""How fast somebody answers: times to notify, acknowledge, engage, mobilise and resolve, and at which level it takes longest.

What is not answered yet, or went on to somebody else before it was, is not left out, as a mean of answered ones would: it counts
as not answered for as long as it was waited for (Kaplan-Meier). ``docs/analysis.md`` says what each measure counts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from integrations.pagerduty.analysis.incidents import (
    EVERY,
    KIND,
    STATUSES,
    URGENCIES,
    Chosen,
    Codes,
    Instants,
    Log,
    chosen_in,
)
from integrations.pagerduty.analysis.model import Span

Measure = Literal["notify", "acknowledge", "engage", "mobilise", "resolve"]
MEASURES: Final[tuple[Measure, ...]] = ("notify", "acknowledge", "engage", "mobilise", "resolve")
By = Literal["policy", "level", "service", "team", "urgency", "priority", "hour"]


class Estimate(NamedTuple):
    """Seconds, with a 95 % interval. None: not known, because as many did not happen; of an end of the interval likewise, or
    because there are too few to say."""

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
    at_least: float | None = None
    """Seconds, where the median is not known because most went on unanswered: it is longer than this. None: nor is that."""
    answers: Answers | None = None
    """What ``times`` was made of, for what-ifs with other delays."""


@dataclass(frozen=True, slots=True)
class Slowest:
    """The level that answers slowest, of those of which enough is known to say so: whose median is surely longest, by the lower
    end of its interval."""

    level: LevelTimes
    next: LevelTimes | None
    """The next slowest."""
    sure: bool
    """Whether its interval is apart from all others', by so much that it matters (``APART``)."""


@dataclass(frozen=True, slots=True)
class Response:
    window: Span
    incidents: int
    times: Mapping[Measure, Times]
    waterfall: tuple[Stage, ...]
    levels: tuple[LevelTimes, ...]
    """Over all policies that are counted, by level."""
    slowest: Slowest | None


NEVER: Final = 2**40
"""Later than any time."""
Z: Final = 1.959964
"""Of the normal distribution, for 95 %."""
MISSED: Final = 0.025
"""The chance that an end of an interval may miss."""
ENOUGH: Final = 20
"""Times that a level must have been waited at to be compared with others."""
STILL: Final = 10
"""As many must still have been waiting for a time to be told as the least."""
APART: Final = 1.5
"""The slower level's lower end must be as many times the other's upper one: with thousands of incidents the intervals of any two
levels are apart by some seconds, which is no bottleneck."""


# Estimates


@dataclass(frozen=True, slots=True)
class _Curves:
    """Of each group one. NaN: not known."""

    count: Instants
    happened: Instants
    mean: NDArray[np.float64]
    quantiles: tuple[NDArray[np.float64], ...]
    """Of the median and of the 90th percentile: itself and the ends of its interval."""
    first: Instants
    """Of its seconds, at which something happened, the place of the first in what follows."""
    at: Instants
    came: Instants
    """How many it happened to then."""
    waiting: Instants
    """How many were waited for until then."""

    def answers(self, group: int) -> Answers:
        end = self.first[group + 1] if group + 1 < len(self.first) else len(self.at)
        mine = slice(int(self.first[group]), int(end))
        return Answers(
            tuple(self.at[mine].tolist()), tuple(self.came[mine].tolist()), tuple(self.waiting[mine].tolist())
        )

    def times(self) -> Iterator[Times]:
        columns = [_told(column) for column in (self.mean, *self.quantiles)]
        for count, happened, mean, *six in zip(self.count.tolist(), self.happened.tolist(), *columns, strict=True):
            yield Times(count, happened, Estimate(*six[:3]), Estimate(*six[3:]), mean)


def _told(column: NDArray[np.float64]) -> list[float | None]:
    return [None if value != value else value for value in column.tolist()]


def times_of(waited: Instants, happened: NDArray[np.bool_]) -> Times:
    """Seconds that each was waited for, and whether it happened then."""
    return next(_curves(np.zeros(len(waited), np.int64), waited, happened, 1).times())


def _curves(group: Instants, waited: Instants, happened: NDArray[np.bool_], groups: int) -> _Curves:
    """Kaplan-Meier of all groups at once, with Greenwood's variance; the intervals are Brookmeyer's and Crowley's, by the
    logarithm of minus the logarithm, which keeps them inside 0 and 1."""
    # In the order of group and time, what happened before what was given up at the same second.
    key = (waited << 1) | ~happened
    if groups > 1:
        key |= group.astype(np.int64) << 41
    key.sort()
    count = np.bincount(key >> 41, minlength=groups)
    place = np.flatnonzero((key & 1) == 0)
    # One row for each second of a group at which something happened.
    times = key[place]
    rows = np.flatnonzero(np.concatenate([[True], times[1:] != times[:-1]])) if len(place) else place
    of, at = times[rows] >> 41, (times[rows] >> 1) & (NEVER - 1)
    came = np.diff(np.append(rows, len(place)))
    waiting = np.cumsum(count)[of] - place[rows]
    number = np.bincount(of, weights=came, minlength=groups).astype(np.int64)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.bincount(of, weights=at * came, minlength=groups) / number
    # Where all came that were still waited for nothing is left: the curve is at 0, and has no variance.
    none_left = came == waiting
    left_over = np.where(none_left, 1, waiting - came)
    first = np.searchsorted(of, np.arange(groups))
    fall = _since(np.where(none_left, 0.0, -np.log1p(-came / (waiting + none_left))), first, of)
    spread = _since(np.where(none_left, 0.0, came / (waiting * left_over)), first, of)
    with np.errstate(divide="ignore", invalid="ignore"):
        height = np.where(none_left, np.inf, np.log(fall))
        reach = np.where(none_left, 0.0, Z * np.sqrt(spread) / fall)
    have = np.flatnonzero(number)
    begin = first[have]
    quantiles: list[NDArray[np.float64]] = []
    for left in (0.5, 0.1):
        bar = np.log(-np.log(left)) - 1e-9
        middle = _first_at(height >= bar, of, at, groups)
        low = _first_at(height + reach >= bar, of, at, groups)
        # Had it been later than that second, each of these would have come so soon by a chance of less than 1 - left.
        ends = np.where(none_left, (1 - left) ** came <= MISSED, height - reach >= bar)
        high = _first_at(ends, of, at, groups)
        # Of so few even the first can be later than it, by more than the chance that is allowed.
        low[have[(low[have] == at[begin]) & (left ** waiting[begin] > MISSED)]] = np.nan
        quantiles += [middle, low, high]
    return _Curves(count, number, mean, tuple(quantiles), first, at, came, waiting)


def _since(values: NDArray[np.float64], first: Instants, of: Instants) -> NDArray[np.float64]:
    """The sums of each group from its first."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    found: NDArray[np.float64] = sums[1:] - sums[first[of]]
    return found


def _first_at(mask: NDArray[np.bool_], of: Instants, at: Instants, groups: int) -> NDArray[np.float64]:
    """Of each group the first time of those in the mask."""
    found = np.full(groups, np.nan)
    places = _firsts(np.flatnonzero(mask), of)
    found[of[places]] = at[places]
    return found


def _distinct(values: Instants) -> Instants:
    """By their size: faster than numpy's own, which counts them by hash."""
    ordered = np.sort(values)
    found: Instants = ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered
    return found


def _firsts(places: Instants, of: NDArray[np.signedinteger]) -> Instants:
    """Of places in order, the first of each that they belong to."""
    owners = of[places]
    is_first = np.ones(len(places), np.bool_)
    is_first[1:] = owners[1:] != owners[:-1]
    found: Instants = places[is_first]
    return found


def _offset(at: int, zone: ZoneInfo) -> int:
    offset = dt.datetime.fromtimestamp(at, zone).utcoffset()
    return int(offset.total_seconds()) if offset else 0


# What happened to each incident


@dataclass(frozen=True, slots=True)
class _Facts:
    """Of the incidents of a window. Times, also later ones than now; ``NEVER``: it did not happen."""

    log: Log
    now: int
    part: slice
    """Of the incidents."""
    steps: slice
    """Of the steps: theirs."""
    created: Instants
    has_steps: NDArray[np.bool_]
    """Of the others no log entry is known: whether anybody answered is not known either."""
    notified: Instants
    acknowledged: Instants
    engaged: Instants
    joined: Instants
    """When a second person engaged."""
    asked: NDArray[np.bool_]
    """Whether somebody was asked to join."""
    over: Instants
    """Until when anybody could still answer it: its end, or now."""
    resolved: Instants
    acknowledgements: Instants
    """The places of their steps, among all."""
    untold: NDArray[np.bool_]
    """Whether it is resolved, and nobody knows since when."""


def _facts(log: Log, window: Span, now: int) -> _Facts:
    part = log.created_in(window)
    begin, end = (int(log.step_starts[place]) for place in (part.start, part.stop))
    steps = slice(begin, end)
    kind, at, user = log.kind[steps], log.at[steps], log.user[steps]
    owner = log.incident[steps]
    size = part.stop - part.start

    def of(*kinds: str) -> Instants:
        """The places of such steps, in their order."""
        mask = kind == KIND[kinds[0]]
        for other in kinds[1:]:
            mask |= kind == KIND[other]
        return np.flatnonzero(mask)

    def first_of(places: Instants) -> Instants:
        """Of each incident the time of the first of these."""
        found = np.full(size, NEVER, np.int64)
        firsts = _firsts(places, owner)
        found[owner[firsts] - part.start] = at[firsts]
        return found

    acknowledgements, answers = of("acknowledge"), of("acknowledge", "respond")
    # Whose was the first; -1: nobody's that is named, whom nobody else can be told from.
    who = np.full(size, -1, np.int32)
    firsts = _firsts(answers, owner)
    who[owner[firsts] - part.start] = user[firsts]
    before = who[owner[answers] - part.start]
    others = answers[(user[answers] >= 0) & (before >= 0) & (user[answers] != before)]
    lengths = np.diff(log.step_starts[part.start : part.stop + 1])
    resolved = log.resolved[part]
    untold = (resolved < 0) & (log.status[part] == STATUSES.index("resolved"))
    resolved = np.where(resolved < 0, NEVER, resolved)
    over = np.minimum(resolved, now)
    if untold.any():
        # It was open while things still happened to it.
        with_steps = untold & (lengths > 0)
        last = log.step_starts[part.start + 1 : part.stop + 1][with_steps] - 1
        over[with_steps] = np.minimum(log.at[last], now)
    return _Facts(
        log=log,
        now=now,
        part=part,
        steps=steps,
        created=log.created[part],
        has_steps=lengths > 0,
        notified=first_of(of("notify")),
        acknowledged=first_of(acknowledgements),
        engaged=first_of(answers),
        joined=first_of(others),
        asked=first_of(of("request")) <= now,
        over=over,
        resolved=resolved,
        acknowledgements=acknowledgements + begin,
        untold=untold,
    )


Waits = tuple[Instants, Instants, NDArray[np.bool_]]
"""Of which incidents (places in the facts), how long each was waited for, and whether it happened then."""


def _waits(since: Instants, happened: Instants, until: Instants, which: NDArray[np.bool_]) -> Waits:
    places = np.flatnonzero(which)
    event, given_up, begin = happened[places], until[places], since[places]
    waited = np.minimum(event, given_up) - begin
    return places, np.maximum(waited, 0), event <= given_up


def _measured(facts: _Facts, which: NDArray[np.bool_]) -> Mapping[Measure, Waits]:
    known = which & facts.has_steps
    # Who came when nobody else was called answers nothing.
    called = known & (facts.engaged <= facts.over) & (facts.asked | (facts.joined <= facts.over))
    return {
        # Whoever answered before needs no notification any more.
        "notify": _waits(facts.created, facts.notified, np.minimum(facts.acknowledged, facts.over), known),
        "acknowledge": _waits(facts.created, facts.acknowledged, facts.over, known),
        "engage": _waits(facts.created, facts.engaged, facts.over, known),
        "mobilise": _waits(facts.engaged, facts.joined, facts.over, called),
        "resolve": _waits(facts.created, facts.resolved, np.minimum(facts.resolved, facts.now), which & ~facts.untold),
    }


def _times(waits: Waits) -> Times:
    return times_of(waits[1], waits[2])


# Levels


@dataclass(frozen=True, slots=True)
class _Stays:
    """The times that incidents were at a level, in the order of incidents and steps: each begins with one at its first."""

    incident: Instants
    """Places in the facts or the log that they are of."""
    level: Instants
    place: Instants
    """Of its first step."""
    since: Instants


def _stays(log: Log, part: slice) -> _Stays:
    begin, end = (int(log.step_starts[place]) for place in (part.start, part.stop))
    kind, at = log.kind[begin:end], log.at[begin:end]
    owner = log.incident[begin:end]
    is_escalation, is_restart = kind == KIND["escalate"], kind == KIND["restart"]
    moves = np.flatnonzero(is_escalation | is_restart)
    # What went to several people at once is one escalation.
    again = np.zeros(len(moves), np.bool_)
    again[1:] = (
        (owner[moves[1:]] == owner[moves[:-1]])
        & (at[moves[1:]] == at[moves[:-1]])
        & (kind[moves[1:]] == kind[moves[:-1]])
    )
    moves = moves[~again]
    size = part.stop - part.start
    starts = log.step_starts[part.start : part.stop] - begin
    incident = np.concatenate([np.arange(size), owner[moves].astype(np.int64) - part.start])
    anew = np.concatenate([np.ones(size, np.bool_), is_restart[moves]])
    place = np.concatenate([starts, moves])
    since = np.concatenate([log.created[part], at[moves]])
    # The stay at the first level comes before one that begins with the first step.
    order = np.argsort(np.concatenate([2 * starts, 2 * moves + 1]), kind="stable")
    incident, anew, place, since = incident[order], anew[order], place[order], since[order]
    number = np.arange(len(order))
    level = number - np.maximum.accumulate(np.where(anew, number, 0)) + 1
    return _Stays(incident, level, place + begin, since)


def levels_of(log: Log) -> Codes:
    """Of each step the level of its policy that the incident was at: 1, and one more with each escalation, until the policy
    begins again. No log entry says it, and where PagerDuty passed over a level with nobody on call, the later ones are
    counted too low.
    """
    stays = _stays(log, slice(0, len(log)))
    return np.repeat(stays.level, np.diff(np.append(stays.place, len(log.at)))).astype(np.int32)


def _level_waits(facts: _Facts, which: NDArray[np.bool_]) -> tuple[_Stays, Instants, NDArray[np.bool_]]:
    """The stays that are counted, how long each was waited for an answer, and whether it came.

    Of urgent incidents alone: the others are passed on to nobody, and are told by e-mail, to be answered in working hours. They
    would make the first level slow, at which all of them stay.
    """
    log, stays = facts.log, _stays(facts.log, facts.part)
    which = which & facts.has_steps & (log.urgency[facts.part] == URGENCIES.index("high"))
    ends = np.append(stays.since[1:], NEVER)
    ends[:-1][stays.incident[1:] != stays.incident[:-1]] = NEVER
    following = np.append(stays.place[1:], facts.steps.stop)
    over = facts.over[stays.incident]
    # Where it was passed on in the second that it came, or was over before it came, nobody was waited for.
    kept = np.flatnonzero(which[stays.incident] & (stays.since <= over) & (ends > stays.since))
    counted = _Stays(stays.incident[kept], stays.level[kept], stays.place[kept], stays.since[kept])
    answers = facts.acknowledgements
    found = np.searchsorted(answers, counted.place)
    answered = np.full(len(kept), NEVER, np.int64)
    inside = np.flatnonzero(found < len(answers))
    inside = inside[answers[found[inside]] < following[kept[inside]]]
    answered[inside] = log.at[answers[found[inside]]]
    until = np.minimum(ends, over)[kept]
    return counted, np.minimum(answered, until) - counted.since, answered <= until


def _levels(facts: _Facts, which: NDArray[np.bool_], policy_id: str) -> tuple[LevelTimes, ...]:
    stays, waited, happened = _level_waits(facts, which)
    if not len(waited):
        return ()
    created = facts.created[stays.incident]
    top = int(stays.level.max()) + 1
    curves = _curves(stays.level, waited, happened, top)
    # An incident that came to it again counts once.
    both = (stays.level << 40) | stays.incident
    reached, answered = (np.bincount(_distinct(some) >> 40, minlength=top) for some in (both, both[happened]))
    naive = np.bincount(stays.level, weights=(stays.since + waited - created) * happened, minlength=top)
    found = []
    for level, times in enumerate(curves.times()):
        if not times.count:
            continue
        at_least = None
        if times.median.seconds is None and times.count >= STILL:
            at_least = float(np.partition(waited[stays.level == level], -STILL)[-STILL])
        mean = float(naive[level] / times.happened) if times.happened else None
        came, told = int(reached[level]), int(answered[level])
        found.append(LevelTimes(policy_id, level, came, told, times, mean, at_least, curves.answers(level)))
    return tuple(found)


# What is asked for


def response(log: Log, window: Span, now: int, chosen: Chosen = EVERY) -> Response:
    """Of the incidents created in ``window``; what did not happen until ``now`` counts as waited for until then."""
    facts = _facts(log, window, now)
    which = chosen_in(log, window, chosen)[facts.part]
    measured = _measured(facts, which)
    times = {name: _times(waits) for name, waits in measured.items()}
    levels = _levels(facts, which, chosen.policy_id)
    return Response(window, int(which.sum()), times, _waterfall(facts, which, times), levels, slowest_of(levels))


def _waterfall(facts: _Facts, which: NDArray[np.bool_], times: Mapping[Measure, Times]) -> tuple[Stage, ...]:
    known = which & facts.has_steps
    notified = known & (facts.notified <= np.minimum(facts.acknowledged, facts.over))
    answered = known & (facts.acknowledged <= facts.over)
    ready = np.maximum(facts.acknowledged, np.where(facts.joined <= facts.over, facts.joined, 0))
    acknowledge = _times(_waits(facts.notified, facts.acknowledged, facts.over, notified))
    resolve = _times(_waits(ready, facts.resolved, np.minimum(facts.resolved, facts.now), answered & ~facts.untold))
    stages: list[Stage] = []
    starts = 0.0
    all_stages: tuple[tuple[Measure, Times], ...] = (
        ("notify", times["notify"]),
        ("acknowledge", acknowledge),
        ("mobilise", times["mobilise"]),
        ("resolve", resolve),
    )
    for name, stage in all_stages:
        stages.append(Stage(name, stage, starts))
        # Most call nobody else: for them no time passes there.
        if name != "mobilise" or 2 * stage.count >= int(answered.sum()):
            starts += stage.median.seconds or 0.0
    return tuple(stages)


def grouped(
    log: Log, window: Span, now: int, by: By, chosen: Chosen = EVERY, zone: ZoneInfo | None = None
) -> tuple[Group, ...]:
    """The same by one thing, those with most incidents first (levels and hours in their order). ``hour``: of creation, by the
    clock of ``zone``, or UTC. ``level``: that at which it was first acknowledged, or is or ended."""
    facts = _facts(log, window, now)
    which = chosen_in(log, window, chosen)[facts.part]
    incident, code, keys = _keyed(facts, by, zone)
    counts = np.bincount(code[which[incident]], minlength=len(keys))
    measured = {}
    for name, (places, waited, happened) in _measured(facts, which).items():
        if by == "team":
            # An incident counts with each of its teams.
            where = np.full(len(which), -1, np.int64)
            where[places] = np.arange(len(places))
            mine = where[incident]
            curves = _curves(code[mine >= 0], waited[mine[mine >= 0]], happened[mine[mine >= 0]], len(keys))
        else:
            curves = _curves(code[places], waited, happened, len(keys))
        measured[name] = list(curves.times())
    groups = [
        Group(key, int(counts[place]), {name: measured[name][place] for name in MEASURES})
        for place, key in enumerate(keys)
        if counts[place]
    ]
    if by not in ("level", "hour"):
        groups.sort(key=lambda group: (-group.incidents, group.key))
    return tuple(groups)


def _keyed(facts: _Facts, by: By, zone: ZoneInfo | None) -> tuple[Instants, Instants, tuple[str, ...]]:
    """Incidents (places in the facts, in their order) and the places of their keys; of teams an incident can have several."""
    log, part = facts.log, facts.part
    every = np.arange(part.stop - part.start)
    match by:
        case "team":
            begin, end = (int(log.team_starts[place]) for place in (part.start, part.stop))
            lengths = np.diff(log.team_starts[part.start : part.stop + 1])
            none = np.flatnonzero(lengths == 0)
            incident = np.concatenate([np.repeat(every, lengths), none])
            codes = np.concatenate([log.team[begin:end].astype(np.int64), np.full(len(none), -1)])
            return incident, codes + 1, ("", *log.teams)
        case "hour":
            return every, _hours(facts.created, zone), tuple(str(hour) for hour in range(24))
        case "level":
            levels = _level_of_each(facts)
            return every, levels, ("", *(str(level) for level in range(1, int(levels.max(initial=0)) + 1)))
        case "urgency":
            return every, log.urgency[part].astype(np.int64), URGENCIES
        case "policy":
            column, names = log.policy, log.policies
        case "service":
            column, names = log.service, log.services
        case "priority":
            column, names = log.priority, log.priorities
    return every, column[part].astype(np.int64) + 1, ("", *names)


def _hours(created: Instants, zone: ZoneInfo | None) -> Instants:
    hours = created // 3600
    if zone is not None and len(created):
        # Clocks are changed at whole hours of UTC, but for one island's.
        known = _distinct(hours)
        offsets = np.array([_offset(hour * 3600, zone) for hour in known.tolist()], dtype=np.int64)
        hours = (created + offsets[np.searchsorted(known, hours)]) // 3600
    found: Instants = hours % 24
    return found


def _level_of_each(facts: _Facts) -> Instants:
    """0: no step of it is known."""
    stays = _stays(facts.log, facts.part)
    # Those that it had come to by the first acknowledgement, or by now: the last of each.
    came = np.flatnonzero(stays.since <= np.minimum(facts.acknowledged, facts.now)[stays.incident])
    levels = np.ones(len(facts.created), np.int64)
    levels[stays.incident[came]] = stays.level[came]
    levels[~facts.has_steps] = 0
    return levels


def policy_levels(log: Log, window: Span, now: int, policy_id: str) -> tuple[LevelTimes, ...]:
    """Of one policy, by level."""
    facts = _facts(log, window, now)
    return _levels(facts, chosen_in(log, window, Chosen(policy_id=policy_id))[facts.part], policy_id)


def slowest_of(levels: tuple[LevelTimes, ...]) -> Slowest | None:
    """By the lower ends of their intervals: what is slow for sure, and not what a few that nobody answered make look so. None: of
    too few of them enough is known."""
    told = [(low, level) for level in levels if level.times.count >= ENOUGH and (low := _low(level)) is not None]
    if len(told) < 2:
        return None
    (low, slowest), *others = sorted(told, key=lambda row: row[0], reverse=True)
    highs = [level.times.median.high for _, level in others]
    return Slowest(slowest, others[0][1], all(high is not None and low > APART * high for high in highs))


def _low(level: LevelTimes) -> float | None:
    """Of its median. Where the lower curve never comes down to a half, it is longer than it was waited for."""
    low = level.times.median.low
    return level.at_least if low is None else low
