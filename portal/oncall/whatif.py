"""An escalation policy as it might be: read from an address, written into one, told beside what it is. Nothing is kept."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from django.http import QueryDict

from integrations.intended import mark_of
from integrations.pagerduty.analysis.coverage import Hole, holes
from integrations.pagerduty.analysis.escalation import Finding, review
from integrations.pagerduty.analysis.intended import Mark, missing
from integrations.pagerduty.analysis.model import Account, Level, Policy, Span, Target
from integrations.pagerduty.analysis.paging import MOST_LOOPS
from portal.oncall.escalation import Difference, LevelShown, One, estimated, minutes, name_of, times
from portal.oncall.ladder import Ladder, extent
from portal.oncall.strips import lasts

if TYPE_CHECKING:
    # It comes with numpy, which no page needs until it tells of incidents.
    from integrations.pagerduty.analysis.response import LevelTimes

ASKED: Final = "if"
"""In an address: such a policy is asked for, whatever else stands there."""
LONGEST: Final = 10_080
"""Minutes of a level that PagerDuty takes, as its tool does; the least is one."""
MOST_TARGETS: Final = 10
"""Of a level, as PagerDuty's API takes."""
MOST_LEVELS: Final = 50
MOST_ERRORS: Final = 10
OUT: Final = "out"


@dataclass(frozen=True, slots=True)
class Row:
    """A level of the draft."""

    level: Level
    was: int
    """Which level of the policy it is, from 1; 0: a new one."""


@dataclass(frozen=True, slots=True)
class Draft:
    rows: tuple[Row, ...]
    loops: int

    def policy(self, policy: Policy) -> Policy:
        """The policy with these levels."""
        return replace(policy, levels=tuple(row.level for row in self.rows), loops=self.loops)

    @property
    def query(self) -> str:
        """The address's."""
        return self._values.urlencode()

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The same as fields of a form."""
        return [(name, value) for name, values in self._values.lists() for value in values]

    @property
    def _values(self) -> QueryDict:
        values = QueryDict(mutable=True)
        values[ASKED] = "yes"
        for number, row in enumerate(self.rows, 1):
            values[f"delay-{number}"] = str(row.level.delay)
            values[f"was-{number}"] = str(row.was)
            values.setlist(f"target-{number}", [key_of(target) for target in row.level.targets])
        values["loops"] = str(self.loops)
        return values


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks for: a draft, or why it is none."""

    draft: Draft | None
    errors: tuple[str, ...]
    shown: Draft
    """What the form shows: the draft, or as much of what was asked as can be."""


def key_of(target: Target) -> str:
    return f"{target.kind}.{target.id}"


def as_it_is(policy: Policy) -> Draft:
    return Draft(tuple(Row(level, number) for number, level in enumerate(policy.levels, 1)), policy.loops)


def asked(query: QueryDict, policy: Policy, account: Account) -> Asked | None:
    """None: no such policy is asked for."""
    if ASKED not in query:
        return None
    known = _known(policy, account)
    errors: list[str] = []
    taken: set[int] = set()
    rows: list[tuple[tuple[int, int, int], Row]] = []
    for number in range(1, MOST_LEVELS + 2):
        if f"delay-{number}" not in query:
            continue
        place = query.get(f"place-{number}", str(number))
        if place == OUT:
            continue
        put = int(place) if place.isascii() and place.isdigit() and len(place) < 4 else number
        row = _row(query, number, policy, known, taken, errors)
        # What was moved up comes before what stands there, and what was moved down after it.
        rows.append(((put, (put > number) - (put < number), number), row))
    levels = [row for _, row in sorted(rows, key=lambda each: each[0])]
    _add(query, levels, known, errors)
    loops = _whole(query.get("loops", ""), 0, MOST_LOOPS)
    if loops is None:
        errors.append(f"How often it repeats is a whole number from 0 to {MOST_LOOPS}.")
    if not levels:
        errors.append("A policy has one level at least: nobody would be told of anything.")
    if len(levels) > MOST_LEVELS:
        errors.append(f"These are more than {MOST_LEVELS} levels: more are not looked at here.")
    for number, row in enumerate(levels, 1):
        if len(row.level.targets) > MOST_TARGETS:
            errors.append(
                f"Level {number} names {len(row.level.targets)} targets: PagerDuty takes {MOST_TARGETS} at most."
            )
        elif not row.level.targets:
            errors.append(f"Level {number} names nobody: leave it out, or choose whom it tells.")
    shown = Draft(tuple(levels[:MOST_LEVELS]), policy.loops if loops is None else loops)
    return Asked(None if errors else shown, tuple(dict.fromkeys(errors))[:MOST_ERRORS], shown)


def _row(
    query: QueryDict, number: int, policy: Policy, known: Mapping[str, Target], taken: set[int], errors: list[str]
) -> Row:
    was = _whole(query.get(f"was-{number}", "0"), 0, len(policy.levels)) or 0
    if was in taken:
        was = 0
    taken.add(was)
    delay = _whole(query.get(f"delay-{number}", ""), 1, LONGEST)
    if delay is None:
        errors.append(f"Level {number}: its minutes are a whole number from 1 to {LONGEST:,}.")
        delay = policy.levels[was - 1].delay if was else 30
    targets = []
    for key in dict.fromkeys(query.getlist(f"target-{number}")[: 10 * MOST_TARGETS]):
        if key in known:
            targets.append(known[key])
        else:
            errors.append(_stranger(key))
    return Row(Level(delay, tuple(targets), bool(was) and policy.levels[was - 1].round_robin), was)


def _add(query: QueryDict, levels: list[Row], known: Mapping[str, Target], errors: list[str]) -> None:
    """One target more, into a level that there is or into a new one after the last."""
    key = query.get("add", "")
    if not key:
        return
    if key not in known:
        errors.append(_stranger(key))
        return
    target, to = known[key], _whole(query.get("to", ""), 1, len(levels))
    if to is None:
        levels.append(Row(Level(30, (target,)), 0))
        return
    row = levels[to - 1]
    if target not in row.level.targets:
        levels[to - 1] = replace(row, level=replace(row.level, targets=(*row.level.targets, target)))


def _known(policy: Policy, account: Account) -> dict[str, Target]:
    """Who and what may be named: all that is mirrored, and what the policy names already."""
    named = itertools.chain(
        (Target("schedule", each.id, each.name) for each in account.schedules.values()),
        (Target("user", each.id, each.name) for each in account.people.values()),
        (target for level in policy.levels for target in level.targets),
    )
    return {key_of(target): target for target in named}


def _stranger(key: str) -> str:
    kind, _, id = key.partition(".")
    what = {"user": "person", "schedule": "schedule"}.get(kind, "person or schedule")
    return f"“{id[:40] or key[:40]}” is no {what} that is mirrored here."


def _whole(text: str, least: int, most: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) < 8):
        return None
    return int(text) if least <= int(text) <= most else None


# What is other


def differences(policy: Policy, draft: Draft, account: Account) -> list[Difference]:
    found = []
    for number, row in enumerate(draft.rows, 1):
        before = policy.levels[row.was - 1] if row.was else None
        where = f"Level {number}"
        if before is None:
            found.append(Difference(where, "", f"{minutes(row.level.delay)}: {names(row.level.targets, account)}"))
            continue
        if row.was != number:
            where = f"Level {number} (level {row.was} now)"
        if before.delay != row.level.delay:
            found.append(Difference(f"{where}, goes on after", minutes(before.delay), minutes(row.level.delay)))
        if {key_of(each) for each in before.targets} != {key_of(each) for each in row.level.targets}:
            found.append(
                Difference(f"{where}, tells", names(before.targets, account), names(row.level.targets, account))
            )
    there = [row.was for row in draft.rows if row.was]
    for number, level in enumerate(policy.levels, 1):
        if number not in there:
            found.append(
                Difference(f"Level {number} now", f"{minutes(level.delay)}: {names(level.targets, account)}", "")
            )
    if there != sorted(there):
        now = ", ".join(str(number) for number in sorted(there))
        found.append(Difference("Order of today's levels", now, ", ".join(map(str, there))))
    if policy.loops != draft.loops:
        found.append(Difference("Repeats", times(policy.loops), times(draft.loops)))
    return found


def names(targets: Iterable[Target], account: Account) -> str:
    return ", ".join(name_of(target, account) for target in targets) or "nobody"


# What would be written


def digest(policy: Policy) -> str:
    """Of all that a draft may change: whether the policy still is what somebody looked at."""
    levels = [
        (level.delay, level.round_robin, sorted(key_of(target) for target in level.targets)) for level in policy.levels
    ]
    return hashlib.sha256(json.dumps([levels, policy.loops]).encode()).hexdigest()[:24]


def not_simple(policy: Policy, draft: Draft) -> str:
    """Why such a change is not made from here, as a sentence; empty: it is."""
    order = [row.was for row in draft.rows]
    if any(level.round_robin for level in policy.levels) and order != list(range(1, len(policy.levels) + 1)):
        return "A level tells one of its targets in turn, which would stay with the place and not go with the level."
    if any(target.deleted for row in draft.rows for target in row.level.targets):
        return "A level still names what is deleted: take it out first."
    return ""


def arguments(policy: Policy, draft: Draft, account: Account) -> dict[str, Any]:
    """Of the tool that updates a policy: what is other, and nothing else."""
    given: dict[str, Any] = {"escalation_policy_id": policy.id}
    after = [row.level for row in draft.rows]
    if [_whom(level) for level in policy.levels] != [_whom(level) for level in after]:
        given["level_targets"] = [",".join(_as_tool(target, account) for target in level.targets) for level in after]
    if [level.delay for level in policy.levels] != [level.delay for level in after]:
        given["level_delays"] = [level.delay for level in after]
    if policy.loops != draft.loops:
        given["repeats"] = draft.loops
    return given


def _whom(level: Level) -> set[str]:
    return {key_of(target) for target in level.targets}


def _as_tool(target: Target, account: Account) -> str:
    schedule = account.schedules.get(target.id)
    kind = "schedule_v3" if target.kind == "schedule" and schedule and schedule.kind == "v3" else target.kind
    return f"{kind}:{target.id}"


def reordered(times: Sequence[LevelTimes | None], draft: Draft) -> list[LevelTimes | None]:
    """What was measured at the levels as they are, by the draft's: None of those that are new."""
    return [times[row.was - 1] if row.was else None for row in draft.rows]


# What it would come to


@dataclass(frozen=True, slots=True)
class Reach:
    """When nobody is reached by any level, in the weeks ahead, and is meant to be."""

    gaps: int
    seconds: int
    lower: int
    """Seconds in which only a later level is."""
    unsure: int

    @property
    def lasts(self) -> str:
        return lasts(self.seconds)

    @property
    def lower_lasts(self) -> str:
        return lasts(self.lower)

    @property
    def unsure_lasts(self) -> str:
        return lasts(self.unsure)


@dataclass(frozen=True)
class Compared:
    """The policy as it is, and as it might be."""

    draft: Draft
    policy: Policy
    """As it might be."""
    differences: list[Difference]
    before: Ladder
    after: Ladder
    levels: list[LevelShown]
    mended: list[Finding]
    """Findings that are no longer."""
    new: list[Finding]
    stays: list[Finding]
    reaches: tuple[Reach, Reach]
    expected_before: str
    """Until somebody acknowledges: the median."""
    expected_after: str
    not_simple: str
    """Why it cannot be made from here; empty: it can."""

    @property
    def was(self) -> int:
        """Findings."""
        return len(self.mended) + len(self.stays)

    @property
    def will(self) -> int:
        return len(self.new) + len(self.stays)


def compare(one: One, draft: Draft) -> Compared:
    from integrations.pagerduty.analysis.optimise import expected_within

    policy, window, sweep = draft.policy(one.policy), one.line.window, one.seen.sweep
    account = replace(sweep.account, policies={**sweep.account.policies, policy.id: policy})
    # Muted ones are as wrong as they were: what is compared is the policy, not who minds.
    was = {each.key: each for each in one.found}
    marks = [mark_of(row) for row in one.seen.marks.get(policy.id, ())]
    judged = review(account, sweep.rendered, one.reviews.window, policy_ids=[policy.id], marks={policy.id: marks})
    # What is about none was looked at with all policies, and is as it was.
    found = [each for each in judged.findings if each.policy_id == policy.id]
    times = reordered(one.times, draft)
    most = max(extent(one.policy, one.times), extent(policy, times))
    reaches = [
        _reach(each, marks, window)
        for each in (sweep.holes.get(policy.id, ()), holes(policy, sweep.rendered, sweep.window))
    ]
    waits = [
        expected_within([level.delay for level in each.levels], [row for row in known if row is not None], each.loops)
        for each, known in ((one.policy, one.times), (policy, _numbered(times)))
    ]
    now = {each.key for each in found}
    return Compared(
        draft,
        policy,
        differences(one.policy, draft, account),
        one.ladder(one.policy, one.times, most),
        one.ladder(policy, times, most),
        one.levels(policy, times),
        [each for each in was.values() if each.key not in now],
        [each for each in found if each.key not in was],
        [each for each in found if each.key in was],
        (reaches[0], reaches[1]),
        estimated(waits[0]),
        estimated(waits[1]),
        not_simple(one.policy, draft),
    )


def _reach(found: Iterable[Hole], marks: Sequence[Mark], window: Span) -> Reach:
    left = missing(found, marks, window)
    lower = sum(hole.span.seconds for hole in left.lower)
    return Reach(
        len(left.nobody), sum(span.seconds for span in left.nobody), lower, sum(span.seconds for span in left.unsure)
    )


def _numbered(times: Sequence[LevelTimes | None]) -> list[LevelTimes | None]:
    """By the places that they have in the draft."""
    return [None if each is None else replace(each, level=number) for number, each in enumerate(times, 1)]


# Proposals


@dataclass(frozen=True)
class Proposal:
    """A draft that is proposed, because of what was measured or of what is not covered."""

    title: str
    draft: Draft
    words: tuple[str, ...]
    before: str
    after: str
    differences: list[Difference]
    not_simple: str
    """Why it cannot be made from here; empty: it can."""


def proposals(one: One) -> list[Proposal]:
    """The best for the delays and the order, and the schedules that would close gaps, the most first."""
    from integrations.pagerduty.analysis.optimise import delays, second_schedules
    from integrations.pagerduty.analysis.response import Estimate

    policy, account, found = one.policy, one.account, []

    def propose(title: str, draft: Draft, words: tuple[str, ...], before: str, after: str) -> None:
        lines = differences(policy, draft, account)
        found.append(Proposal(title, draft, words, before, after, lines, not_simple(policy, draft)))

    if one.answering.period is not None and one.answering.incidents(policy.id):
        best = delays(account, policy.id, one.answering.levels(policy.id), one.answering.period.log)
        if best is not None:
            rows = tuple(
                Row(replace(policy.levels[was - 1], delay=delay), was)
                for was, delay in zip(best.order, best.after, strict=True)
            )
            pairs = (
                (best.expected_before, best.interval_before),
                (best.expected_after, best.interval_after),
            )
            told = [
                "" if each is None else f"half are acknowledged within {estimated(Estimate(each, *interval))}"
                for each, interval in pairs
            ]
            in_order = best.order == tuple(sorted(best.order))
            propose(
                "Other delays" if in_order else "Another order of the levels",
                Draft(rows, policy.loops),
                best.words,
                *told,
            )
    for second in second_schedules(account, policy.id, one.seen.sweep.rendered, one.line.window):
        schedule = account.schedules[second.schedule_id]
        target = Target("schedule", schedule.id, schedule.name)
        rows = tuple(
            replace(row, level=replace(row.level, targets=(*row.level.targets, target)))
            if number == second.level
            else row
            for number, row in enumerate(as_it_is(policy).rows, 1)
        )
        told = [
            f"level {second.level} reaches nobody for {lasts(each)}"
            if each
            else f"level {second.level} always reaches somebody"
            for each in (second.uncovered_before, second.uncovered_after)
        ]
        propose(f"{schedule.name} on level {second.level}, too", Draft(rows, policy.loops), second.words, *told)
    return found
