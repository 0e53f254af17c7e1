"""What being on call costs whom, worked out by hand, and by other means minute for minute."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise as neighbours
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from integrations.pagerduty.analysis.incidents import Chosen, Incident, Log, Step, log_of
from integrations.pagerduty.analysis.load import (
    API_HOURS,
    INSIGHTS_HOURS,
    Duty,
    Fairness,
    Hours,
    Load,
    PersonLoad,
    gini,
    load,
    months,
    norms,
    own,
    pairwise,
    variation,
)
from integrations.pagerduty.analysis.model import (
    Account,
    Event,
    Layer,
    Level,
    Person,
    Policy,
    Rotation,
    Schedule,
    Service,
    Span,
    Target,
)

HOUR, DAY = 3600, 86_400
LONDON, NEW_YORK = "Europe/London", "America/New_York"


def at(text: str) -> int:
    """UTC."""
    return int(dt.datetime.fromisoformat(f"{text}+00:00").timestamp())


def incident(id: str, created: str, *told: tuple[str, str, str], **more: Any) -> Incident:
    """``told``: when, whom, by what."""
    steps = [Step(f"{id}-{place}", at(when), "notify", user, way) for place, (when, user, way) in enumerate(told)]
    return Incident(id, at(created), steps=tuple(sorted(steps, key=lambda step: step.at)), **more)


def duty(user: str, start: str, end: str, level: int = 1, schedule: str = "PS1", policy: str = "PEP1") -> Duty:
    return Duty(at(start), at(end), user, level, schedule, policy)


def most(found: Fairness) -> Any:
    return found.most


def account(**zones: str) -> Account:
    return Account(people={user: Person(user, user.title(), zone=zone) for user, zone in zones.items()})


def by_user(found: Load) -> dict[str, PersonLoad]:
    return {one.user: one for one in found.people}


# By hand. A week from Friday, 2026-10-23, 00:00 UTC. In London summer time ends on Sunday the 25th: at 01:00 UTC the clock goes
# from 02:00 back to 01:00. In New York it lasts through the week: 4 hours behind UTC.
WEEK = Span(at("2026-10-23T00:00"), at("2026-10-30T00:00"))
PEOPLE = account(ann=LONDON, bo=NEW_YORK, cy=LONDON)
DUTIES = [
    # Ann: Friday 22:00 to Sunday 09:00 in London. 36 hours, because Sunday's night has one more.
    duty("ann", "2026-10-23T21:00", "2026-10-25T09:00"),
    # The same time by another policy: at once counts once.
    duty("ann", "2026-10-24T00:00", "2026-10-25T09:00", policy="PEP2"),
    # Bo: Sunday 05:00 to Monday 05:00 in New York.
    duty("bo", "2026-10-25T09:00", "2026-10-26T09:00"),
    # Cy: on Monday 9 hours on the first level, of which 2 on the second too, which goes on for 2 more: 11 hours together.
    duty("cy", "2026-10-26T09:00", "2026-10-26T18:00"),
    duty("cy", "2026-10-26T16:00", "2026-10-26T20:00", 2, "PS2"),
    # 10:59 after it, 11:01 long.
    duty("cy", "2026-10-27T06:59", "2026-10-27T18:00"),
    # 11:00 after it, 12:00 long.
    duty("cy", "2026-10-28T05:00", "2026-10-28T17:00"),
]
LOG = log_of(
    [
        # Friday 22:10 in London: sleep, the night to Saturday.
        incident("PI5", "2026-10-23T21:10", ("2026-10-23T21:10", "ann", "push")),
        # Saturday 08:30 in London, which is 07:30 UTC: off, and no sleep any more.
        incident("PI4", "2026-10-24T07:30", ("2026-10-24T07:30", "ann", "phone")),
        # Sunday 00:30 in London: sleep. The e-mail does not count; the text message is 59 seconds after the push message, and
        # the same interruption; the call is 60 seconds after it, and another one: 2.
        incident(
            "PI1",
            "2026-10-24T23:30",
            ("2026-10-24T23:30:05", "ann", "email"),
            ("2026-10-24T23:30:05", "ann", "push"),
            ("2026-10-24T23:31:04", "ann", "sms"),
            ("2026-10-24T23:31:05", "ann", "phone"),
        ),
        # 01:59:58 summer time, and 42 seconds later, at 01:00:40: one interruption, in the same night as those before.
        incident(
            "PI2",
            "2026-10-25T00:59:50",
            ("2026-10-25T00:59:58", "ann", "push"),
            ("2026-10-25T01:00:40", "ann", "sms"),
        ),
        # Sunday 07:59:30: sleep, still of that night; 08:00:30: off, for it is a Sunday.
        incident(
            "PI3",
            "2026-10-25T07:59",
            ("2026-10-25T07:59:30", "ann", "push"),
            ("2026-10-25T08:00:30", "ann", "phone"),
        ),
        # Sunday 21:59:30 in New York: off. Forty seconds later it is sleep: the same interruption, and nevertheless a page that
        # was sent into their sleep.
        incident(
            "PI6",
            "2026-10-26T01:59:30",
            ("2026-10-26T01:59:30", "bo", "push"),
            ("2026-10-26T02:00:10", "bo", "sms"),
        ),
        # Monday 17:59:59 in London: business. 18:01: off. Then it went on to Dee, who is on no schedule, and whom nobody knows.
        incident(
            "PI7",
            "2026-10-26T17:59",
            ("2026-10-26T17:59:59", "cy", "push"),
            ("2026-10-26T18:01", "cy", "phone"),
            ("2026-10-26T18:05", "dee", "push"),
        ),
        # An e-mail alone is no page.
        incident("PI10", "2026-10-27T12:00", ("2026-10-27T12:00:05", "bo", "email")),
        # Made in the week, told after it: it belongs to the week in which it was made. Cy, Friday 00:00:05: sleep.
        incident("PI8", "2026-10-29T23:59:50", ("2026-10-30T00:00:05", "cy", "push")),
        # And this one to the week before.
        incident("PI9", "2026-10-22T23:59:50", ("2026-10-23T00:00:05", "cy", "push")),
    ]
)


@pytest.fixture(scope="module")
def week() -> Load:
    return load(PEOPLE, LOG, DUTIES, WEEK, known=WEEK, cycle=3 * DAY)


def test_hours_on_call(week: Load) -> None:
    told = by_user(week)
    # Cy: 11:00 + 11:01 + 12:00.
    assert {user: one.seconds for user, one in told.items()} == {
        "ann": 36 * HOUR,
        "bo": 24 * HOUR,
        "cy": 34 * HOUR + 60,
        "dee": 0,
    }
    # Cy: 9:00 + 11:01 + 12:00; of the second level's 4 hours, 2 are on the first.
    assert {user: (one.level_1, one.level_2_plus) for user, one in told.items() if one.seconds} == {
        "ann": (36 * HOUR, 0),
        "bo": (24 * HOUR, 0),
        "cy": (32 * HOUR + 60, 2 * HOUR),
    }
    assert {user: one.longest_run for user, one in told.items()} == {
        "ann": 36 * HOUR,
        "bo": 24 * HOUR,
        "cy": 12 * HOUR,
        "dee": 0,
    }
    # 10:59 is too short, 11:00 is not.
    assert {user: one.short_rests for user, one in told.items()} == {"ann": 0, "bo": 0, "cy": 1, "dee": 0}


def test_weekends_and_nights_are_those_of_their_own_clocks(week: Load) -> None:
    told = by_user(week)
    # Ann's weekend begins two hours after her turn: 36 - 2. Bo's ends at Monday 00:00 in New York, 04:00 UTC: 09:00 to 04:00.
    assert {user: one.weekend_seconds for user, one in told.items()} == {
        "ann": 34 * HOUR,
        "bo": 19 * HOUR,
        "cy": 0,
        "dee": 0,
    }
    assert told["ann"].weekend_share == 34 / 36
    assert told["dee"].weekend_share == 0
    # Ann: 22 to 08, and 22 to 08 with the hour that came twice. Bo: 05 to 08, and 22 to 05. Cy: of Tuesday 06:59 to 08:00, of
    # Wednesday 05 to 08.
    assert {user: one.sleep_seconds for user, one in told.items()} == {
        "ann": 21 * HOUR,
        "bo": 10 * HOUR,
        "cy": 61 * 60 + 3 * HOUR,
        "dee": 0,
    }
    # Sleep at a weekend is not counted twice: all of Ann's and Bo's time is one or the other. Of Cy's only the sleep.
    assert {user: one.weighted for user, one in told.items()} == {
        "ann": 72 * HOUR,
        "bo": 48 * HOUR,
        "cy": 34 * HOUR + 60 + 61 * 60 + 3 * HOUR,
        "dee": 0,
    }


def test_pages_and_interruptions(week: Load) -> None:
    told = by_user(week)
    counted = {
        user: (one.pages, one.sleep_pages, one.interruptions, one.business, one.off, one.sleep, one.nights_woken)
        for user, one in told.items()
    }
    assert counted == {
        # PI5, PI4, PI1, PI2, PI3: 1 + 1 + 2 + 1 + 2. Off: that of PI4, and the second of PI3. Two nights.
        "ann": (5, 4, 7, 0, 2, 5, 2),
        "bo": (1, 1, 1, 0, 1, 0, 0),
        # PI7 and PI8.
        "cy": (2, 1, 3, 1, 1, 1, 1),
        # By UTC's clock: Monday 18:05.
        "dee": (1, 0, 1, 0, 1, 0, 0),
    }
    assert [one.user for one in week.people] == ["ann", "cy", "bo", "dee"]
    assert {user: one.zone for user, one in told.items()} == {"ann": LONDON, "bo": NEW_YORK, "cy": LONDON, "dee": ""}


def test_heat_is_by_their_own_clocks(week: Load) -> None:
    cells = {(day, hour): count for day, row in enumerate(week.heat) for hour, count in enumerate(row) if count}
    # Monday is 0. Ann's: Friday 22; Saturday 8; Sunday 0 (twice), 1, 7, 8. Bo's: Sunday 21. Cy's: Monday 17 and 18, Friday 0.
    # Dee's: Monday 18.
    assert cells == {
        (4, 22): 1,
        (5, 8): 1,
        (6, 0): 2,
        (6, 1): 1,
        (6, 7): 1,
        (6, 8): 1,
        (6, 21): 1,
        (0, 17): 1,
        (0, 18): 2,
        (4, 0): 1,
    }
    assert [len(row) for row in week.heat] == [24] * 7


def test_sharing_is_measured_between_those_who_take_turns(week: Load) -> None:
    # Dee was handed an incident, and takes no turns.
    assert {one.user for one in week.people if one.eligible} == {"ann", "bo", "cy"}
    hours = week.fairness["seconds"]
    # In minutes: 1440, 2041, 2160; together 5641. (-2 * 1440 + 0 * 2041 + 2 * 2160) / (3 * 5641).
    assert hours.gini == pytest.approx(1440 / 16_923)
    # Mean 1880.33; squares of the differences 193,893.4 + 25,813.4 + 78,213.4, by 3: 99,306.9, whose root is 315.13.
    assert hours.cv == pytest.approx(315.13 / 1880.33, abs=1e-5)
    # 1440/2041 = 0.70554, 1440/2160 = 0.66667, 2041/2160 = 0.94491: 77.24 of 100.
    assert hours.pairwise == pytest.approx(77.237, abs=1e-3)
    assert most(hours) == ("ann", pytest.approx(2160 / 5641))
    pages = week.fairness["pages"]
    # 1, 2, 5: (-2 + 10) / (3 * 8). Of Dee's too there are 9.
    assert pages.people == 3
    assert pages.gini == pytest.approx(1 / 3)
    assert most(pages) == ("ann", pytest.approx(5 / 9))
    # 1, 1, 4 of 6.
    assert most(week.fairness["sleep_pages"]) == ("ann", pytest.approx(4 / 6))
    assert all(each.untold == "" for each in week.fairness.values())
    # Five against two may be chance.
    assert not any(each.stands_out for each in week.fairness.values())


# Hours


@pytest.mark.parametrize(
    ("hours", "kinds"),
    [
        # London, winter: a Monday and a Saturday at 07:59, 08:00, 17:59, 18:00, 20:59, 21:00, 22:00.
        (API_HOURS, ("sbboo-os", "sooo-oos")),
        (INSIGHTS_HOURS, ("sbboo-ss", "sooo-oss")),
    ],
)
def test_hours_of_the_day_are_those_of_the_definition(hours: Hours, kinds: tuple[str, str]) -> None:
    times = ("07:59", "08:00", "17:59", "18:00", "20:59", "21:00", "22:00")
    for day, expected in zip(("2026-11-23", "2026-11-28"), kinds, strict=True):
        found = ""
        for time in times:
            moment = f"{day}T{time}"
            log = log_of([incident("PI1", moment, (moment, "ann", "push"))])
            window = Span(at(f"{day}T00:00"), at(f"{day}T23:59"))
            [one] = load(PEOPLE, log, [], window, known=window, hours=hours).people
            found += "b" * one.business + "o" * one.off + "s" * one.sleep
        assert found == expected.replace("-", "")


def test_sleep_comes_before_business_and_may_lie_within_a_day() -> None:
    hours = Hours(business=(6, 20), sleep=(1, 7), weekend=(5, 6))
    moments = ["2026-11-23T00:30", "2026-11-23T01:30", "2026-11-23T06:30", "2026-11-23T07:00", "2026-11-27T12:00"]
    log = log_of([incident(f"PI{place}", when, (when, "ann", "sms")) for place, when in enumerate(moments)])
    window = Span(at("2026-11-23T00:00"), at("2026-11-28T00:00"))
    on = [duty("ann", "2026-11-26T20:00", "2026-11-27T08:00")]
    [one] = load(PEOPLE, log, on, window, known=window, hours=hours).people
    # 00:30 is off; 01:30 and 06:30 are sleep, of one night; 07:00 is business; that Friday is a weekend.
    assert (one.off, one.sleep, one.nights_woken, one.business) == (2, 2, 1, 1)
    assert (one.sleep_seconds, one.weekend_seconds) == (6 * HOUR, 8 * HOUR)


# Earlier times


def test_people_are_compared_with_themselves_since_they_are_there() -> None:
    on = [
        # Ann: 4 hours in the third day before, none in the second, 8 in the one before.
        duty("ann", "2026-11-20T08:00", "2026-11-20T12:00"),
        duty("ann", "2026-11-22T08:00", "2026-11-22T16:00"),
        duty("ann", "2026-11-23T08:00", "2026-11-23T16:00"),
        # Bo since yesterday, Cy since today.
        duty("bo", "2026-11-22T16:00", "2026-11-22T18:00"),
        duty("bo", "2026-11-23T16:00", "2026-11-23T18:00"),
        duty("cy", "2026-11-23T18:00", "2026-11-23T20:00"),
    ]
    log = log_of(
        [
            incident(
                "PI1", "2026-11-20T03:00", ("2026-11-20T03:00", "ann", "push"), ("2026-11-20T03:05", "ann", "sms")
            ),
            incident("PI2", "2026-11-22T12:00", ("2026-11-22T12:00", "ann", "push")),
        ]
    )
    today, known = (
        Span(at("2026-11-23T00:00"), at("2026-11-24T00:00")),
        Span(at("2026-11-19T12:00"), at("2026-11-24T00:00")),
    )
    told = by_user(load(PEOPLE, log, on, today, known=known))
    assert told["ann"].earlier == {
        "seconds": pytest.approx(12 * HOUR / 3),
        "pages": pytest.approx(2 / 3),
        "interruptions": 1,
        "sleep": pytest.approx(2 / 3),
    }
    assert told["bo"].earlier == {"seconds": 2 * HOUR, "pages": 0, "interruptions": 0, "sleep": 0}
    assert told["cy"].earlier == {}
    # Half a day more is no day; and of six days no seventh is looked at.
    assert by_user(load(PEOPLE, log, on, today, known=today))["ann"].earlier == {}
    long = Span(at("2026-11-01T00:00"), at("2026-11-24T00:00"))
    first = [duty("ann", "2026-11-10T00:00", "2026-11-10T12:00"), *on]
    assert by_user(load(PEOPLE, log, first, today, known=long))["ann"].earlier["seconds"] == pytest.approx(
        12 * HOUR / 3
    )


# Who shares


def weekly(users: Sequence[str], weeks: int, schedule: str = "PS1") -> list[Duty]:
    """From Monday on, in turn."""
    start = at("2026-08-31T00:00")
    return [
        Duty(start + week * 7 * DAY, start + (week + 1) * 7 * DAY, users[week % len(users)], 1, schedule, "PEP1")
        for week in range(weeks)
    ]


def of_weeks(weeks: int) -> Span:
    return Span(at("2026-08-31T00:00"), at("2026-08-31T00:00") + weeks * 7 * DAY)


def defined(id: str, users: Sequence[str], turn: int = 7 * DAY) -> Schedule:
    layer = Layer("PL1", "Layer 1", 0, None, 0, turn, tuple(users))
    return Schedule(id, id, "v2", "UTC", layers=(layer,))


def sharing(on: Sequence[Duty], weeks: int, known: Span | None = None, **more: Any) -> tuple[set[str], str]:
    """Between whom it is measured, and why not."""
    window = of_weeks(weeks)
    schedules = more.pop("schedules", ())
    people = Account(schedules={each.id: each for each in schedules}, people=PEOPLE.people)
    found = load(people, log_of([]), on, window, known=known or window, **more)
    [untold] = {each.untold for each in found.fairness.values()}
    for each in found.fairness.values():
        assert [value is None for value in (each.gini, each.cv, each.pairwise)] == [bool(untold)] * 3
        assert each.people == sum(one.eligible for one in found.people)
    return {one.user for one in found.people if one.eligible}, untold


def test_of_fewer_than_three_people_nothing_is_told() -> None:
    users, untold = sharing(weekly(["ann", "bo"], 12), 12)
    assert users == {"ann", "bo"}
    assert untold == (
        "Only two people take turns on these schedules in this time: how evenly it is shared is told of three people or more. "
        "Choose more schedules, or a longer time."
    )
    assert sharing(weekly(["ann"], 12), 12)[1].startswith("Only one person takes turns")
    assert sharing([], 12)[1].startswith("Nobody is known to take turns")
    assert sharing(weekly(["ann", "bo", "cy"], 12), 12) == ({"ann", "bo", "cy"}, "")


def test_a_schedule_must_have_gone_round_twice() -> None:
    crew = ["ann", "bo", "cy"]
    untold = (
        "The schedules have not gone round twice in this time, so that it may be uneven by chance: nothing is told of how it is "
        "shared. Choose a time "
    )
    # As it is defined, a round takes three weeks.
    assert sharing(weekly(crew, 6), 5, schedules=[defined("PS1", crew)]) == (set(), f"{untold}of 42 days or more.")
    assert sharing(weekly(crew, 6), 6, schedules=[defined("PS1", crew)]) == (set(crew), "")
    # As the caller says, who may know better.
    assert sharing(weekly(crew, 6), 6, schedules=[defined("PS1", crew)], cycle=22 * DAY)[0] == set()
    assert sharing(weekly(crew, 6), 6, schedules=[defined("PS1", crew)], cycle=DAY)[0] == set(crew)
    # Where it is not known, everybody must have begun two turns.
    assert sharing(weekly(crew, 6), 5) == (set(), f"{untold}in which everybody begins two turns.")
    assert sharing(weekly(crew, 6), 6) == (set(crew), "")
    # What is not known of the time does not count.
    assert sharing(weekly(crew, 6), 6, known=of_weeks(5))[0] == set()
    assert sharing(weekly(crew, 6), 6, known=of_weeks(5), schedules=[defined("PS1", crew)])[0] == set()
    late = Span(of_weeks(6).start + 1, of_weeks(6).end)
    assert sharing(weekly(crew, 6), 6, known=late)[0] == set()


def test_days_of_one_turn_are_one_turn() -> None:
    start = at("2026-08-31T00:00")
    by_day = [
        Duty(start + (week * 7 + day) * DAY + 9 * HOUR, start + (week * 7 + day) * DAY + 17 * HOUR, user, 1, "PS1")
        for week, user in enumerate(["ann", "bo", "cy"])
        for day in range(5)
    ]
    assert sharing(by_day, 3)[0] == set()


def test_who_is_on_call_through_half_of_the_time_need_not_begin_again() -> None:
    every = [Duty(0, of_weeks(60).end, user, 1, f"PS{user}") for user in ("ann", "bo", "cy")]
    assert sharing(every, 4) == ({"ann", "bo", "cy"}, "")
    half = [one._replace(end=of_weeks(2).end) for one in every]
    assert sharing(half, 4)[1] == ""
    assert sharing([one._replace(end=one.end - 1) for one in half], 4)[0] == set()


def test_neither_managers_nor_helpers_share() -> None:
    crew = ["ann", "bo", "cy"]
    manager = Duty(0, of_weeks(60).end, "dee", 3, "", "PEP1")
    # Eve took over two days of Ann's.
    [first, *rest] = weekly(crew, 6)
    event = Event(
        *("PE1", "Weekly", "UTC", dt.datetime.fromisoformat("2026-08-31"), 7 * DAY, 0, None, ("RRULE:FREQ=WEEKLY",)),
        everybody=False,
        shifts_per_member=1,
        members=("ann", "bo", "cy"),
    )
    helped = [first._replace(end=first.end - 2 * DAY), first._replace(start=first.end - 2 * DAY, user="eve"), *rest]
    assert sharing([manager, *helped], 6, schedules=[defined("PS1", crew)]) == (set(crew), "")
    # A rotation's members likewise, of whose rounds the definition does not tell.
    v3 = Schedule("PS1", "PS1", "v3", "UTC", rotations=(Rotation("PR1", (event,)),))
    assert sharing([manager, *helped], 6, schedules=[v3]) == (set(crew), "")
    assert sharing([manager, *helped], 6, schedules=[v3], cycle=21 * DAY) == (set(crew), "")
    assert sharing([manager, *helped], 5, schedules=[v3])[0] == set()
    # Who helps again and again shares.
    again = [duty._replace(user="eve") if duty.start == of_weeks(4).end else duty for duty in helped]
    assert sharing([manager, *again], 6, schedules=[defined("PS1", crew)])[0] == {*crew, "eve"}


def test_a_round_is_each_persons_own() -> None:
    """Dee takes all nights, by a layer of her own, and the others the days by the week."""
    start, crew = of_weeks(3).start, ["ann", "bo", "cy"]
    on = [
        Duty(start + day * DAY + 8 * HOUR, start + day * DAY + 22 * HOUR, crew[day // 7], 1, "PS1", "PEP1")
        for day in range(21)
    ]
    on += [Duty(one.end, one.end + 10 * HOUR, "dee", 1, "PS1", "PEP1") for one in on]
    nights = Layer("PL2", "Layer 2", 0, None, 0, 365 * DAY, ("dee",))
    both = defined("PS1", crew)
    both = dataclasses.replace(both, layers=(*both.layers, nights))
    users, untold = sharing(on, 3, schedules=[both])
    assert users == {"dee"}
    assert "42 days or more" in untold
    # Where others have been round, she is compared with them.
    others = [one._replace(schedule_id="PS2") for one in weekly(["eve", "fay", "gus"], 3)]
    users, untold = sharing([*on, *others], 3, schedules=[both, defined("PS2", ["eve", "fay", "gus"], DAY)])
    assert (users, untold) == ({"dee", "eve", "fay", "gus"}, "")


def test_people_of_schedules_that_went_round_are_told_of_without_the_others() -> None:
    slow = [Duty(of_weeks(6).start, of_weeks(6).end, "dee", 1, "PS9", "PEP9")]
    long = defined("PS9", ["dee", "eve"], 26 * 7 * DAY)
    crew = ["ann", "bo", "cy"]
    assert sharing([*weekly(crew, 6), *slow], 6, schedules=[defined("PS1", crew), long]) == (set(crew), "")


# Which incidents and duties


def test_only_what_is_chosen_counts() -> None:
    policies = {
        "PEP1": Policy("PEP1", "One", (Level(30, (Target("schedule", "PS1"),)),), 0, team_ids=("PT1",)),
        "PEP2": Policy("PEP2", "Two", (Level(30, (Target("schedule", "PS2"),)),), 0),
    }
    services = {"PSV2": Service("PSV2", "Two", "active", "PEP2")}
    people = Account(policies=policies, services=services, people=PEOPLE.people)
    on = [
        duty("ann", "2026-10-23T00:00", "2026-10-23T05:00"),
        duty("bo", "2026-10-23T00:00", "2026-10-23T07:00", 2, "PS2", "PEP2"),
    ]
    log = log_of(
        [
            incident(
                "PI1", "2026-10-24T00:00", ("2026-10-24T00:01", "ann", "push"), policy_id="PEP1", team_ids=("PT1",)
            ),
            incident(
                "PI2",
                "2026-10-24T00:00",
                ("2026-10-24T00:01", "bo", "push"),
                policy_id="PEP2",
                service_id="PSV2",
                urgency="low",
                priority="P1",
            ),
        ]
    )

    def told(chosen: Chosen) -> dict[str, tuple[int, int]]:
        found = load(people, log, on, WEEK, known=WEEK, chosen=chosen)
        assert sum(map(sum, found.heat)) == sum(one.interruptions for one in found.people)
        return {one.user: (one.seconds // HOUR, one.pages) for one in found.people}

    assert told(Chosen()) == {"ann": (5, 1), "bo": (7, 1)}
    assert told(Chosen(policy_id="PEP1")) == told(Chosen(team_id="PT1")) == {"ann": (5, 1)}
    assert told(Chosen(policy_id="PEP2")) == told(Chosen(service_id="PSV2")) == {"bo": (7, 1)}
    # Of nobody's duties it is known for which urgency or priority they are.
    assert told(Chosen(urgency="high")) == {"ann": (5, 1), "bo": (7, 0)}
    assert told(Chosen(priority="P1")) == {"ann": (5, 0), "bo": (7, 1)}
    assert told(Chosen(policy_id="PEP9")) == told(Chosen(service_id="PSV9")) == told(Chosen(team_id="PT9")) == {}


def test_where_nothing_happened_nobody_has_anything() -> None:
    found = load(Account(), log_of([]), [], WEEK, known=WEEK)
    assert (found.people, sum(map(sum, found.heat))) == ((), 0)
    assert {each.most for each in found.fairness.values()} == {None}
    quiet = load(PEOPLE, log_of([]), weekly(["ann", "bo", "cy"], 6), of_weeks(6), known=of_weeks(6))
    told = quiet.fairness["pages"]
    assert (told.gini, told.cv, told.pairwise, told.most, told.untold) == (0, 0, 100, None, "")
    assert most(quiet.fairness["seconds"]) == ("ann", pytest.approx(1 / 3))


def test_duties_of_nobody_and_without_length_count_for_nobody() -> None:
    on = [duty("", "2026-10-23T00:00", "2026-10-24T00:00"), duty("ann", "2026-10-24T00:00", "2026-10-24T00:00")]
    assert load(PEOPLE, log_of([]), on, WEEK, known=WEEK).people == ()


# Months


def test_months_are_those_of_a_zone_and_whole() -> None:
    known = Span(at("2026-02-01T00:00"), at("2026-05-01T00:00"))
    everyday = [Duty(known.start - DAY, known.end + DAY, "ann", 1, "PS1")]
    # In New York February begins at 05:00 UTC and is known whole; April ends at 04:00 UTC and is not.
    found = months(PEOPLE, log_of([]), everyday, known, zone=NEW_YORK)
    assert [one.window.seconds // HOUR for one in found] == [28 * 24, 31 * 24 - 1]
    assert [one.people[0].seconds for one in found] == [one.window.seconds for one in found]
    # In London February begins when what is known begins, March is an hour short, too, and April ends at 23:00 UTC.
    found = months(PEOPLE, log_of([]), everyday, known._replace(end=known.end - HOUR), zone=LONDON)
    assert [one.window.seconds // HOUR for one in found] == [28 * 24, 31 * 24 - 1, 30 * 24]
    assert len(months(PEOPLE, log_of([]), everyday, known._replace(end=known.end - HOUR - 1), zone=LONDON)) == 2
    utc = months(PEOPLE, log_of([]), everyday, known, zone="UTC")
    assert [one.window.start for one in utc] == [at("2026-02-01T00:00"), at("2026-03-01T00:00"), at("2026-04-01T00:00")]
    assert months(PEOPLE, log_of([]), everyday, Span(known.start + 1, known.start + 28 * DAY), zone="UTC") == ()
    assert all(one.people[0].earlier == {} for one in utc)


def test_a_month_tells_the_same_as_a_load_of_its_time() -> None:
    october = Span(at("2026-10-01T00:00"), at("2026-11-01T00:00"))
    [month] = months(PEOPLE, LOG, DUTIES, october, zone="UTC")
    assert month == load(PEOPLE, LOG, DUTIES, october, known=october)


# Chance, and norms


def paged(counts: dict[str, int]) -> Load:
    log = log_of(
        incident(f"PI{user}{number}", "2026-09-01T12:00", ("2026-09-01T12:01", user, "push"))
        for user, count in counts.items()
        for number in range(count)
    )
    return load(PEOPLE, log, weekly(["ann", "bo", "cy"], 6), of_weeks(6), known=of_weeks(6))


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        # (most - next)² against 9 (most + next), and twice the next.
        ({"ann": 40, "bo": 15, "cy": 2}, True),  # 625 to 495
        ({"ann": 40, "bo": 20, "cy": 2}, False),  # 400 to 540
        ({"ann": 9, "bo": 0, "cy": 0}, True),  # 81 to 81
        ({"ann": 8, "bo": 0, "cy": 0}, False),
        ({"ann": 199, "bo": 100, "cy": 2}, False),  # less than twice
        ({"ann": 200, "bo": 100, "cy": 2}, True),
        ({"ann": 40, "bo": 15, "cy": 2, "dee": 400}, True),  # Dee takes no turns
        ({}, False),
    ],
)
def test_who_stands_out_does_beyond_chance(counts: dict[str, int], expected: bool) -> None:
    fairness = paged(counts).fairness
    assert (fairness["pages"].stands_out, fairness["interruptions"].stands_out) == (expected, expected)
    assert not fairness["seconds"].stands_out


def test_norms_are_told_where_they_are_exceeded() -> None:
    def told(seconds: int, pages: int) -> tuple[str, ...]:
        return norms(PersonLoad("ann", seconds, seconds, 0, pages, 0, 0, 0, 0, 0, 0, 0, 0, 0), Span(0, 100 * HOUR))

    assert told(25 * HOUR, 4) == ()
    [much] = told(25 * HOUR + 36, 0)
    assert much == "On call 25 % of the time: Google's SRE book holds a quarter for the most."
    [often] = told(24 * HOUR, 5)
    assert often.startswith("Paged 2.5 times for each 12 hours on call")
    assert told(24 * HOUR, 4) == ()
    # Of less than a shift no rate is told.
    assert told(12 * HOUR - 1, 50) == ()


# Sharing, in numbers

amounts = st.lists(st.integers(0, 10_000), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        # Gini by its formula; deviation by mean; pairs.
        ([5, 5, 5], (0, 0, 100)),
        ([0, 0, 1], (2 / 3, 2**0.5, 100 / 3)),  # mean 1/3, variance 2/9; pairs 1, 0, 0
        ([1, 2, 3, 4], (0.25, (1.25**0.5) / 2.5, 100 * (1 / 2 + 1 / 3 + 1 / 4 + 2 / 3 + 2 / 4 + 3 / 4) / 6)),
        ([0, 10], (0.5, 1, 0)),
        ([0, 0], (0, 0, 100)),
        ([7], (0, 0, 100)),
        ([], (0, 0, 100)),
    ],
)
def test_known_values(values: list[float], expected: tuple[float, float, float]) -> None:
    assert (gini(values), variation(values), pairwise(values)) == pytest.approx(expected)


@given(amounts, st.integers(1, 50), st.randoms(use_true_random=False))
def test_neither_scale_nor_order_matters(values: list[int], factor: int, chance: random.Random) -> None:
    turned = [value * factor for value in values]
    chance.shuffle(turned)
    for measure in (gini, variation, pairwise):
        assert measure(turned) == pytest.approx(measure(values), abs=1e-9)


@given(amounts)
def test_bounds_and_what_they_mean(values: list[int]) -> None:
    count = len(values)
    assert -1e-12 <= gini(values) <= 1 - 1 / count + 1e-12
    assert 0 <= variation(values) <= (count - 1) ** 0.5 + 1e-9
    assert 0 <= pairwise(values) <= 100 + 1e-9
    alike = len(set(values)) == 1
    assert (gini(values) < 1e-12, variation(values) < 1e-12, pairwise(values) > 100 - 1e-9) == (alike,) * 3
    # As it is defined elsewhere: half the mean difference between two, by the mean.
    if any(values):
        pairs = sum(abs(one - other) for one in values for other in values)
        assert gini(values) == pytest.approx(pairs / (2 * count * sum(values)))
    one_has_all = [0] * (count - 1) + [9]
    assert gini(one_has_all) == pytest.approx(1 - 1 / count)


@given(amounts, st.data())
def test_who_gives_to_whom_has_less_makes_it_more_even(values: list[int], data: st.DataObject) -> None:
    if len(set(values)) < 2:
        return
    low, high = values.index(min(values)), values.index(max(values))
    given_ = data.draw(st.integers(1, max(1, (values[high] - values[low]) // 2)))
    after = values.copy()
    after[low], after[high] = after[low] + given_, after[high] - given_
    assert gini(after) <= gini(values) + 1e-12


# By other means: minute for minute, instant for instant, with the zone asked each time

ZONES = (LONDON, NEW_YORK, "Asia/Kolkata", "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Chatham", "UTC")
STARTS = (
    # Around changes of the clock: London's two, New York's, Lord Howe's of half an hour, Casablanca's for Ramadan, and none.
    *("2026-03-27T22:00", "2026-10-23T00:00", "2026-10-30T07:00", "2026-04-03T00:00", "2026-02-13T00:00"),
    *("2026-06-10T00:00", "2025-12-30T11:00"),
)


def hour_of(hours: Hours, moment: dt.datetime) -> str:
    begin, end = hours.sleep
    if (moment.hour >= begin or moment.hour < end) if begin > end else begin <= moment.hour < end:
        return "sleep"
    weekday = moment.isoweekday() not in hours.weekend
    return "business" if weekday and hours.business[0] <= moment.hour < hours.business[1] else "off"


def slowly(zones: dict[str, str], log: Sequence[Incident], on: Sequence[Duty], window: Span, hours: Hours) -> Any:
    """Of each who has any: what ``PersonLoad`` says."""
    minutes: dict[tuple[str, str], set[int]] = defaultdict(set)
    whole: dict[str, set[int]] = defaultdict(set)
    for one in on:
        for minute in range(one.start // 60, one.end // 60):
            if one.schedule_id:
                whole[one.user].add(minute)
            if window.start <= minute * 60 < window.end:
                minutes[one.user, "all"].add(minute)
                minutes[one.user, "first" if one.level == 1 else "later" if one.level else "none"].add(minute)
    counts: Counter[tuple[str, str]] = Counter()
    nights = set()
    for row in log:
        if not window.start <= row.created < window.end:
            continue
        last: dict[str, int] = {}
        asleep = set()
        for step in sorted(row.steps, key=lambda step: step.at):
            if step.kind != "notify" or step.way == "email":
                continue
            clock = dt.datetime.fromtimestamp(step.at, ZoneInfo(zones[step.user]))
            kind = hour_of(hours, clock)
            if kind == "sleep":
                asleep.add(step.user)
            if step.user not in last or step.at - last[step.user] >= 60:
                counts[step.user, "pages"] += step.user not in last
                counts[step.user, kind] += 1
                last[step.user] = step.at
                if kind == "sleep":
                    nights.add((step.user, (clock.replace(tzinfo=None) - dt.timedelta(hours=hours.sleep[1])).date()))
        counts.update((user, "sleep_pages") for user in asleep)
    found = {}
    for user, zone in zones.items():
        mine = sorted(minutes[user, "all"])
        clocks = [dt.datetime.fromtimestamp(minute * 60, ZoneInfo(zone)) for minute in mine]
        sleep = [hour_of(hours, clock) == "sleep" for clock in clocks]
        weekend = [clock.isoweekday() in hours.weekend for clock in clocks]
        # By schedules alone.
        every = sorted(whole[user])
        turns = [minute for minute in every if window.start <= minute * 60 < window.end]
        run = longest = 0
        for place, minute in enumerate(turns):
            run = run + 1 if place and turns[place - 1] == minute - 1 else 1
            longest = max(longest, run)
        breaks = [
            after - before - 1
            for before, after in neighbours(every)
            if after > before + 1 and window.start <= after * 60 < window.end
        ]
        if mine or counts[user, "pages"]:
            found[user] = {
                "seconds": len(mine) * 60,
                "level_1": len(minutes[user, "first"]) * 60,
                "level_2_plus": len(minutes[user, "later"] - minutes[user, "first"]) * 60,
                "longest_run": longest * 60,
                "short_rests": sum(each < 11 * 60 for each in breaks),
                "sleep_seconds": sum(sleep) * 60,
                "weekend_seconds": sum(weekend) * 60,
                "weighted": (len(mine) + sum(map(max, zip(sleep, weekend, strict=True)))) * 60,
                "nights_woken": sum(who == user for who, _ in nights),
                "interruptions": sum(counts[user, kind] for kind in ("business", "off", "sleep")),
                **{name: counts[user, name] for name in ("pages", "sleep_pages", "business", "off", "sleep")},
            }
    return found


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_it_is_what_the_minutes_and_instants_come_to(data: st.DataObject) -> None:
    draw = data.draw
    users = ["ann", "bo", "cy"]
    zones = {user: draw(st.sampled_from(ZONES)) for user in users}
    start = at(draw(st.sampled_from(STARTS)))
    window = Span(start, start + draw(st.integers(12, 96)) * HOUR)
    hours = draw(
        st.sampled_from([API_HOURS, INSIGHTS_HOURS, Hours((9, 17), (1, 6), (5, 6)), Hours((0, 24), (0, 0), ())])
    )
    minute = st.integers(-24 * 60, 6 * 24 * 60)
    on = [
        Duty(start + begin * 60, start + (begin + length) * 60, user, level, schedule and f"PS{level}", "PEP1")
        for begin, length, user, level, schedule in draw(
            st.lists(
                st.tuples(
                    minute,
                    st.integers(1, 3000),
                    st.sampled_from(users),
                    st.integers(0, 3),
                    st.sampled_from(["PS", "PS", ""]),
                ),
                max_size=9,
            )
        )
    ]
    rows = []
    for number in range(draw(st.integers(0, 5))):
        created = start + draw(minute) * 60 + draw(st.integers(0, 59))
        told = draw(
            st.lists(
                st.tuples(
                    st.one_of(st.integers(0, 400), st.integers(0, DAY)),
                    st.sampled_from(users),
                    st.sampled_from(["push", "sms", "phone", "email", ""]),
                    st.sampled_from(["notify", "notify", "notify", "acknowledge"]),
                ),
                max_size=12,
            )
        )
        steps = [
            Step(f"R{place}", created + after, kind, user, way) for place, (after, user, way, kind) in enumerate(told)
        ]
        rows.append(Incident(f"PI{number}", created, steps=tuple(sorted(steps, key=lambda step: step.at))))
    found = load(account(**zones), log_of(rows), on, window, known=window, hours=hours)
    expected = slowly(zones, rows, on, window, hours)
    assert {
        one.user: {name: getattr(one, name) for name in expected.get(one.user, ())} for one in found.people
    } == expected
    # And of each by themself.
    heat = [[0] * 24 for _ in range(7)]
    for person in found.people:
        mine = own(account(**zones), log_of(rows), person.user, window, hours=hours)
        assert sum(map(sum, mine.heat)) == person.interruptions
        assert (len(mine.nights), sum(len(night.at) for night in mine.nights)) == (person.nights_woken, person.sleep)
        heat = [[sum(cell) for cell in zip(*row, strict=True)] for row in zip(heat, mine.heat, strict=True)]
    assert [list(row) for row in found.heat] == heat


def test_a_clock_that_leaves_out_a_whole_day() -> None:
    # In Samoa there was no 30 December 2011: Thursday's midnight, 10:00 UTC, was Saturday's. On call from Thursday 20:00 for 8
    # hours: 2 before sleep, 2 of Thursday's, and 4 of Saturday's, which are a weekend.
    on = [duty("ann", "2011-12-30T06:00", "2011-12-30T14:00")]
    window = Span(at("2011-12-29T00:00"), at("2012-01-02T00:00"))
    [one] = load(account(ann="Pacific/Apia"), log_of([]), on, window, known=window).people
    assert (one.seconds, one.sleep_seconds, one.weekend_seconds, one.weighted) == (
        8 * HOUR,
        6 * HOUR,
        4 * HOUR,
        14 * HOUR,
    )


def test_many_notifications_close_together_count_each_minute_again() -> None:
    # Every 25 seconds for ten minutes: of each three the first, at 0, 75, 150, …
    steps = [Step(f"R{number}", at("2026-10-23T12:00") + number * 25, "notify", "ann", "push") for number in range(25)]
    log: Log = log_of([Incident("PI1", at("2026-10-23T12:00"), steps=tuple(steps))])
    [one] = load(PEOPLE, log, [], WEEK, known=WEEK).people
    assert (one.interruptions, one.pages) == (9, 1)


def test_what_is_said_to_have_come_a_century_later_breaks_nothing() -> None:
    late = ("2199-12-31T23:00", "ann", "push")
    log = log_of([incident("PI1", "2026-10-23T12:00", ("2026-10-23T12:00", "ann", "push"), late)])
    [one] = load(PEOPLE, log, [], WEEK, known=WEEK).people
    assert (one.pages, one.interruptions, one.business, one.sleep, one.nights_woken) == (1, 2, 1, 1, 1)


def test_the_same_incident_told_to_several_and_several_told_to_one_are_all_pages() -> None:
    rows: Iterable[Incident] = [
        incident("PI1", "2026-10-23T12:00", ("2026-10-23T12:00", "ann", "push"), ("2026-10-23T12:00", "bo", "push")),
        incident("PI2", "2026-10-23T12:00", ("2026-10-23T12:00", "ann", "push")),
    ]
    told = by_user(load(PEOPLE, log_of(rows), [], WEEK, known=WEEK))
    assert {user: (one.pages, one.interruptions) for user, one in told.items()} == {"ann": (2, 2), "bo": (1, 1)}
