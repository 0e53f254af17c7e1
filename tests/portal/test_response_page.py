"""``/escalations/response/``: figures of the analysis in words, what is not known told as such, and a file of them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import unescape
from typing import Any, Final

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations import history as histories
from integrations.actions import do_register_token
from integrations.history import History
from integrations.measured import period, responded
from integrations.models import Connection
from integrations.pagerduty.analysis.incidents import Incident, Step, log_of
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.analysis.response import Estimate, LevelTimes, Response, Slowest, Times
from policies.models import Entry
from portal.oncall.response import columns, duration, interval, levels_chart, slowest_told, waterfall
from tests.conftest import Cast
from tests.kept import keep, policy, schedule, service

PAGE = "/escalations/response/"
DAY, HOUR = 86_400, 3_600
pytestmark = pytest.mark.django_db
Known = Callable[..., Connection]


def register(cast: Cast, team: Any = None, **more: Any) -> Connection:
    values: dict[str, Any] = {"name": "Main", "kind": "account", "region": "us", "by": cast.ada, "whole_account": True}
    return do_register_token(team or cast.payments, **({"token": "y_NbAkKc66ryYTWUXYEu"} | values | more))


def incident(
    number: int, days: float, acknowledged: int | None = None, resolved: int | None = None, **more: Any
) -> Incident:
    """Created so many days ago, by Desk's first level, which is told 10 s later; the rest in seconds after its creation."""
    created = int(timezone.now().timestamp()) - int(days * DAY)
    steps = [
        Step(f"R{number}A", created, "assign", "PUSRA"),
        Step(f"R{number}N", created + 10, "notify", "PUSRA", "push"),
    ]
    if acknowledged is not None:
        steps.append(Step(f"R{number}K", created + acknowledged, "acknowledge", "PUSRA", by="PUSRA"))
    values: dict[str, Any] = {"service_id": "PSVC1", "policy_id": "PPOL1", "priority": "P1", "team_ids": ("PTEAM1",)}
    return Incident(
        f"PI{number:05}",
        created,
        steps=tuple(steps),
        resolved=None if resolved is None else created + resolved,
        status="triggered" if resolved is None else "resolved",
        **(values | more),
    )


def late(number: int, days: float) -> Incident:
    """One that the first level leaves for 10 minutes, and the second, Ben, for 18 more."""
    one = incident(number, days, 28 * 60, 2 * HOUR)
    passed = Step(f"R{number}E", one.created + 600, "escalate", "PUSRB", "timeout")
    return replace(one, steps=tuple(sorted((*one.steps, passed), key=lambda step: step.at)))


HANDFUL: Final[tuple[tuple[Any, ...], ...]] = (
    (0, 10, 120, 3_600, {}),
    (1, 11, 240, 1_800, {"service_id": "PSVC2", "policy_id": "PPOL2", "priority": "P2", "urgency": "low"}),
    (2, 12, None, None, {}),
)


@pytest.fixture
def known(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> Known:
    """Makes a connection with some incidents: of three, two are acknowledged, after two and four minutes."""

    def made(incidents: Sequence[Incident] | None = None, *, days: float | None = 400, **more: Any) -> Connection:
        row = register(cast)
        keep(
            row,
            schedule("PSCH1", "Always"),
            policy("PPOL1", more.pop("name", "Desk"), "PSCH1", "PUSRB"),
            policy("PPOL2", "Books", "PSCH1"),
            service("PSVC1", "PPOL1", "Ledger"),
            service("PSVC2", "PPOL2", "Checkout"),
        )
        if incidents is None:
            incidents = [incident(n, ago, acked, ended, **rest) for n, ago, acked, ended, rest in HANDFUL]
        now = int(timezone.now().timestamp())
        span = None if days is None else Span(now - int(days * DAY), now - 30)
        told = History(log_of(incidents), span, timezone.now(), more.pop("problem", ""), more.pop("running", False))
        monkeypatch.setattr(histories, "history", lambda connection: told)
        return row

    return made


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def text_of(answer: Any) -> str:
    """What is read of a page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def page(client: Client, status: int = 200, **query: Any) -> str:
    answer = client.get(PAGE, query)
    assert answer.status_code == status
    return text_of(answer)


# The figures


def test_cards_tell_the_medians_and_beside_them_why_the_mean_misleads(client: Client, cast: Cast, known: Known) -> None:
    known()
    shown = page(as_(client, cast, "vic"))
    assert "3 incidents created from" in shown
    # After two minutes one of three is acknowledged, after four two thirds are: half within four. The mean of these two is three.
    assert "Acknowledged 4 min for half of 3" in shown
    assert "For nine of ten it is not known: more than a tenth were not acknowledged." in shown
    assert "The mean would be 3 min: it leaves out the 1 that were not acknowledged." in shown
    # After half an hour one of three is resolved, after an hour the second.
    assert "Resolved 1 h for half of 3" in shown
    assert "No incident was one to measure it by." in shown  # mobilised: nobody was called


def test_the_page_and_the_analysis_say_the_same(client: Client, cast: Cast, known: Known) -> None:
    row = known([incident(n, 1 + n / 2, 60 + 17 * n, 1_000 + 10 * n) for n in range(40)])
    looked_back = period(row, histories.history(row), 90, timezone.now())
    assert looked_back is not None
    times = responded(looked_back).times["acknowledge"]
    assert times.median.seconds is not None
    shown = page(as_(client, cast, "mina"))
    assert (
        f"Acknowledged {duration(times.median.seconds)} for half of 40 ({interval(times.median)})".replace("\xa0", " ")
        in shown
    )


def test_the_slowest_level_is_named_with_what_it_rests_on(client: Client, cast: Cast, known: Known) -> None:
    known([*(incident(n, 1 + n / 2, 120, HOUR) for n in range(100)), *(late(n, n / 2) for n in range(100, 140))])
    answer = as_(client, cast, "vic").get(PAGE, {"by": "level"})
    shown = text_of(answer)
    assert "Level 2 answers slowest: half of what comes to it is acknowledged there within 18 min" in shown
    assert "Their intervals are far apart: it is no chance." in shown
    assert "Level 2 slowest 40 40 18 min" in shown
    # The baseline stands beside it: 28 minutes from creation.
    assert shown.split("Level 2 slowest")[1].split("From when")[0].count("28 min") == 1
    assert "18 min · 40 of 40" in unescape(answer.content.decode()).replace("\xa0", " ")


def test_where_too_little_is_known_no_level_is_named(client: Client, cast: Cast, known: Known) -> None:
    known()
    shown = page(as_(client, cast, "vic"))
    assert "Incidents came to level 1 alone, so there is none to compare it with." in shown
    assert "answers slowest" not in shown


# Tables


@pytest.mark.parametrize(
    ("by", "rows"),
    [
        ("policy", ["Desk 2", "Books 1"]),
        ("service", ["Ledger 2", "Checkout 1"]),
        ("team", ["PTEAM1 3"]),
        ("urgency", ["high 2", "low 1"]),
        ("priority", ["P1 2", "P2 1"]),
    ],
)
def test_tables_are_by_each_thing(client: Client, cast: Cast, known: Known, by: str, rows: list[str]) -> None:
    row = known()
    answer = as_(client, cast, "vic").get(PAGE, {"by": by})
    table = text_of(answer).split(f"By {by}")[1]
    assert [row for row in rows if row in table] == rows
    assert table.index(rows[0]) <= table.index(rows[-1])
    link = {"policy": f"/escalations/{row.pk}/PPOL1/", "service": f"/paged/?of=service.PSVC1.{row.pk}"}.get(by)
    assert link is None or link in answer.content.decode()
    # The tab is in the address, and is swapped in by itself.
    assert f'hx-get="{PAGE}?by=service"' in answer.content.decode()
    part = client.get(PAGE, {"by": by}, headers={"HX-Request": "true", "HX-Target": "by"}).content.decode()
    assert part.lstrip().startswith("<section")
    assert "<html" not in part
    assert "Acknowledged</h2>" not in part


def test_hours_are_those_of_the_reader_and_drawn(client: Client, cast: Cast, known: Known) -> None:
    noon = timezone.now().replace(hour=12, minute=0, second=0, microsecond=0)
    ago = (timezone.now() - noon).total_seconds() / DAY + 3
    known([incident(n, ago + n, 120 * (n + 1), HOUR) for n in range(3)])
    cast.vic.time_zone = "Asia/Kolkata"
    cast.vic.save()
    answer = as_(client, cast, "vic").get(PAGE, {"by": "hour"})
    assert "17:00 3" in text_of(answer)
    assert "12:00 3" not in text_of(answer)
    drawn = answer.content.decode().split('class="card-body hours')[1].split("</svg>")[0]
    assert drawn.count("<rect") == 1
    assert "17:00: 4" in drawn


def test_a_table_of_many_is_turned_page_by_page(client: Client, cast: Cast, known: Known) -> None:
    known([incident(n, 1 + n / 10, 60, 600, service_id=f"PMANY{n}") for n in range(70)])
    as_(client, cast, "vic")
    assert "Page 1 of 3" in page(client, by="service", days="28")
    answer = client.get(PAGE, {"by": "service", "days": "28", "page": "3"})
    assert "Page 3 of 3" in text_of(answer)
    assert "days=28&amp;by=service&amp;page=2" in answer.content.decode()


# Filters


def test_incidents_are_narrowed_by_what_is_chosen(client: Client, cast: Cast, known: Known) -> None:
    known()
    as_(client, cast, "vic")

    def count(**query: Any) -> int:
        found = re.search(r"(\d+) incidents? created from", page(client, **query))
        return int(found[1]) if found else 0

    assert count() == 3
    assert count(policy="PPOL1") == 2
    assert count(service="PSVC2") == 1
    assert count(urgency="low") == 1
    assert count(priority="P1", policy="PPOL2") == 0
    # What is gone, or no choice, narrows nothing.
    assert count(policy="PGONE", days="7", urgency="huge", priority="P9") == 3
    assert "No incident fits" in page(client, priority="P1", policy="PPOL2")
    part = client.get(PAGE, {"urgency": "low"}, headers={"HX-Request": "true", "HX-Target": "found"}).content.decode()
    assert part.lstrip().startswith('<div id="found">')
    assert "urgency=low&amp;by=service" in part


def test_one_of_several_connections_is_looked_at(client: Client, cast: Cast, known: Known) -> None:
    row = known()
    other = register(cast, cast.search, token="y_NbAkKc66ryYTWUXYEw", name="Other")
    keep(other, policy("PPOL9", "Theirs", "PUSRA"), schedule("PSCH1"))
    alone = as_(client, cast, "vic").get(PAGE).content.decode()
    assert '<select name="connection"' not in alone
    # Of another team's one learns nothing.
    assert "Theirs" not in client.get(PAGE, {"connection": str(other.pk)}).content.decode()
    both = as_(client, cast, "ada").get(PAGE, {"connection": str(other.pk)}).content.decode()
    assert '<select name="connection"' in both
    assert "Theirs" in both
    assert "Desk</option>" not in both
    assert f"connection={other.pk}&amp;by=hour" in both
    assert f'name="connection" value="{other.pk}"' in both
    assert "Desk</option>" in client.get(PAGE, {"connection": str(row.pk)}).content.decode()


# What is not known


def test_before_incidents_are_read_it_says_so_and_never_that_there_were_none(
    client: Client, cast: Cast, known: Known
) -> None:
    row = known([], days=None, running=True)
    shown = page(as_(client, cast, "vic"))
    assert "The incidents of Main have not been read yet" in shown
    assert "0 incidents" not in shown
    assert "Export as CSV" not in shown
    part = client.get(PAGE, headers={"HX-Request": "true", "HX-Target": "by"})
    assert part.status_code == 200
    assert client.post(f"{PAGE}csv/", {"connection": str(row.pk)}).status_code == 302


def test_how_far_back_incidents_are_known_is_told(client: Client, cast: Cast, known: Known) -> None:
    known(days=11.5, running=True, problem="PagerDuty answered 403.")
    shown = page(as_(client, cast, "vic"))
    assert "2 incidents created from" in shown
    assert "Of earlier ones of the last 90 days the portal does not know all yet." in shown
    assert "earlier ones are being read" in shown
    assert "Not all incidents could be read: PagerDuty answered 403." in shown
    assert "does not know all" not in page(client, days="28", by="level").replace(
        "the last 28 days the portal does not", ""
    )


def test_without_a_connection_there_is_a_hint(client: Client, cast: Cast) -> None:
    assert "You see no connection to PagerDuty" in page(as_(client, cast, "vic"))
    register(cast)
    assert "Nothing of PagerDuty has been read yet." in page(client)
    assert "nothing of PagerDuty" in page(as_(client, cast, "rhea"))
    assert client.post(f"{PAGE}csv/").status_code == 404


@pytest.mark.parametrize(
    ("who", "sees"), [("ada", True), ("mina", True), ("vic", True), ("omar", False), ("rhea", False)]
)
def test_whoever_sees_coverage_sees_response_times(
    client: Client, cast: Cast, known: Known, who: str, sees: bool
) -> None:
    row = known()
    assert ("Desk" in page(as_(client, cast, who))) is sees
    assert client.post(PAGE).status_code == 405
    assert client.get(f"{PAGE}csv/").status_code == 405
    exported = client.post(f"{PAGE}csv/", {"connection": str(row.pk)})
    assert exported.status_code == (200 if sees else 404)
    assert Entry.objects.filter(record__contains="export_response").exists() is sees


# The file


def test_a_file_has_every_figure_and_that_it_was_taken_is_on_record(client: Client, cast: Cast, known: Known) -> None:
    row = known(name="=HYPERLINK(1)")
    shown = as_(client, cast, "vic").get(PAGE, {"days": "28", "urgency": "high"})
    form = shown.content.decode().split(f'action="{PAGE}csv/"')[1].split("</form>")[0]
    sent = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))
    assert (sent["connection"], sent["days"], sent["urgency"]) == (str(row.pk), "28", "high")
    answer = client.post(f"{PAGE}csv/", sent)
    assert answer["Content-Type"].startswith("text/csv")
    assert answer["X-Content-Type-Options"] == "nosniff"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    whole = {row["measure"]: row for row in rows if row["by"] == "all"}
    # Of two incidents of high urgency one is acknowledged, after two minutes; the other waits: half are within two minutes.
    assert (whole["acknowledge"]["count"], whole["acknowledge"]["happened"]) == ("2", "1")
    assert (whole["acknowledge"]["median_seconds"], whole["acknowledge"]["p90_seconds"]) == ("120.0", "")
    assert {row["by"] for row in rows} == {"all", "policy", "level", "service", "team", "urgency", "priority", "hour"}
    # No spreadsheet runs a name.
    assert {row["name"] for row in rows if row["by"] == "policy"} == {"'=HYPERLINK(1)"}
    entry = Entry.objects.filter(record__contains="export_response").latest("pk")
    change = json.loads(entry.record)["details"]
    assert "urgency=high" in json.dumps(change)
    assert entry.team_id == cast.payments.pk


# Words and drawings


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.2, "under 1 s"),
        (48, "48 s"),
        (60, "1 min"),
        (252, "4 min 12 s"),
        (3_600, "1 h"),
        (3_601, "1 h"),
        (4_800, "1 h 20 min"),
        (183_600, "2 d 3 h"),
    ],
)
def test_durations_are_their_two_largest_units(seconds: float, words: str) -> None:
    assert duration(seconds).replace("\xa0", " ") == words


def test_an_interval_that_is_open_says_so() -> None:
    assert interval(Estimate(60, None, None)) == ""
    assert interval(Estimate(60, 30, None)).replace("\xa0", " ") == "30 s or more"
    assert interval(Estimate(60, None, 90)).replace("\xa0", " ") == "up to 1 min 30 s"
    assert interval(Estimate(60, 60, 60)).replace("\xa0", " ") == "1 min"


def level(
    number: int, median: float | None, low: float, high: float | None, at_least: float | None = None
) -> LevelTimes:
    times = Times(100, 60, Estimate(median, low, high), Estimate(None, None, None), None)
    return LevelTimes("", number, 100, 60, times, 400.0, at_least)


def response(*levels: LevelTimes, slowest: Slowest | None = None) -> Response:
    return Response(Span(0, DAY), 100, {}, (), levels, slowest)


def test_a_level_that_most_leave_unanswered_is_told_by_how_long_they_waited() -> None:
    # Of the second half waits for 1,000 s at least; that ten still did after 1,200 s says less.
    one, two = level(1, 100.0, 90.0, 110.0), level(2, None, 1_000.0, None, 1_200.0)
    told = slowest_told(response(one, two, slowest=Slowest(two, one, sure=False)))
    assert "more than half of what comes to it is not acknowledged there within 16\xa0min 40\xa0s" in told[0]
    assert "not far enough apart" in told[1]
    chart = levels_chart(response(one, two, slowest=Slowest(two, one, sure=False)))
    assert chart is not None
    first, second = chart.bars
    # The longest, 1,000 s, is all but 2 % of the width; the first level's bar is a tenth of it, its interval around its end.
    assert [first.width, second.width] == pytest.approx([9.8, 98.04], abs=0.01)
    # What has no end is drawn to the edge, and not closed there.
    assert first.whisker is not None
    assert second.whisker is not None
    assert [*first.whisker, *second.whisker] == pytest.approx([8.82, 10.78, 98.04, 100.0], abs=0.01)
    assert (second.is_open, first.is_open) == (True, False)
    assert [bar.is_main for bar in chart.bars] == [False, True]
    assert "over 16\xa0min 40\xa0s" in second.words
    assert all(tick.x < 100 for tick in chart.ticks)
    assert levels_chart(response(one)) is None
    assert waterfall(response(one)) is None


def test_an_hour_without_a_known_median_has_no_column() -> None:
    drawn, highest = columns(())
    assert len(drawn) == 24
    assert not any(each.is_known for each in drawn)
    assert highest


# Whatever names hold


def test_a_page_costs_no_more_look_ups_for_more_incidents(client: Client, cast: Cast, known: Known) -> None:
    known()
    as_(client, cast, "vic").get(PAGE)
    with CaptureQueriesContext(database) as few:
        client.get(PAGE)
    assert len(few) <= 12
