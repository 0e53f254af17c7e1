"""Who would be paged: an incident followed through its escalation policy as if nobody acknowledged it, level by level.

What this goes by:

- PagerDuty documents that a level on which nobody is on call is skipped at once, and that no incident is created where that is so
  on every level; that the delay of a level runs until the next is come to, that the policy then begins again as often as its
  loops say, and that nobody is told after the last of them; and that an incident of low urgency escalates no further by itself
  than to the first level that reaches somebody.
- People are told by their own rules for the urgency, each some minutes after the incident was assigned to them, while it is.
- Taken for granted: who is on call is looked up when a level is come to, not when the incident begins; a level that is skipped
  on the way takes no time in any loop.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from integrations.pagerduty.analysis.coverage import render_all
from integrations.pagerduty.analysis.model import (
    Account,
    Contact,
    Level,
    Person,
    Policy,
    Problem,
    Slice,
    Source,
    Span,
    Target,
)

MINUTE: Final = 60
MOST_LOOPS: Final = 9
"""PagerDuty's own limit."""
Urgency = Literal["high", "low"]


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification rule's turn."""

    minute: int
    """After the incident began."""
    contact: Contact
    sent: bool
    """False: the incident has gone on by then, and it is not used."""


@dataclass(frozen=True, slots=True)
class Reached:
    user: str
    """Id."""
    source: Source
    """By what: a schedule's layer, rotation or override, or ``policy``: named by the policy itself."""
    schedule_id: str
    """Empty: named by the policy itself."""
    contacts: tuple[Notice, ...] | None
    """In order; empty: no rule tells them of this urgency. None: their rules are not known."""
    also: tuple[tuple[Source, str], ...] = ()
    """What else puts the same person on this level: source and schedule id. They are told once."""


@dataclass(frozen=True, slots=True)
class Step:
    """A level as it is come to."""

    loop: int
    """From 1."""
    level: int
    """From 1."""
    minutes: int
    """After the incident began."""
    delay: int | None
    """Minutes until it goes on; 0: skipped; None: it stays here, as low urgency does."""
    reached: tuple[Reached, ...]
    skipped: str = ""
    """Why nobody is reached, as a sentence; empty: somebody is."""
    one_of: bool = False
    """A round-robin level: one of those reached, by turns that only PagerDuty knows."""


@dataclass(frozen=True, slots=True)
class Paged:
    policy: Policy
    at: int
    urgency: Urgency
    steps: tuple[Step, ...]
    """In order, with the levels that are skipped; empty where none is come to."""
    ends_at: int | None
    """From when on nobody else is told; None: it stays with whom it is assigned to."""
    nobody: str = ""
    """Why nobody at all is told, as a sentence; empty: somebody is."""
    problems: tuple[Problem, ...] = ()
    """What of the policy, its schedules and its service is not as it should be, or not known."""
    warnings: tuple[Problem, ...] = ()
    """What is wrong with how people would be told."""
    service_id: str = ""

    def told_within(self, minutes: int) -> dict[str, int]:
        """Whom a first notification is sent to in so many minutes, and at which minute. Of people whose rules are not known it is
        the minute at which the incident is assigned to them; a round-robin level counts for each of those it may be."""
        found: dict[str, int] = {}
        for step in self.steps:
            for one in step.reached:
                sent = [step.minutes] if one.contacts is None else [each.minute for each in one.contacts if each.sent]
                if sent and sent[0] <= minutes:
                    found[one.user] = min(sent[0], found.get(one.user, sent[0]))
        return found


def who_is_paged(
    account: Account,
    policy_id: str,
    at: int,
    *,
    urgency: str = "high",
    rendered: Mapping[str, Sequence[Slice]] | None = None,
) -> Paged:
    """An incident that begins at ``at``, followed until it ends. KeyError: the policy is not among what is known.

    ``rendered``: slices by schedule id, which must reach as far as the incident does (``longest``); without it the policy's
    schedules are rendered here. ``urgency``: what is not ``low`` is taken as high."""
    policy = account.policies[policy_id]
    told: Urgency = "low" if urgency == "low" else "high"
    if rendered is None:
        targets = {target.id for level in policy.levels for target in level.targets}
        schedules = {id: schedule for id, schedule in account.schedules.items() if id in targets}
        window = Span(at, at + longest(policy) * MINUTE + 1)
        rendered = render_all(replace(account, schedules=schedules), window)
    walk = _Walk(account, policy, at, told, rendered)
    walk.go()
    return walk.paged()


def service_is_paged(
    account: Account, service_id: str, at: int, *, rendered: Mapping[str, Sequence[Slice]] | None = None
) -> Paged:
    """The same of an incident of a service: with its policy and its urgency. KeyError: the service is not among what is known."""
    service = account.services[service_id]
    problems: list[Problem] = []
    policy = account.policies.get(service.policy_id)
    nobody = ""
    if service.status == "disabled":
        nobody = "The service is disabled: no incident is created, and nobody is told."
    elif not service.policy_id:
        nobody = "The service has no escalation policy: nobody is told."
    elif policy is None:
        nobody = (
            "The service's escalation policy is not among what is known here, so who would be paged cannot be told."
        )
        problems.append(Problem("unknown_policy", nobody, service.policy_id))
    urgency: Urgency = "low" if service.urgency == "low" else "high"
    if policy is None or nobody:
        shown = policy or Policy(service.policy_id, service.policy_id, (), 0)
        return Paged(shown, at, urgency, (), at, nobody, tuple(problems), (), service.id)
    if service.urgency == "severity_based":
        words = "The service's urgency hangs on each alert's severity; this is told for high urgency. Low does not escalate."
        problems.append(Problem("urgency_varies", words, service.name))
    elif service.urgency == "support_hours":
        words = (
            "The service's urgency hangs on its support hours; this is told for high urgency. Low does not escalate."
        )
        problems.append(Problem("urgency_varies", words, service.name))
    if service.status == "maintenance":
        words = "The service is in maintenance now: while that lasts, no incident is created."
        problems.append(Problem("maintenance", words, service.name))
    found = who_is_paged(account, policy.id, at, urgency=urgency, rendered=rendered)
    return replace(found, service_id=service.id, problems=(*problems, *found.problems))


def longest(policy: Policy) -> int:
    """For how many minutes an incident may go through it at most."""
    return sum(max(0, level.delay) for level in policy.levels) * _rounds(policy)


def _rounds(policy: Policy) -> int:
    """How often it is gone through, the first time included."""
    return min(max(0, policy.loops), MOST_LOOPS) + 1


class _Walk:
    """One incident on its way."""

    def __init__(
        self, account: Account, policy: Policy, at: int, urgency: Urgency, rendered: Mapping[str, Sequence[Slice]]
    ) -> None:
        self.account = account
        self.policy = policy
        self.at = at
        self.urgency = urgency
        self.rendered = rendered
        self.steps: list[Step] = []
        self.minutes = 0
        self.stays = False
        self.warned: dict[tuple[str, str], Problem] = {}

    def go(self) -> None:
        levels = self.policy.levels
        skipped = 0  # in a row
        for loop in range(1, _rounds(self.policy) + 1):
            for number, level in enumerate(levels, 1):
                if skipped >= len(levels):
                    # All were skipped at this one moment, and would be in every further loop.
                    return
                one_by_one = self._on_call(level)
                if not one_by_one:
                    skipped += 1
                    self.steps.append(Step(loop, number, self.minutes, 0, (), self._why(number, level)))
                    continue
                skipped = 0
                self.stays = self.urgency == "low"
                delay = None if self.stays else max(0, level.delay)
                told = tuple(self._reached(found, delay) for found in one_by_one)
                several = level.round_robin and len(level.targets) > 1
                self.steps.append(Step(loop, number, self.minutes, delay, told, one_of=several))
                if delay is None:
                    return
                self.minutes += delay

    def paged(self) -> Paged:
        problems = tuple(self._problems())
        nobody = ""
        if not self.policy.levels:
            nobody = "The escalation policy has no level: nobody is told."
        elif not any(step.reached for step in self.steps):
            nobody = "Nobody is on call on any level: no incident is created, and nobody is told."
            if any(problem.code == "unknown_schedule" for problem in problems):
                nobody = "As far as is known, nobody is on call on any level; not all of its schedules are known here."
        ends_at = None if self.stays else self.at + self.minutes * MINUTE
        self._warn_of_neighbours()
        steps, warnings = tuple(self.steps), tuple(self.warned.values())
        return Paged(self.policy, self.at, self.urgency, steps, ends_at, nobody, problems, warnings)

    def _on_call(self, level: Level) -> list[tuple[str, list[tuple[Source, str]]]]:
        """Who is reached when the level is come to, each with all that puts them there."""
        moment = self.at + self.minutes * MINUTE
        found: dict[str, list[tuple[Source, str]]] = {}
        for target in level.targets:
            if target.deleted:
                continue
            if target.kind == "user":
                found.setdefault(target.id, []).append((Source("policy", self.policy.id, self.policy.name), ""))
                continue
            for one in self.rendered.get(target.id, ()):
                if one.start <= moment < one.end and one.user:
                    found.setdefault(one.user, []).append((one.source, target.id))
        return list(found.items())

    def _why(self, number: int, level: Level) -> str:
        if not level.targets:
            return f"Level {number} names nobody: it is skipped at once."
        parts = [self._state(target) for target in level.targets]
        return f"Level {number} is skipped at once: {'; '.join(dict.fromkeys(parts))}."

    def _state(self, target: Target) -> str:
        name = self._name(target)
        if target.deleted:
            return f"{name} is deleted"
        return (
            f"nobody is on call on {name}" if target.id in self.rendered else f"who is on call on {name} is not known"
        )

    def _name(self, target: Target) -> str:
        if target.kind == "user":
            return target.name or self.account.name_of(target.id)
        schedule = self.account.schedules.get(target.id)
        return schedule.name if schedule else target.name or target.id

    def _reached(self, found: tuple[str, list[tuple[Source, str]]], delay: int | None) -> Reached:
        user, ((source, schedule_id), *also) = found
        person = self.account.people.get(user)
        contacts = None if person is None else self._notices(person, delay)
        return Reached(user, source, schedule_id, contacts, tuple(also))

    def _notices(self, person: Person, delay: int | None) -> tuple[Notice, ...] | None:
        """What the person's rules do until the level's delay is over. A rule that is due at the very minute at which the
        incident goes on is too late."""
        name = person.name
        if person.contacts is not None and not person.contacts:
            self._warn("no_contact", f"{name} has no contact method: nothing tells them.", person.id)
            return ()
        if person.ladder is None:
            return None
        known = {contact.id: contact for contact in person.contacts or ()}
        rungs = sorted((rung for rung in person.ladder if rung.urgency == self.urgency), key=lambda rung: rung.delay)
        notices = []
        for rung in rungs:
            contact = known.get(rung.contact_id) or Contact(rung.contact_id, _kind(rung.contact_kind), "", "")
            sent = delay is None or rung.delay < delay
            notices.append(Notice(self.minutes + rung.delay, contact, sent))
        if not rungs:
            words = f"{name} has no notification rule for {self.urgency} urgency: nothing tells them."
            self._warn("no_rule", words, person.id)
        elif not any(notice.sent for notice in notices):
            words = f"{name} is first told after {rungs[0].delay} minutes; by then the incident has gone on."
            self._warn("never_told", words, person.id)
        elif not all(notice.sent for notice in notices):
            words = f"Not all of {name}'s notification rules are used: the incident goes on after {delay} minutes."
            self._warn("ladder_cut", words, person.id)
        if self.urgency == "high" and rungs and all(notice.contact.kind == "email" for notice in notices):
            self._warn("email_only", f"{name} is told by e-mail alone, which wakes nobody.", person.id)
        return tuple(notices)

    def _warn_of_neighbours(self) -> None:
        """The same person on one level and on the next, as the incident comes to them; skipped ones do not part them."""
        reached = [step for step in self.steps if step.reached]
        for upper, lower in itertools.pairwise(reached):
            if lower.loop != upper.loop:
                continue
            below = {one.user for one in lower.reached}
            for one in upper.reached:
                if one.user in below:
                    name = self.account.name_of(one.user)
                    words = f"{name} is on level {upper.level} and on level {lower.level}: going on reaches them again."
                    self._warn("same_person", words, one.user)
        people = {one.user for step in reached for one in step.reached}
        if len(people) == 1 and not self.stays:
            (only,) = people
            words = f"{self.account.name_of(only)} is the only one who is ever told."
            self._warn("one_person", words, only)

    def _warn(self, code: str, words: str, where: str) -> None:
        self.warned.setdefault((code, words), Problem(code, words, where))

    def _problems(self) -> Iterable[Problem]:
        yield from self.policy.problems
        seen = set()
        for target in (target for level in self.policy.levels for target in level.targets):
            if target in seen:
                continue
            seen.add(target)
            name = self._name(target)
            if target.deleted:
                yield Problem("deleted_target", f"{name} is deleted and reaches nobody.", target.id)
            elif target.kind == "user":
                if target.id not in self.account.people:
                    yield Problem(
                        "unknown_user",
                        f"{name} is not among the people known here: how they would be told is not known.",
                        target.id,
                    )
            elif target.id not in self.rendered:
                yield Problem("unknown_schedule", f"Who is on call on {name} is not known.", target.id)
            elif schedule := self.account.schedules.get(target.id):
                for problem in schedule.problems:
                    where = f"{name}: {problem.where}" if problem.where else name
                    yield Problem(problem.code, problem.words, where)


def _kind(told: str) -> Literal["email", "phone", "sms", "push", "other"]:
    match told:
        case "email" | "phone" | "sms" | "push":
            return told
    return "other"
