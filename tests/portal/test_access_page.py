"""``/access/``: who could use what on a day, for whom, and as a file that is on record."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from integrations.pagerduty.catalog import TOOLS
from policies import past
from policies.actions import do_issue_key, do_set_tools
from policies.core.call import State
from policies.models import Entry, Team
from portal.audit.export import FORMULA
from portal.views import access
from tests.conftest import Cast

WRITE = "resolve_incident"


@pytest.fixture
def today(cast: Cast) -> dict[str, str]:
    for team, who in ((cast.payments, cast.mina), (cast.search, cast.omar)):
        do_issue_key(team, name=f"=bot of {team.name}", by=who, tools=TOOLS)
        do_set_tools(team, states={WRITE: State.ON}, tools=TOOLS, by=who)
    return {"day": timezone.now().astimezone(dt.UTC).date().isoformat(), "what": f"tool:{WRITE}", "team": ""}


def page(client: Client, cast: Cast, who: str, query: dict[str, str], status: int = 200) -> str:
    client.force_login(getattr(cast, who))
    answer = client.get("/access/", query)
    assert answer.status_code == status
    return answer.content.decode()


def test_each_sees_the_teams_whose_record_they_read(client: Client, cast: Cast, today: dict[str, str]) -> None:
    for who in ("ada", "rhea"):
        text = page(client, cast, who, today)
        assert "2 agent keys and 3 people could." in text
    text = page(client, cast, "mina", today)
    assert "1 agent key and 2 people could." in text
    assert "bot of Search" not in text
    page(client, cast, "mina", {**today, "team": "search"}, 422)
    for who in ("vic", "zed"):
        page(client, cast, who, today, 403)
        assert client.post("/access/export/", {**today, "form": "csv"}).status_code == 403
    assert client.post("/access/").status_code == 405
    assert client.get("/access/export/").status_code == 405


def test_risks_and_categories_find_their_tools(client: Client, cast: Cast, today: dict[str, str]) -> None:
    assert "Resolve incident" in page(client, cast, "rhea", {**today, "what": "risk:medium"})
    assert "Nobody could" in page(client, cast, "rhea", {**today, "what": "risk:high"})
    assert "Resolve incident" in page(client, cast, "rhea", {**today, "what": "category:0"})
    for wrong in ({"what": "tool:nonsense"}, {"day": "2999-01-01"}, {"day": "soon"}, {"what": "category:99"}):
        page(client, cast, "rhea", {**today, **wrong}, 422)


def test_it_is_said_from_when_on_it_can_be_told(client: Client, cast: Cast, today: dict[str, str]) -> None:
    assert "The record of configuration begins at" in page(client, cast, "rhea", today)
    early = page(client, cast, "rhea", {**today, "day": "2020-01-01"})
    assert "of days before it nothing can be told" in early
    assert "Export" not in early


def test_too_long_ago_is_said(
    client: Client, cast: Cast, today: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "MAXIMUM", 2)
    monkeypatch.setattr(past, "STEP", 1)
    assert "it cannot be told that far back" in page(client, cast, "rhea", today)
    client.force_login(cast.rhea)
    assert client.post("/access/export/", {**today, "form": "csv"}).status_code == 302


def test_the_files_say_the_same_run_nothing_and_are_on_record(
    client: Client, cast: Cast, today: dict[str, str]
) -> None:
    client.force_login(cast.rhea)
    answer = client.post("/access/export/", {**today, "form": "csv"})
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(answer.content.decode()))
    assert tuple(head) == access.COLUMNS
    assert len(rows) == 6
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULA)]
    assert sorted(row[head.index("name")] for row in rows if row[head.index("kind")] == "agent key") == [
        "'=bot of Payments",
        "'=bot of Search",
    ]
    client.force_login(cast.mina)
    answer = client.post("/access/export/", {**today, "form": "jsonl"})
    lines = [json.loads(line) for line in answer.content.splitlines()]
    assert {(line["team"], line["tool"]) for line in lines} == {("Payments", WRITE)}
    assert dt.datetime.fromisoformat(lines[0]["from"]) < dt.datetime.fromisoformat(lines[0]["until"])
    entry = Entry.objects.filter(record__contains="export_access").order_by("-pk")[0]
    details: dict[str, Any] = json.loads(entry.record)["details"]
    assert (entry.team_id, entry.actor) == (cast.payments.pk, f"user:{cast.mina.pk}")
    assert details["target"].startswith(f"day={today['day']}")
    assert details["after"]["form"] == "jsonl"
    count = Entry.objects.count()
    assert client.post("/access/export/", {**today, "form": "xlsx"}).status_code == 302
    assert Entry.objects.count() == count


def test_many_teams_cost_the_same_queries(
    client: Client, cast: Cast, today: dict[str, str], django_assert_max_num_queries: Any
) -> None:
    Team.objects.bulk_create(Team(name=f"T{number}", slug=f"t{number}") for number in range(60))
    client.force_login(cast.rhea)
    with django_assert_max_num_queries(25):
        assert client.get("/access/", {**today, "what": "risk:medium"}).status_code == 200
