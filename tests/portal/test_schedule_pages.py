"""``/schedules/``, one schedule, and one's own on-call: who sees them, what they say of bad data, and what they cost."""

from __future__ import annotations

import datetime as dt
import html
import re
import time
from collections.abc import Iterator

import pytest
from django.test import Client
from django.utils import timezone

from integrations import mirror
from integrations.actions import do_register_token, do_set_enabled
from integrations.feeds import do_make_feed
from integrations.models import Connection, PastKnown, PastShift
from policies.actions import do_create_personal_workspace
from tests.conftest import Cast
from tests.documents import DAY, HOUR, Document, iso, keep, layer, override, person, policy, schedule
from tests.world import HOSTILE

NOW = timezone.now().replace(minute=0, second=0, microsecond=0)
START = NOW - dt.timedelta(days=30)
MINA = person("PMINA", "Mina Murray", "mina@example.com")
BOB = person("PBOB", "Bob Crane", "bob@example.com")
PRIMARY = schedule("PPRIM01", "Primary", [layer([MINA, BOB], START)], zone="Europe/Berlin")


@pytest.fixture(autouse=True)
def nothing_is_remembered() -> Iterator[None]:
    mirror.forget_cached()
    yield
    mirror.forget_cached()


@pytest.fixture
def kept(connection: Connection) -> Connection:
    """Payments' connection, whose mirror holds one schedule that one policy pages."""
    keep(connection, schedules=[PRIMARY], policies=[policy("PEP1", "Payments", [PRIMARY])], people=[MINA, BOB])
    return connection


def path(connection: Connection, id: str = "PPRIM01", **query: str) -> str:
    return f"/schedules/{connection.pk}/{id}/" + ("?" + "&".join(f"{k}={v}" for k, v in query.items()) if query else "")


def text(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, address
    shown = re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", answer.content.decode(), flags=re.DOTALL)
    return re.sub(r" (?=[.,;:])", "", " ".join(html.unescape(shown).split()))


# Who sees what


@pytest.mark.parametrize(
    ("who", "status"), [("mina", 200), ("vic", 200), ("ada", 200), ("omar", 404), ("zed", 404), ("rhea", 404)]
)
def test_a_schedule_is_seen_by_its_team_and_administrators_alone(
    client: Client, cast: Cast, kept: Connection, who: str, status: int
) -> None:
    client.force_login(getattr(cast, who))
    assert client.get(path(kept)).status_code == status
    assert ("Primary" in text(client, "/schedules/")) == (status == 200)
    assert client.post(path(kept), {"action": "feed"}).status_code == status


def test_what_there_is_not_and_what_one_may_not_see_get_one_answer(
    client: Client, cast: Cast, kept: Connection
) -> None:
    client.force_login(cast.vic)
    assert client.get(path(kept, "PNONE")).status_code == 404
    assert client.get("/schedules/00000000-0000-4000-8000-000000000000/PPRIM01/").status_code == 404
    do_set_enabled(kept, False, by=cast.ada)
    assert client.get(path(kept)).status_code == 404
    assert "No PagerDuty connection of yours is switched on" in text(client, "/schedules/")
    assert client.post("/schedules/").status_code == 405


def test_whoever_has_no_schedule_learns_what_to_do_first(client: Client, cast: Cast, connection: Connection) -> None:
    client.force_login(cast.zed)
    assert "A manager of a team of yours registers a PagerDuty token" in text(client, "/schedules/")
    client.force_login(cast.omar)
    assert "Register a PagerDuty token" in text(client, "/schedules/")
    client.force_login(cast.vic)
    assert "Nothing is read from PagerDuty yet" in text(client, "/schedules/")
    keep(connection)
    assert "holds no schedule" in text(client, "/schedules/")
    client.force_login(cast.rhea)
    assert "An auditor reads none of PagerDuty" in text(client, "/schedules/")


# The list


def test_a_schedule_that_cannot_be_rendered_is_not_taken_for_an_empty_one(
    client: Client, cast: Cast, connection: Connection
) -> None:
    bare = schedule("PBARE01", "Bare", []) | {"schedule_layers": None}
    keep(connection, schedules=[bare, PRIMARY], policies=[policy("PEP1", "Payments", [bare])], people=[MINA, BOB])
    client.force_login(cast.vic)
    listed = text(client, "/schedules/")
    assert re.search(r"Bare layers, UTC · Payments not known .*? not known not known not known", listed)
    assert "nobody on call" not in listed
    assert "On call now not known Next handoff not known Next 14 days not known" in text(
        client, path(connection, "PBARE01")
    )


def test_the_list_says_who_is_on_call_until_when_and_what_is_wrong(
    client: Client, cast: Cast, connection: Connection
) -> None:
    hours = [{"type": "daily_restriction", "start_time_of_day": "00:00:00", "duration_seconds": 12 * HOUR}]
    half = schedule("PHALF01", "Half days", [layer([BOB], START, restrictions=hours)])
    unused = schedule("PUNUSED", "Nobody pages it", [layer([BOB], START)])
    empty = schedule("PEMPTY1", "Empty", [])
    keep(
        connection,
        schedules=[PRIMARY, half, unused, empty],
        policies=[policy("PEP1", "Payments", [PRIMARY, half, empty]), policy("PEP2", "Ledger", [BOB], [PRIMARY])],
        people=[MINA, BOB],
    )
    client.force_login(cast.vic)
    shown = text(client, "/schedules/")
    rows = re.split(r"(?=Primary|Half days|Nobody pages it|Empty)", shown)
    by_name = {name: next(row for row in rows if row.startswith(name)) for name in ("Primary", "Half", "Empty")}
    assert "covered" in by_name["Primary"]
    assert "2 policies" in by_name["Primary"]
    assert re.search(r"to (Mina Murray|Bob Crane)", by_name["Primary"])
    assert "50 %" in by_name["Half"]
    assert "nobody on call" in by_name["Empty"]
    assert "in no policy" in shown
    # The worst is first.
    assert shown.index("Empty") < shown.index("Nobody pages it") < shown.index("Primary layers")


def test_the_list_is_filtered_by_words_and_by_team(client: Client, cast: Cast, kept: Connection) -> None:
    other = do_register_token(
        cast.search,
        name="Other",
        token="y_NbAkKc66ryYTWUXYEv",
        kind="user",
        region="us",
        by=cast.ada,
        whole_account=True,
    )
    keep(other, schedules=[PRIMARY, schedule("PINDEX1", "Index", [layer([BOB], START)])], people=[BOB])
    client.force_login(cast.ada)
    assert "2 schedules." in text(client, "/schedules/")  # what two connections hold is there once
    assert "1 of 2 schedules." in text(client, "/schedules/?text=index")
    assert "Primary" in text(
        client, "/schedules/?text=mina+murray" if "Mina" in text(client, "/schedules/") else "/schedules/?text=bob"
    )
    assert "1 of 1 schedule." in text(client, "/schedules/?team=payments")
    client.force_login(cast.vic)
    assert "Index" not in text(client, "/schedules/?team=search")
    swapped = client.get("/schedules/?text=nothing", headers={"hx-request": "true"})
    assert "No schedule is like that." in swapped.content.decode()


def test_what_is_wrong_in_one_document_is_named_and_breaks_no_other(
    client: Client, cast: Cast, connection: Connection
) -> None:
    bad = schedule("PBAD001", "Bad", [layer([BOB], START, turn=0)], zone="Mars/Phobos")
    bad["schedule_layers"].append({**layer([BOB], START, id="PL2"), "users": [{"user": None}]})
    many = schedule("PMANY01", "Many", [layer([BOB], START, id=f"PL{number}") for number in range(61)])
    keep(connection, schedules=[bad, many, PRIMARY], people=[BOB, MINA])
    client.force_login(cast.vic)
    listed = text(client, "/schedules/")
    assert "could not be read as it stands" in listed
    assert "Primary" in listed
    for id in ("PBAD001", "PMANY01", "PPRIM01"):
        for view in ("day", "weeks", "month"):
            page = text(client, path(connection, id, view=view))
            assert ("Read in part." in page) == (id != "PPRIM01")
    assert "Mars/Phobos" in text(client, path(connection, "PBAD001"))


def test_hostile_names_are_text(client: Client, cast: Cast, connection: Connection) -> None:
    foe = person("PFOE", HOSTILE[:255], "vic@example.com")
    rows = [layer([foe], START, name=HOSTILE[:255])]
    evil = schedule("PEVIL01", HOSTILE[:255], rows, html_url="javascript:alert(1)")
    keep(connection, schedules=[evil], people=[foe], policies=[policy("PEP1", HOSTILE[:200], [evil], [foe])])
    client.force_login(cast.vic)
    do_make_feed(by=cast.vic, connection=connection, schedule_id="PEVIL01", name=HOSTILE)
    for address in (
        "/schedules/",
        "/my-on-call/",
        path(connection, "PEVIL01"),
        path(connection, "PEVIL01", view="day", zone=HOSTILE[:9]),
    ):
        page = client.get(address).content.decode()
        assert "<b data-hostile" not in page
        assert "javascript:" not in page
        assert "\u202e" not in page
        assert "style=" not in page


# One schedule


def svg(client: Client, address: str) -> str:
    page = client.get(address).content.decode()
    found = re.search(r'<svg class="timeline".*?</svg>\s*</div>', page, re.DOTALL)
    assert found
    return found[0]


@pytest.mark.parametrize(("on", "hours"), [("2027-03-28", 23), ("2027-10-31", 25), ("2027-06-01", 24)])
def test_a_day_in_which_the_clocks_change_has_23_or_25_hours(
    client: Client, cast: Cast, kept: Connection, on: str, hours: int
) -> None:
    client.force_login(cast.vic)
    drawn = svg(client, path(kept, view="day", on=on, zone="Europe/Berlin"))
    assert len(re.findall(r'<line class="hour"', drawn)) == hours
    assert ("The clocks of Europe/Berlin change" in drawn) == (hours != 24)
    # By a clock that does not change, the schedule's own change is marked.
    utc = svg(client, path(kept, view="day", on=on, zone="UTC"))
    assert len(re.findall(r'<line class="hour"', utc)) == 24
    assert ("The clocks of Europe/Berlin change" in utc) == (hours != 24)


def test_the_picture_and_the_table_tell_the_same(client: Client, cast: Cast, connection: Connection) -> None:
    other = override("PO1", BOB, NOW + dt.timedelta(hours=1), NOW + dt.timedelta(hours=3))
    keep(connection, schedules=[PRIMARY], overrides={"PPRIM01": [other]}, people=[MINA, BOB])
    client.force_login(cast.vic)
    client.cookies["time_zone"] = "Asia/Tokyo"
    address = path(connection, view="month", zone="Europe/Berlin")
    page, drawn = client.get(address).content.decode(), svg(client, address)
    final = drawn.split('class="lane"')[0]
    table = page.split("The same as a table")[1].split("</table>")[0]
    assert final.count('class="bar ') == table.count("<tr ")
    for name in ("Mina Murray", "Bob Crane"):
        assert name in final
        assert name in table
    assert "overrides" in final
    assert "an override" in table
    assert 'class="handoff from-300"' in final
    assert "Handoff at" in final
    # Of each person the colour and the name or initials, and no style in the page.
    assert "person-0" in final
    assert "style=" not in page
    assert "By the clock of Europe/Berlin" in page


def test_windows_are_moved_by_links_that_work_without_a_script(client: Client, cast: Cast, kept: Connection) -> None:
    client.force_login(cast.vic)
    page = client.get(path(kept, view="month", on="2027-01-15", zone="Europe/Berlin")).content.decode()
    assert 'href="?view=month&amp;on=2026-12-01&amp;zone=Europe%2FBerlin"' in page
    assert 'href="?view=month&amp;on=2027-02-01&amp;zone=Europe%2FBerlin"' in page
    assert "January 2027" in page
    part = client.get(path(kept, view="day"), headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part
    assert 'id="picture"' in part


@pytest.mark.parametrize(
    "query",
    [
        {"view": "year"},
        {"on": "0001-01-01"},
        {"on": "9999-12-31", "view": "month"},
        {"on": "x"},
        {"zone": "../etc/passwd"},
        {"zone": "Mars/Phobos"},
    ],
)
def test_what_no_address_of_ours_asks_for_shows_what_there_is(
    client: Client, cast: Cast, kept: Connection, query: dict[str, str]
) -> None:
    client.force_login(cast.vic)
    assert "Who is on call for Primary" in svg(client, path(kept, **query))


def test_the_past_is_as_pagerduty_had_it_and_what_is_not_kept_is_not_called_a_gap(
    client: Client, cast: Cast, kept: Connection
) -> None:
    now = int(NOW.timestamp())
    PastKnown.objects.create(connection=kept, schedule_id="PPRIM01", since=now - 3 * DAY, until=now - HOUR)
    # Somebody else than today's definition would say, and an hour of nobody.
    PastShift.objects.create(
        connection=kept, schedule_id="PPRIM01", start=now - 3 * DAY, end=now - 2 * HOUR, user_id="PGONE"
    )
    client.force_login(cast.vic)
    day = (NOW - dt.timedelta(days=2)).date().isoformat()
    assert "PGONE" in svg(client, path(kept, view="day", on=day, zone="UTC"))
    page = text(client, path(kept, view="day", on=(NOW - dt.timedelta(days=9)).date().isoformat(), zone="UTC"))
    assert "nothing is known" in page
    assert "Nothing is known of this time." in page


def test_where_pagerduty_renders_otherwise_the_page_says_so_and_where(
    client: Client, cast: Cast, connection: Connection
) -> None:
    entry = {"start": iso(NOW), "end": iso(NOW + dt.timedelta(days=2)), "user": {"id": "PELSE", "summary": "Else"}}
    told = {"final_schedule": {"name": "Final Schedule", "rendered_schedule_entries": [entry]}}
    keep(connection, schedules=[{**PRIMARY, **told}], people=[MINA, BOB])
    row = connection.mirrored.get(remote_id="PPRIM01")
    row.window_start, row.window_end = int(NOW.timestamp()), int(NOW.timestamp()) + 2 * DAY
    row.save()
    client.force_login(cast.vic)
    address = path(connection, zone="UTC")
    assert "PagerDuty renders this schedule otherwise." in text(client, address)
    assert "PagerDuty's own" in svg(client, address).replace("&#x27;", "'")


def test_the_quality_and_the_next_shifts_have_their_parts(client: Client, cast: Cast, kept: Connection) -> None:
    client.force_login(cast.vic)
    page = text(client, path(kept))
    assert re.search(r"Quality over the next 12 weeks: \d+ of 100", page)
    assert "Covered 100.0 %" in page
    assert "Evenly shared" in page
    assert "now, until" in page
    assert "turns of 7 days, Mina Murray → Bob Crane" in page
    assert "Payments (level 1)" in page
    assert 'href="https://acme.pagerduty.com/schedules/PPRIM01"' in client.get(path(kept)).content.decode()


# What they cost


def many(count: int) -> list[Document]:
    people = [person(f"PU{number}", f"Person {number}") for number in range(30)]
    return [
        schedule(
            f"PS{number:05}",
            f"Schedule {number}",
            [
                layer([people[(number + each) % 30] for each in range(5)], START, turn=DAY, id=f"PA{number}"),
                layer([people[(number + each) % 30] for each in range(3)], START, id=f"PB{number}"),
            ],
            zone="Europe/Berlin",
        )
        for number in range(count)
    ]


def test_pages_ask_the_database_as_often_for_many_schedules_as_for_one(
    client: Client, cast: Cast, kept: Connection, django_assert_max_num_queries: object
) -> None:
    client.force_login(cast.vic)
    keep(kept, schedules=many(60))
    for address in ("/schedules/", path(kept), "/my-on-call/"):
        client.get(address)
        with django_assert_max_num_queries(14):  # type: ignore[operator]  # pytest-django leaves it untyped
            client.get(address)


def test_two_hundred_schedules_are_shown_within_200_ms(
    client: Client, cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Django keeps a copy of all that a template was given, for tests alone.
    monkeypatch.setattr("django.test.client.store_rendered_templates", lambda *_, **__: None)
    rows = many(200)
    keep(connection, schedules=rows, policies=[policy(f"PE{n}", f"Policy {n}", [row]) for n, row in enumerate(rows)])
    client.force_login(cast.vic)
    one = "PS00007"
    for address in ("/schedules/", path(connection, one), path(connection, one, view="month"), "/my-on-call/"):
        client.get(address)
        times = []
        for _ in range(20):
            # Of the processor: that others use it at the same time is no fault of the page's.
            began = time.thread_time()
            client.get(address)
            times.append(time.thread_time() - began)
        assert sorted(times)[18] < 0.2, f"{address}: {sorted(times)}"


# One's own


def test_ones_own_on_call_is_found_by_the_address_to_the_letter(client: Client, cast: Cast, kept: Connection) -> None:
    client.force_login(cast.mina)
    page = text(client, "/my-on-call/")
    assert "Primary" in page
    assert "Payments, level 1" in page or "Next: Primary" in page
    assert re.search(r"This month you are on call for \d+ hours", page)
    client.force_login(cast.vic)
    assert "No PagerDuty user with your address, vic@example.com, is mirrored." in text(client, "/my-on-call/")
    # A dotless ı is no i, and capitals are the same.
    keep(kept, people=[person("PVIC", "Vic", "VIC@example.com"), person("PVIC2", "Vic", "v\u0131c@example.com")])
    assert "You are not on call by any schedule now." in text(client, "/my-on-call/")


def test_ones_own_on_call_in_a_workspace_and_why_it_is_empty(client: Client, cast: Cast) -> None:
    client.force_login(cast.zed)
    assert "No PagerDuty connection of yours is switched on" in text(client, "/my-on-call/")
    workspace = do_create_personal_workspace(cast.zed, by=cast.zed)
    own = do_register_token(
        workspace, name="Mine", token="y_NbAkKc66ryYTWUXYEx", kind="user", region="us", by=cast.ada, whole_account=True
    )
    assert "Nobody of PagerDuty is read yet" in text(client, "/my-on-call/")
    zed = person("PZED", "Zed", "zed@example.com")
    night = schedule("PNIGHT1", "Nights", [layer([zed], START)])
    days = schedule("PDAYS01", "Days", [layer([zed], START)])
    keep(own, schedules=[night, days], people=[zed], policies=[policy("PEP9", "By name", [night], [zed])])
    page = text(client, "/my-on-call/")
    assert page.count("on call Nights until") == 1
    assert "By name names you itself, at level 2" in page
    # Of two that have them at once, each hour counts once.
    assert "Two schedules have you at once." in page
    assert "Days and Nights" in page
    hours = int(re.search(r"on call for (\d+) hours", page)[1])  # type: ignore[index]  # no match is a failure, too
    assert hours <= 24 * 31
    client.force_login(cast.rhea)
    assert "An auditor reads none of PagerDuty" in text(client, "/my-on-call/")


def test_ones_own_on_call_is_found_through_a_connection_that_does_not_show_oneself(
    client: Client, cast: Cast, connection: Connection
) -> None:
    nights = schedule("PNIGHT1", "Nights", [layer([MINA], START)])
    keep(connection, schedules=[nights])
    client.force_login(cast.mina)
    assert "No PagerDuty user with your address" in text(client, "/my-on-call/")
    second = do_register_token(
        cast.payments,
        name="Second",
        token="y_NbAkKc66ryYTWUXYEz",
        kind="user",
        region="us",
        by=cast.ada,
        whole_account=True,
    )
    keep(second, schedules=[nights], people=[MINA])
    assert text(client, "/my-on-call/").count("on call Nights until") == 1


def test_the_busiest_schedule_that_pagerduty_takes_is_drawn(
    client: Client, cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django.test.client.store_rendered_templates", lambda *_, **__: None)
    people = [person(f"PU{number}", f"Person {number}") for number in range(60)]
    layers = [layer(people, START, turn=HOUR, id=f"PL{number}", name=f"Layer {number}") for number in range(60)]
    keep(connection, schedules=[schedule("PBUSY01", "Busy", layers)])
    client.force_login(cast.vic)
    later = (NOW + dt.timedelta(days=40)).date().isoformat()
    for view in ("day", "weeks", "month"):
        address = path(connection, "PBUSY01", view=view, on=later)
        began = time.thread_time()
        answer = client.get(address)
        assert time.thread_time() - began < 5, view
        assert answer.status_code == 200
        assert len(answer.content) < 2_000_000
        assert ("too many to draw" in answer.content.decode()) == (view != "day"), view
