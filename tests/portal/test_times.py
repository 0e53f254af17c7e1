"""Times are told in the reader's zone, with UTC on hover, by one filter."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path

import pytest
from django.test import Client
from django.utils import timezone

from portal.templatetags.words import when
from tests.conftest import Cast

AT = dt.datetime(2026, 7, 1, 22, 30, 5, 123, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ("minutes", "2 Jul 2026, 00:30"),
        ("seconds", "2026-07-02 00:30:05"),
        ("exactly", "2026-07-02 00:30:05.000123"),
        ("day", "2 July 2026"),
        ("clock", "00:30"),
        ("utc day", "1 July 2026, UTC"),
    ],
)
def test_a_time_is_told_in_the_readers_zone_and_in_utc_on_hover(form: str, told: str) -> None:
    with timezone.override("Europe/Berlin"):
        shown = when(AT, form)
    assert shown == (
        f'<time datetime="2026-07-01T22:30:05.000123+00:00" title="1 Jul 2026, 22:30:05 UTC">{told}</time>'
    )


def test_how_long_ago_it_was() -> None:
    assert ">just now<" in when(timezone.now(), "ago")
    assert ">3 days ago<" in when(timezone.now() - dt.timedelta(days=3), "ago").replace("\xa0", " ")
    assert when(None) == ""


def test_no_template_tells_a_time_in_another_way() -> None:
    # A day, or what a mail or a picture's title says in UTC, is no moment that the reader's zone changes.
    other = re.compile(r"(?<!\|utc)(?<!day)\|\s*(date|time|timesince|timeuntil)\b|<time\b|_ago\.html|\{%\s*now\b")
    found = {
        path.name: match[0]
        for path in (Path(__file__).parents[2] / "templates").rglob("*.html")
        if path.parent.name != "digest"
        if (match := other.search(path.read_text()))
    }
    assert not found, 'use {% load words %} and {{ moment|when }} or {{ moment|when:"ago" }}'


def zone_of(client: Client) -> str:
    found = re.search(r"Times are in ([\w/]+)[,.]", client.get("/account/").content.decode())
    assert found
    return found[1]


def test_the_zone_is_the_browsers_until_somebody_chooses_one(client: Client, cast: Cast) -> None:
    client.force_login(cast.vic)
    assert zone_of(client) == "UTC"
    client.cookies["time_zone"] = "Asia/Tokyo"
    assert zone_of(client) == "Asia/Tokyo"
    answer = client.post("/account/time-zone/", {"time_zone": "America/New_York"}, follow=True)
    assert "Your time zone is saved." in answer.content.decode()
    assert zone_of(client) == "America/New_York"
    # Each request has its reader's own: nothing of it stays.
    assert timezone.get_current_timezone_name() == "UTC"
    client.post("/account/time-zone/", {"time_zone": ""})
    assert zone_of(client) == "Asia/Tokyo"


@pytest.mark.parametrize("named", ["Mars/Phobos", "../../etc/passwd", "<script>", "x" * 10_000, "\x00"])
def test_what_is_no_zone_is_not_taken(client: Client, cast: Cast, named: str) -> None:
    client.force_login(cast.vic)
    answer = client.post("/account/time-zone/", {"time_zone": named}, follow=True)
    assert "There is no such time zone." in answer.content.decode()
    cast.vic.refresh_from_db()
    assert cast.vic.time_zone == ""
    answer = client.get(
        "/account/", headers={"cookie": f"{client.cookies.output(header='', sep=';')}; time_zone={named}"}
    )
    assert "Times are in UTC." in answer.content.decode()


def test_a_zone_that_is_known_no_more_is_utc(client: Client, cast: Cast) -> None:
    cast.vic.time_zone = "Europe/Atlantis"
    cast.vic.save()
    client.force_login(cast.vic)
    assert zone_of(client) == "UTC"


def test_the_zone_is_changed_by_post_alone(client: Client, cast: Cast) -> None:
    client.force_login(cast.vic)
    assert client.get("/account/time-zone/", {"time_zone": "Asia/Tokyo"}).status_code == 405
