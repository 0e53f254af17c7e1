"""Standing checks: what a team expects of its on-call, asked of what is mirrored; told when it fails and when it holds again."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any

import pytest
from django.core import mail
from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from integrations import standing, tasks
from integrations.models import CheckRun, Connection, Delivery, StandingCheck
from integrations.notices import do_set_notices
from integrations.pagerduty.analysis import paging
from integrations.pagerduty.analysis.model import (
    Account,
    Contact,
    CustomShift,
    Level,
    Person,
    Policy,
    Rung,
    Schedule,
    Service,
    Target,
)
from integrations.standing import (
    Asked,
    do_change_check,
    do_make_check,
    do_remove_check,
    do_run_check,
    moments,
    run,
    sentence,
)
from integrations.webhooks.deliveries import send_due
from policies.actions import Refused
from policies.models import ConfigChange
from tests.conftest import Cast
from tests.integrations.test_notices import Mirrors, main, mirrors, together

__all__ = ["main", "mirrors"]
pytestmark = pytest.mark.django_db
SUNDAY = dt.datetime(2027, 1, 3, 3, 0, tzinfo=dt.UTC)
NOW = dt.datetime(2026, 12, 30, 12, 0, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.fixture(autouse=True)
def now_(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOW)


def person(id: str, name: str, *, team: str = "TPAY", after: int | None = 0) -> Person:
    """``after``: minutes until their first rule, a push; None: no rule is known."""
    contact = Contact(f"C{id}", "push", "Phone", "")
    ladder = None if after is None else (Rung(after, "high", contact.id, "push"),)
    return Person(id, name, contacts=(contact,), ladder=ladder, team_ids=(team,))


def account(
    *levels: tuple[int, str],
    covered: tuple[dt.datetime, dt.datetime] | None = None,
    people: tuple[Person, ...] = (),
) -> Account:
    """Checkout's policy: each level pages somebody always (a user's id), or by the rota (``rota``), after the one before has had
    so many minutes. The rota is Pam's within ``covered``."""
    shifts: tuple[CustomShift, ...] = ()
    if covered is not None:
        begins, ends = (int(at.timestamp()) for at in covered)
        shifts = (CustomShift("X", begins, ends, ("UPAM",)),)
    rota = Schedule("SROTA", "Rota", "v3", "UTC", custom_shifts=shifts)
    made = tuple(
        Level(delay, (Target("schedule", "SROTA") if who == "rota" else Target("user", who),)) for delay, who in levels
    )
    known = people or (person("UPAM", "Pam"), person("USAM", "Sam", team="TSEA"))
    return Account(
        schedules={"SROTA": rota},
        policies={"PCHE": Policy("PCHE", "Checkout first", made, 0)},
        services={"VCHE": Service("VCHE", "Checkout", "active", "PCHE")},
        people={one.id: one for one in known},
        teams={"TPAY": "Payments", "TSEA": "Search"},
    )


WELL = account((10, "UPAM"), (10, "USAM"))


def asked(connection: Connection, **more: Any) -> Asked:
    values: dict[str, Any] = {
        "kind": "service",
        "about_id": "VCHE",
        "weekdays": [7],
        "clock": dt.time(3, 0),
        "time_zone": "UTC",
        "whom": "team",
        "whom_ids": ["TPAY"],
        "within_minutes": 15,
    }
    return Asked(connection, **{**values, **more})


Make = Callable[..., StandingCheck]


@pytest.fixture
def make(cast: Cast, main: Connection, mirrors: Mirrors) -> Make:
    """A check of Payments', made while all was well; then what was read of PagerDuty is ``found``."""

    def made(found: Account = WELL, **more: Any) -> StandingCheck:
        mirrors.set(main, WELL, NOW)
        row = do_make_check(cast.payments, asked(main, **more), by=cast.mina)
        mirrors.set(main, found, NOW)
        return StandingCheck.objects.select_related("team", "connection__team").get(pk=row.pk)

    return made


def state(row: StandingCheck, at: dt.datetime = NOW) -> tuple[str, str]:
    made = run(row, at)
    assert made is not None
    return made.state, made.told


# What is said


def test_a_check_is_told_as_a_sentence(make: Make) -> None:
    said = "Checkout at 03:00 on Sundays (UTC) must reach somebody of Payments within 15 minutes"
    assert sentence(make()) == said


@pytest.mark.parametrize(
    ("days", "told"),
    [
        ([7], "on Sundays"),
        ([1, 2, 3, 4, 5], "on weekdays"),
        ([6, 7], "at weekends"),
        ([1, 2, 3, 4, 5, 6, 7], "every day"),
        ([1, 3], "on Mondays and Wednesdays"),
        ([1, 3, 5], "on Mondays, Wednesdays and Fridays"),
    ],
)
def test_days_in_words(days: list[int], told: str) -> None:
    assert standing.days_in_words(days) == told


def test_people_in_words() -> None:
    assert standing.whom_in_words("people", ["A", "B"]) == "A or B"
    assert standing.whom_in_words("people", list("ABCDE")) == "A or B or C or 2 others"
    assert standing.whom_in_words("anybody", []) == "anybody"


# When


def test_it_is_asked_for_each_such_moment_ahead_and_the_next_one_in_any_case(make: Make) -> None:
    row = make()
    week = dt.timedelta(days=7)
    assert moments(row, NOW, NOW + 14 * DAY) == [SUNDAY, SUNDAY + week]
    assert moments(row, NOW, NOW) == [SUNDAY]
    # At that very minute it is still to come, and a minute later it is not.
    assert moments(row, SUNDAY, SUNDAY) == [SUNDAY]
    assert moments(row, SUNDAY + dt.timedelta(minutes=1), SUNDAY) == [SUNDAY + week]


def test_the_hour_is_by_the_clock_of_its_zone_over_a_change_of_the_clocks(make: Make) -> None:
    row = make(time_zone="Europe/Berlin", weekdays=[6, 7], clock=dt.time(2, 30))
    since = dt.datetime(2027, 3, 27, tzinfo=dt.UTC)
    told = [at.strftime("%d %H:%M") for at in moments(row, since, since + 9 * DAY)]
    # On the 28th there is no 02:30: it is told for the moment that it would have been.
    assert told == ["27 01:30", "28 01:30", "03 00:30", "04 00:30"]
    row.clock = dt.time(2, 30)
    since = dt.datetime(2027, 10, 31, tzinfo=dt.UTC)
    assert [at.strftime("%d %H:%M") for at in moments(row, since, since)] == ["31 00:30"]  # the first of two


def test_the_day_is_that_of_its_zone(make: Make) -> None:
    row = make(time_zone="Pacific/Auckland", weekdays=[7], clock=dt.time(3, 0))
    assert moments(row, NOW, NOW) == [dt.datetime(2027, 1, 2, 14, 0, tzinfo=dt.UTC)]


# Whether it holds


def test_it_holds_where_somebody_of_the_team_is_told_in_time(make: Make) -> None:
    assert state(make()) == ("holds", "Pam would be told at once.")
    assert state(make(account((10, "USAM"), (10, "UPAM")))) == ("holds", "Pam would be told after 10 minutes.")


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (account((20, "USAM"), (10, "UPAM")), "Pam would be told only after 20 minutes, not within 15 minutes."),
        (account((20, "USAM")), "It would tell Sam, and never somebody of Payments."),
        (account((10, "rota")), "Nobody is on call on any level: no incident is created, and nobody is told."),
        (account((10, "rota"), (10, "USAM")), "It would tell Sam, and never somebody of Payments."),
        (account(), "The escalation policy has no level: nobody is told."),
        (account((30, "UPAM"), people=(person("UPAM", "Pam", after=16),)), "only after 16 minutes"),
        (account((10, "UPAM"), people=(person("UPAM", "Pam", after=12),)), "has no way to be told"),
    ],
)
def test_it_fails_where_nobody_of_the_team_is_told_in_time_and_says_why(make: Make, found: Account, told: str) -> None:
    became, said = state(make(found))
    assert became == "fails"
    assert told in said


def test_where_rules_are_not_known_it_counts_when_the_incident_is_theirs(make: Make) -> None:
    assert state(make(account((10, "UPAM"), people=(person("UPAM", "Pam", after=None),)))) == (
        "holds",
        "Pam would be told at once, if their notification rules say so, which could not be read.",
    )


def test_a_rota_that_covers_one_of_two_sundays_fails_on_the_other(make: Make) -> None:
    found = account((10, "rota"), covered=(SUNDAY - DAY, SUNDAY + DAY))
    row = make(found)
    assert state(row) == (
        "fails",
        "1 of the next 2 fail: Nobody is on call on any level: no incident is created, and nobody is told.",
    )
    [made] = CheckRun.objects.all()
    assert [each["holds"] for each in made.occurrences] == [True, False]
    assert made.occurrences[0]["at"] == SUNDAY.timestamp()


def test_of_a_round_robin_level_everybody_must_count(make: Make) -> None:
    found = account()
    both = (Target("user", "UPAM"), Target("user", "USAM"))
    for round_robin, became in ((True, "fails"), (False, "holds")):
        policy = Policy("PCHE", "Checkout first", (Level(20, both, round_robin),), 0)
        row = make(Account(**{**_fields(found), "policies": {"PCHE": policy}}))
        assert state(row)[0] == became
    assert (
        state(make(Account(**{**_fields(found), "policies": {"PCHE": policy}}), whom="anybody", whom_ids=[]))[0]
        == "holds"
    )


def _fields(found: Account) -> dict[str, Any]:
    return {name: getattr(found, name) for name in ("schedules", "policies", "services", "people", "teams")}


def test_named_people_anybody_and_policies_can_be_asked_about(make: Make) -> None:
    found = account((10, "USAM"))
    assert state(make(found, whom="people", whom_ids=["USAM"]))[0] == "holds"
    assert state(make(found, whom="people", whom_ids=["UPAM"]))[0] == "fails"
    assert state(make(found, whom="anybody", whom_ids=["ignored"]))[0] == "holds"
    assert state(make(found, kind="policy", about_id="PCHE", whom="anybody"))[0] == "holds"


def test_a_disabled_service_and_one_that_is_gone_fail(make: Make) -> None:
    disabled = Account(**{**_fields(WELL), "services": {"VCHE": Service("VCHE", "Checkout", "disabled", "PCHE")}})
    assert "disabled" in state(make(disabled))[1]
    gone = Account(**{**_fields(WELL), "services": {}})
    assert state(make(gone)) == (
        "fails",
        "There is no service Checkout any more, or this connection does not reach it.",
    )


@pytest.mark.parametrize("part", ["schedules", "policies", "services", "users"])
def test_a_mirror_that_is_nothing_to_go_by_is_told_as_that(
    make: Make, mirrors: Mirrors, main: Connection, part: str
) -> None:
    row = make()
    mirrors.set(main, account((10, "USAM")), NOW, **{part: NOW - 2 * DAY})
    became, told = state(row)
    assert became == "unknown"
    assert part in told
    assert Delivery.objects.count() == 0


def test_a_schedule_that_was_not_read_is_not_taken_for_an_empty_one(make: Make) -> None:
    row = make(Account(**{**_fields(account((10, "rota"))), "schedules": {}}))
    assert state(row)[0] == "unknown"


def test_a_connection_that_is_switched_off_tells_nothing(make: Make, main: Connection) -> None:
    row = make()
    Connection.objects.filter(pk=main.pk).update(is_enabled=False)
    row = StandingCheck.objects.select_related("team", "connection__team").get(pk=row.pk)
    assert state(row) == ("unknown", "Its connection is switched off.")


def test_what_cannot_be_run_breaks_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("x")

    row = make()
    monkeypatch.setattr(paging, "service_is_paged", broken)
    assert state(row) == ("unknown", "It could not be run: KeyError.")


# What is told


def test_it_is_told_when_it_fails_and_when_it_holds_again_and_not_between(
    cast: Cast, make: Make, main: Connection, mirrors: Mirrors
) -> None:
    bad, worse = account((20, "USAM"), (10, "UPAM")), account((20, "USAM"))
    row, told = make(WELL), []
    for found in (WELL, bad, worse, None, bad, WELL, WELL, bad, WELL):
        mirrors.set(main, found or WELL, NOW, **({} if found else {"schedules": None}))
        run(row, NOW)
        told.append(Delivery.objects.count())
    assert told == [0, 1, 1, 1, 1, 2, 2, 3, 4]
    assert send_due(NOW) == 4
    subjects = [message.subject for message in mail.outbox]
    said = "Checkout at 03:00 on Sundays (UTC) must reach somebody of Payments within 15 minutes"
    assert sorted(set(subjects)) == [
        f"Payments: a standing check fails: {said}",
        f"Payments: a standing check holds again: {said}",
    ]
    assert f"/teams/payments/checks/{row.pk}/" in mail.outbox[0].body
    assert "Sun 2027-01-03 03:00 UTC: fails. Pam would be told only after 20 minutes" in "".join(
        str(message.body) for message in mail.outbox
    )


def test_one_that_fails_from_the_start_is_told(make: Make) -> None:
    run(make(account((20, "USAM"))), NOW)
    assert [row.event for row in Delivery.objects.all()] == ["check_failed"]


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_tell_once(make: Make) -> None:
    row = make(account((20, "USAM")))
    together(lambda: run(row, NOW))
    assert Delivery.objects.count() == 1


def test_killed_before_it_was_told_it_is_told_by_the_next_run(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        """As a process ends."""

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    row = make(account((20, "USAM")))
    with monkeypatch.context() as patch:
        patch.setattr(standing, "put", kill)
        with pytest.raises(Killed):
            run(row, NOW)
    assert (CheckRun.objects.count(), StandingCheck.objects.get().state) == (0, "new")
    run(row, NOW)
    assert Delivery.objects.count() == 1


def test_the_newest_runs_are_kept(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "KEPT_RUNS", 3)
    row = make()
    for minutes in range(5):
        run(row, NOW + dt.timedelta(minutes=minutes))
    kept = list(row.runs.values_list("at", flat=True))
    assert kept == [NOW + dt.timedelta(minutes=minutes) for minutes in (4, 3, 2)]


def test_names_follow_what_pagerduty_calls_them_now(make: Make) -> None:
    renamed = {
        **_fields(WELL),
        "teams": {"TPAY": "Money"},
        "services": {"VCHE": Service("VCHE", "Till", "active", "PCHE")},
    }
    row = make(Account(**renamed))
    run(row, NOW)
    assert "Till at" in sentence(StandingCheck.objects.get())
    assert "somebody of Money" in sentence(StandingCheck.objects.get())


# When it is run


def test_the_worker_runs_each_once_a_day(cast: Cast, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    row = make()
    asked_for: list[int] = []
    monkeypatch.setattr(tasks.run_standing_check, "enqueue", asked_for.append)
    monkeypatch.setattr(tasks.send_notices, "enqueue", lambda: None)
    tasks.run_standing_checks()
    assert asked_for == [row.pk]
    tasks.run_standing_check(row.pk)
    tasks.run_standing_check(row.pk)  # it waited in the queue twice
    tasks.run_standing_check(0)
    assert row.runs.count() == 1
    tasks.run_standing_checks()
    assert asked_for == [row.pk]
    monkeypatch.setattr(timezone, "now", lambda: NOW + dt.timedelta(hours=19))
    tasks.run_standing_checks()
    assert asked_for == [row.pk, row.pk]


# What managers do


def test_only_managers_make_change_run_and_remove(cast: Cast, make: Make, main: Connection) -> None:
    row = make()
    for who in (cast.vic, cast.omar, cast.rhea, cast.zed):
        for act in (
            lambda who=who: do_make_check(cast.payments, asked(main), by=who),
            lambda who=who: do_change_check(row, asked(main), by=who),
            lambda who=who: do_run_check(row, by=who),
            lambda who=who: do_remove_check(row, by=who),
        ):
            with pytest.raises(Refused):
                act()
    do_run_check(row, by=cast.ada)


def test_each_change_is_on_record(cast: Cast, make: Make, main: Connection) -> None:
    row = make()
    do_change_check(row, asked(main, within_minutes=5), by=cast.mina, reason="we are quicker")
    do_change_check(row, asked(main, within_minutes=5), by=cast.mina)
    do_remove_check(row, by=cast.mina)
    found = [
        (change.action, change.reason) for change in ConfigChange.objects.order_by("pk") if "check" in change.action
    ]
    assert found == [
        ("make_standing_check", ""),
        ("change_standing_check", "we are quicker"),
        ("remove_standing_check", ""),
    ]
    change = ConfigChange.objects.get(action="change_standing_check")
    assert change.before
    assert change.after
    assert change.before["check"].endswith("within 15 minutes")
    assert change.after["check"].endswith("within 5 minutes")
    assert not StandingCheck.objects.exists()


def test_a_changed_check_says_nothing_until_it_was_run(cast: Cast, make: Make, main: Connection) -> None:
    row = make()
    run(row, NOW)
    changed = do_change_check(row, asked(main, within_minutes=5), by=cast.mina)
    assert (changed.state, changed.run_told, changed.run_at) == ("new", "", None)
    # A run that began before is of another question.
    assert run(row, NOW) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"about_id": "VGONE"},
        {"kind": "team"},
        {"weekdays": []},
        {"weekdays": [8]},
        {"time_zone": "Mars/Olympus"},
        {"whom": "everybody"},
        {"whom_ids": []},
        {"whom_ids": ["TGONE"]},
        {"whom_ids": ["TPAY", "TSEA"]},
        {"whom": "people", "whom_ids": ["UGONE"]},
        {"within_minutes": -1},
        {"within_minutes": 100_000},
    ],
)
def test_what_could_never_be_run_is_refused(
    cast: Cast, main: Connection, mirrors: Mirrors, wrong: dict[str, Any]
) -> None:
    mirrors.set(main, WELL, NOW)
    with pytest.raises(ValidationError):
        do_make_check(cast.payments, asked(main, **wrong), by=cast.mina)
    assert not StandingCheck.objects.exists()


def test_another_teams_connection_is_not_asked(cast: Cast, main: Connection, mirrors: Mirrors) -> None:
    mirrors.set(main, WELL, NOW)
    with pytest.raises(ValidationError):
        do_make_check(cast.search, asked(main), by=cast.ada)


def test_a_team_makes_a_hundred_and_no_more(
    cast: Cast, make: Make, main: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "MOST", 1)
    make()
    with pytest.raises(ValidationError, match="remove one first"):
        do_make_check(cast.payments, asked(main), by=cast.mina)


def test_a_check_ends_with_its_connection(make: Make, main: Connection) -> None:
    make()
    with transaction.atomic():
        main.delete()
    assert not StandingCheck.objects.exists()


def test_the_horizon_is_the_teams(cast: Cast, make: Make) -> None:
    row = make()
    do_set_notices(cast.payments, horizon_days=84, by_email=True, by=cast.mina)
    run(row, NOW)
    assert len(CheckRun.objects.get().occurrences) == 12
