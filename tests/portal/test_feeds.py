"""Calendar feeds: made and revoked on record, and answered only while their person may see what they tell."""

from __future__ import annotations

import datetime as dt
import io
import logging
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone
from icalendar import Calendar

from integrations import feeds, mirror
from integrations.actions import do_set_enabled
from integrations.feeds import do_make_feed
from integrations.models import Connection, Feed, MirroredDocument, MirrorPart, PastKnown, PastShift
from policies.actions import Refused, do_remove_member, do_set_membership, do_update_user
from policies.core.text import redacted
from policies.models import ConfigChange, Entry
from portal.logs import Line
from tests.conftest import Cast
from tests.documents import DAY, keep, layer, person, policy, schedule
from tests.world import HOSTILE

NOW = timezone.now().replace(minute=0, second=0, microsecond=0)
START = NOW - dt.timedelta(days=30)
VIC = person("PVIC", "Vic", "vic@example.com")
BOB = person("PBOB", "Bob", "bob@example.com")


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    mirror.forget_cached()
    yield
    mirror.forget_cached()


@pytest.fixture
def kept(connection: Connection) -> Connection:
    keep(connection, schedules=[schedule("PPRIM01", "Primary", [layer([VIC, BOB], START)])], people=[VIC, BOB])
    return connection


@pytest.fixture
def address(cast: Cast, kept: Connection) -> str:
    """Vic's, of Primary."""
    _, token = do_make_feed(by=cast.vic, connection=kept, schedule_id="PPRIM01", name="Primary")
    return f"/feeds/{token}.ics"


def made_at(client: Client, page: str) -> str:
    answer = client.post(page, {"action": "feed"})
    assert "no-store" in answer["Cache-Control"]
    found = re.search(r'id="feed-address">(?:https?://[^/]+)(/feeds/pwf_[^<]+\.ics)<', answer.content.decode())
    assert found
    return found[1]


def events(client: Client, address: str) -> list[Any]:
    answer = client.get(address)
    assert answer.status_code == 200
    assert answer["Content-Type"] == "text/calendar; charset=utf-8"
    return list(Calendar.from_ical(answer.content).walk("VEVENT"))


def test_an_address_is_shown_once_and_kept_as_a_digest_and_on_record(
    client: Client, cast: Cast, kept: Connection
) -> None:
    client.force_login(cast.vic)
    page = f"/schedules/{kept.pk}/PPRIM01/"
    path = made_at(client, page)
    token = path.removeprefix("/feeds/").removesuffix(".ics")
    assert token not in client.get(page).content.decode()
    assert token not in client.get("/my-on-call/").content.decode()
    row = Feed.objects.get()
    assert row.digest == feeds.digest_of(token)
    assert token not in str(Feed.objects.values().get())
    change = ConfigChange.objects.get(action="make_feed")
    assert (change.team, change.target, change.actor) == ("Payments", "Primary", "vic@example.com")
    assert not Entry.objects.filter(record__contains=token).exists()


def test_whoever_has_the_address_reads_who_is_on_call(client: Client, address: str) -> None:
    found = events(client, address)
    now = timezone.now()
    assert {str(one["summary"]) for one in found} == {"Vic: Primary", "Bob: Primary"}
    assert all(one["dtstart"].dt.tzinfo is not None for one in found)
    # All of the next twelve weeks, without a hole, and no shift twice.
    ahead = sorted((one["dtstart"].dt, one["dtend"].dt) for one in found if one["dtend"].dt > now)
    assert all(end == start for (_, end), (start, _) in pairwise(ahead))
    assert ahead[-1][1] > now + dt.timedelta(days=83)
    # The same names at each fetch, so that a program moves events and does not double them.
    assert [one["uid"] for one in events(client, address)] == [one["uid"] for one in found]


def test_a_feed_of_ones_own_holds_ones_own_alone(client: Client, cast: Cast, kept: Connection) -> None:
    now = int(NOW.timestamp())
    PastKnown.objects.create(connection=kept, schedule_id="PPRIM01", since=now - 20 * DAY, until=now)
    PastShift.objects.create(
        connection=kept, schedule_id="PPRIM01", start=now - 20 * DAY, end=now - 19 * DAY, user_id="PVIC"
    )
    client.force_login(cast.vic)
    path = made_at(client, "/my-on-call/")
    client.logout()
    found = events(client, path)
    assert {str(one["summary"]) for one in found} == {"On call: Primary"}
    assert min(one["dtstart"].dt for one in found) == NOW - dt.timedelta(days=20)
    # Twelve weeks by turns of a week, with one other: half of them, and the day that is kept.
    assert 6 <= len(found) <= 8


@pytest.mark.parametrize("ended", ["deactivated", "left", "switched off", "revoked", "deleted"])
def test_a_feed_ends_with_what_its_person_may_see(
    client: Client, cast: Cast, kept: Connection, address: str, ended: str
) -> None:
    assert client.get(address).status_code == 200
    match ended:
        case "deactivated":
            do_update_user(cast.vic, by=cast.ada, is_active=False)
        case "left":
            do_remove_member(cast.payments, user=cast.vic, by=cast.ada)
        case "switched off":
            do_set_enabled(kept, False, by=cast.ada)
        case "revoked":
            client.force_login(cast.vic)
            told = client.post("/my-on-call/", {"action": "revoke", "feed": Feed.objects.get().pk}, follow=True)
            assert "answers nobody any more" in told.content.decode()
            assert ConfigChange.objects.filter(action="revoke_feed", actor="vic@example.com").exists()
            client.logout()
        case "deleted":
            kept.delete()
    answer = client.get(address)
    assert answer.status_code == 404
    # To whatever is no feed there is one answer.
    other = client.get("/feeds/pwf_nothing.ics")
    assert (other.status_code, other.content) == (404, answer.content)


def test_somebody_who_comes_back_is_answered_again(client: Client, cast: Cast, address: str) -> None:
    do_remove_member(cast.payments, user=cast.vic, by=cast.ada)
    assert client.get(address).status_code == 404
    do_set_membership(cast.payments, user=cast.vic, role="member", by=cast.ada)
    assert client.get(address).status_code == 200


def test_a_feed_is_revoked_by_its_person_and_by_administrators_alone(client: Client, cast: Cast, address: str) -> None:
    pk = Feed.objects.get().pk
    for who in ("mina", "omar", "zed", "rhea", "ada"):
        client.force_login(getattr(cast, who))
        assert client.post("/my-on-call/", {"action": "revoke", "feed": pk}).status_code == 404, who
    for wrong in ("", "x", "99999999999999999999"):
        assert client.post("/my-on-call/", {"action": "revoke", "feed": wrong}).status_code == 404
    assert Feed.objects.count() == 1
    feeds.do_revoke_feed(Feed.objects.get(), by=cast.ada)
    assert Feed.objects.count() == 0


def test_one_makes_no_feed_of_what_one_may_not_see_and_not_too_many(cast: Cast, kept: Connection) -> None:
    for who in (cast.omar, cast.zed, cast.rhea):
        with pytest.raises(Refused):
            do_make_feed(by=who, connection=kept, schedule_id="PPRIM01")
    for _ in range(feeds.MAXIMUM):
        do_make_feed(by=cast.vic)
    with pytest.raises(ValidationError, match="revoke one first"):
        do_make_feed(by=cast.vic)


def test_what_is_not_read_yet_is_no_empty_calendar(client: Client, cast: Cast, connection: Connection) -> None:
    _, token = do_make_feed(by=cast.vic, connection=connection, schedule_id="PPRIM01")
    _, own = do_make_feed(by=cast.vic)
    for each in (token, own):
        answer = client.get(f"/feeds/{each}.ics")
        assert (answer.status_code, answer["Retry-After"]) == (503, "300")
    keep(connection, people=[VIC])
    assert client.get(f"/feeds/{token}.ics").status_code == 404  # there is no such schedule
    assert events(client, f"/feeds/{own}.ics") == []


def test_a_schedule_that_has_not_come_again_yet_is_not_told_as_gone(
    client: Client, address: str, kept: Connection
) -> None:
    # As after the bounds were changed: other parts are read before.
    MirroredDocument.objects.filter(connection=kept, remote_id="PPRIM01").delete()
    keep(kept, policies=[policy("PEP1", "Payments", [VIC])])
    MirrorPart.objects.filter(connection=kept, kind=MirrorPart.Kind.SCHEDULES).delete()
    mirror.forget_cached()
    assert client.get(address).status_code == 503


def test_hostile_names_add_nothing_to_a_calendar(client: Client, cast: Cast, connection: Connection) -> None:
    evil = "Night\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\nSUMMARY:Other" + HOSTILE[:60]
    foe = person("PFOE", evil, "foe@example.com")
    keep(connection, schedules=[schedule("PEVIL01", evil, [layer([foe], START)])], people=[foe])
    _, token = do_make_feed(by=cast.vic, connection=connection, schedule_id="PEVIL01", name=evil)
    answer = client.get(f"/feeds/{token}.ics")
    lines = answer.content.decode().split("\r\n")
    assert lines.count("BEGIN:VEVENT") == 1
    assert not any(line.startswith("SUMMARY:Other") for line in lines)
    assert "\u202e" not in answer.content.decode()


def test_an_address_stands_in_no_log(client: Client, address: str, caplog: pytest.LogCaptureFixture) -> None:
    token = address.removeprefix("/feeds/").removesuffix(".ics")
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Line("{message}", style="{"))
    logging.getLogger("django.request").addHandler(handler)
    try:
        Feed.objects.all().delete()
        assert client.get(address).status_code == 404
        assert client.post(address).status_code == 405
    finally:
        logging.getLogger("django.request").removeHandler(handler)
    assert written.getvalue().count("/feeds/[redacted].ics") == 2
    assert token not in written.getvalue()
    assert redacted(f"see https://pagewarden.example{address}") == "see https://pagewarden.example/feeds/[redacted].ics"
    # Whatever it is made of: no name-like one slips through.
    assert redacted("pwf_" + "Checkout-Production-primary-night-shift-weekly") == "[redacted]"


def test_a_calendar_is_no_page_that_others_find_or_keep(client: Client, address: str) -> None:
    answer = client.get(address)
    assert "no-store" in answer["Cache-Control"]
    assert answer["X-Robots-Tag"] == "noindex, nofollow"
    assert answer["Referrer-Policy"] == "no-referrer"
    assert not client.cookies
    assert client.head(address).status_code == 200


def test_a_fetch_costs_few_look_ups(client: Client, address: str, django_assert_max_num_queries: Any) -> None:
    client.get(address)
    with django_assert_max_num_queries(9):
        client.get(address)
