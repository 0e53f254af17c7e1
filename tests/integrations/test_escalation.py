"""The rules of the review of escalation policies, one by one, on documents made by hand: what is found, what is not for want of
knowing, and what is said of it. What is planted into the demo world is tested beside."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.coverage import holes
from integrations.pagerduty.analysis.escalation import (
    OF_PEOPLE,
    RULES,
    SEVERITIES,
    SHOWN,
    Finding,
    Review,
    lasting,
    lint,
    review,
    with_open,
)
from integrations.pagerduty.analysis.intended import Mark
from integrations.pagerduty.analysis.model import (
    Account,
    Contact,
    CustomShift,
    Event,
    Level,
    Person,
    Policy,
    Rotation,
    Rung,
    Schedule,
    Service,
    Slice,
    Source,
    Span,
    Target,
)

DAY: Final = 86_400
WEEK: Final = Span(1_800_000_000, 1_800_000_000 + 7 * DAY)
AT: Final = WEEK.start
BY: Final = Source("layer")
ALL_WAYS: Final = tuple(Contact(f"C{kind}", kind, "", "") for kind in ("email", "phone", "sms", "push"))
LADDER: Final = (
    Rung(0, "high", "Cpush", "push"),
    Rung(5, "high", "Cphone", "phone"),
    Rung(0, "low", "Cemail", "email"),
)


def user(id: str, deleted: bool = False) -> Target:
    return Target("user", id, "", deleted)


def of(id: str) -> Target:
    return Target("schedule", id)


def level(*targets: Target, delay: int = 10, round_robin: bool = False) -> Level:
    return Level(delay, targets, round_robin)


def policy(*levels: Level, id: str = "PPOL", loops: int = 2, **more: Any) -> Policy:
    """That nothing else is wrong with than what it is given."""
    return Policy(id, f"Policy {id}", levels, loops, **{"service_ids": ("PSVC",), "team_ids": ("PTEAM",), **more})


def person(id: str, **more: Any) -> Person:
    return Person(id, id.title(), **{"contacts": ALL_WAYS, "ladder": LADDER, **more})


def shift(user: str, start: int = 0, end: int = 7 * DAY) -> Slice:
    return Slice(AT + start, AT + end, user, BY)


def account(
    *policies: Policy,
    people: Sequence[Person] = (),
    schedules: Sequence[Schedule] = (),
    services: Sequence[Service] = (),
) -> Account:
    known = {id: person(id) for id in ("A", "B", "C", "D")} | {each.id: each for each in people}
    return Account(
        {each.id: each for each in schedules},
        {each.id: each for each in policies},
        {each.id: each for each in services},
        known,
        {"PTEAM": "Team", "POTHER": "Other"},
    )


def judged(known: Account, rendered: Mapping[str, Sequence[Slice]] | None = None, **more: Any) -> Review:
    return review(known, rendered or {}, WEEK, **more)


def found(known: Account, rendered: Mapping[str, Sequence[Slice]] | None = None, **more: Any) -> list[tuple[str, int]]:
    return sorted((one.rule.name, one.level) for one in judged(known, rendered, **more).findings)


def one_of(known: Account, rule: str, rendered: Mapping[str, Sequence[Slice]] | None = None) -> Finding:
    (one,) = (one for one in judged(known, rendered).findings if one.rule.name == rule)
    return one


GOOD: Final = policy(level(user("A")), level(user("B")))


def without(rules: str, known: Account, rendered: Mapping[str, Sequence[Slice]] | None = None) -> list[tuple[str, int]]:
    return [row for row in found(known, rendered) if row[0] not in rules.split()]


def test_of_two_people_one_after_the_other_only_that_they_never_take_turns_is_found() -> None:
    assert found(account(GOOD)) == [("user_at_first_level", 1)]
    both = {"PS1": [shift("A")], "PS2": [shift("B")]}
    assert found(account(policy(level(of("PS1")), level(of("PS2")))), both) == []


# Who is on call


def test_a_gap_on_one_level_is_told_with_its_hours_and_one_on_all_levels_is_the_worst() -> None:
    two = policy(level(of("PS1")), level(of("PS2"), of("PS3")))
    rendered = {
        "PS1": [shift("A", 0, 5 * DAY)],
        "PS2": [shift("B", 0, 3 * DAY)],
        "PS3": [shift("C", 3 * DAY, 6 * DAY)],
    }
    known = account(two)
    assert found(known, rendered) == [("level_gap", 1), ("level_gap", 2), ("nobody_on_call", 0)]
    nobody = one_of(known, "nobody_on_call", rendered)
    assert [each.span for each in nobody.evidence] == [Span(AT + 6 * DAY, AT + 7 * DAY)]
    assert nobody.words == "Once, for 1 d, Policy PPOL reaches nobody on any level."
    gaps = {one.level: one for one in judged(known, rendered).findings if one.rule.name == "level_gap"}
    assert [each.span for each in gaps[1].evidence] == [Span(AT + 5 * DAY, AT + 7 * DAY)]
    # The second level's is the hours of nobody at all, and no more: it goes away with them.
    assert (gaps[1].follows, gaps[2].follows) == ("", "nobody_on_call")
    assert "level 2 at once" in gaps[1].consequence


def test_many_gaps_are_named_up_to_a_number_and_the_rest_is_a_sum() -> None:
    hours = [shift("A", hour * 7_200, hour * 7_200 + 3_600) for hour in range(84)]
    one = one_of(account(policy(level(of("PS1")), level(user("B")))), "level_gap", {"PS1": hours})
    assert len(one.evidence) == SHOWN + 1
    assert one.evidence[-1].words == f"… and {84 - SHOWN} more, for 3 d"
    assert one.words.startswith("84 times, for 3 d 12 h in all, level 1")


def test_what_is_intended_is_no_gap_and_what_reaches_beyond_it_is() -> None:
    known = account(policy(level(of("PS1")), level(of("PS1"))))
    rendered = {"PS1": [shift("A", 0, 3 * DAY), shift("B", 4 * DAY)]}
    rules = {"level_gap", "nobody_on_call"}
    assert rules <= {name for name, _ in found(known, rendered)}
    meant = Mark(AT + 3 * DAY, AT + 4 * DAY, AT + 9 * DAY)
    run = judged(known, rendered, marks={"PPOL": [meant]})
    assert not rules & {one.rule.name for one in run.findings}
    assert run.meant == {"PPOL": (Span(AT + 3 * DAY, AT + 4 * DAY),)}
    short = judged(known, rendered, marks={"PPOL": [replace(meant, end=AT + 4 * DAY - 1)]})
    (nobody,) = (one for one in short.findings if one.rule.name == "nobody_on_call")
    assert [each.span for each in nobody.evidence] == [Span(AT + 4 * DAY - 1, AT + 4 * DAY)]
    assert judged(known, rendered, marks={"POTHER": [meant]}).meant == {}


def test_holes_that_a_sweep_found_over_more_are_cut_to_the_window() -> None:
    known = account(policy(level(of("PS1")), level(of("PS1"))))
    rendered = {"PS1": [shift("A", -DAY, 3 * DAY), shift("B", 4 * DAY, 9 * DAY)]}
    longer = Span(WEEK.start - 20 * DAY, WEEK.end + 20 * DAY)
    given = {"PPOL": holes(known.policies["PPOL"], rendered, longer)}
    assert judged(known, rendered, found_holes=given) == judged(known, rendered)


def test_a_schedule_that_is_not_known_is_no_gap_and_is_told_as_not_known() -> None:
    known = account(policy(level(of("PS1")), level(of("PS2"))), schedules=[Schedule("PS1", "First", "v2", "UTC")])
    run = judged(known, {"PS2": [shift("B")]})
    assert run.findings == ()
    # Level 2 reaches somebody always, so that it is known that somebody is: of level 1 alone it is not.
    assert [(each.rules, each.subject, each.words) for each in run.unjudged] == [
        (("level_gap",), ("policy", "PPOL"), "Level 1: who is on call on First is not known.")
    ]
    nothing = judged(known)
    assert nothing.findings == ()
    assert {rule for each in nothing.unjudged for rule in each.rules} >= {"nobody_on_call", "one_person", "same_person"}


def test_a_level_beside_the_unknown_that_reaches_somebody_is_judged() -> None:
    known = account(policy(level(of("PS1"), of("PS9")), level(user("B"))))
    run = judged(known, {"PS1": [shift("A")]})
    assert run.findings == ()
    assert run.unjudged == ()


@pytest.mark.parametrize("loops", [0, 1])
def test_a_last_level_that_reaches_nobody_is_worse_where_no_round_follows(loops: int) -> None:
    known = account(policy(level(of("PS1")), level(of("PS2")), loops=loops))
    rendered = {"PS1": [shift("A")], "PS2": [shift("B", 0, DAY)]}
    rules = dict(found(known, rendered))
    assert rules.get("level_gap") == 2
    assert ("empty_last_level" in rules) == ("no_repeat" in rules) == (loops == 0)
    if loops == 0:
        assert one_of(known, "empty_last_level", rendered).changes[0].path == ("num_loops",)


def test_the_same_person_at_once_is_found_on_levels_between_which_nobody_is_reached() -> None:
    three = policy(level(of("PS1")), level(of("PS2")), level(of("PS3")))
    rendered = {
        "PS1": [shift("A", 0, 4 * DAY), shift("B", 4 * DAY)],
        "PS2": [shift("C", 2 * DAY)],
        "PS3": [shift("A", DAY, 3 * DAY), shift("D", 3 * DAY), shift("D", 0, DAY)],
    }
    # A is on levels 1 and 3 from day 1 to day 3; until day 2 nobody stands between.
    one = one_of(account(three), "same_person", rendered)
    assert one.level == 3
    assert [(each.words, each.span) for each in one.evidence] == [
        ("A is on level 1 and on level 3", Span(AT + DAY, AT + 2 * DAY))
    ]
    full = {**rendered, "PS2": [shift("C")]}
    assert "same_person" not in dict(found(account(three), full))
    # If it is not known whether anybody stands between, nothing is claimed.
    unknown = {id: slices for id, slices in rendered.items() if id != "PS2"}
    assert "same_person" not in dict(found(account(three), unknown))


def test_one_after_the_other_on_two_levels_is_not_at_once() -> None:
    two = policy(level(of("PS1")), level(of("PS2")))
    rendered = {"PS1": [shift("A", 0, DAY), shift("B", DAY)], "PS2": [shift("B", 0, DAY), shift("A", DAY)]}
    assert found(account(two), rendered) == []
    a_second = {**rendered, "PS2": [shift("B", 0, DAY + 1), shift("A", DAY + 1)]}
    assert one_of(account(two), "same_person", a_second).evidence[0].span == Span(AT + DAY, AT + DAY + 1)


def test_one_person_on_all_levels_is_found_and_not_where_a_schedule_is_unknown() -> None:
    two = policy(level(of("PS1")), level(user("A")))
    known = account(two)
    assert found(known, {"PS1": [shift("A")]}) == [("one_person", 0), ("same_person", 2)]
    assert one_of(known, "same_person", {"PS1": [shift("A")]}).follows == "one_person"
    assert found(known) == []


ROWS = st.lists(
    st.tuples(st.sampled_from("ABC"), st.integers(0, 40), st.integers(1, 20)).map(
        lambda row: Slice(row[1], row[1] + row[2], row[0], BY)
    ),
    max_size=6,
)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_gaps_and_people_who_are_on_two_levels_are_those_of_a_look_at_each_second(levels: list[list[Slice]]) -> None:
    window = Span(5, 45)
    known = account(policy(*(level(of(f"PS{number}")) for number in range(len(levels)))))
    rendered = {f"PS{number}": rows for number, rows in enumerate(levels)}
    run = review(known, rendered, window).findings

    def seconds(rule: str, number: int) -> set[int]:
        spans = [each.span for one in run if (one.rule.name, one.level) == (rule, number) for each in one.evidence]
        return {at for span in spans if span for at in range(*span)}

    on = [{at: {row.user for row in rows if row.start <= at < row.end} for at in range(*window)} for rows in levels]
    assert seconds("nobody_on_call", 0) == {at for at in range(*window) if not any(each[at] for each in on)}
    for number, each in enumerate(on, 1):
        assert seconds("level_gap", number) == {at for at in range(*window) if not each[at]}
    twice: dict[int, set[int]] = {}
    for at in range(*window):
        reached = [(number, each[at]) for number, each in enumerate(on, 1) if each[at]]
        for (_, upper), (number, lower) in itertools.pairwise(reached):
            if upper & lower:
                twice.setdefault(number, set()).add(at)
    for number in range(1, len(levels) + 1):
        found_there = seconds("same_person", number)
        assert found_there <= twice.get(number, set())
        assert bool(found_there) == bool(twice.get(number))
    people = {user for each in on for now in each.values() for user in now}
    assert ("one_person" in {one.rule.name for one in run}) == (len(people) == 1 and len(levels) > 1)


# Shape and delays


def test_what_a_policy_says_of_itself() -> None:
    assert without("user_at_first_level", account(policy(level(user("A"))))) == [("single_level", 0)]
    assert without("user_at_first_level", account(replace(GOOD, loops=0))) == [("no_repeat", 0)]
    many = policy(*(level(user("AB"[number % 2])) for number in range(21)))
    assert without("user_at_first_level", account(many)) == [("too_many_levels", 0)]
    assert without("user_at_first_level", account(replace(many, levels=many.levels[:20]))) == []
    crowd = [person(f"P{number}") for number in range(11)]
    wide = policy(level(*(user(each.id) for each in crowd)), level(user("B")))
    assert without("user_at_first_level", account(wide, people=crowd)) == [("too_many_targets", 1)]
    ten = replace(wide, levels=(level(*(user(each.id) for each in crowd[:10])), level(user("B"))))
    assert without("user_at_first_level", account(ten, people=crowd)) == []


def test_a_policy_without_levels_reaches_nobody_and_one_that_cannot_be_read_is_not_judged() -> None:
    read = reading.policy(
        {"id": "PPOL", "escalation_rules": [], "num_loops": 1, "services": [{"id": "PSVC"}], "teams": []}
    )
    assert {"nobody_on_call", "single_level"} <= {name for name, _ in found(account(read))}
    unread = judged(account(reading.policy({"id": "PPOL", "num_loops": 0})))
    assert unread.findings == ()
    assert [each.words for each in unread.unjudged] == ["Its levels cannot be read."]


@pytest.mark.parametrize(
    ("delays", "rules"),
    [
        ((31, 30), [("long_delay", 1)]),
        ((30, 29), []),
        ((30, 30), [("default_delay", 0)]),
        ((6, 45), [("long_delay", 2)]),
        ((6, 6), []),
        ((5, 6), [("ladder_beyond_delay", 1)]),
        ((6, 4), [("ladder_beyond_delay", 2), ("short_delay", 2)]),
    ],
)
def test_delays_too_long_too_short_or_as_they_came(delays: tuple[int, int], rules: list[tuple[str, int]]) -> None:
    """The last rule of these people is due after five minutes: a level that waits five is over by then."""
    two = policy(level(user("A"), delay=delays[0]), level(user("B"), delay=delays[1]))
    assert without("user_at_first_level", account(two)) == rules


def test_a_proposed_delay_leaves_time_for_all_notifications() -> None:
    slow = person("A", ladder=(*LADDER, Rung(20, "high", "Cphone", "phone")))
    late = account(policy(level(user("A"), delay=15), level(user("B"))), people=[slow])
    one = one_of(late, "ladder_beyond_delay")
    assert [each.words for each in one.evidence] == ["A: the last rule for high urgency is due after 20 minutes"]
    assert (one.changes[0].before, one.changes[0].after) == (15, 21)
    long = one_of(account(policy(level(user("A"), delay=60), level(user("B"))), people=[slow]), "long_delay")
    assert long.changes[0].after == 21
    short = one_of(account(policy(level(user("A"), delay=2), level(user("B"))), people=[slow]), "short_delay")
    assert short.changes[0].after == 21
    # Where people need longer than half an hour, how long is theirs to say.
    never = person("A", ladder=(*LADDER, Rung(45, "high", "Cphone", "phone")))
    for delay, rule in ((40, "ladder_beyond_delay"), (60, "long_delay")):
        known = account(policy(level(user("A"), delay=delay), level(user("B"))), people=[never])
        assert one_of(known, rule).changes[0].after is None


def test_delays_that_cannot_be_read_are_not_judged() -> None:
    row = {
        "id": "PPOL",
        "num_loops": 1,
        "services": [{"id": "PSVC"}],
        "teams": [{"id": "PTEAM"}],
        "escalation_rules": [
            {"targets": [{"id": "A", "type": "user_reference"}]},
            {"escalation_delay_in_minutes": 10, "targets": [{"id": "B", "type": "user_reference"}]},
        ],
    }
    run = judged(account(reading.policy(row)))
    assert {one.rule.name for one in run.findings} == {"user_at_first_level"}
    assert [(each.words, each.rules[0]) for each in run.unjudged] == [
        ("Level 1 cannot be read as it stands.", "long_delay")
    ]


# Targets


def test_deleted_people_are_found_as_targets_and_in_turns() -> None:
    gone = account(policy(level(user("A")), level(user("PGONE", deleted=True)), level(user("B"))))
    assert without("user_at_first_level", gone) == [("deleted_target", 2), ("level_gap", 2)]
    assert one_of(gone, "level_gap").follows == "deleted_target"
    assert one_of(gone, "deleted_target").subject == ("user", "PGONE")
    # Beside somebody who is there, the level still reaches that one.
    half = account(policy(level(user("A")), level(user("B"), user("PGONE", deleted=True))))
    assert without("user_at_first_level", half) == [("deleted_target", 2)]
    turns = account(
        policy(level(of("PS1")), level(user("B"))),
        schedules=[Schedule("PS1", "First", "v2", "UTC", policy_ids=("PPOL",), deleted=frozenset({"PGONE"}))],
    )
    rendered = {"PS1": [shift("A", 0, 6 * DAY), shift("", 6 * DAY)]}
    assert found(turns, rendered) == [("deleted_target", 1), ("level_gap", 1)]
    assert one_of(turns, "deleted_target", rendered).changes[0].document == ("schedule", "PS1")


def test_a_deleted_schedule_is_told_as_one() -> None:
    known = account(policy(level(user("A")), level(Target("schedule", "PS1", "Nights", True), user("B"))))
    one = one_of(known, "deleted_target")
    assert one.subject == ("schedule", "PS1")
    assert "the schedule Nights, which was deleted" in one.words


def test_a_round_robin_with_a_schedule_of_gaps() -> None:
    ring = policy(level(of("PS1"), of("PS2"), round_robin=True), level(user("B")))
    rendered = {"PS1": [shift("A", 0, DAY)], "PS2": [shift("C")]}
    assert found(account(ring), rendered) == [("round_robin_gap", 1)]
    unknown = judged(account(ring), {"PS2": [shift("C")]})
    assert unknown.findings == ()
    assert [(each.rules, each.subject) for each in unknown.unjudged] == [(("round_robin_gap",), ("schedule", "PS1"))]
    # To all at once it is no matter: the other one is there.
    assert (
        found(account(replace(ring, levels=(replace(ring.levels[0], round_robin=False), ring.levels[1]))), rendered)
        == []
    )


# People


def test_people_of_schedules_are_judged_as_those_who_are_named_and_each_once_a_policy() -> None:
    known = account(
        policy(level(of("PS1")), level(user("B")), level(of("PS1"))),
        policy(level(user("B")), level(of("PS1")), id="PTWO"),
        people=[person("A", contacts=())],
    )
    rows = [
        (one.policy_id, one.level, one.subject)
        for one in judged(known, {"PS1": [shift("A", 0, DAY), shift("C", DAY)]}).findings
        if one.rule.name == "no_contact_method"
    ]
    assert rows == [("PPOL", 1, ("user", "A")), ("PTWO", 2, ("user", "A"))]
    before = {"PS1": [Slice(AT - DAY, AT, "A", BY), shift("C")]}
    assert "no_contact_method" not in dict(found(known, before))


EMAIL = Contact("CE", "email", "", "")


@pytest.mark.parametrize(
    ("more", "rules"),
    [
        ({}, []),
        (
            {"contacts": (), "ladder": ()},
            ["no_contact_method", "no_phone", "no_high_urgency_rule", "one_notification_rule", "no_notification_delay"],
        ),
        (
            {"contacts": (EMAIL,), "ladder": (Rung(0, "high", "CE", "email"), Rung(5, "high", "CE", "email"))},
            ["email_only", "no_phone"],
        ),
        # With a telephone that no rule uses.
        ({"ladder": (Rung(0, "high", "CE", "email"), Rung(5, "high", "CE", "email"))}, ["email_only", "no_phone"]),
        ({"ladder": (Rung(0, "high", "Cpush", "push"), Rung(5, "high", "Csms", "sms"))}, ["no_phone"]),
        (
            {"ladder": (Rung(0, "low", "CE", "email"),)},
            ["no_high_urgency_rule", "one_notification_rule", "no_notification_delay"],
        ),
        ({"ladder": (Rung(0, "high", "Cphone", "phone"),)}, ["one_notification_rule", "no_notification_delay"]),
        ({"ladder": (Rung(3, "high", "Cphone", "phone"),)}, ["one_notification_rule"]),
        (
            {"ladder": (Rung(0, "high", "Cpush", "push"), Rung(0, "high", "Cphone", "phone"))},
            ["no_notification_delay"],
        ),
        ({"invited": True}, ["invitation_pending"]),
        # What is not known is nothing.
        ({"contacts": None, "ladder": None}, []),
        ({"contacts": None}, []),
        ({"contacts": (EMAIL,), "ladder": None}, ["email_only", "no_phone"]),
    ],
)
def test_what_is_wrong_with_how_somebody_is_told(more: dict[str, Any], rules: list[str]) -> None:
    known = account(policy(level(of("PS1")), level(user("B"))), people=[person("A", **more)])
    run = judged(known, {"PS1": [shift("A")]})
    assert [one.rule.name for one in run.findings] == sorted(rules, key=list(RULES).index)
    assert all(one.subject == ("user", "A") for one in run.findings)
    unknown = {rule for each in run.unjudged for rule in each.rules}
    assert ("no_contact_method" in unknown) == ("contacts" in more and more["contacts"] is None)
    assert ("no_high_urgency_rule" in unknown) == ("ladder" in more and more["ladder"] is None)
    assert set(rules) <= set(OF_PEOPLE)


def test_people_who_are_not_known_at_all_are_told_as_not_known() -> None:
    run = judged(account(policy(level(of("PS1")), level(user("B")))), {"PS1": [shift("PWHO")]})
    assert run.findings == ()
    (one,) = run.unjudged
    assert one.subject == ("user", "PWHO")
    assert set(one.rules) >= set(OF_PEOPLE) - {"invitation_pending"}


# Use


def test_what_uses_a_policy_and_what_is_not_known_to() -> None:
    unused = replace(GOOD, service_ids=())
    assert without("user_at_first_level", account(unused)) == [("policy_without_service", 0)]
    hushed = account(replace(unused, handoff="if_has_services"))
    assert without("user_at_first_level", hushed) == [
        ("handoff_notifications_unused", 0),
        ("policy_without_service", 0),
    ]
    assert one_of(hushed, "handoff_notifications_unused").follows == "policy_without_service"
    assert without("user_at_first_level", account(replace(unused, handoff="always"))) == [("policy_without_service", 0)]
    # What the policy does not tell of its services, the services may.
    named = account(unused, services=[Service("PSVC", "Books", "active", "PPOL")])
    assert without("user_at_first_level", named) == []
    run = judged(account(replace(unused, untold=frozenset({"services", "teams", "num_loops"}), team_ids=(), loops=0)))
    assert [one.rule.name for one in run.findings] == ["user_at_first_level"]
    assert {rule for each in run.unjudged for rule in each.rules} == {
        *("policy_without_service", "handoff_notifications_unused", "team_count", "no_repeat", "empty_last_level")
    }


def test_teams_are_one_or_nobody_uses_them() -> None:
    assert without("user_at_first_level", account(replace(GOOD, team_ids=()))) == [("team_count", 0)]
    two = account(replace(GOOD, team_ids=("PTEAM", "POTHER")))
    assert one_of(two, "team_count").evidence[0].words == "Teams: Team, Other"
    alone = replace(account(replace(GOOD, team_ids=())), teams={})
    assert without("user_at_first_level", alone) == []


def test_services_that_tell_nobody() -> None:
    known = account(
        GOOD,
        services=[
            Service("PS1", "Off", "disabled", "PPOL", urgency="low"),
            Service("PS2", "Alone", "active", ""),
            Service("PS3", "Low", "active", "PPOL", urgency="low"),
            Service("PS4", "High", "active", "PPOL"),
            Service("PS5", "Elsewhere", "active", "POUT", urgency="low"),
            Service("PS6", "Cut short", "active", "", untold=frozenset({"escalation_policy"})),
        ],
    )
    run = judged(known)
    about = {(one.rule.name, one.subject[1], one.policy_id) for one in run.findings if one.subject[0] == "service"}
    assert about == {
        ("service_disabled", "PS1", ""),
        ("service_without_policy", "PS2", ""),
        ("low_urgency_levels", "PS3", "PPOL"),
    }
    assert {(each.rules, each.subject[1]) for each in run.unjudged} == {
        (("low_urgency_levels",), "PS5"),
        (("service_without_policy",), "PS6"),
    }
    # Of one level only there is nothing to escalate to.
    short = replace(known, policies={"PPOL": replace(GOOD, levels=GOOD.levels[:1])})
    assert "low_urgency_levels" not in dict(found(short))
    # Of one policy, what is about none is left out.
    own = {one.rule.name for one in lint(known, {}, WEEK, policy_ids=["PPOL"])}
    assert own == {"user_at_first_level", "low_urgency_levels"}


def test_schedules_that_page_nobody_are_found_unless_their_policies_are_not_known() -> None:
    alone = Schedule("PS1", "Old", "v2", "UTC")
    assert ("schedule_without_policy", 0) in found(account(GOOD, schedules=[alone]))
    elsewhere = replace(alone, policy_ids=("POUT",))
    assert ("schedule_without_policy", 0) not in found(account(GOOD, schedules=[elsewhere]))
    untold = judged(account(GOOD, schedules=[replace(alone, untold=frozenset({"escalation_policies"}))]))
    assert [each.rules for each in untold.unjudged] == [("schedule_without_policy",)]


def event(members: tuple[str, ...], since: int = 0, until: int | None = None) -> Event:
    start = dt.datetime.fromisoformat("2027-01-15T00:00")
    return Event("E", "Daily", "UTC", start, DAY, since, until, ("RRULE:FREQ=DAILY",), False, 1, members)


@pytest.mark.parametrize(
    ("schedule", "is_found"),
    [
        (Schedule("PV", "Rota", "v3", "UTC", rotations=(Rotation("R", (event(("A", "")),)),)), True),
        (Schedule("PV", "Rota", "v3", "UTC", rotations=(Rotation("R", (event(("A", "B")),)),)), False),
        (Schedule("PV", "Rota", "v3", "UTC", rotations=(Rotation("R", (event(("A", ""), until=AT),)),)), False),
        (Schedule("PV", "Rota", "v3", "UTC", rotations=(Rotation("R", (event(("A", ""), since=WEEK.end),)),)), False),
        (Schedule("PV", "Rota", "v3", "UTC", custom_shifts=(CustomShift("C", AT, AT + 60, ("",)),)), True),
        (Schedule("PV", "Rota", "v3", "UTC", custom_shifts=(CustomShift("C", AT - 60, AT, ("",)),)), False),
    ],
)
def test_an_empty_place_of_a_rotation_in_effect(schedule: Schedule, is_found: bool) -> None:
    known = account(policy(level(of("PV")), level(user("B"))), schedules=[schedule])
    assert (("empty_slot", 1) in found(known, {"PV": [shift("A", 0, DAY), shift("", DAY)]})) == is_found
    if is_found:
        one = one_of(known, "empty_slot", {"PV": [shift("A", 0, DAY), shift("", DAY)]})
        assert one.evidence[0].span == Span(AT + DAY, WEEK.end)
        assert one_of(known, "level_gap", {"PV": [shift("A", 0, DAY), shift("", DAY)]}).follows == "empty_slot"


# What is told


def test_open_incidents_keep_the_policy_as_it_was_and_that_is_told_where_a_change_is_of_the_policy() -> None:
    known = account(replace(GOOD, loops=0), people=[person("A", contacts=())])
    told = {one.rule.name: one.consequence for one in lint(known, {}, WEEK, open_incidents={"PPOL": 3})}
    assert "3 incidents that are open keep the policy as it was" in told["no_repeat"]
    assert "open keep" not in told["no_contact_method"]
    one = {one.rule.name: one.consequence for one in lint(known, {}, WEEK, open_incidents={"PPOL": 1, "POUT": 9})}
    assert "1 incident that is open keeps the policy as it was" in one["no_repeat"]
    plain = lint(known, {}, WEEK)
    assert with_open(plain, {}) == plain
    assert with_open(plain, {"POUT": 9}) == plain


def test_a_key_names_the_rule_and_what_it_is_about() -> None:
    assert one_of(account(replace(GOOD, loops=0)), "no_repeat").key == "no_repeat:policy:PPOL:0"
    long = "P" + "X" * 39
    keys = [f"{rule}:schedule:{long}:99" for rule in RULES]
    assert max(map(len, keys)) < 200


def test_every_rule_says_what_it_is_and_where_that_is_said() -> None:
    worst = [SEVERITIES.index(rule.severity) for rule in RULES.values()]
    assert worst == sorted(worst)
    for name, rule in RULES.items():
        assert rule.name == name
        assert rule.title
        assert not rule.title.endswith(".")
        assert bool(rule.source) == bool(rule.url)
        if rule.source:
            assert rule.source.endswith(".")
            assert str(urlsplit(rule.url).hostname).endswith(".pagerduty.com")


def test_the_documentation_names_each_rule_with_its_severity_and_source() -> None:
    """Where this fails after a rule was changed, ``documented`` says what the table in the file has to be."""
    documented = [
        f"| `{rule.name}` | {rule.severity} | {rule.title} | "
        + (f"{rule.source} [PagerDuty]({rule.url})" if rule.url else "a rule of ours")
        + " |"
        for rule in RULES.values()
    ]
    text = (Path(__file__).resolve().parents[2] / "docs" / "analysis.md").read_text()
    section = text.partition("## Escalation policies")[2].partition("\n## ")[0]
    assert [line for line in section.splitlines() if line.startswith("| `")] == documented


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (5_400, "1 h 30 min"), (DAY + 61, "1 d 1 min"), (3 * DAY, "3 d")],
)
def test_how_long_something_lasts_in_words(seconds: int, words: str) -> None:
    assert lasting(seconds) == words


# What is read for it


def test_documents_tell_what_they_do_not_tell() -> None:
    bare = reading.policy({"id": "PPOL", "escalation_rules": []})
    assert bare.untold == {"services", "teams", "num_loops"}
    assert (bare.loops, bare.handoff) == (0, "")
    whole = reading.policy(
        {
            "id": "PPOL",
            "escalation_rules": [],
            "num_loops": 0,
            "services": [],
            "teams": [],
            "on_call_handoff_notifications": "always",
        }
    )
    assert (whole.untold, whole.handoff) == (frozenset(), "always")
    assert reading.policy({"id": "PPOL", "escalation_rules": [], "num_loops": "2"}).untold >= {"num_loops"}
    assert reading.service({"id": "PS", "status": "active"}).untold == {"escalation_policy"}
    assert reading.service({"id": "PS", "escalation_policy": None}).untold == frozenset()
    v2 = {"id": "PS", "type": "schedule", "time_zone": "UTC", "schedule_layers": []}
    assert reading.schedule(v2).untold == {"escalation_policies"}
    assert reading.schedule({**v2, "escalation_policies": []}).untold == frozenset()
    v3 = {"id": "PS", "type": "schedule_v3", "time_zone": "UTC", "rotations": []}
    assert reading.schedule(v3).untold == {"escalation_policies"}


def test_an_invitation_that_waits_is_read() -> None:
    row = {"id": "PU", "name": "Hugo", "time_zone": "UTC"}
    assert reading.person({**row, "invitation_sent": True}).invited
    assert not reading.person({**row, "invitation_sent": False}).invited
    assert not reading.person(row).invited


@pytest.mark.parametrize(
    ("strategy", "is_ring"),
    [
        ("round_robin", True),
        ({"type": "round_robin"}, True),
        ([{"type": "round_robin"}], True),
        ("assign_to_everyone", False),
        ([], False),
        (None, False),
        (7, False),
    ],
)
def test_a_round_robin_is_read_in_whatever_way_it_is_told(strategy: Any, is_ring: bool) -> None:
    rule = {"escalation_delay_in_minutes": 10, "targets": [], "escalation_rule_assignment_strategy": strategy}
    assert reading.policy({"id": "PPOL", "escalation_rules": [rule]}).levels[0].round_robin is is_ring


def test_whoever_is_not_among_all_people_was_deleted() -> None:
    read = reading.without_gone(policy(level(user("A"), of("PS1")), level(user("Z"))), {"A"})
    assert [target.deleted for each in read.levels for target in each.targets] == [False, False, True]
    assert reading.without_gone(GOOD, {"A", "B"}) is GOOD
