"""``/mirror/<connection>/refresh/``: how fresh what is kept is, what could not be read, and asking for it anew."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.test import Client, RequestFactory
from django.utils import timezone

from integrations import mirror, tasks
from integrations.models import Connection, Mirror, MirrorPart
from tests.conftest import Cast
from tests.mirrored import mirrored

pytestmark = pytest.mark.django_db
HTMX = {"HX-Request": "true"}


@pytest.fixture
def queued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []
    monkeypatch.setattr(tasks.sync_connection, "enqueue", found.append)
    return found


def as_(person: Any) -> Client:
    client = Client()
    client.force_login(person)
    return client


def path(connection: Connection) -> str:
    return f"/mirror/{connection.pk}/refresh/"


def included(connection: Connection) -> str:
    """As a page includes it."""
    request = RequestFactory().get("/schedules/?team=payments")
    request.htmx = False  # type: ignore[attr-defined]  # a middleware adds it
    return render_to_string("_as_of.html", {"kept": mirror.kept(connection)}, request)


def test_a_page_says_how_fresh_it_is_and_offers_a_refresh(connection: Connection) -> None:
    mirrored(connection)
    MirrorPart.objects.update(as_of=timezone.now() - dt.timedelta(minutes=3, seconds=5))
    page = included(connection)
    assert "3\xa0minutes ago" in page
    assert f'action="{path(connection)}"' in page
    assert 'name="next" value="/schedules/?team=payments"' in page
    assert "alert" not in page
    assert "hx-trigger" not in page


def test_it_says_what_could_not_be_read_and_why(connection: Connection) -> None:
    mirrored(connection)
    MirrorPart.objects.filter(kind="services").update(problem="PagerDuty answered 403: <b>Access Denied</b>.")
    Mirror.objects.update(told="PagerDuty's rate limit was reached: the mirror waits.")
    page = included(connection)
    assert "<strong>services</strong>: PagerDuty answered 403: &lt;b&gt;Access Denied&lt;/b&gt;." in page
    assert "It could not be read to its end: PagerDuty&#x27;s rate limit was reached" in page


def test_what_was_never_read_is_not_told_as_an_empty_account(cast: Cast, connection: Connection) -> None:
    assert mirror.kept(connection).is_empty
    assert "not read to its end yet" in included(connection)
    page = as_(cast.vic).get(path(connection)).content.decode()
    assert "Nothing was read yet" in page


def test_a_member_asks_for_it_and_comes_back_to_where_they_were(
    cast: Cast, connection: Connection, queued: list[str]
) -> None:
    mirrored(connection)
    answer = as_(cast.vic).post(path(connection), {"next": "/teams/?a=1"})
    assert (answer.status_code, answer["Location"]) == (302, "/teams/?a=1")
    assert queued == [str(connection.pk)]
    row = Mirror.objects.get()
    assert row.asked_by == cast.vic.email
    assert mirror.kept(connection).running
    # All is due then, but incidents, of which a day that is over does not change, and what is earlier than what was read first.
    parts = {part.kind: part for part in MirrorPart.objects.all()}
    due = {kind for kind in mirror.MINUTES if mirror._is_due(kind, parts, row, timezone.now())}
    assert due == set(mirror.MINUTES) - {"incidents", "earlier"}


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "/\\evil.example"]
)
def test_it_leads_to_no_other_site(cast: Cast, connection: Connection, queued: list[str], elsewhere: str) -> None:
    answer = as_(cast.vic).post(path(connection), {"next": elsewhere})
    assert answer["Location"] == path(connection)


def test_who_asks_again_and_again_has_it_read_once(cast: Cast, connection: Connection, queued: list[str]) -> None:
    mirrored(connection)
    for _ in range(5):
        as_(cast.vic).post(path(connection), headers=HTMX)
    assert len(queued) == 1


def test_whoever_watches_sees_what_is_read_and_then_the_new_page(
    cast: Cast, connection: Connection, queued: list[str], django_assert_max_num_queries: Any
) -> None:
    mirrored(connection)
    client = as_(cast.vic)
    asked = client.post(path(connection), headers=HTMX).content.decode()
    assert "being read now" in asked
    assert f'hx-get="{path(connection)}?seen=' in asked
    assert "<html" not in asked
    seen = mirror.kept(connection).version
    Mirror.objects.update(holder="x", held_until=timezone.now() + dt.timedelta(minutes=1), begun_at=timezone.now())
    MirrorPart.objects.filter(kind="users").update(begun_at=timezone.now(), ended_at=None)
    with django_assert_max_num_queries(12):
        watched = client.get(f"{path(connection)}?seen={seen}", headers=HTMX).content.decode()
    assert "being read now: people" in watched
    Mirror.objects.update(holder="")
    answer = client.get(f"{path(connection)}?seen={seen}", headers=HTMX)
    assert (answer.status_code, "HX-Refresh" in answer) == (200, False)
    Mirror.objects.update(version=seen + 1)
    answer = client.get(f"{path(connection)}?seen={seen}", headers=HTMX)
    assert (answer.status_code, answer["HX-Refresh"]) == (204, "true")


def test_outsiders_and_auditors_find_nothing_there(cast: Cast, connection: Connection, queued: list[str]) -> None:
    for who in (cast.omar, cast.zed, cast.rhea):
        assert as_(who).get(path(connection)).status_code == 404
        assert as_(who).post(path(connection)).status_code == 404
    assert as_(cast.ada).get(path(connection)).status_code == 200
    assert as_(cast.vic).put(path(connection)).status_code == 405
    assert queued == []


def test_a_connection_that_is_switched_off_has_no_mirror_to_see(
    cast: Cast, connection: Connection, queued: list[str]
) -> None:
    Connection.objects.update(is_enabled=False)
    assert as_(cast.vic).get(path(connection)).status_code == 404


def test_it_says_how_far_back_incidents_are_read(cast: Cast, connection: Connection) -> None:
    mirrored(connection)
    march = int(dt.datetime(2026, 3, 3, 12, tzinfo=dt.UTC).timestamp())
    MirrorPart.objects.create(connection=connection, kind="earlier", begun_at=timezone.now(), since=march)
    page = as_(cast.vic).get(path(connection)).content.decode()
    row = page[page.index("earlier incidents") :].partition("</tr>")[0]
    assert "never read whole, back to" in row
    assert ">3 March 2026</time>" in row
