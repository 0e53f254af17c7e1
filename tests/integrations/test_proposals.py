"""Overrides proposed of what is mirrored: from what they are made, and that it is made once."""

from __future__ import annotations

import datetime as dt
from typing import Any, Final
from uuid import uuid4

import pytest
from django.utils import timezone

from integrations import proposals
from integrations.models import Connection
from integrations.pagerduty.analysis.model import (
    Account,
    Layer,
    Level,
    Person,
    Policy,
    Schedule,
    Service,
    Span,
    Target,
)
from integrations.proposals import HOUR, NOTICE, proposed_swaps, rates_of, swaps_of
from integrations.sweep import DAY, Sweep, sweep, swept
from tests.conftest import Cast
from tests.mirrored import mirrored
from tests.portal.test_trying import register

NOW: Final = dt.datetime(2026, 12, 1, 13, 30, tzinfo=dt.UTC)
START: Final = int(NOW.timestamp()) // DAY * DAY
WEEKDAY_NIGHT: Final = 2 * 24 + 2
"""From 02:00 to 03:00 UTC on Wednesdays."""


def rota(id: str, turn: int, *users: str, end: int | None = None) -> Schedule:
    return Schedule(id, id.title(), "v2", "UTC", (Layer(f"L{id}", "", START, end, START, turn, users),))


def policy(id: str, *levels: str) -> Policy:
    return Policy(id, id.title(), tuple(Level(30, (Target("schedule", each),)) for each in levels), 0)


def account(*schedules: Schedule, policies: tuple[Policy, ...] = (), services: tuple[Service, ...] = ()) -> Account:
    users = {user for schedule in schedules for layer in schedule.layers for user in layer.users}
    return Account(
        {each.id: each for each in schedules},
        {each.id: each for each in policies},
        {each.id: each for each in services},
        {user: Person(user, user.title(), f"{user}@example.com", "Europe/London") for user in users},
    )


def swept_of(known: Account, **more: Any) -> Sweep:
    made = sweep(known, Span(START, START + 85 * DAY))
    return Sweep(made.account, made.window, made.rendered, made.holes, **more)


# How often whom


def test_pages_are_those_of_the_services_whose_policies_call_it_first() -> None:
    week = tuple(1.0 if hour == WEEKDAY_NIGHT else 0.0 for hour in range(168))
    services = (
        Service("one", "", "active", "first"),
        Service("low", "", "active", "first", urgency="low"),
        Service("off", "", "disabled", "first"),
        Service("other", "", "active", "second"),
    )
    known = account(
        rota("A", DAY, "P1", "P2"),
        rota("B", DAY, "P3"),
        policies=(policy("first", "A", "B"), policy("second", "B")),
        services=services,
    )
    rates = {service.id: week for service in services}
    services_of = {"first": ("one", "low", "off", "gone"), "second": ("other",)}
    # All of the week's pages come in one hour: weekday and hour of the day by themselves say the same.
    assert rates_of(known, "A", rates, services_of) == week
    assert rates_of(known, "B", rates, services_of) == week
    assert rates_of(known, "A", {}, services_of) == ()
    assert rates_of(known, "A", rates, {}) == (0.0,) * 168
    known = account(
        rota("A", DAY, "P1"), rota("B", DAY, "P3"), policies=(policy("first", "A", "B"),), services=services
    )
    assert rates_of(known, "B", rates, services_of) == ()


def test_a_single_hour_is_leaned_on_by_half() -> None:
    # Two pages on Monday at 00:00 and two on Tuesday at 01:00. By weekday and hour of the day alone each of the four hours of
    # which these are made has 2 * 2 / 4 = 1; half of that and half of their own: 1.5 and 0.5.
    week = [0.0] * 168
    week[0] = week[25] = 2.0
    known = account(
        rota("A", DAY, "P1"), policies=(policy("first", "A"),), services=(Service("one", "", "active", "first"),)
    )
    found = rates_of(known, "A", {"one": week}, {"first": ("one",)})
    assert {hour: rate for hour, rate in enumerate(found) if rate} == {0: 1.5, 25: 1.5, 1: 0.5, 24: 0.5}
    assert sum(found) == pytest.approx(sum(week))


# What is proposed


def test_other_schedules_keep_people_busy_and_their_nights_count() -> None:
    # P1 has each second day and the others share the rest, so that each of them may have some of P1's with a day in between.
    here = rota("A", DAY, "P1", "P2", "P1", "P3", "P1", "P4")
    window = Span(START + DAY, START + 15 * DAY)
    found = swaps_of(swept_of(account(here, rota("B", DAY, "P5"))), "A", window)
    assert {each.was for each in found.swaps} == {"P1"}
    assert {each.to for each in found.swaps} == {"P2", "P3", "P4"}
    # P2 is on call on B all the time.
    found = swaps_of(swept_of(account(here, rota("B", DAY, "P2"))), "A", window)
    assert "P2" not in {each.to for each in found.swaps}
    shares = {one.user: one for one in found.before}
    # Fourteen nights of ten hours.
    assert (shares["P2"].elsewhere, shares["P1"].elsewhere) == (140, 0)


def test_pages_are_not_added_to_hours() -> None:
    policies = (policy("first", "A", "B"), policy("second", "C"))
    services = (Service("one", "", "active", "first"), Service("two", "", "active", "second"))
    known = account(
        rota("A", DAY, "P1", "P2"), rota("B", DAY, "P1"), rota("C", DAY, "P2"), policies=policies, services=services
    )
    found = swaps_of(
        swept_of(known, rates={"one": (1.0,) * 168, "two": (2.0,) * 168}), "A", Span(START + DAY, START + 8 * DAY)
    )
    assert found.in_pages
    # Of B, which no policy calls first, nobody knows how many pages it has: it adds none. C has two an hour.
    assert {one.user: one.elsewhere for one in found.before} == pytest.approx({"P1": 0, "P2": 2 * 70})
    by_hours = swaps_of(swept_of(known), "A", Span(START + DAY, START + 8 * DAY))
    assert {one.user: one.elsewhere for one in by_hours.before} == {"P1": 70, "P2": 70}


def test_it_begins_tomorrow_and_ends_before_what_is_known_does(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Span] = []
    monkeypatch.setattr(proposals, "swaps_of", lambda known, id, window: made.append(window))
    row, known = Connection(pk=uuid4()), swept_of(account(rota("A", DAY, "P1", "P2")))
    hour = int(NOW.timestamp()) // HOUR * HOUR
    proposed_swaps(row, known, "A", 4, NOW)
    assert made == [Span(hour + NOTICE, hour + NOTICE + 28 * DAY)]
    proposed_swaps(row, known, "A", 12, NOW)
    assert made[1].end < known.window.end
    assert proposed_swaps(row, known, "B", 4, NOW) is None
    assert proposed_swaps(row, known, "A", 4, NOW + dt.timedelta(days=90)) is None
    assert len(made) == 2


def test_it_is_worked_out_once_until_the_sweep_or_the_hour_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Span] = []

    def watched(known: Sweep, id: str, window: Span) -> Any:
        made.append(window)
        return swaps_of(known, id, window)

    monkeypatch.setattr(proposals, "swaps_of", watched)
    row, known = Connection(pk=uuid4()), swept_of(account(rota("A", DAY, "P1", "P1", "P2")))
    first = proposed_swaps(row, known, "A", 4, NOW)
    assert first is not None
    assert proposed_swaps(row, known, "A", 4, NOW + dt.timedelta(minutes=29)) is first
    assert len(made) == 1
    proposed_swaps(row, known, "A", 4, NOW + dt.timedelta(minutes=31))
    proposed_swaps(row, known, "A", 8, NOW)
    assert len(made) == 3
    again = proposed_swaps(row, swept_of(known.account), "A", 4, NOW)
    assert again == first
    assert again is not first
    assert proposed_swaps(Connection(pk=uuid4()), known, "A", 4, NOW) is not first


@pytest.mark.django_db(transaction=True)
def test_the_demo_s_nights_are_lowered_where_one_person_has_most(cast: Cast, settings: Any) -> None:
    """Priya has far more nights of Payments' first schedule than the others."""
    settings.PAGERDUTY_SANDBOX_URL = "http://127.0.0.1:9"
    row = register(cast)
    known = swept(row, mirrored(row).account, timezone.now())
    [id] = [each.id for each in known.account.schedules.values() if each.name == "Payments primary"]
    found = proposed_swaps(row, known, id, 12, timezone.now())
    assert found is not None
    assert found.in_pages
    worst = found.before[0]
    assert known.account.name_of(worst.user) == "Priya Sharma"
    assert worst.sleep > sum(one.sleep for one in found.before) / 2
    assert found.after[0].sleep < 0.9 * worst.sleep
    assert {each.was for each in found.swaps} == {worst.user}
    assert all(after.short_rests <= before.short_rests for before, after in zip(found.before, found.after, strict=True))
