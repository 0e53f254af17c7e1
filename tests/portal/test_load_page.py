"""``/load/``: whose load is shown to whom, how it is told, taken away as a file, and shared better by swaps."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import re
from collections.abc import Callable, Iterable, Sequence
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from integrations import history as past
from integrations.actions import do_register_token
from integrations.gateway import web
from integrations.history import History
from integrations.models import Connection, Mirror
from integrations.pagerduty.analysis.incidents import Incident, Step, log_of
from integrations.pagerduty.analysis.load import Duty
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_tools
from policies.core.call import State
from policies.models import Entry, Membership, User
from portal.views import load as page_of_load
from tests.conftest import Cast
from tests.kept import keep, person, policy, schedule, service
from tests.mirrored import mirrored

LOAD = "/load/"
EXPORT = "/load/export/"
DAY = 86_400
WEEK = 7 * DAY
HOUR = 3_600
pytestmark = pytest.mark.django_db

NAMES = {
    "PUSRA": "Ann Archer",
    "PUSRB": "Ben Baker",
    "PUSRC": "Cem Cooper",
    "PUSRD": "Dee Draper",
    "PUSRE": "Eve Ewing",
    "PUSRF": "Vic Fuller",
}
"""Vic is one of them, by the address."""
Made = Callable[..., None]


def midnight() -> int:
    return int(timezone.now().timestamp()) // DAY * DAY


def register(cast: Cast, **more: Any) -> Connection:
    values: dict[str, Any] = {"name": "Main", "kind": "account", "region": "us", "by": cast.ada, "whole_account": True}
    return do_register_token(cast.payments, **({"token": "y_NbAkKc66ryYTWUXYEu"} | values | more))


@pytest.fixture
def known(cast: Cast) -> Connection:
    """Six people take turns by the week on Rota, which Desk pages."""
    row = register(cast)
    people = [person(user, name) for user, name in NAMES.items()]
    people[5]["email"] = "Vic@example.com"
    keep(row, schedule("PSCH1", "Rota", users=list(NAMES)), policy("PPOL1", "Desk", "PSCH1"), *people)
    keep(row, service("PSVC1", "PPOL1", "Books"))
    return row


def weekly(users: Sequence[str], days: int) -> tuple[Duty, ...]:
    """Turns of a week each, up to now."""
    now = int(timezone.now().timestamp())
    starts = range(midnight() - days // 7 * WEEK, now, WEEK)
    return tuple(
        Duty(start, min(start + WEEK, now), users[number % len(users)], 1, "PSCH1", "PPOL1")
        for number, start in enumerate(starts)
    )


def paged(pages: Iterable[tuple[str, int]], *, way: str = "phone") -> list[Incident]:
    """An incident for each person and time."""
    return [
        Incident(
            f"PI{number:05}",
            at - 60,
            policy_id="PPOL1",
            service_id="PSVC1",
            steps=(Step(f"RI{number}", at, "notify", user, way),),
        )
        for number, (user, at) in enumerate(pages)
    ]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Puts in the place of what is mirrored of the past what a test says it was, known for as many ``days``."""

    def put(
        pages: Iterable[tuple[str, int]] = (),
        *,
        days: int = 400,
        users: Sequence[str] = tuple(NAMES),
        turns: int | None = None,
        **more: Any,
    ) -> None:
        now = int(timezone.now().timestamp())
        log = log_of(paged(pages))
        values: dict[str, Any] = {
            "known": Span(now - days * DAY, now),
            "as_of": timezone.now(),
            "problem": "",
            "running": False,
        }
        told = History(log, **(values | more))
        had = weekly(users, days)

        def duties(_: Connection, window: Span) -> tuple[tuple[Duty, ...], Span | None]:
            if turns == 0:
                return (), None
            start = window.start if turns is None else max(window.start, now - turns * DAY)
            return tuple(one for one in had if one.end > start), Span(start, window.end)

        monkeypatch.setattr(past, "history", lambda _: told)
        monkeypatch.setattr(past, "duties", duties)

    return put


def nights(user: str, count: int, *, hour: int = 3, since: int = 1) -> list[tuple[str, int]]:
    """A page in as many nights, the last of them ``since`` days ago."""
    return [(user, midnight() - day * DAY + hour * HOUR) for day in range(since, since + count)]


@pytest.fixture
def uneven(known: Connection, made: Made) -> Connection:
    """In the last four weeks Ann had 23 of 50 pages at night, Ben 12, Cem 9, Dee 6; Vic three by day, and Eve none."""
    made(
        [
            *nights("PUSRA", 23),
            *nights("PUSRB", 12, hour=2),
            *nights("PUSRC", 9, hour=4),
            *nights("PUSRD", 6, hour=5),
            *nights("PUSRF", 3, hour=12),
        ]
    )
    return known


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def text_of(answer: Any) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def page(client: Client, path: str = LOAD, status: int = 200, **query: Any) -> str:
    answer = client.get(path, query)
    assert answer.status_code == status
    return text_of(answer)


def people_of(client: Client, **query: Any) -> list[str]:
    """The names in the table of people, in its order."""
    body = client.get(LOAD, query).content.decode()
    table = body.split('aria-labelledby="people"')[2].split("</table>")[0]
    return [
        unescape(re.sub(r"<[^>]+>", "", found)).strip() for found in re.findall(r'<th scope="row">(.*?)</th>', table)
    ]


# What managers see


def test_whoever_is_paged_most_at_night_comes_first_with_the_share(
    client: Client, cast: Cast, uneven: Connection
) -> None:
    shown = page(as_(client, cast, "mina"), days=90)
    assert (
        "6 people were on call or paged: 53 pages, 50 of them in somebody's sleep hours. Ann Archer had 46 % of these."
        in shown
    )
    assert people_of(client, days=90) == [
        "Ann Archer",
        "Ben Baker",
        "Cem Cooper",
        "Dee Draper",
        "Vic Fuller",
        "Eve Ewing",
    ]
    # 23 of 50 in sleep hours; Ben's are 12.
    assert "23 46 % of all" in shown
    assert "12 24 % of all" in shown
    assert "23 sleep · 0 off · 0 business" in shown
    # Vic's three at noon: off hours, where it was a weekend.
    assert re.search(r"0 sleep · (0 off · 3|1 off · 2|2 off · 1) business", shown)


def test_people_are_sorted_by_what_the_address_says_and_links_keep_the_rest_of_it(
    client: Client, cast: Cast, uneven: Connection
) -> None:
    as_(client, cast, "mina")
    assert people_of(client, days=90, sort="name") == sorted(NAMES.values())
    assert people_of(client, days=90, sort="nonsense")[0] == "Ann Archer"
    body = client.get(LOAD, {"days": "90", "sort": "name", "hours": "insights"}).content.decode()
    assert f'href="?connection={uneven.pk}&amp;days=90&amp;hours=insights&amp;sort=pages"' in body
    assert body.count('aria-sort="ascending"') == 1


def test_many_people_are_shown_page_by_page(client: Client, cast: Cast, known: Connection, made: Made) -> None:
    users = [f"PUSR{number:03}" for number in range(60)]
    keep(known, *(person(user, f"Person {user[4:]}") for user in users))
    made(nights("PUSR007", 5), users=users, days=800)
    as_(client, cast, "mina")
    assert len(people_of(client, days=365)) == page_of_load.PEOPLE
    assert "Page 1 of 3" in page(client, days=365)
    assert people_of(client, days=365)[0] == "Person 007"
    assert len(people_of(client, days=365, page=3)) > 0


def test_somebody_is_held_against_their_own_earlier_times(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    # Ann: 20 nights in the last 28 days, and 4 in each 28 days of the 168 before. Ben: 10 now, 10 each time before.
    before = [
        page_
        for time in range(1, 7)
        for page_ in (*nights("PUSRA", 4, since=1 + 28 * time), *nights("PUSRB", 10, hour=2, since=1 + 28 * time))
    ]
    made([*nights("PUSRA", 20), *nights("PUSRB", 10, hour=2), *before])
    body = client_rows(as_(client, cast, "mina"), days=28)
    assert "▲ more sleep interruptions (usually 4)" in body["Ann Archer"]
    assert "sleep interruptions" not in body["Ben Baker"]
    # Nothing is told against what is not known.
    made(nights("PUSRA", 20), days=40)
    assert "no earlier time is known" in client_rows(client, days=28)["Ann Archer"]


def client_rows(client: Client, **query: Any) -> dict[str, str]:
    """What is told of each person in the table, by name."""
    body = client.get(LOAD, query).content.decode()
    table = body.split('aria-labelledby="people"')[2].split("</table>")[0]
    rows = [" ".join(unescape(re.sub(r"<[^>]+>", " ", row)).split()) for row in table.split('<tr class="rota">')[1:]]
    return {name: row for row in rows for name in NAMES.values() if row.startswith(name)}


def test_the_hours_that_sleep_is_told_by_are_chosen_and_named(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    # At 21:30 it is an evening for PagerDuty's API, and the night for its Insights.
    made([(user, at + 1800) for user, at in nights("PUSRA", 5, hour=21)])
    as_(client, cast, "mina")
    shown = page(client, days=28)
    assert "By PagerDuty's API: business hours are 08 to 18 on weekdays, sleep hours 22 to 08" in shown
    assert "5 pages, 0 of them in somebody's sleep hours" in shown
    shown = page(client, days=28, hours="insights")
    assert "By PagerDuty's Insights" in shown
    assert "sleep hours 21 to 08" in shown
    assert "5 pages, 5 of them in somebody's sleep hours" in shown


def test_how_evenly_it_is_shared_is_told_in_words_with_what_each_figure_means(
    client: Client, cast: Cast, uneven: Connection
) -> None:
    shown = page(as_(client, cast, "mina"), days=90)
    found = shown.split("How evenly it is shared")[1].split("When people are interrupted")[0]
    # Pages at night of six: 0, 0, 6, 9, 12, 23. Gini: the sum of (2i - 7)·x, i from 1, is -1·6 + 1·9 + 3·12 + 5·23 = 154; by
    # 6·50 it is 0.51.
    assert "Pages in sleep hours Very uneven. Ann Archer has 46 %; shared evenly, each of 6 would have 17 %." in found
    assert "Gini 0.51" in found
    assert "towards 1: one has it all" in found
    assert "of any two, the one with less has on average" in found


def test_nothing_is_claimed_of_fewer_than_three_people(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    made(nights("PUSRA", 20), users=["PUSRA", "PUSRB"])
    shown = page(as_(client, cast, "mina"), days=90)
    found = shown.split("How evenly it is shared")[1].split("When people are interrupted")[0]
    assert "Gini" not in found
    assert "three" in found


def test_the_hours_and_weekdays_are_drawn_and_stand_in_a_table(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    monday = midnight() - (dt.datetime.fromtimestamp(midnight(), dt.UTC).weekday() or 7) * DAY
    made([("PUSRA", monday + 3 * HOUR), ("PUSRA", monday + 3 * HOUR + 600), ("PUSRB", monday + 14 * HOUR)])
    answer = as_(client, cast, "mina").get(LOAD, {"days": 28})
    assert "3 interruptions by hour and weekday; most, 2, on Monday from 03 to 04." in text_of(answer)
    row = re.search(r"Monday</th>(.*?)</tr>", answer.content.decode().split("Interruptions by hour and weekday")[-1])
    assert row is not None
    assert re.findall(r"<td>(\d+)</td>", row[1]) == [{3: "2", 14: "1"}.get(hour, "0") for hour in range(24)]


def test_months_are_told_with_whoever_had_most(client: Client, cast: Cast, known: Connection, made: Made) -> None:
    first = timezone.now().astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    last = (first - dt.timedelta(days=1)).replace(day=1)
    at = int(last.timestamp())
    made([("PUSRA", at + day * DAY + 3 * HOUR) for day in range(4)] + [("PUSRB", at + 3 * HOUR)])
    shown = page(as_(client, cast, "mina"))
    table = shown.split("The same as tables")[1]
    row = table.split(f"{last:%B %Y}")[1]
    # Pages, those in sleep hours, interruptions in sleep, off and business hours, and whose most of them were: 4 of 5.
    assert re.match(r" \d+ [\d\u202f]+ 5 5 5 0 0 Ann Archer, 80 %", row), row[:80]


def test_one_persons_page_has_their_worst_nights_by_their_own_clock(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    keep(known, person("PUSRA", "Ann Archer", zone="Asia/Kolkata"))
    # 20:00 UTC is 01:30 in Kolkata, of the next day: the night that began on the same date as in UTC.
    night = midnight() - 3 * DAY + 20 * HOUR
    made([("PUSRA", night), ("PUSRA", night + 600), ("PUSRA", night + 5400), ("PUSRA", night - DAY)])
    as_(client, cast, "mina")
    shown = page(client, person="PUSRA", days=28)
    begins = dt.datetime.fromtimestamp(night, dt.UTC)
    assert f"{begins:%a} {begins.day} {begins:%b %Y} 3 3 01:30, 01:40, 03:00" in shown
    assert "Hours are by the clock of Asia/Kolkata" in shown
    assert "2 nights with an interruption" in shown
    assert page(client, person="PNONE", status=404)
    assert page(client, person="PUSRA", connection="00000000-0000-0000-0000-000000000000", status=404)


def test_who_is_gone_from_pagerduty_has_their_past_by_their_id(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    made(nights("PGONE01", 3))
    as_(client, cast, "mina")
    assert people_of(client, days=28)[0].startswith("PGONE01")
    assert "3 pages in sleep hours" in page(client, person="PGONE01", days=28)
    assert "Their time zone is not known here: hours are by UTC." in page(client, person="PGONE01", days=28)
    assert page(client, days=28).count("time zone not known: by UTC") == 1


def test_in_the_demo_account_priya_has_what_was_planted_of_the_nights_month_by_month(
    client: Client, cast: Cast
) -> None:
    row = register(cast)
    account = mirrored(row, history=True).account
    shown = page(as_(client, cast, "mina"), days=365)
    assert "Priya Sharma had 46 % of these." in shown
    assert people_of(client, days=365)[0] == "Priya Sharma"
    months = shown.split("The same as tables")[1].split("Pages in sleep hours January")[0]
    most = re.findall(r"(\w+ \w+), \d+ %", months)
    assert len(most) >= 11
    assert set(most) == {"Priya Sharma"}
    # Whoever sees no names finds none of anybody's in it either.
    body = told(as_(client, cast, "vic"), LOAD, days=365)
    assert [one.name for one in account.people.values() if one.name in body] == []


# What is not known


def test_it_is_told_how_far_back_it_is_known_and_that_no_more_is_counted(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    made(nights("PUSRA", 20), days=20, running=True)
    shown = page(as_(client, cast, "mina"), days=90)
    assert "not 90 days" in shown
    assert "It is being read" in shown
    since = timezone.now() - dt.timedelta(days=20)
    assert f"Incidents are known since {since.day} {since:%B %Y}" in shown
    assert "These are 20 days" in shown or "These are 19 days" in shown


def test_that_nothing_is_known_is_not_told_as_nothing(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    made(known=None, as_of=None, running=True)
    as_(client, cast, "mina")
    for path in (LOAD, f"{LOAD}?person=PUSRA"):
        shown = page(client, path)
        assert "No incidents are read yet" in shown
        assert "They are being read now" in shown
        assert "0 pages" not in shown
    assert client.post(EXPORT).status_code == 302
    made(turns=0)
    shown = page(client)
    assert "Who was on call is not known yet" in shown
    made(problem="PagerDuty refused log entries: the token may not read them.")
    assert "the token may not read them" in page(client)


def test_where_who_was_on_call_is_known_for_a_part_that_part_is_counted(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    made(nights("PUSRA", 50), turns=10)
    shown = page(as_(client, cast, "mina"), days=90)
    # A page a night, of ten days up to the hour that it is.
    assert re.search(r"\b(9|10) pages\b", shown)
    assert "not 90 days" in shown


def test_who_has_no_connection_is_told_what_to_do(client: Client, cast: Cast) -> None:
    assert "You see no connection to PagerDuty" in page(as_(client, cast, "zed"))
    assert "Auditors read the record and the configuration, and nothing of PagerDuty." in page(
        as_(client, cast, "rhea")
    )


def test_a_mirror_that_is_not_read_yet_says_so(client: Client, cast: Cast) -> None:
    register(cast)
    assert "Nothing of PagerDuty has been read yet" in page(as_(client, cast, "mina"))


# Who sees what


def others() -> list[str]:
    return [name for name in NAMES.values() if name != NAMES["PUSRF"]]


def told(client: Client, path: str, **query: Any) -> str:
    return unescape(client.get(path, query).content.decode())


def test_a_member_sees_themself_and_sums_and_no_other_name_anywhere(
    client: Client, cast: Cast, uneven: Connection
) -> None:
    as_(client, cast, "vic")
    for query in ({}, {"days": 28}, {"days": 365}, {"sort": "name"}, {"person": "me"}, {"person": "PUSRF"}):
        body = told(client, LOAD, **query)
        assert "Vic Fuller" in body
        assert [name for name in others() if name in body] == []
        assert [user for user in NAMES if user != "PUSRF" and user in body] == []
    shown = page(client, days=90)
    assert "All 6 together" in shown
    assert "53, of which 50 in somebody's sleep hours" in shown
    assert "Whoever has most has 46 %" in page(client, days=90)
    assert "PagerDuty team" not in shown
    for user in NAMES:
        assert client.get(LOAD, {"person": user}).status_code == (200 if user == "PUSRF" else 404)
    file = client.post(EXPORT, {"days": 28}).content.decode()
    assert [name for name in others() if name in file] == []
    assert [row["person"] for row in csv.DictReader(io.StringIO(file))] == ["Vic Fuller"]


def test_a_member_chooses_no_part_of_the_sums(client: Client, cast: Cast, known: Connection, made: Made) -> None:
    """The difference of two sums would tell one person's."""
    document = {**policy("PPOL1", "Desk", "PSCH1", teams=["PTEAM1"])}
    keep(known, document)
    made([*nights("PUSRA", 23), *nights("PUSRB", 12, hour=2)])
    as_(client, cast, "vic")
    assert page(client, days=28) == page(client, days=28, pagerduty_team="PTEAM1")


def test_of_fewer_than_five_people_a_member_sees_no_distribution_and_of_two_no_sum(
    client: Client, cast: Cast, known: Connection, made: Made
) -> None:
    as_(client, cast, "vic")
    made(nights("PUSRA", 20), users=["PUSRA", "PUSRB", "PUSRC", "PUSRF"])
    shown = page(client, days=90)
    assert "All 4 together" in shown
    for word in ("Gini", "has most", "When people are interrupted"):
        assert word not in shown
    assert "is shown of five people or more" in shown
    made([*nights("PUSRA", 20), *nights("PUSRF", 2, hour=4)], users=["PUSRA", "PUSRF"])
    shown = page(client, days=90)
    assert "together" not in shown
    assert "Of fewer than three people no sum is shown" in shown
    # Of all pages at night they have 2 of 22: that would tell of 20 more.
    assert "9 %" not in shown
    assert "Everybody" not in shown
    assert "22" not in re.sub(r"\d\d:\d\d|22 to 08", "", shown.split("Export as CSV")[1])


def test_a_member_whose_address_pagerduty_does_not_know_is_told_so(
    client: Client, cast: Cast, uneven: Connection
) -> None:
    User.objects.filter(pk=cast.vic.pk).update(email="other@example.com")
    cast.vic.refresh_from_db()
    as_(client, cast, "vic")
    body = told(client, LOAD, days=28)
    assert "No PagerDuty user with your address, other@example.com, is mirrored" in body
    assert [name for name in NAMES.values() if name in body] == []
    assert len(list(csv.DictReader(io.StringIO(client.post(EXPORT).content.decode())))) == 0
    assert "No PagerDuty user with your address" in page(client, person="me")


def test_of_another_team_nobody_is_seen(client: Client, cast: Cast, uneven: Connection) -> None:
    """Omar manages Search, and sees nothing of Payments; as its member he sees no names."""
    as_(client, cast, "omar")
    assert [name for name in NAMES.values() if name in told(client, LOAD, connection=uneven.pk)] == []
    assert client.get(f"{LOAD}?connection={uneven.pk}&person=PUSRA").status_code == 404
    assert client.post(EXPORT, {"connection": uneven.pk}).status_code == 404
    Membership.objects.create(user=cast.omar, team=cast.payments, role="member")
    body = told(client, LOAD, connection=uneven.pk)
    assert "together" in body
    assert [name for name in NAMES.values() if name in body] == []


def test_an_auditor_sees_nothing_of_it(client: Client, cast: Cast, uneven: Connection) -> None:
    as_(client, cast, "rhea")
    assert [name for name in NAMES.values() if name in told(client, LOAD, connection=uneven.pk)] == []
    assert client.post(EXPORT).status_code == 404
    assert client.get(f"{LOAD}{uneven.pk}/PSCH1/").status_code == 404


def test_my_on_call_leads_to_ones_own_load(client: Client, cast: Cast, uneven: Connection) -> None:
    body = as_(client, cast, "vic").get("/my-on-call/").content.decode()
    assert 'href="/load/?person=me"' in body
    assert "Your load" in page(client, person="me")


# The file


def test_the_file_has_the_same_people_and_that_it_was_taken_is_on_record(
    client: Client, cast: Cast, uneven: Connection
) -> None:
    as_(client, cast, "mina")
    answer = client.post(EXPORT, {"days": 28, "connection": uneven.pk, "sort": "pages"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert tuple(rows[0]) == page_of_load.COLUMNS
    assert [row["person"] for row in rows] == people_of(client, days=28, sort="pages")
    assert (rows[0]["person_id"], rows[0]["sleep_pages"], rows[0]["share_of_sleep_pages"]) == ("PUSRA", "23", "0.4600")
    entry = Entry.objects.filter(record__contains="export_load").get()
    details = json.loads(entry.record)["details"]
    assert (entry.team_id, entry.actor) == (cast.payments.pk, f"user:{cast.mina.pk}")
    assert details["target"] == f"connection={uneven.pk}&days=28&sort=pages"
    assert client.get(EXPORT).status_code == 405


def test_no_spreadsheet_runs_what_somebody_is_called(client: Client, cast: Cast, uneven: Connection) -> None:
    keep(uneven, person("PUSRA", "=HYPERLINK(1)"), person("PUSRB", "@SUM(1)"))
    answer = as_(client, cast, "mina").post(EXPORT, {"days": 28})
    names = [row["person"] for row in csv.DictReader(io.StringIO(answer.content.decode()))]
    assert names[:2] == ["'=HYPERLINK(1)", "'@SUM(1)"]


def test_hostile_names_are_only_text(client: Client, cast: Cast, uneven: Connection) -> None:
    keep(uneven, person("PUSRA", "<b data-hostile>" + "W" * 300))
    as_(client, cast, "mina")
    for query in ({"days": 28}, {"days": 90}, {"person": "PUSRA"}):
        assert b"<b data-hostile" not in client.get(LOAD, query).content
    for odd in ({"days": "9" * 99}, {"page": "-1"}, {"connection": "'"}, {"pagerduty_team": "<"}, {"sort": "\u202e"}):
        assert client.get(LOAD, odd).status_code == 200


# Swaps


@pytest.fixture
def nightly(cast: Cast) -> Connection:
    """Ann has each night by the clock of London, where she is herself. Ben is in Sydney, where it is day then, and has an hour
    a week."""
    row = register(cast)
    rota = schedule("PSCH1", "Rota", users=["PUSRA"])
    [layer] = rota["schedule_layers"]
    night = {"type": "daily_restriction", "start_time_of_day": "20:00:00", "duration_seconds": 12 * HOUR}
    noon = {"type": "weekly_restriction", "start_day_of_week": 3, "start_time_of_day": "14:00:00"}
    ben = [{"user": {"id": "PUSRB", "type": "user_reference", "summary": "Ben"}}]
    rota["schedule_layers"] = [
        {**layer, "id": "L1", "rotation_turn_length_seconds": DAY, "restrictions": [night]},
        {**layer, "id": "L2", "users": ben, "restrictions": [{**noon, "duration_seconds": HOUR}]},
    ]
    keep(
        row,
        rota,
        policy("PPOL1", "Desk", "PSCH1"),
        person("PUSRA", "Ann Archer", zone="Europe/London"),
        person("PUSRB", "Ben Baker", zone="Australia/Sydney"),
    )
    return row


def swaps_path(row: Connection) -> str:
    return f"{LOAD}{row.pk}/PSCH1/"


def sent_by(answer: Any) -> dict[str, list[str]]:
    """What the form of the page sends, all boxes ticked."""
    found: dict[str, list[str]] = {}
    form = answer.content.decode().split('value="accept"')[1].split("</form>")[0]
    for field in re.findall(r"<input [^>]*>", form):
        name, value = re.search(r'name="([^"]+)"', field), re.search(r'value="([^"]*)"', field)
        assert name is not None
        assert value is not None
        found.setdefault(name[1], []).append(unescape(value[1]))
    return {**found, "action": ["accept"]}


class Pipeline:
    """Stands for the one pipeline: keeps what it is asked for, and answers each key once."""

    def __init__(self, *, refuses: int = 99) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.made: set[str] = set()
        self.refuses = refuses

    def __call__(self, tool: Any, arguments: dict[str, Any], *, idempotency_key: str, **_: Any) -> web.Done:
        assert tool.name == "create_schedule_override"
        self.asked.append(arguments)
        self.keys.append(idempotency_key)
        if len(self.asked) > self.refuses:
            error = {"kind": "refused", "problem": "PagerDuty would not.", "remedy": "Ask it why."}
            return web.Done({"error": error}, True, ("d-1",))
        self.made.add(idempotency_key)
        return web.Done({"override": {"id": "POVR1"}}, False, ("d-1",))


@pytest.fixture
def pipeline(monkeypatch: pytest.MonkeyPatch, cast: Cast) -> Pipeline:
    do_set_tools(cast.payments, states={"create_schedule_override": State.ON}, tools=TOOLS, by=cast.mina)
    stands = Pipeline()
    monkeypatch.setattr(web, "use_tool", stands)
    return stands


def test_swaps_are_looked_for_when_they_are_asked_for_and_shown_beside_what_is(
    client: Client, cast: Cast, nightly: Connection
) -> None:
    as_(client, cast, "mina")
    first = client.get(swaps_path(nightly))
    assert 'hx-trigger="load"' in first.content.decode()
    assert "Looking for swaps" in text_of(first)
    asked = {"HX-Request": "true", "HX-Target": "proposal"}
    answer = client.get(swaps_path(nightly), {"weeks": 4}, headers=asked)
    shown = text_of(answer)
    assert "<html" not in answer.content.decode()
    assert "swaps proposed" in shown
    assert "Before and after" in shown
    assert re.search(r"Ben Baker takes over from Ann Archer", shown)
    assert re.search(r"Ann Archer [\d.]+ → [\d.]+ ▼ less", shown)
    assert "create_schedule_override is switched off for Payments" in shown
    # Without htmx it is the same page.
    assert "swaps proposed" in page(client, swaps_path(nightly), found="yes")


def test_swaps_that_are_accepted_are_confirmed_and_made_once_each(
    client: Client, cast: Cast, nightly: Connection, pipeline: Pipeline
) -> None:
    as_(client, cast, "mina")
    proposed = sent_by(client.get(swaps_path(nightly), {"found": "yes"}))
    count = len(proposed["swap"])
    assert count > 1
    asked = client.post(swaps_path(nightly), proposed)
    assert "Confirm: this writes to PagerDuty" in text_of(asked)
    assert pipeline.asked == []
    confirmed = {**sent_by(asked), "confirm": ["yes"]}
    assert confirmed["swap"] == proposed["swap"]
    first = client.post(swaps_path(nightly), confirmed)
    assert "Done" in text_of(first)
    assert len(pipeline.asked) == count
    start, end, _, to = proposed["swap"][0].split(".")
    given = {"schedule_id": "PSCH1", "user_id": to}
    given |= {
        name: f"{dt.datetime.fromtimestamp(int(at), dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
        for name, at in (("start", start), ("end", end))
    }
    assert pipeline.asked[0] == given
    assert Mirror.objects.get(connection=nightly).asked_by == cast.mina.email
    # A second click, and the same in another order, asks for the same again by the same keys.
    client.post(swaps_path(nightly), confirmed)
    client.post(swaps_path(nightly), {**confirmed, "swap": confirmed["swap"][::-1]})
    assert len(pipeline.keys) == 3 * count
    assert len(pipeline.made) == count


def test_one_swap_alone_can_be_accepted(client: Client, cast: Cast, nightly: Connection, pipeline: Pipeline) -> None:
    as_(client, cast, "mina")
    proposed = sent_by(client.get(swaps_path(nightly), {"found": "yes"}))
    one = proposed["swap"][1]
    confirmed = sent_by(client.post(swaps_path(nightly), {**proposed, "only": one}))
    assert confirmed["swap"] == [one]
    client.post(swaps_path(nightly), {**confirmed, "confirm": "yes"})
    assert len(pipeline.asked) == 1
    none = client.post(swaps_path(nightly), {"action": "accept"}, follow=True)
    assert "No swap was chosen" in text_of(none)


def test_a_refusal_is_told_and_what_comes_after_it_is_not_tried(
    client: Client, cast: Cast, nightly: Connection, pipeline: Pipeline
) -> None:
    as_(client, cast, "mina")
    pipeline.refuses = 1
    proposed = sent_by(client.get(swaps_path(nightly), {"found": "yes"}))
    confirmed = {**sent_by(client.post(swaps_path(nightly), proposed)), "confirm": ["yes"]}
    shown = text_of(client.post(swaps_path(nightly), confirmed))
    assert "Done in part" in shown
    assert "PagerDuty would not. Ask it why." in shown
    assert shown.count("not tried") == len(proposed["swap"]) - 2
    assert len(pipeline.asked) == 2


def test_what_is_no_longer_as_it_was_proposed_is_not_written(
    client: Client, cast: Cast, nightly: Connection, pipeline: Pipeline
) -> None:
    as_(client, cast, "mina")
    proposed = sent_by(client.get(swaps_path(nightly), {"found": "yes"}))
    confirmed = {**sent_by(client.post(swaps_path(nightly), proposed)), "confirm": ["yes"]}
    start, end, was, to = proposed["swap"][0].split(".")
    keep(nightly, schedule("PSCH1", "Rota", users=["PUSRB"]))
    answer = client.post(swaps_path(nightly), confirmed, follow=True)
    assert "is not on call any more when" in text_of(answer)
    assert "Nothing was changed" in text_of(answer)
    for odd, status in (
        (f"{start}.{end}.{was}.PNONE", 302),
        (f"1.2.{was}.{to}", 302),
        ("nonsense", 404),
        (f"-1.{end}.{was}.{to}", 404),
        (f"{start}.{end}..{to}", 404),
    ):
        assert client.post(swaps_path(nightly), {**confirmed, "swap": odd}).status_code == status
    assert client.post(swaps_path(nightly), {"action": "nonsense"}).status_code == 404
    assert pipeline.asked == []


def test_whoever_sees_no_names_sees_no_proposals(
    client: Client, cast: Cast, nightly: Connection, pipeline: Pipeline
) -> None:
    as_(client, cast, "mina")
    proposed = sent_by(client.get(swaps_path(nightly), {"found": "yes"}))
    as_(client, cast, "vic")
    answer = client.get(swaps_path(nightly), {"found": "yes"})
    assert answer.status_code == 403
    assert "Ann Archer" not in answer.content.decode()
    assert client.post(swaps_path(nightly), {**proposed, "confirm": "yes", "once": "0" * 32}).status_code == 403
    as_(client, cast, "omar")
    assert client.get(swaps_path(nightly)).status_code == 404
    assert client.get(f"{LOAD}{nightly.pk}/PNONE/").status_code == 404
    assert pipeline.asked == []
