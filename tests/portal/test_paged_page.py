"""``/paged/``: who would be paged, level by level; what is asked stands in the address."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations.actions import do_register_token
from integrations.models import Connection, MirroredDocument, PastKnown, PastShift
from tests.conftest import Cast
from tests.kept import keep, person, policy, schedule, service

PAGED = "/paged/"
DAY = dt.timedelta(days=1)
pytestmark = pytest.mark.django_db


@pytest.fixture
def known(cast: Cast) -> Connection:
    row = do_register_token(
        cast.payments,
        name="Main",
        token="y_NbAkKc66ryYTWUXYEu",
        kind="account",
        region="us",
        by=cast.ada,
        whole_account=True,
    )
    keep(
        row,
        schedule("PSCH1", "Six days", users=["PUSRA"], days=6),
        schedule("PSCH2", "Always", users=["PUSRB"]),
        policy("PPOL1", "Desk", "PSCH1", "PSCH2", loops=1),
        policy("PPOL2", "Books", "PSCH1"),
        service("PSVC1", "PPOL1", "Checkout"),
        service("PSVC2", "PPOL1", "Mail", incident_urgency_rule={"type": "constant", "urgency": "low"}),
        service("PSVC3", "PPOL1", "Old", status="disabled"),
        person("PUSRA", "Ann", ladder=[("email", 0), ("phone", 5), ("phone", 15)]),
        person("PUSRB", "Ben", ladder=[("phone", 2)]),
    )
    return row


def monday() -> dt.datetime:
    """12:00 UTC of the next one."""
    today = timezone.now().astimezone(dt.UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return today + dt.timedelta(days=7 - today.weekday())


def of(row: Connection, kind: str = "policy", key: str = "PPOL1") -> str:
    return f"{kind}.{key}.{row.pk}"


def stamp(at: dt.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")


def page(client: Client, status: int = 200, **query: str) -> str:
    answer = client.get(PAGED, query)
    assert answer.status_code == status
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def test_each_level_is_told_with_who_by_what_and_when(client: Client, cast: Cast, known: Connection) -> None:
    client.force_login(cast.vic)
    shown = page(client, of=of(known), at=stamp(monday()))
    assert "Level 1 at once" in shown
    assert "Ann Six days , Layer 1 Minute 0: e-mail e••• Minute 5: phone call p•••" in shown
    assert "Minute 15: phone call p••• — not sent: it has gone on by then" in shown
    assert "Unacknowledged, it goes on after 10 minutes. Level 2 after 10 minutes" in shown
    assert "Ben Always , Layer 1 Minute 12: phone call p•••" in shown
    assert "Then again from minute 20" in shown
    assert "After 40 minutes" in shown
    assert "gone through 2 times" in shown


def test_where_a_level_is_skipped_and_where_nobody_is_told(client: Client, cast: Cast, known: Connection) -> None:
    client.force_login(cast.vic)
    sunday = stamp(monday() - DAY + 7 * DAY)
    shown = page(client, of=of(known), at=sunday)
    assert "Level 1 is skipped at once: nobody is on call on Six days." in shown
    assert "Level 2 at once" in shown
    assert "no incident is created, and nobody is told" in page(client, of=of(known, key="PPOL2"), at=sunday)


def test_urgency_and_state_of_the_service_are_taken_along(client: Client, cast: Cast, known: Connection) -> None:
    client.force_login(cast.vic)
    now = stamp(monday())
    assert "with high urgency" in page(client, of=of(known, "service", "PSVC1"), at=now)
    low = page(client, of=of(known, "service", "PSVC2"), at=now)
    assert "an incident of low urgency does not escalate by itself" in low
    assert "Level 2" not in low
    assert "Level 2" in page(client, of=of(known, "service", "PSVC2"), at=now, urgency="high")
    off = page(client, of=of(known, "service", "PSVC3"), at=now, urgency="high")
    assert "The service is disabled: no incident is created" in off


def test_the_address_is_the_question_in_any_zone(client: Client, cast: Cast, known: Connection) -> None:
    client.force_login(cast.vic)
    client.cookies["time_zone"] = "Asia/Tokyo"
    at = monday()
    local = (at + dt.timedelta(hours=9)).strftime("%Y-%m-%dT%H:%M")
    by_clock, absolute = (client.get(PAGED, {"of": of(known), "at": each}) for each in (local, stamp(at)))
    ladders = [each.content.decode().split('class="ladder')[1] for each in (by_clock, absolute)]
    assert ladders[0] == ladders[1]
    # The field shows it by the reader's clock; the address that can be sent to others does not depend on it.
    assert f'value="{local}"' in absolute.content.decode()
    assert f"at={stamp(at).replace(':', '%3A')}" in absolute.content.decode()
    now = client.get(PAGED, {"of": of(known)}).content.decode()
    assert "Keep the answer for this minute" in now


def test_of_the_past_is_told_what_pagerduty_had_then(client: Client, cast: Cast, known: Connection) -> None:
    client.force_login(cast.vic)
    then = (timezone.now() - 3 * DAY).replace(microsecond=0)
    assert "is not kept: it is told by the schedules as they are now" in page(client, of=of(known), at=stamp(then))
    start, end = int((then - DAY).timestamp()), int((then + DAY).timestamp())
    for key, user in (("PSCH1", "PUSRB"), ("PSCH2", "PUSRB")):
        PastKnown.objects.create(connection=known, schedule_id=key, since=start, until=end)
        PastShift.objects.create(connection=known, schedule_id=key, start=start, end=end, user_id=user)
    shown = page(client, of=of(known), at=stamp(then))
    assert "as PagerDuty had it then" in shown
    assert "Ben Six days , as PagerDuty renders it" in shown


@pytest.mark.parametrize(
    "query",
    [
        {"of": "policy.PNONE.x"},
        {"of": "nonsense"},
        {"at": "yesterday"},
        {"at": "9999-12-31T23:59"},
        {"at": "0001-01-01T00:00"},
        {"urgency": "loud"},
        {"of": ""},
    ],
)
def test_what_cannot_be_asked_is_said_at_its_field(
    client: Client, cast: Cast, known: Connection, query: dict[str, str]
) -> None:
    client.force_login(cast.vic)
    assert "Level 1" not in page(client, 422, **{"of": of(known), **query})


@pytest.mark.parametrize(("who", "status"), [("omar", 404), ("zed", 404), ("rhea", 404), ("ada", 200), ("mina", 200)])
def test_outsiders_learn_nothing(client: Client, cast: Cast, known: Connection, who: str, status: int) -> None:
    client.force_login(getattr(cast, who))
    shown = page(client, status, of=of(known))
    assert ("Ann" in shown) is (status == 200)
    assert ("Checkout" in shown) is (status == 200)
    assert client.post(PAGED).status_code == 405
    assert ("Checkout" in page(client)) is (status == 200)


def test_how_people_are_told_may_not_be_known(client: Client, cast: Cast, known: Connection) -> None:
    MirroredDocument.objects.filter(connection=known, kind="users").delete()
    keep(known)
    client.force_login(cast.vic)
    shown = page(client, of=of(known), at=stamp(monday()))
    assert "Pusra" in shown
    assert "How they are told is not known here." in shown


def test_an_answer_costs_a_few_look_ups(client: Client, cast: Cast, known: Connection) -> None:
    client.force_login(cast.vic)
    page(client, of=of(known))
    with CaptureQueriesContext(database) as asked:
        page(client, of=of(known))
    assert len(asked) <= 10
