"""Would this escalation policy wake somebody: what is wrong with it, on what evidence, what it comes to, and what mends it.

Pure: a rule looks at the account as it is mirrored and at who is on call in the window, and never guesses: what is not known is
no finding, and ``Review.unjudged`` says of what. No rule renders a schedule or sweeps levels by itself: who is on call is given,
and gaps are those of ``coverage.py``.

Each rule says what is true, whatever another one says too: a person without any contact method has no telephone either.
``Finding.follows`` tells which finding it goes with, for those who show them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from integrations.pagerduty.analysis.coverage import Hole, covered, gaps, holes, level_gaps, standing, unknown_in
from integrations.pagerduty.analysis.intended import Mark, cut, intended, missing
from integrations.pagerduty.analysis.model import (
    Account,
    Level,
    Person,
    Policy,
    Rung,
    Schedule,
    Service,
    Slice,
    Source,
    Span,
    Target,
)
from integrations.pagerduty.analysis.paging import longest
from integrations.pagerduty.analysis.relief import duties

Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low", "info")


class Rule(NamedTuple):
    """What is looked for."""

    name: str
    """As in ``truth.json``: ``nobody_on_call``, ``level_gap``, ``single_level``, ..."""
    severity: Severity
    title: str
    """A few words: ``Nobody is on call at times``."""
    source: str
    """What PagerDuty's documentation says of it, in our words; empty: it is a rule of ours."""
    url: str
    """Where it says so."""


class Evidence(NamedTuple):
    words: str
    """``Level 2, Payments secondary: nobody on call``."""
    span: Span | None = None


class Change(NamedTuple):
    """What mends it, in PagerDuty's terms."""

    words: str
    """``Let the policy repeat twice.``"""
    path: tuple[str | int, ...]
    """Where in the document: ``("num_loops",)``, ``("escalation_rules", 0, "escalation_delay_in_minutes")``. A place after the
    last one of a list: one more."""
    before: Any
    after: Any
    """None: it is for people to choose who or what."""
    document: tuple[str, str] = ("", "")
    """Whose it is: ``policy``, ``schedule``, ``service`` or ``user``, and its id; empty: the finding's policy."""


@dataclass(frozen=True, slots=True)
class Finding:
    rule: Rule
    policy_id: str
    """Empty: it is about a schedule or a service that no policy is to blame for."""
    level: int
    """From 1; 0: the whole policy."""
    subject: tuple[str, str]
    """What it is about: ``policy``, ``schedule``, ``service`` or ``user``, and its id."""
    words: str
    """What is wrong, as a sentence with names."""
    evidence: tuple[Evidence, ...]
    consequence: str
    """What will happen, as a sentence."""
    changes: tuple[Change, ...]
    """What mends it, of which one is enough; empty: nothing in the policy does."""
    follows: str = ""
    """The name of a rule that found the same of the same policy or person, with which this one goes away; empty: none."""

    @property
    def key(self) -> str:
        """By which it is muted: the rule and what it is about."""
        return f"{self.rule.name}:{self.subject[0]}:{self.subject[1]}:{self.level}"


class Unjudged(NamedTuple):
    """Something that rules could not be asked of, as not enough is known."""

    rules: tuple[str, ...]
    """Names of those."""
    policy_id: str
    """Empty: it is about none."""
    subject: tuple[str, str]
    words: str
    """What is not known, as a sentence."""


@dataclass(frozen=True, slots=True)
class Review:
    findings: tuple[Finding, ...]
    """The worst first."""
    unjudged: tuple[Unjudged, ...]
    meant: Mapping[str, tuple[Span, ...]] = field(default_factory=dict)
    """By policy id, when nobody is reached and that is intended: no finding."""


LONG_DELAY: Final = 30
"""Minutes: PagerDuty's default. What is longer was meant, and is long."""
SHORT_DELAY: Final = 5
"""Minutes that somebody who sleeps is given to answer, at least."""
USUAL_DELAY: Final = 15
"""Minutes that are proposed instead of too many."""
MOST_LEVELS: Final = 20
MOST_TARGETS: Final = 10
REPEATS: Final = 2
"""How often a policy is proposed to begin again."""
SHOWN: Final = 12
"""Spans that a finding names; the rest is one sum."""

_KB: Final = "https://support.pagerduty.com/main/docs/"
_POLICIES: Final = f"{_KB}escalation-policies"
_GAPS: Final = "https://support.pagerduty.com/hc/en-us/articles/202830180-Scheduling-Gaps"
_PRIMARY: Final = "https://support.pagerduty.com/docs/escalation-policy-vs-schedule"
_NOTIFY: Final = f"{_KB}notification-rules"
_READY: Final = f"{_KB}on-call-readiness-reports"
_USED: Final = f"{_KB}escalation-policies-and-schedules"
_LEFT: Final = f"{_KB}offboarding"
_OWN_RULES: Final = (
    "https://community.pagerduty.com/pagerduty-user-onboarding-13/notifications-setting-up-notification-rules-373"
)
_API: Final = "https://developer.pagerduty.com/api-reference/b3A6Mjc0ODEyNQ-create-an-escalation-policy"

_ALL: Final = (
    Rule(
        "nobody_on_call",
        "critical",
        "Nobody is on call at times",
        "Where no level of the escalation policy has anybody on call, PagerDuty creates no incident at all.",
        _GAPS,
    ),
    Rule(
        "no_contact_method",
        "high",
        "Somebody cannot be told at all",
        "Notification rules need a contact method: without one PagerDuty has nothing to tell a person by.",
        _NOTIFY,
    ),
    Rule(
        "deleted_target",
        "high",
        "Somebody who was deleted is still named",
        "Who was removed from an account may stay in its escalation policies and schedules as a placeholder, and is to be "
        "replaced there.",
        _LEFT,
    ),
    Rule(
        "level_gap",
        "high",
        "A level reaches nobody at times",
        "A level whose schedules have nobody on call is passed over at once, in favour of the next.",
        _GAPS,
    ),
    Rule(
        "single_level",
        "high",
        "There is one level only",
        "A second level is for when nobody of the first answers; PagerDuty recommends two rules at least.",
        _POLICIES,
    ),
    Rule(
        "one_person",
        "high",
        "One person is all there is",
        "Whoever backs the first level up is to be somebody else than who is on it.",
        _PRIMARY,
    ),
    Rule(
        "same_person",
        "high",
        "Somebody is on two levels at once",
        "Primary and secondary schedules are drawn up with the same rhythm and different people, so that nobody is both.",
        _PRIMARY,
    ),
    Rule(
        "empty_last_level",
        "high",
        "It ends on a level that reaches nobody",
        "A policy that does not repeat is over after its last level, and PagerDuty passes over a level with nobody on call.",
        _POLICIES,
    ),
    Rule(
        "service_without_policy",
        "high",
        "A service has no escalation policy",
        "A service pages people by its escalation policy, and by that alone.",
        _USED,
    ),
    Rule(
        "invitation_pending",
        "high",
        "Somebody has never come to PagerDuty",
        "",
        "",
    ),
    Rule(
        "email_only",
        "high",
        "Somebody is told by e-mail alone",
        "Readiness reports ask for more than e-mail of everybody who is on call.",
        _READY,
    ),
    Rule(
        "no_phone",
        "high",
        "Somebody is never called by telephone",
        "Readiness reports have a profile by which a telephone must be among the rules for high urgency.",
        _READY,
    ),
    Rule(
        "no_high_urgency_rule",
        "high",
        "Somebody has no rule for high urgency",
        "People are told of an incident by their own rules for its urgency.",
        _NOTIFY,
    ),
    Rule(
        "one_notification_rule",
        "high",
        "Somebody is told once",
        "PagerDuty advises several rules by several ways, as one carrier or one app may fail.",
        _NOTIFY,
    ),
    Rule(
        "no_notification_delay",
        "high",
        "Somebody is told all at once and never again",
        "PagerDuty advises rules that come again some minutes later, for who did not hear the first.",
        _OWN_RULES,
    ),
    Rule(
        "no_repeat",
        "medium",
        "It does not repeat",
        "PagerDuty suggests to let a policy repeat, up to nine times: after its last round nobody is notified any more.",
        _POLICIES,
    ),
    Rule("long_delay", "medium", "A level waits long", "A level waits 30 minutes unless that is changed.", _POLICIES),
    Rule(
        "short_delay",
        "medium",
        "A level passes on before anybody can answer",
        "A level waits at least one minute, and three where it has several targets.",
        _POLICIES,
    ),
    Rule(
        "ladder_beyond_delay",
        "medium",
        "A level passes on before somebody is told by all their rules",
        "A notification rule that is due when the level's delay is over, or later, is not used: all are to be due before.",
        _OWN_RULES,
    ),
    Rule(
        "low_urgency_levels",
        "medium",
        "A service of low urgency never comes to the later levels",
        "Incidents of low urgency are not passed on by themselves.",
        f"{_KB}configurable-service-settings",
    ),
    Rule(
        "service_disabled",
        "medium",
        "A service is disabled",
        "A disabled service creates no incidents, so that nobody is told.",
        "https://support.pagerduty.com/docs/why-incidents-fail-to-trigger",
    ),
    Rule(
        "policy_without_service",
        "medium",
        "No service uses it",
        "People are paged only where a service uses the escalation policy that they are on.",
        _USED,
    ),
    Rule(
        "schedule_without_policy",
        "medium",
        "No escalation policy uses a schedule",
        "Who is on a schedule is paged only where an escalation policy names it, and a service uses that.",
        _USED,
    ),
    Rule(
        "empty_slot",
        "medium",
        "A shift of a schedule is nobody's",
        "A shift-based schedule may hold an empty member, whose shifts are unassigned.",
        "https://developer.pagerduty.com/api-reference/",
    ),
    Rule("user_at_first_level", "low", "The first level names a person", "", ""),
    Rule(
        "too_many_levels",
        "low",
        "There are more levels than PagerDuty's limit",
        "An escalation policy has 20 rules at most.",
        _POLICIES,
    ),
    Rule(
        "too_many_targets",
        "low",
        "A level has more targets than PagerDuty's API takes",
        "The API takes up to ten targets a level; other limits are of the account's plan.",
        _API,
    ),
    Rule(
        "default_delay",
        "info",
        "All levels wait as they came",
        "A level waits 30 minutes unless that is changed.",
        _POLICIES,
    ),
    Rule(
        "handoff_notifications_unused",
        "info",
        "Nobody is told that their turn begins",
        "Handoff notifications are sent only while a service uses the policy, unless they are set to be sent always.",
        _API,
    ),
    Rule(
        "round_robin_gap",
        "info",
        "A round robin passes over a schedule at times",
        "A schedule with nobody on call is passed over and stays the next in the ring.",
        f"{_KB}round-robin-scheduling",
    ),
    Rule(
        "team_count",
        "info",
        "It belongs to no team, or to several",
        "One team may be associated with an escalation policy.",
        _API,
    ),
)
RULES: Final[Mapping[str, Rule]] = {rule.name: rule for rule in _ALL}
"""By name, the worst first."""
_ORDER: Final[Mapping[str, int]] = {name: place for place, name in enumerate(RULES)}

OF_PEOPLE: Final = (
    "no_contact_method",
    "invitation_pending",
    "email_only",
    "no_phone",
    "no_high_urgency_rule",
    "one_notification_rule",
    "no_notification_delay",
)
_BY_RULES: Final = ("no_high_urgency_rule", "one_notification_rule", "no_notification_delay", "ladder_beyond_delay")
_BY_CONTACTS: Final = ("no_contact_method", "email_only", "no_phone")
_OF_WHO_IS_ON_CALL: Final = ("nobody_on_call", "level_gap", "one_person", "same_person", "empty_last_level")
_SOMEBODY: Final = Source("rendered")
Turn = tuple[str, int, int]
"""Of a person, from when to when."""


def lint(
    account: Account,
    rendered: Mapping[str, Sequence[Slice]],
    window: Span,
    *,
    policy_ids: Sequence[str] | None = None,
    open_incidents: Mapping[str, int] | None = None,
) -> tuple[Finding, ...]:
    """All findings, the worst first. ``rendered``: slices by schedule id over ``window``, those unknown missing, as
    ``coverage.render_all`` gives them. ``policy_ids``: of these alone, without what is about no policy. ``open_incidents``: how
    many are open by policy id: these keep the policy as it was, which their findings' consequence then tells."""
    found = review(account, rendered, window, policy_ids=policy_ids).findings
    return with_open(found, open_incidents or {})


def review(
    account: Account,
    rendered: Mapping[str, Sequence[Slice]],
    window: Span,
    *,
    policy_ids: Sequence[str] | None = None,
    marks: Mapping[str, Sequence[Mark]] | None = None,
    found_holes: Mapping[str, Sequence[Hole]] | None = None,
) -> Review:
    """The same, with what could not be judged. ``marks``: gaps that are intended, by policy id: they are no findings.
    ``found_holes``: by policy id, where a sweep found them already, over the window or more."""
    run = _Review(account, rendered, window, marks or {}, found_holes or {})
    chosen = account.policies if policy_ids is None else dict.fromkeys(policy_ids)
    for id in chosen:
        if id in account.policies:
            run.policy(account.policies[id])
    run.services(None if policy_ids is None else set(chosen))
    run.schedules(None if policy_ids is None else set(chosen))
    found = sorted(run.found, key=lambda one: (_ORDER[one.rule.name], one.words, one.policy_id, one.key))
    return Review(tuple(found), tuple(run.unjudged), run.meant)


def with_open(found: Iterable[Finding], open_incidents: Mapping[str, int]) -> tuple[Finding, ...]:
    """The same, where a change of a policy does nothing for what is open telling so. ``open_incidents``: how many are, by policy
    id."""
    return tuple(_with_open(one, open_incidents.get(one.policy_id, 0)) for one in found)


def _with_open(one: Finding, count: int) -> Finding:
    if not count or not any(change.document == ("", "") for change in one.changes):
        return one
    kept = "1 incident that is open keeps" if count == 1 else f"{count} incidents that are open keep"
    words = f"{one.consequence} Mending it does nothing for what runs already: {kept} the policy as it was."
    return replace(one, consequence=words)


class _Known(NamedTuple):
    """What a person's own settings say."""

    wrong: tuple[str, ...]
    """Rules that they break."""
    last: int | None
    """Minutes until the last of their rules for high urgency is due; None: there is none, or they are not known."""


class _Review:
    def __init__(
        self,
        account: Account,
        rendered: Mapping[str, Sequence[Slice]],
        window: Span,
        marks: Mapping[str, Sequence[Mark]],
        found_holes: Mapping[str, Sequence[Hole]],
    ) -> None:
        self.account = account
        self.rendered = rendered
        self.window = window
        self.marks = marks
        self.found_holes = found_holes
        self.found: list[Finding] = []
        self.unjudged: list[Unjudged] = []
        self.meant: dict[str, tuple[Span, ...]] = {}
        self.flat = {
            id: tuple(Slice(*span, "somebody", _SOMEBODY) for span in covered(slices, window))
            for id, slices in rendered.items()
        }
        """Of each schedule when anybody is on call: all that gaps of levels hang on, and so much less than its turns."""
        self.turns: dict[str, list[Turn]] = {}
        """By schedule."""
        self.users: dict[tuple[Target, ...], Mapping[str, None]] = {}
        self.together: dict[tuple[object, ...], dict[str, tuple[Span, ...]]] = {}
        """Of two levels with nobody between them: policies share their schedules."""
        self.known: dict[str, _Known] = {}
        self.services_of: dict[str, list[Service]] = {}
        for service in account.services.values():
            self.services_of.setdefault(service.policy_id, []).append(service)
        self.teams_are_used = bool(account.teams) or any(policy.team_ids for policy in account.policies.values())

    # Policies

    def policy(self, policy: Policy) -> None:
        if not policy.levels and policy.problems:
            self._cannot(policy, tuple(RULES), "Its levels cannot be read.")
            return
        spans = self._gaps(policy)
        self._shape(policy)
        self._delays(policy)
        self._use(policy)
        self._people(policy)
        self._neighbours(policy, spans)

    def _gaps(self, policy: Policy) -> tuple[tuple[Span, ...], ...]:
        """When each level reaches nobody."""
        found = self.found_holes.get(policy.id)
        if found is None:
            found = holes(policy, self.flat, self.window)
        marks = self.marks.get(policy.id, ())
        told = missing(found, marks, self.window)
        if told.meant:
            self.meant[policy.id] = told.meant
        if told.unsure:
            self._unknown(policy, found)
        if told.nobody:
            count = len(self.services_of.get(policy.id, ()))
            self._add(
                policy,
                "nobody_on_call",
                f"{_times(told.nobody)}, {policy.name} reaches nobody on any level.",
                _spans("Nobody is on call on any level", told.nobody),
                "PagerDuty creates no incident then: nobody is told, neither then nor later"
                + (f", of {count} {'service' if count == 1 else 'services'}." if count else "."),
                [
                    _one_more_level(policy, "Add a last level that always reaches somebody."),
                    *self._fill(policy, range(1, len(policy.levels) + 1)),
                ],
            )
        each = level_gaps(policy, self.flat, self.window)
        hours = intended(marks, self.window) if marks else ()
        for number, (level, missed) in enumerate(zip(policy.levels, each, strict=True), 1):
            left = tuple(span for gap in missed for span in cut(gap, hours)[0])
            if not left:
                continue
            if unknown_in(level, self.rendered):
                rules = ("level_gap", "empty_last_level") if number == len(policy.levels) else ("level_gap",)
                self._cannot(policy, rules, f"Level {number}: {self._unknown_words(level)}", number)
                continue
            self._level_gap(policy, number, level, left, told.nobody == left)
        return each

    def _level_gap(self, policy: Policy, number: int, level: Level, left: tuple[Span, ...], same: bool) -> None:
        last = number == len(policy.levels)
        gone = [target for target in level.targets if target.deleted]
        who = ", ".join(self._name(target) for target in level.targets) or "no target"
        follows = "deleted_target" if gone and len(gone) == len(level.targets) else ""
        if not follows and any(self._empty_slot(target.id) for target in level.targets):
            follows = "empty_slot"
        if not follows and same:
            follows = "nobody_on_call"
        onward = "the policy goes on without it" if last else f"an incident goes on to level {number + 1} at once"
        self._add(
            policy,
            "level_gap",
            f"{_times(left)}, level {number} of {policy.name} ({who}) reaches nobody.",
            _spans(f"Level {number}, {who}: nobody is on call", left),
            f"Level {number} is passed over then: {onward}, and one person fewer can answer.",
            [*self._fill(policy, [number])],
            level=number,
            follows=follows,
        )
        if last and policy.loops == 0 and "num_loops" not in policy.untold:
            self._add(
                policy,
                "empty_last_level",
                f"{policy.name} does not repeat, and its last level ({who}) reaches nobody {_times(left).lower()}.",
                _spans(f"Level {number}, {who}: nobody is on call, and no round follows", left),
                "An incident that nobody has answered by then is told to nobody any more, and stays open.",
                [_repeat(policy), *self._fill(policy, [number])],
                level=number,
            )

    def _fill(self, policy: Policy, numbers: Iterable[int]) -> Iterator[Change]:
        """Another target for the first of these levels."""
        for number in numbers:
            targets = policy.levels[number - 1].targets
            path = ("escalation_rules", number - 1, "targets", len(targets))
            words = f"Close the gap in its schedule, or name somebody on level {number} besides."
            yield Change(words, path, None, None)
            return

    def _unknown(self, policy: Policy, found: Iterable[Hole]) -> None:
        ids = dict.fromkeys(id for hole in found for id in hole.unknown)
        names = ", ".join(self._schedule(id) for id in ids)
        self._cannot(policy, _OF_WHO_IS_ON_CALL, f"Who is on call on {names} is not known.")

    def _unknown_words(self, level: Level) -> str:
        names = ", ".join(self._schedule(id) for id in unknown_in(level, self.rendered))
        return f"who is on call on {names} is not known."

    def _shape(self, policy: Policy) -> None:
        levels = policy.levels
        minutes = longest(policy)
        if len(levels) < 2:
            what = "one level" if levels else "no level"
            self._add(
                policy,
                "single_level",
                f"{policy.name} has {what} only.",
                [Evidence(f"Levels: {len(levels)}")],
                "If whoever is on it sleeps through the telephone, nobody else is told.",
                [_one_more_level(policy, "Add a second level, with somebody else on it.")],
            )
        if "num_loops" in policy.untold:
            self._cannot(policy, ("no_repeat", "empty_last_level"), "How often it repeats is not known.")
        elif policy.loops == 0:
            self._add(
                policy,
                "no_repeat",
                f"{policy.name} is gone through once and does not repeat.",
                [Evidence(f"It ends {minutes} minutes after an incident began")],
                f"After {minutes} minutes without an answer nobody is told any more, and the incident stays open.",
                [_repeat(policy)],
            )
        if len(levels) > MOST_LEVELS:
            self._add(
                policy,
                "too_many_levels",
                f"{policy.name} has {len(levels)} levels.",
                [Evidence(f"Levels: {len(levels)}; one round takes {minutes // (policy.loops + 1)} minutes")],
                "PagerDuty may refuse the next change to it, and whoever is last is told hours later.",
                [
                    Change(
                        f"Keep {MOST_LEVELS} levels at most.",
                        ("escalation_rules",),
                        f"{len(levels)} levels",
                        None,
                    )
                ],
            )
        for number, level in enumerate(levels, 1):
            if len(level.targets) > MOST_TARGETS:
                self._add(
                    policy,
                    "too_many_targets",
                    f"Level {number} of {policy.name} has {len(level.targets)} targets.",
                    [Evidence(f"Level {number}: {len(level.targets)} targets")],
                    "PagerDuty's API may refuse the next change to it, and who is to answer is nobody's own matter.",
                    [
                        Change(
                            f"Keep {MOST_TARGETS} targets at most.",
                            ("escalation_rules", number - 1, "targets"),
                            [_reference(target) for target in level.targets],
                            None,
                        )
                    ],
                    level=number,
                )
            self._targets(policy, number, level)

    def _targets(self, policy: Policy, number: int, level: Level) -> None:
        for place, target in enumerate(level.targets):
            name, path = self._name(target), ("escalation_rules", number - 1, "targets", place)
            if target.deleted:
                self._add(
                    policy,
                    "deleted_target",
                    f"Level {number} of {policy.name} names {name}, who was deleted."
                    if target.kind == "user"
                    else f"Level {number} of {policy.name} names the schedule {name}, which was deleted.",
                    [Evidence(f"Level {number}: {name} is deleted")],
                    f"{name} is told nothing: "
                    + ("the level is passed over." if len(level.targets) == 1 else "the level is that much weaker."),
                    [Change(f"Name somebody else in place of {name}.", path, _reference(target), None)],
                    level=number,
                    subject=(target.kind, target.id),
                )
            elif target.kind == "user" and number == 1:
                self._add(
                    policy,
                    "user_at_first_level",
                    f"The first level of {policy.name} names {name} instead of a schedule.",
                    [Evidence(f"Level 1: {name}, day and night")],
                    f"{name} is paged first at every hour of every day, and nobody takes turns.",
                    [
                        Change(
                            f"Name a schedule in place of {name}.",
                            path,
                            _reference(target),
                            None,
                        )
                    ],
                    level=1,
                )
            if target.kind == "schedule" and not target.deleted:
                self._schedule_target(policy, number, level, target)

    def _schedule_target(self, policy: Policy, number: int, level: Level, target: Target) -> None:
        schedule, name = self.account.schedules.get(target.id), self._name(target)
        if level.round_robin:
            if target.id not in self.flat:
                self._cannot(policy, ("round_robin_gap",), f"Who is on call on {name} is not known.", number, target.id)
            elif missed := gaps(self.flat[target.id], self.window):
                self._add(
                    policy,
                    "round_robin_gap",
                    f"Level {number} of {policy.name} takes its targets in turn, and {name} has nobody on call "
                    f"{_times(missed).lower()}.",
                    _spans(f"{name}: nobody is on call", missed),
                    f"Whoever else is in the ring takes what would be {name}'s then.",
                    [
                        Change(
                            "Let everybody of the level be told.",
                            ("escalation_rules", number - 1, "escalation_rule_assignment_strategy"),
                            "round_robin",
                            "assign_to_everyone",
                        )
                    ],
                    level=number,
                    subject=("schedule", target.id),
                )
        for user in sorted(schedule.deleted) if schedule else ():
            person = self.account.name_of(user)
            self._add(
                policy,
                "deleted_target",
                f"{person} was deleted and still has turns on {name}, which level {number} of {policy.name} names.",
                [Evidence(f"{name}: {person} is deleted and has turns")],
                "In those turns nobody is on call there.",
                [
                    Change(
                        f"Give {person}'s turns to somebody else.",
                        ("schedule_layers",),
                        {"id": user, "type": "user_reference"},
                        None,
                        ("schedule", target.id),
                    )
                ],
                level=number,
                subject=("user", user),
            )

    def _delays(self, policy: Policy) -> None:
        unread = {problem.where for problem in policy.problems}
        known = [(number, level) for number, level in enumerate(policy.levels, 1) if f"level {number}" not in unread]
        for number in range(1, len(policy.levels) + 1):
            if f"level {number}" in unread:
                rules = ("long_delay", "short_delay", "default_delay", "ladder_beyond_delay")
                self._cannot(policy, rules, f"Level {number} cannot be read as it stands.", number)
        minutes = longest(policy)
        for number, level in known:
            people = self._on(level)
            late = {
                user: last for user in people if (last := self._person(user).last) is not None and last >= level.delay
            }
            most = max(late.values(), default=0)
            if level.delay > LONG_DELAY:
                last = max((self._person(user).last or 0 for user in people), default=0)
                self._add(
                    policy,
                    "long_delay",
                    f"Level {number} of {policy.name} waits {level.delay} minutes.",
                    [
                        Evidence(f"Level {number}: {level.delay} minutes"),
                        Evidence(f"With its repeats the policy takes {minutes} minutes"),
                    ],
                    f"If nobody of level {number} answers, {level.delay} minutes pass before anybody else knows.",
                    [_delay(number, level, max(USUAL_DELAY, last + 1))]
                    if last < LONG_DELAY
                    else [_delay(number, level, None)],
                    level=number,
                )
            elif level.delay < SHORT_DELAY:
                self._add(
                    policy,
                    "short_delay",
                    f"Level {number} of {policy.name} waits {level.delay} {'minute' if level.delay == 1 else 'minutes'} only.",
                    [Evidence(f"Level {number}: {level.delay} {'minute' if level.delay == 1 else 'minutes'}")],
                    "Nobody wakes, reads and answers so fast: the next level is woken for what the first would have taken.",
                    [_delay(number, level, max(SHORT_DELAY, most + 1))],
                    level=number,
                )
            if late:
                names = ", ".join(sorted(self.account.name_of(user) for user in late))
                self._add(
                    policy,
                    "ladder_beyond_delay",
                    f"Level {number} of {policy.name} waits {level.delay} {'minute' if level.delay == 1 else 'minutes'}; the "
                    f"last notification of {names} is due later.",
                    [
                        Evidence(
                            f"{self.account.name_of(user)}: the last rule for high urgency is due after {last} minutes"
                        )
                        for user, last in sorted(late.items(), key=lambda row: (-row[1], row[0]))
                    ],
                    "An incident has gone on by then: those notifications are never sent, and often they are the telephone.",
                    [_delay(number, level, most + 1 if most < LONG_DELAY else None)],
                    level=number,
                    follows="short_delay" if level.delay < SHORT_DELAY else "",
                )
        if known and len(known) == len(policy.levels) and all(level.delay == LONG_DELAY for _, level in known):
            self._add(
                policy,
                "default_delay",
                f"All levels of {policy.name} wait {LONG_DELAY} minutes, as PagerDuty sets them.",
                [Evidence(f"With its repeats the policy takes {minutes} minutes")],
                "Nobody may ever have thought about them: half an hour passes before a second person knows.",
                [_delay(number, level, USUAL_DELAY) for number, level in known[:1]],
            )

    def _use(self, policy: Policy) -> None:
        used = bool(policy.service_ids or self.services_of.get(policy.id))
        if not used and "services" in policy.untold:
            rules = ("policy_without_service", "handoff_notifications_unused")
            self._cannot(policy, rules, "Which services use it is not known.")
        elif not used:
            self._add(
                policy,
                "policy_without_service",
                f"No service uses {policy.name}.",
                [Evidence("Services: none")],
                "Whoever is on it is told nothing by it. If it is not wanted any more, delete it; else let a service use it.",
                [],
            )
            if policy.handoff == "if_has_services":
                self._add(
                    policy,
                    "handoff_notifications_unused",
                    f"{policy.name} tells people of their turns only if a service uses it, and none does.",
                    [Evidence("Handoff notifications: if it has services")],
                    "People come on call by it without a word.",
                    [
                        Change(
                            "Let people be told of their turns always.",
                            ("on_call_handoff_notifications",),
                            "if_has_services",
                            "always",
                        )
                    ],
                    follows="policy_without_service",
                )
        if len(policy.team_ids) != 1 and self.teams_are_used:
            if "teams" in policy.untold:
                self._cannot(policy, ("team_count",), "Which team it belongs to is not known.")
                return
            count = len(policy.team_ids)
            self._add(
                policy,
                "team_count",
                f"{policy.name} belongs to {f'{count} teams' if count else 'no team'}.",
                [Evidence(f"Teams: {', '.join(self.account.teams.get(id, id) for id in policy.team_ids) or 'none'}")],
                "Who may change it, and whose it is, is not clear: roles and filters go by the team.",
                [
                    Change(
                        "Give it to one team.",
                        ("teams",),
                        [{"id": id, "type": "team_reference"} for id in policy.team_ids],
                        None,
                    )
                ],
            )

    # People

    def _on(self, level: Level) -> Mapping[str, None]:
        """Who is on a level at any time of the window."""
        found = self.users.get(level.targets)
        if found is None:
            found = self.users[level.targets] = dict.fromkeys(turn[0] for turn in self._level_turns(level))
        return found

    def _level_turns(self, level: Level) -> list[Turn]:
        turns: list[Turn] = []
        for target in level.targets:
            if target.deleted:
                continue
            if target.kind == "user":
                turns.append((target.id, *self.window))
            else:
                turns += self._turns(target.id)
        return turns

    def _turns(self, schedule: str) -> list[Turn]:
        """By person, and of each in order."""
        if schedule not in self.turns:
            since, until = self.window
            self.turns[schedule] = sorted(
                (one.user, max(one.start, since), min(one.end, until))
                for one in self.rendered.get(schedule, ())
                if one.user and one.start < until and one.end > since
            )
        return self.turns[schedule]

    def _spans_on(self, level: Level) -> Mapping[str, Sequence[Span]]:
        turns = (Slice(start, end, user, _SOMEBODY) for user, start, end in self._level_turns(level))
        return duties({"": tuple(turns)})

    def _person(self, user: str) -> _Known:
        if user not in self.known:
            person = self.account.people.get(user)
            self.known[user] = _judged(person) if person else _Known((), None)
        return self.known[user]

    def _people(self, policy: Policy) -> None:
        """Each at the first level that they are on."""
        first: dict[str, int] = {}
        for number, level in enumerate(policy.levels, 1):
            for user in self._on(level):
                first.setdefault(user, number)
        for user, number in first.items():
            person = self.account.people.get(user)
            name = self.account.name_of(user)
            contacts_known = person is not None and person.contacts is not None
            ladder_known = person is not None and person.ladder is not None
            if not (contacts_known and ladder_known):
                rules = (() if contacts_known else _BY_CONTACTS) + (() if ladder_known else _BY_RULES)
                what = "contact methods" if ladder_known else "notification rules" if contacts_known else "settings"
                self._cannot(
                    policy, rules, f"How {name} is told is not known: their {what} could not be read.", number, user
                )
            if person is None:
                continue
            wrong = self._person(user).wrong
            for rule in wrong:
                words, evidence, consequence, change = _of_person(rule, person)
                self._add(
                    policy,
                    rule,
                    f"{words} Level {number} of {policy.name} pages them.",
                    [evidence],
                    consequence,
                    [change],
                    level=number,
                    subject=("user", user),
                    follows=next((cause for cause in _CAUSES.get(rule, ()) if cause in wrong), ""),
                )

    def _neighbours(self, policy: Policy, spans: Sequence[Sequence[Span]]) -> None:
        """The same person on a level and on the next that reaches anybody; and one person in all."""
        levels = policy.levels
        on = [self._on(level) for level in levels]
        unknown = [bool(unknown_in(level, self.rendered)) for level in levels]
        people = {user for each in on for user in each}
        if len(levels) > 1 and len(people) == 1 and not any(unknown):
            (only,) = people
            name = self.account.name_of(only)
            self._add(
                policy,
                "one_person",
                f"Whatever level {policy.name} comes to, {name} is the only one who is told.",
                [Evidence(f"Level {number}: {name}") for number, each in enumerate(on, 1) if each],
                f"If {name} does not answer, nobody else is ever told.",
                [_another(policy, len(levels), "Name somebody else on the last level.")],
            )
        follows = "one_person" if len(people) == 1 and not any(unknown) else ""
        for upper in range(len(levels)):
            left: Sequence[Span] = (self.window,)
            for lower in range(upper + 1, len(levels)):
                if lower > upper + 1:
                    # Between them nobody may be reached, or they are no neighbours.
                    if unknown[lower - 1]:
                        break
                    left = _both(left, spans[lower - 1])
                if not left:
                    break
                self._same(policy, upper, lower, left, follows)

    def _same(
        self,
        policy: Policy,
        upper: int,
        lower: int,
        left: Sequence[Span],
        follows: str,
    ) -> None:
        key = (policy.levels[upper].targets, policy.levels[lower].targets, tuple(left))
        if key not in self.together:
            self.together[key] = self._both_on(policy.levels[upper], policy.levels[lower], left)
        both = self.together[key]
        if not both:
            return
        names = ", ".join(sorted(self.account.name_of(user) for user in both))
        every = sorted((span, self.account.name_of(user)) for user, spans in both.items() for span in spans)
        evidence = [
            Evidence(f"{name} is on level {upper + 1} and on level {lower + 1}", span) for span, name in every[:SHOWN]
        ]
        self._add(
            policy,
            "same_person",
            f"{_times([span for span, _ in every])}, levels {upper + 1} and {lower + 1} of {policy.name} are the same "
            f"person: {names}.",
            [*evidence, *_rest([span for span, _ in every])],
            f"Going on to level {lower + 1} reaches only who has just not answered: {policy.levels[lower].delay} more minutes "
            "pass before anybody else is told.",
            [_another(policy, lower + 1, f"Let somebody else be on level {lower + 1} then.")],
            level=lower + 1,
            subject=("policy", policy.id),
            follows=follows,
        )

    def _both_on(self, upper: Level, lower: Level, left: Sequence[Span]) -> dict[str, tuple[Span, ...]]:
        """Who is on both at once, and when."""
        common = self._on(upper).keys() & self._on(lower).keys()
        if not common:
            return {}
        # Most levels share their people and never at once: that is seen without looking at each of them.
        turns = sorted(self._level_turns(upper) + self._level_turns(lower))
        if not any(one[2] > other[1] and one[0] == other[0] for one, other in itertools.pairwise(turns)):
            return {}
        above, below = self._spans_on(upper), self._spans_on(lower)
        both = {user: _both(_both(above[user], below[user]), left) for user in sorted(common)}
        return {user: spans for user, spans in both.items() if spans}

    # Services and schedules

    def services(self, chosen: set[str] | None) -> None:
        """``chosen``: of these policies alone."""
        for service in self.account.services.values():
            stands = standing(self.account, service)
            of = ("service", service.id)
            if chosen is not None:
                if service.policy_id not in chosen:
                    continue
            elif stands == "disabled":
                self._put(
                    "service_disabled",
                    f"The service {service.name} is disabled.",
                    [Evidence(f"{service.name}: disabled")],
                    "It creates no incidents: whatever it watches may fail, and nobody is told.",
                    [Change("Enable it, or delete it.", ("status",), "disabled", "active", of)],
                    subject=of,
                )
            elif stands == "no_policy":
                if "escalation_policy" in service.untold:
                    words = f"Which escalation policy {service.name} uses is not known."
                    self.unjudged.append(Unjudged(("service_without_policy",), "", of, words))
                else:
                    self._put(
                        "service_without_policy",
                        f"The service {service.name} has no escalation policy.",
                        [Evidence(f"{service.name}: no escalation policy")],
                        "Nobody is told of its incidents.",
                        [Change("Give it an escalation policy.", ("escalation_policy",), None, None, of)],
                        subject=of,
                    )
            elif stands == "unknown_policy":
                words = f"The escalation policy of {service.name} is not among what is known."
                self.unjudged.append(Unjudged(("low_urgency_levels",), "", of, words))
            policy = self.account.policies.get(service.policy_id)
            if policy and service.urgency == "low" and len(policy.levels) > 1 and stands == "watched":
                self._add(
                    policy,
                    "low_urgency_levels",
                    f"The incidents of {service.name} are of low urgency, and {policy.name} has {len(policy.levels)} levels.",
                    [Evidence(f"{service.name}: low urgency"), Evidence(f"{policy.name}: {len(policy.levels)} levels")],
                    "An incident of low urgency stays on the first level that reaches somebody: the others are never told.",
                    [
                        Change(
                            "Raise it to high urgency, or give it a policy of one level.",
                            ("incident_urgency_rule", "urgency"),
                            "low",
                            "high",
                            of,
                        )
                    ],
                    subject=of,
                )

    def schedules(self, chosen: set[str] | None) -> None:
        """``chosen``: of these policies alone."""
        users: dict[str, dict[str, int]] = {}
        for policy in self.account.policies.values():
            for number, level in enumerate(policy.levels, 1):
                for target in level.targets:
                    if target.kind == "schedule":
                        users.setdefault(target.id, {}).setdefault(policy.id, number)
        for schedule in self.account.schedules.values():
            of = ("schedule", schedule.id)
            named_by = users.get(schedule.id, {})
            if chosen is None and not named_by and not schedule.policy_ids:
                if "escalation_policies" in schedule.untold:
                    words = f"Which escalation policies use {schedule.name} is not known."
                    self.unjudged.append(Unjudged(("schedule_without_policy",), "", of, words))
                else:
                    self._put(
                        "schedule_without_policy",
                        f"No escalation policy names the schedule {schedule.name}.",
                        [Evidence(f"{schedule.name}: no escalation policy")],
                        "Whoever is on it is paged for nothing. If it is not wanted any more, delete it.",
                        [],
                        subject=of,
                    )
            if not self._empty_slot(schedule.id):
                continue
            blank = covered(
                (one._replace(user="nobody") for one in self.rendered.get(schedule.id, ()) if not one.user), self.window
            )
            evidence = _spans(f"{schedule.name}: a shift of nobody", blank) or [
                Evidence(f"{schedule.name}: an empty member")
            ]
            change = Change(
                "Put somebody in the empty place, or take it out.", ("rotations",), {"type": "empty_member"}, None, of
            )
            for id, number in (named_by or {"": 0}).items():
                if chosen is not None and id not in chosen:
                    continue
                self._put(
                    "empty_slot",
                    f"A rotation of {schedule.name} has an empty place.",
                    evidence,
                    "When its turn comes, nobody of that rotation is on call.",
                    [change],
                    subject=of,
                    policy_id=id,
                    level=number,
                )

    def _empty_slot(self, id: str) -> bool:
        schedule = self.account.schedules.get(id)
        return schedule is not None and schedule.kind == "v3" and _has_empty_slot(schedule, self.window)

    # What comes of it

    def _add(
        self,
        policy: Policy,
        rule: str,
        words: str,
        evidence: Iterable[Evidence],
        consequence: str,
        changes: Iterable[Change],
        *,
        level: int = 0,
        subject: tuple[str, str] | None = None,
        follows: str = "",
    ) -> None:
        self._put(
            rule,
            words,
            evidence,
            consequence,
            changes,
            subject=subject or ("policy", policy.id),
            policy_id=policy.id,
            level=level,
            follows=follows,
        )

    def _put(
        self,
        rule: str,
        words: str,
        evidence: Iterable[Evidence],
        consequence: str,
        changes: Iterable[Change],
        *,
        subject: tuple[str, str],
        policy_id: str = "",
        level: int = 0,
        follows: str = "",
    ) -> None:
        self.found.append(
            Finding(
                RULES[rule],
                policy_id,
                level,
                subject,
                words,
                tuple(evidence),
                consequence,
                tuple(changes),
                follows,
            )
        )

    def _cannot(self, policy: Policy, rules: tuple[str, ...], words: str, level: int = 0, about: str = "") -> None:
        kind = "policy" if not about else "schedule" if rules == ("round_robin_gap",) else "user"
        self.unjudged.append(Unjudged(rules, policy.id, (kind, about or policy.id), words))

    def _name(self, target: Target) -> str:
        if target.kind == "schedule":
            return self._schedule(target.id, target.name)
        return target.name or self.account.name_of(target.id)

    def _schedule(self, id: str, name: str = "") -> str:
        schedule = self.account.schedules.get(id)
        return (schedule.name if schedule else name) or id


# People's own settings


_CAUSES: Final[Mapping[str, tuple[str, ...]]] = {
    "no_phone": ("no_contact_method", "email_only"),
    "no_high_urgency_rule": ("no_contact_method",),
    "one_notification_rule": ("no_contact_method", "no_high_urgency_rule"),
    "no_notification_delay": ("no_contact_method", "no_high_urgency_rule", "one_notification_rule"),
}
"""What a rule about people goes with, where that is found as well."""


def _judged(person: Person) -> _Known:
    wrong = set()
    kinds = None if person.contacts is None else {contact.kind for contact in person.contacts}
    high = _high(person)
    ways = {rung.contact_kind for rung in high or ()}
    if kinds is not None and not kinds:
        wrong.add("no_contact_method")
    if person.invited:
        wrong.add("invitation_pending")
    if kinds == {"email"} or ways == {"email"}:
        wrong.add("email_only")
    if (kinds is not None and "phone" not in kinds) or (ways and "phone" not in ways):
        wrong.add("no_phone")
    if high is not None:
        if not high:
            wrong.add("no_high_urgency_rule")
        if len(high) < 2:
            wrong.add("one_notification_rule")
        if all(rung.delay == 0 for rung in high):
            wrong.add("no_notification_delay")
    last = max((rung.delay for rung in high), default=None) if high else None
    return _Known(tuple(rule for rule in OF_PEOPLE if rule in wrong), last)


def _high(person: Person) -> tuple[Rung, ...] | None:
    return None if person.ladder is None else tuple(rung for rung in person.ladder if rung.urgency == "high")


def _of_person(rule: str, person: Person) -> tuple[str, Evidence, str, Change]:
    """What is wrong, by what one sees it, what it comes to, and what mends it."""
    name, of = person.name, ("user", person.id)
    contacts, rungs = person.contacts or (), person.ladder or ()
    one_more_way = ("contact_methods", len(contacts))
    one_more_rule = ("notification_rules", len(rungs))
    ways = ", ".join(contact.kind for contact in contacts) or "none"
    high = _high(person) or ()
    ladder = ", ".join(f"{rung.contact_kind} after {rung.delay} min" for rung in high) or "none"
    by_contact = Evidence(f"{name}: contact methods: {ways}")
    by_rules = Evidence(f"{name}: rules for high urgency: {ladder}")

    def change(words: str, path: tuple[str | int, ...]) -> Change:
        return Change(words, path, None, None, of)

    match rule:
        case "no_contact_method":
            return (
                f"{name} has no contact method.",
                by_contact,
                f"Nothing tells {name}: the level passes as if nobody had been there.",
                change(f"Let {name} add a telephone number and the app.", one_more_way),
            )
        case "invitation_pending":
            return (
                f"{name} was invited to PagerDuty and has not come yet.",
                Evidence(f"{name}: the invitation is outstanding"),
                f"What {name} is told by may not be there, and {name} cannot answer in PagerDuty.",
                Change(f"Let {name} accept the invitation.", ("invitation_sent",), True, False, of),
            )
        case "email_only":
            return (
                f"{name} is told by e-mail alone.",
                by_contact if contacts and all(each.kind == "email" for each in contacts) else by_rules,
                f"E-mail wakes nobody: at night {name} does not answer.",
                change(f"Let {name} be told by telephone or by the app as well.", one_more_way),
            )
        case "no_phone":
            phone = any(each.kind == "phone" for each in contacts)
            return (
                f"{name} is never called by telephone.",
                by_rules if phone else by_contact,
                f"A call is what wakes people; the app and messages may be silenced, and {name} sleeps on.",
                change(f"Let {name} be called by telephone.", one_more_rule if phone else one_more_way),
            )
        case "no_high_urgency_rule":
            return (
                f"{name} has no notification rule for high urgency.",
                by_rules,
                f"An incident of high urgency is assigned to {name}, and nothing says so.",
                change(f"Let {name} add rules for high urgency.", one_more_rule),
            )
        case "one_notification_rule":
            return (
                f"{name} has {'one rule' if high else 'no rule'} for high urgency.",
                by_rules,
                "If that one message is lost or not heard, there is no other.",
                change(f"Let {name} add a rule by another way, some minutes later.", one_more_rule),
            )
        case _:
            return (
                f"{name} has no notification rule that comes later than at once.",
                by_rules,
                f"All messages come within one moment: if {name} does not hear that, none follows.",
                change(f"Let {name} add a rule that is due some minutes later.", one_more_rule),
            )


# Parts


def _has_empty_slot(schedule: Schedule, window: Span) -> bool:
    """Whether a rotation that is in effect, or a shift in the window, is of an empty member."""
    events = (event for rotation in schedule.rotations for event in rotation.events)
    return any(
        "" in event.members and event.since < window.end and (event.until is None or event.until > window.start)
        for event in events
    ) or any(
        "" in shift.users and shift.start < window.end and shift.end > window.start for shift in schedule.custom_shifts
    )


def _one_more_level(policy: Policy, words: str) -> Change:
    return Change(words, ("escalation_rules", len(policy.levels)), None, None)


def _another(policy: Policy, number: int, words: str) -> Change:
    before = [_reference(target) for target in policy.levels[number - 1].targets]
    return Change(words, ("escalation_rules", number - 1, "targets"), before, None)


def _repeat(policy: Policy) -> Change:
    return Change("Let the policy repeat twice.", ("num_loops",), policy.loops, REPEATS)


def _delay(number: int, level: Level, after: int | None) -> Change:
    words = (
        f"Let level {number} wait {after} minutes." if after else f"Let level {number} wait as long as its people need."
    )
    return Change(words, ("escalation_rules", number - 1, "escalation_delay_in_minutes"), level.delay, after)


def _reference(target: Target) -> dict[str, str]:
    return {"id": target.id, "type": f"{target.kind}_reference"}


def _times(spans: Sequence[Span]) -> str:
    """How often and how long, in words, to begin a sentence."""
    seconds = sum(span.seconds for span in spans)
    return f"{'Once' if len(spans) == 1 else f'{len(spans)} times'}, for {lasting(seconds)}{'' if len(spans) == 1 else ' in all'}"


def lasting(seconds: int) -> str:
    """``2 days 4 h``, ``1 h 30 min``, ``20 s``: the two largest parts."""
    parts = []
    for name, length in ((" d", 86_400), (" h", 3_600), (" min", 60), (" s", 1)):
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{name}")
    return " ".join(parts[:2]) or "0 s"


def _spans(words: str, spans: Sequence[Span]) -> list[Evidence]:
    return [*(Evidence(words, span) for span in spans[:SHOWN]), *_rest(spans)]


def _rest(spans: Sequence[Span]) -> list[Evidence]:
    more = spans[SHOWN:]
    return [Evidence(f"… and {len(more)} more, for {lasting(sum(span.seconds for span in more))}")] if more else []


def _both(one: Sequence[Span], other: Sequence[Span]) -> tuple[Span, ...]:
    """When both are; each is in order and apart."""
    found, here, there = [], 0, 0
    while here < len(one) and there < len(other):
        start, end = max(one[here].start, other[there].start), min(one[here].end, other[there].end)
        if start < end:
            found.append(Span(start, end))
        if one[here].end <= other[there].end:
            here += 1
        else:
            there += 1
    return tuple(found)
