"""Gaps that are meant to be: when a mark holds, what it leaves of a gap, and who may make one."""

from __future__ import annotations

import datetime as dt
import itertools
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from integrations.actions import do_register_token
from integrations.intended import MOST, do_mark_intended, do_unmark_intended, mark_of, marks_of
from integrations.models import Connection, IntendedGap
from integrations.pagerduty.analysis.intended import Mark, cut, hours, intended
from integrations.pagerduty.analysis.model import Span
from policies.actions import Refused
from policies.models import ConfigChange, Entry
from tests.conftest import Cast

HOUR, DAY, WEEK = 3_600, 86_400, 604_800
LONDON = ZoneInfo("Europe/London")


def utc(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp())


def local(text: str, zone: ZoneInfo = LONDON) -> int:
    return int(dt.datetime.fromisoformat(text).replace(tzinfo=zone).timestamp())


YEAR = Span(utc("2026-01-01"), utc("2027-01-01"))
SUNDAY = Mark(
    local("2026-03-08T02:00"), local("2026-03-08T06:00"), utc("2026-12-01"), weekly=True, zone="Europe/London"
)


def test_a_mark_holds_once_within_its_hours() -> None:
    mark = Mark(utc("2026-03-08T02:00"), utc("2026-03-08T06:00"), utc("2026-03-08T05:00"))
    assert hours(mark, YEAR) == (Span(mark.start, mark.until),)
    assert hours(mark, Span(mark.start + HOUR, mark.start + 2 * HOUR)) == (
        Span(mark.start + HOUR, mark.start + 2 * HOUR),
    )
    assert hours(mark, Span(mark.end, mark.end + DAY)) == ()


def test_a_weekly_mark_keeps_to_its_clock_over_both_changes_of_it() -> None:
    found = hours(SUNDAY, YEAR)
    # In London 2026 the clocks change on 29 March at 01:00 and on 25 October at 02:00.
    for day in ("2026-03-08", "2026-03-22", "2026-04-05", "2026-10-18", "2026-11-01", "2026-11-29"):
        assert Span(local(f"{day}T02:00"), local(f"{day}T06:00")) in found
    assert {dt.datetime.fromtimestamp(span.start, LONDON).strftime("%a %H:%M") for span in found} == {"Sun 02:00"}
    assert [later.start - sooner.start for sooner, later in itertools.pairwise(found)].count(WEEK) == len(found) - 3
    assert found[0].start == SUNDAY.start
    assert found[-1].end <= SUNDAY.until


def test_a_weekly_mark_is_found_whatever_window_is_looked_at() -> None:
    whole = hours(SUNDAY, YEAR)
    for day in range(60, 340, 3):
        window = Span(YEAR.start + day * DAY + 5 * HOUR, YEAR.start + (day + 9) * DAY)
        expected = tuple(
            Span(max(span.start, window.start), min(span.end, window.end))
            for span in whole
            if span.end > window.start and span.start < window.end
        )
        assert hours(SUNDAY, window) == expected


def test_a_mark_in_a_zone_that_is_known_no_more_is_read_in_utc() -> None:
    mark = Mark(
        utc("2026-03-08T02:00"), utc("2026-03-08T06:00"), utc("2026-03-30"), weekly=True, zone="Europe/Atlantis"
    )
    assert [span.start for span in hours(mark, YEAR)] == [mark.start + week * WEEK for week in range(4)]


SPANS = st.tuples(st.integers(0, 200), st.integers(1, 60)).map(lambda each: Span(each[0], each[0] + each[1]))


@given(gap=SPANS, marks=st.lists(SPANS, max_size=6))
def test_what_is_left_and_what_is_meant_are_the_gap_second_by_second(gap: Span, marks: list[Span]) -> None:
    meant = intended([Mark(span.start, span.end, span.end) for span in marks], Span(0, 400))
    left, right = cut(gap, meant)
    covered = {second for span in marks for second in range(*span)}
    assert [second for span in left for second in range(*span)] == [one for one in range(*gap) if one not in covered]
    assert [second for span in right for second in range(*span)] == [one for one in range(*gap) if one in covered]
    assert all(sooner.end < later.start for sooner, later in itertools.pairwise(meant))


# Who may, and what is kept of it


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return do_register_token(
        cast.payments,
        name="Main",
        token="y_NbAkKc66ryYTWUXYEu",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )


def given_of(**more: Any) -> dict[str, Any]:
    start = timezone.now().replace(microsecond=0) + dt.timedelta(days=2)
    values = {
        "policy_id": "PEPOL00",
        "policy_name": "Settlement",
        "starts_at": start,
        "ends_at": start + dt.timedelta(hours=4),
        "until": start + dt.timedelta(days=30),
        "weekly": True,
        "zone": "Europe/London",
        "reason": "nobody settles on Sundays",
    }
    return values | more


def test_a_manager_marks_a_gap_and_takes_it_back_on_record(cast: Cast, connection: Connection) -> None:
    mark = do_mark_intended(connection, by=cast.mina, **given_of())
    assert marks_of([connection.pk], timezone.now()) == {(connection.pk, "PEPOL00"): [mark]}
    assert hours(mark_of(mark), Span(0, 2**32))[0].seconds == 4 * HOUR
    do_unmark_intended(mark, by=cast.mina, reason="they do now")
    assert marks_of([connection.pk], timezone.now()) == {}
    made, taken = ConfigChange.objects.filter(action__endswith="mark_intended").order_by("pk")
    assert (made.actor, made.target, made.before, made.reason) == (
        cast.mina.email,
        "Settlement (PEPOL00)",
        None,
        "nobody settles on Sundays",
    )
    assert (taken.before, taken.after, taken.reason) == (made.after, None, "they do now")
    assert Entry.objects.filter(kind="config", record__contains="mark_intended").count() == 2
    with pytest.raises(ValidationError, match="taken back already"):
        do_unmark_intended(mark, by=cast.mina)


@pytest.mark.parametrize("who", ["vic", "omar", "rhea", "zed"])
def test_nobody_else_marks_a_gap_or_takes_it_back(cast: Cast, connection: Connection, who: str) -> None:
    with pytest.raises(Refused, match="Only a manager of Payments"):
        do_mark_intended(connection, by=getattr(cast, who), **given_of())
    mark = do_mark_intended(connection, by=cast.ada, **given_of())
    with pytest.raises(Refused, match="Only a manager of Payments"):
        do_unmark_intended(mark, by=getattr(cast, who))
    assert IntendedGap.objects.get() == mark
    assert IntendedGap.objects.editable_by(getattr(cast, who)).count() == 0


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"reason": "  "}, "Say why it is intended"),
        ({"reason": "the key is y_NbAkKc66ryYTWUXYEw"}, "token or a key"),
        ({"ends_at": timezone.now() - dt.timedelta(days=1)}, "ends before it begins"),
        ({"until": timezone.now() - dt.timedelta(days=1)}, "would never hold"),
        ({"until": timezone.now() + dt.timedelta(days=400)}, "a year at most"),
        ({"ends_at": timezone.now() + dt.timedelta(days=20)}, "longer than a week"),
        ({"zone": "Europe/Atlantis"}, "no such time zone"),
    ],
)
def test_what_could_not_hold_is_refused(cast: Cast, connection: Connection, more: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        do_mark_intended(connection, by=cast.mina, **given_of(**more))
    assert not IntendedGap.objects.exists()


def test_there_are_only_so_many_of_a_connection(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MOST >= 100
    monkeypatch.setattr("integrations.intended.MOST", 1)
    do_mark_intended(connection, by=cast.mina, **given_of())
    with pytest.raises(ValidationError, match="already"):
        do_mark_intended(connection, by=cast.mina, **given_of())


def test_a_mark_ends_with_its_time_and_with_its_connection(cast: Cast, connection: Connection) -> None:
    mark = do_mark_intended(connection, by=cast.mina, **given_of())
    assert marks_of([connection.pk], mark.until) == {}
    connection.delete()
    assert not IntendedGap.objects.exists()
