"""Incidents followed through their escalation policies, each step worked out by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from integrations.pagerduty.analysis.model import (
    Account,
    Contact,
    Level,
    Person,
    Policy,
    Problem,
    Rung,
    Schedule,
    Service,
    Slice,
    Source,
    Target,
)
from integrations.pagerduty.analysis.paging import Paged, longest, service_is_paged, who_is_paged

MINUTE = 60
AT = 1_700_000_000
LAYER, OVERRIDE = Source("layer", "PLAYER1", "Days"), Source("override", "POVER1")
CONTACTS = (Contact("C1", "push", "Phone", "…4711"), Contact("C2", "phone", "Mobile", "+44 … 12"))


def rung(delay: int, contact: Contact, urgency: str = "high") -> Rung:
    return Rung(delay, urgency, contact.id, contact.kind)


def person(name: str, *ladder: Rung, **more: Any) -> Person:
    """Pushed to at once, called after 5 minutes, unless told otherwise."""
    usual = (rung(0, CONTACTS[0]), rung(5, CONTACTS[1]), rung(0, CONTACTS[0], "low"))
    given: dict[str, Any] = {"contacts": CONTACTS, "ladder": ladder or usual} | more
    return Person(f"U{name[0]}", name, **given)


ANN, BEN, CAT = person("Ann"), person("Ben"), person("Cat")


def level(delay: int, *ids: str, round_robin: bool = False) -> Level:
    return Level(
        delay, tuple(Target("user" if id[0] == "U" else "schedule", id, f"The {id}") for id in ids), round_robin
    )


def account(
    *levels: Level, loops: int = 0, people: tuple[Person, ...] = (ANN, BEN, CAT), service: Service | None = None
) -> Account:
    policy = Policy("PEP1", "Payments", levels, loops)
    schedules = {id: Schedule(id, f"Rota {id}", "v2", "UTC") for id in ("S1", "S2", "S3")}
    services = {service.id: service} if service else {}
    return Account(schedules, {"PEP1": policy}, services, {each.id: each for each in people})


def on(user: str, start: int = 0, end: int = 1000, source: Source = LAYER) -> Slice:
    """Minutes from the incident."""
    return Slice(AT + start * MINUTE, AT + end * MINUTE, user, source)


def followed(known: Account, urgency: str = "high", **rendered: list[Slice]) -> Paged:
    return who_is_paged(known, "PEP1", AT, urgency=urgency, rendered=rendered)


def told(paged: Paged) -> list[tuple[int, int, int, list[str]]]:
    return [(step.loop, step.level, step.minutes, [one.user for one in step.reached]) for step in paged.steps]


def codes(problems: tuple[Problem, ...]) -> list[str]:
    return [problem.code for problem in problems]


def test_levels_are_come_to_in_order_after_the_delays_of_those_before() -> None:
    # Ann has it for 10 minutes, Ben for 25, then Cat, whom the policy names itself, for 15: at 50 it is over.
    paged = followed(account(level(10, "S1"), level(25, "S2"), level(15, "UC")), S1=[on("UA")], S2=[on("UB")])
    assert told(paged) == [(1, 1, 0, ["UA"]), (1, 2, 10, ["UB"]), (1, 3, 35, ["UC"])]
    assert [step.delay for step in paged.steps] == [10, 25, 15]
    assert paged.ends_at == AT + 50 * MINUTE
    assert paged.nobody == ""
    ann, ben, cat = (step.reached[0] for step in paged.steps)
    assert (ann.source, ann.schedule_id) == (LAYER, "S1")
    assert (ben.source, ben.schedule_id) == (LAYER, "S2")
    assert (cat.source, cat.schedule_id) == (Source("policy", "PEP1", "Payments"), "")


def test_the_policy_is_gone_through_again_as_often_as_its_loops_say() -> None:
    known = account(level(10, "S1"), level(20, "S2"), loops=2)
    paged = followed(known, S1=[on("UA")], S2=[on("UB")])
    assert told(paged) == [
        *((1, 1, 0, ["UA"]), (1, 2, 10, ["UB"])),
        *((2, 1, 30, ["UA"]), (2, 2, 40, ["UB"])),
        *((3, 1, 60, ["UA"]), (3, 2, 70, ["UB"])),
    ]
    assert paged.ends_at == AT + 90 * MINUTE
    assert longest(known.policies["PEP1"]) == 90


def test_who_is_on_call_is_looked_up_when_a_level_is_come_to() -> None:
    # Ben hands over to Cat 5 minutes into the incident; level 2 is come to after 10. In the second loop, 30 minutes in, an
    # override has put Cat on level 1 as well.
    paged = followed(
        account(level(10, "S1"), level(20, "S2"), loops=1),
        S1=[on("UA", end=25), on("UC", 25, 60, OVERRIDE)],
        S2=[on("UB", end=5), on("UC", 5)],
    )
    assert told(paged) == [(1, 1, 0, ["UA"]), (1, 2, 10, ["UC"]), (2, 1, 30, ["UC"]), (2, 2, 40, ["UC"])]
    assert paged.steps[2].reached[0].source == OVERRIDE


def test_a_turn_begins_with_its_first_second_and_ends_before_its_last() -> None:
    paged = followed(account(level(10, "S1")), S1=[on("UA", -60, 0), on("UB", 0, 60)])
    assert told(paged) == [(1, 1, 0, ["UB"])]


def test_a_level_with_nobody_on_call_is_skipped_at_once_and_says_why() -> None:
    # Level 1 is skipped at 0, level 2 is come to at 0; after its 20 minutes the last level is come to.
    paged = followed(account(level(10, "S1"), level(20, "S2"), level(5, "UC")), S1=[on("UA", 1)], S2=[on("UB")])
    assert told(paged) == [(1, 1, 0, []), (1, 2, 0, ["UB"]), (1, 3, 20, ["UC"])]
    assert paged.steps[0].skipped == "Level 1 is skipped at once: nobody is on call on Rota S1."
    assert paged.steps[0].delay == 0
    assert paged.ends_at == AT + 25 * MINUTE


def test_with_nobody_on_any_level_no_incident_is_created() -> None:
    paged = followed(account(level(10, "S1"), level(20, "S2"), loops=3), S1=[], S2=[on("")])
    assert told(paged) == [(1, 1, 0, []), (1, 2, 0, [])], "further loops would find the same"
    assert paged.nobody == "Nobody is on call on any level: no incident is created, and nobody is told."
    assert paged.ends_at == AT
    assert paged.told_within(60) == {}


def test_an_incident_whose_people_have_gone_home_ends_after_one_round_of_nobody() -> None:
    # Ann's turn ends 5 minutes in. At 10 both levels are empty, in this loop and in the next: it ends.
    paged = followed(account(level(10, "S1"), level(20, "S2"), loops=9), S1=[on("UA", end=5)], S2=[])
    assert told(paged) == [(1, 1, 0, ["UA"]), (1, 2, 10, []), (2, 1, 10, [])]
    assert paged.ends_at == AT + 10 * MINUTE
    assert paged.nobody == ""


def test_low_urgency_stays_with_the_first_level_that_reaches_somebody() -> None:
    paged = followed(account(level(10, "S1"), level(20, "S2"), level(5, "UC"), loops=2), "low", S1=[], S2=[on("UB")])
    assert told(paged) == [(1, 1, 0, []), (1, 2, 0, ["UB"])]
    assert paged.steps[-1].delay is None
    assert paged.ends_at is None
    assert [(each.minute, each.contact.id) for each in paged.steps[-1].reached[0].contacts or ()] == [(0, "C1")]


def test_contacts_come_in_the_order_of_the_ladder_until_the_incident_goes_on() -> None:
    # Ben is pushed to at once and called after 5 minutes and after 20, at which minute the incident goes on: too late. It came
    # to him after 10 minutes.
    ben = person("Ben", rung(20, CONTACTS[1]), rung(0, CONTACTS[0]), rung(5, CONTACTS[1]), rung(0, CONTACTS[0], "low"))
    known = account(level(10, "S1"), level(20, "S2"), people=(ANN, ben))
    paged = followed(known, S1=[on("UA")], S2=[on("UB")])
    contacts = paged.steps[1].reached[0].contacts
    assert contacts is not None
    assert [(each.minute, each.contact, each.sent) for each in contacts] == [
        (10, CONTACTS[0], True),
        (15, CONTACTS[1], True),
        (30, CONTACTS[1], False),
    ]
    assert codes(paged.warnings) == ["ladder_cut"]
    assert paged.told_within(9) == {"UA": 0}
    assert paged.told_within(10) == {"UA": 0, "UB": 10}


def test_somebody_who_is_first_told_too_late_is_not_told() -> None:
    late = person("Ann", rung(15, CONTACTS[1]))
    paged = followed(account(level(10, "S1"), level(5, "UB"), people=(late, BEN)), S1=[on("UA")])
    assert "never_told" in codes(paged.warnings)
    assert paged.told_within(60) == {"UB": 10}


def test_what_is_wrong_with_how_people_are_told_is_said() -> None:
    mail = Contact("C3", "email", "Work", "d…@example.com")
    dan = person("Dan", rung(0, mail), contacts=(mail,))
    eve = person("Eve", contacts=())
    fay = person("Fay", rung(0, CONTACTS[0], "low"))
    known = account(level(30, "UD"), level(30, "UE"), level(30, "UF"), people=(dan, eve, fay))
    paged = followed(known)
    assert codes(paged.warnings) == ["email_only", "no_contact", "no_rule"]
    assert [step.reached[0].contacts for step in paged.steps[1:]] == [(), ()]
    assert paged.told_within(120) == {"UD": 0}


def test_a_person_whose_rules_are_not_known_is_taken_to_be_told_when_it_comes_to_them() -> None:
    paged = followed(
        account(level(10, "S1"), level(10, "UG"), people=(person("Ann", contacts=None, ladder=None),)), S1=[on("UA")]
    )
    assert [step.reached[0].contacts for step in paged.steps] == [None, None]
    assert paged.told_within(10) == {"UA": 0, "UG": 10}
    assert codes(paged.problems) == ["unknown_user"]


def test_the_same_person_on_two_levels_in_a_row_is_warned_of_also_over_a_skipped_one() -> None:
    paged = followed(
        account(level(10, "S1"), level(10, "S2"), level(10, "S3")), S1=[on("UA")], S2=[], S3=[on("UA"), on("UB")]
    )
    (warning,) = paged.warnings
    assert warning.code == "same_person"
    assert warning.words == "Ann is on level 1 and on level 3: going on reaches them again."
    alone = followed(account(level(10, "S1"), level(10, "UA"), loops=1), S1=[on("UA")])
    assert codes(alone.warnings) == ["same_person", "one_person"]


def test_a_person_on_one_level_by_two_ways_is_told_once_and_by_both() -> None:
    paged = followed(account(level(10, "S1", "S2", "UA")), S1=[on("UA")], S2=[on("UA", source=OVERRIDE), on("UB")])
    ann, ben = paged.steps[0].reached
    assert (ann.user, ann.schedule_id, ben.user) == ("UA", "S1", "UB")
    assert ann.also == ((OVERRIDE, "S2"), (Source("policy", "PEP1", "Payments"), ""))


def test_of_a_round_robin_level_it_is_one_of_those_named() -> None:
    paged = followed(account(level(10, "S1", "UB", "S2", round_robin=True)), S1=[on("UA")], S2=[])
    assert told(paged) == [(1, 1, 0, ["UA", "UB"])]
    assert paged.steps[0].one_of
    assert not followed(account(level(10, "S1", round_robin=True)), S1=[on("UA"), on("UB")]).steps[0].one_of


def test_deleted_and_unknown_targets_are_named_and_break_nothing() -> None:
    gone = Level(10, (Target("user", "UX", "Gwen", True), Target("schedule", "SX", "Old", True)))
    paged = followed(account(gone, level(10, "S9"), level(10, "S1")), S1=[on("UA")], SX=[on("UB")])
    assert told(paged) == [(1, 1, 0, []), (1, 2, 0, []), (1, 3, 0, ["UA"])]
    assert paged.steps[0].skipped == "Level 1 is skipped at once: Gwen is deleted; Old is deleted."
    assert paged.steps[1].skipped == "Level 2 is skipped at once: who is on call on The S9 is not known."
    assert codes(paged.problems) == ["deleted_target", "deleted_target", "unknown_schedule"]
    nobody = followed(account(gone, level(10, "S9")))
    assert (
        nobody.nobody == "As far as is known, nobody is on call on any level; not all of its schedules are known here."
    )


def test_a_policy_without_levels_tells_nobody() -> None:
    paged = followed(account())
    assert paged.steps == ()
    assert paged.nobody == "The escalation policy has no level: nobody is told."
    assert "names nobody" in followed(account(level(10))).steps[0].skipped


def test_what_is_wrong_with_a_schedule_of_the_policy_is_passed_on() -> None:
    known = account(level(10, "S1"))
    broken = dataclasses.replace(known.schedules["S1"], problems=(Problem("unknown_zone", "No such zone.", "Layer 1"),))
    known = dataclasses.replace(known, schedules={"S1": broken})
    assert followed(known, S1=[on("UA")]).problems == (Problem("unknown_zone", "No such zone.", "Rota S1: Layer 1"),)


def test_an_endless_policy_of_bad_data_ends() -> None:
    paged = followed(account(level(0, "S1"), loops=10**9), S1=[on("UA")])
    assert len(paged.steps) == 10
    assert paged.ends_at == AT


@pytest.mark.parametrize(
    ("service", "nobody"),
    [
        (Service("PSV1", "old", "disabled", "PEP1"), "The service is disabled"),
        (Service("PSV1", "stray", "active", ""), "The service has no escalation policy"),
        (Service("PSV1", "far", "active", "PEP9"), "is not among what is known here"),
    ],
)
def test_a_service_that_tells_nobody_says_why(service: Service, nobody: str) -> None:
    known = account(level(10, "S1"), service=service)
    paged = service_is_paged(known, service.id, AT, rendered={"S1": [on("UA")]})
    assert nobody in paged.nobody
    assert (paged.steps, paged.service_id, paged.ends_at) == ((), "PSV1", AT)


def test_a_service_goes_through_its_policy_by_its_urgency() -> None:
    def of(**more: Any) -> Paged:
        service = Service(**{"id": "PSV1", "name": "checkout", "status": "active", "policy_id": "PEP1"} | more)
        known = account(level(10, "S1"), level(5, "UB"), service=service)
        return service_is_paged(known, "PSV1", AT, rendered={"S1": [on("UA")]})

    assert told(of()) == [(1, 1, 0, ["UA"]), (1, 2, 10, ["UB"])]
    assert told(of(urgency="low")) == [(1, 1, 0, ["UA"])]
    assert codes(of(urgency="severity_based").problems) == ["urgency_varies"]
    assert codes(of(urgency="support_hours").problems) == ["urgency_varies"]
    assert codes(of(status="maintenance").problems) == ["maintenance"]
    assert len(of(status="maintenance").steps) == 2


def test_what_is_not_known_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        who_is_paged(Account(), "PEP1", AT)
    with pytest.raises(KeyError):
        service_is_paged(Account(), "PSV1", AT)
