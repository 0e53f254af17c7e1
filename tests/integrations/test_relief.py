"""Who could take an override for a gap, and why."""

from __future__ import annotations

import datetime as dt
import itertools

import pytest

from integrations.pagerduty.analysis.coverage import HOUR
from integrations.pagerduty.analysis.model import (
    Account,
    Layer,
    Level,
    Person,
    Policy,
    Schedule,
    Slice,
    Source,
    Span,
    Target,
)
from integrations.pagerduty.analysis.relief import Candidate, candidates, duties, shares

SOURCE = Source("layer", "PLAYER1")
NOON = int(dt.datetime(2026, 11, 25, 12, tzinfo=dt.UTC).timestamp())
"""A Wednesday."""
LOADS = {"PANN": 10.0, "PBEN": 20.0, "PCAT": 30.0}


def at(hours: float) -> int:
    """Hours after that noon."""
    return NOON + round(hours * HOUR)


def gap(start: float, end: float) -> Span:
    return Span(at(start), at(end))


def on(user: str, start: float, end: float) -> Slice:
    return Slice(at(start), at(end), user, SOURCE)


def account(*users: str, people: tuple[Person, ...] = (), schedule: Schedule | None = None) -> Account:
    """``users`` take turns on S1, unless there is another; all are in London unless told otherwise."""
    everybody = {id: Person(id, id.title(), zone="Europe/London") for id in users} | {each.id: each for each in people}
    return Account({"S1": schedule or rota(*users)}, people=everybody)


def rota(*users: str) -> Schedule:
    return Schedule("S1", "Primary", "v2", "UTC", (Layer("PLAYER1", "", 0, None, 0, 86_400, users),))


def found(known: Account, span: Span, *slices: Slice, load: dict[str, float] | None = None) -> tuple[Candidate, ...]:
    return candidates(known, "S1", span, {"S2": slices}, load=LOADS if load is None else load)


def test_the_least_loaded_of_those_who_can_comes_first_and_says_why() -> None:
    best, second, third = found(account("PCAT", "PBEN", "PANN"), gap(0, 4))
    assert [best.user, second.user, third.user] == ["PANN", "PBEN", "PCAT"]
    assert best.suitable
    assert best.good == (
        "Takes turns on this schedule.",
        "Is off duty, and for 11 hours before and after.",
        "It is between 08:00 and 22:00 for them (Europe/London).",
    )
    assert (best.bad, best.load, best.awake, best.span) == ((), 10.0, 1.0, gap(0, 4))


def test_who_is_on_call_elsewhere_comes_last_and_who_has_not_rested_before_them() -> None:
    one, two, three = found(
        account("PANN", "PBEN", "PCAT"), gap(0, 4), on("PANN", 3, 5), on("PBEN", -20, -10.5), on("PCAT", 15, 20)
    )
    assert [(each.user, each.free, each.rested) for each in (one, two, three)] == [
        *(("PCAT", True, True), ("PBEN", True, False), ("PANN", False, False)),
    ]
    assert two.bad == ("Has had only 10 h 30 min of rest before it.",)
    assert three.bad == ("Is on call during it.",)


def test_eleven_hours_are_rest_and_a_second_less_is_not() -> None:
    (rested,) = found(account("PANN"), gap(0, 4), on("PANN", -20, -11), on("PANN", 15, 20))
    assert rested.suitable
    for turn in (Slice(at(-20), at(-11) + 1, "PANN", SOURCE), Slice(at(15) - 1, at(20), "PANN", SOURCE)):
        (tired,) = found(account("PANN"), gap(0, 4), turn)
        assert (tired.free, tired.rested) == (True, False)


def test_turns_that_touch_the_gap_are_told_as_such() -> None:
    (tired,) = found(account("PANN"), gap(0, 4), on("PANN", -5, 0), on("PANN", 4, 9))
    assert tired.bad == ("Comes to it straight from a turn.", "Goes on from it straight to a turn.")


def test_a_person_by_day_is_asked_before_one_by_night_however_loaded() -> None:
    # 12:00 in London is 23:00 in Sydney and 04:00 in Los Angeles.
    sydney, angeles = Person("PBEN", "Ben", zone="Australia/Sydney"), Person("PCAT", "Cat", zone="America/Los_Angeles")
    order = found(
        account("PANN", people=(sydney, angeles), schedule=rota("PANN", "PBEN", "PCAT")), gap(0, 4), load={"PANN": 99}
    )
    assert [(each.user, each.awake) for each in order] == [("PANN", 1.0), ("PBEN", 0.0), ("PCAT", 0.0)]
    assert order[1].bad == ("It is night for them (Australia/Sydney).",)
    assert found(account("PANN"), gap(8, 12))[0].awake == 0.5
    assert found(account("PANN"), gap(8, 12))[0].bad == ("Some of it is night for them (Europe/London).",)


def test_the_teams_people_and_those_of_the_same_policy_may_be_asked_and_nobody_else() -> None:
    schedule = Schedule(
        "S1", "Primary", "v2", "UTC", (Layer("L", "", 0, None, 0, 86_400, ("PANN", "")),), team_ids=("PT1",)
    )
    other = Schedule("S2", "Secondary", "v2", "UTC", (Layer("L", "", 0, None, 0, 86_400, ("PBEN",)),))
    targets = (
        Target("schedule", "S1"),
        Target("schedule", "S2"),
        Target("user", "PLEAD"),
        Target("user", "PGONE", "", True),
    )
    people = [
        *(
            Person("PANN", "Ann"),
            Person("PBEN", "Ben"),
            Person("PLEAD", "Lee"),
            Person("PTEAM", "Tom", team_ids=("PT1",)),
        ),
        *(Person("PFAR", "Far", team_ids=("PT2",)), Person("PGONE", "Gwen")),
    ]
    known = Account(
        {"S1": schedule, "S2": other},
        {"PEP1": Policy("PEP1", "Payments", tuple(Level(10, (target,)) for target in targets), 0)},
        people={each.id: each for each in people},
        teams={"PT1": "Payments"},
    )
    told = {each.user: each.good[0] for each in found(known, gap(0, 4), load={})}
    assert told == {
        "PANN": "Takes turns on this schedule.",
        "PTEAM": "Belongs to Payments.",
        "PBEN": "Is paged by Payments as well.",
        "PLEAD": "Is paged by Payments as well.",
    }
    assert found(known, gap(0, 4), load={})[0].user == "PANN", "of equals, who takes turns on it"


def test_who_cannot_be_told_and_who_is_not_known_says_so() -> None:
    mute = Person("PMUTE", "Mute", zone="Europe/London", contacts=())
    told = {each.user: each.bad for each in found(account("PMUTE", "PGONE", people=(mute,)), gap(0, 4))}
    assert told["PMUTE"] == ("Has no contact method: nothing would tell them.",)
    known = Account(schedules={"S1": rota("PANN", "PBEN", "PCAT")})
    assert {each.bad for each in found(known, gap(0, 4))} == {("Nothing more is known of them.",)}


def test_a_gap_that_one_person_can_take_is_not_shared() -> None:
    (one,) = shares(account("PANN", "PBEN"), "S1", gap(0, 12), {}, load=LOADS)
    assert (one.user, one.span) == ("PANN", gap(0, 12))


def test_a_long_gap_is_shared_among_people_who_rest_between_their_parts() -> None:
    parts = shares(account("PANN", "PBEN", "PCAT"), "S1", gap(0, 48), {}, load={})
    assert parts[0].span.start == at(0)
    assert parts[-1].span.end == at(48)
    for upper, lower in itertools.pairwise(parts):
        assert upper.span.end == lower.span.start
        assert upper.user != lower.user
    for user in {each.user for each in parts}:
        own = [each.span for each in parts if each.user == user]
        assert all(lower.start - upper.end >= 11 * HOUR for upper, lower in itertools.pairwise(own))
    assert all(each.suitable and each.span.seconds <= 12 * HOUR for each in parts)


def test_a_gap_of_which_nobody_can_take_all_is_cut_so_that_each_part_finds_somebody() -> None:
    # Ann is on call until 11 hours before the gap's second half, Ben from 11 hours after its first half on.
    busy = (on("PANN", -20, -5), on("PBEN", 17, 20))
    parts = shares(account("PANN", "PBEN"), "S1", gap(0, 12), {"S2": busy}, load={})
    assert [(each.user, each.span) for each in parts] == [("PBEN", gap(0, 6)), ("PANN", gap(6, 12))]


def test_what_nobody_can_take_is_left_out_and_a_gap_of_weeks_is_not_shared() -> None:
    alone = account("PANN")
    # Of four parts of 5 hours she can take the first; of three of 7, which would be tried before, none leaves her 11 hours.
    parts = shares(alone, "S1", gap(0, 20), {"S2": [on("PANN", 16, 20)]}, load={})
    assert [(each.user, each.span) for each in parts] == [("PANN", gap(0, 5))]
    assert shares(alone, "S1", gap(0, 4), {"S2": [on("PANN", 1, 2)]}, load={}) == ()
    assert shares(alone, "S1", gap(0, 24 * 8), {}, load={}) == ()
    with pytest.raises(KeyError):
        candidates(alone, "S9", gap(0, 4), {}, load={})


def test_duties_join_what_a_person_has_on_all_schedules() -> None:
    busy = duties({"S1": [on("PANN", 0, 4), on("", 0, 9)], "S2": [on("PANN", 2, 6), on("PANN", 8, 9)]})
    assert busy == {"PANN": (gap(0, 6), gap(8, 9))}
