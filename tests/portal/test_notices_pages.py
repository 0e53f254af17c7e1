"""The pages Notices and Checks of a team: who sees what, what managers do there, and what it costs."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any
from urllib.parse import quote

import pytest
from django.test import Client
from django.utils import timezone

from integrations import tasks
from integrations.models import CheckRun, Connection, Delivery, NoticedGap, NoticeSettings, StandingCheck, Webhook
from integrations.notices import look
from integrations.webhooks import deliveries
from integrations.webhooks.transport import Answer
from policies.models import ConfigChange, Entry
from tests import documents
from tests.conftest import Cast

NOTICES, CHECKS = "/teams/payments/notices/", "/teams/payments/checks/"
URL = "https://hooks.example.com/services/T0/B0/s3cr3tXYZ1"
PAM, SAM = documents.person("PPAM", "Pam"), documents.person("PSAM", "Sam")


@pytest.fixture(autouse=True)
def queued(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is left to the worker."""
    found: list[str] = []
    monkeypatch.setattr(tasks.send_notices, "enqueue", lambda: found.append("send"))
    return found


@pytest.fixture
def read(connection: Connection) -> Connection:
    """Checkout pages Pam on all days but Sundays; Books pages nobody ever."""
    since = timezone.now() - dt.timedelta(days=30)
    weekdays = {
        "type": "weekly_restriction",
        "start_day_of_week": 1,
        "start_time_of_day": "00:00:00",
        "duration_seconds": 6 * 86_400,
    }
    rota = documents.schedule("PROTA01", "Rota", [documents.layer([PAM], since, restrictions=[weekdays])])
    empty = documents.schedule("PEMPTY1", "Empty", [])
    checkout, books = (
        documents.policy("PCHECK1", "Checkout first", [rota]),
        documents.policy("PBOOKS1", "Books", [empty]),
    )
    documents.keep(
        connection,
        schedules=[rota, empty],
        policies=[checkout, books],
        services=[_service("PSVC001", "Checkout", checkout), _service("PSVC002", "Ledger", books)],
        people=[PAM, SAM],
    )
    return connection


def _service(id: str, name: str, policy: dict[str, Any]) -> dict[str, Any]:
    told = {"id": policy["id"], "type": "escalation_policy_reference", "summary": policy["name"]}
    return {"id": id, "type": "service", "name": name, "summary": name, "status": "active", "escalation_policy": told}


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def page(client: Client, cast: Cast, who: str, path: str) -> str:
    answer = as_(client, cast, who).get(path)
    assert answer.status_code == 200
    return answer.content.decode()


# Notices


def test_before_anything_is_there_the_page_says_what_to_do_first(client: Client, cast: Cast) -> None:
    shown = page(client, cast, "mina", NOTICES)
    assert "First register a PagerDuty token under" in shown
    assert "Nothing was told yet." in shown
    assert 'value="14"' in shown
    shown = page(client, cast, "vic", NOTICES)
    assert "First a manager registers a PagerDuty token" in shown
    assert "<form" not in shown.partition('id="main"')[2]


def test_the_first_look_is_announced(client: Client, cast: Cast, connection: Connection) -> None:
    assert "The first look is still to come" in page(client, cast, "vic", NOTICES)


def test_gaps_that_were_noticed_are_listed_with_what_was_told(client: Client, cast: Cast, read: Connection) -> None:
    look(cast.payments, timezone.now())
    assert NoticedGap.objects.filter(policy_id="PBOOKS1", is_endless=True).count() == 1
    for who in ("mina", "vic", "ada"):
        shown = page(client, cast, who, NOTICES)
        assert "Checkout first" in shown
        assert "no end in sight" in shown
        assert f'href="/coverage/{read.pk}/PBOOKS1/"' in shown
        assert "gaps in which nobody would be paged" in shown
        assert "was looked through" in shown
    assert as_(client, cast, "omar").get(NOTICES).status_code == 404


def test_an_auditor_reads_what_was_told_and_nothing_of_pagerduty(client: Client, cast: Cast, read: Connection) -> None:
    look(cast.payments, timezone.now())
    shown = page(client, cast, "rhea", NOTICES)
    assert "Gap noticed" in shown
    assert "Checkout first" not in shown
    assert "nobody would be paged" not in shown.partition("What was told")[2]


def test_why_gaps_are_not_looked_for_is_told(client: Client, cast: Cast, connection: Connection) -> None:
    look(cast.payments, timezone.now())
    shown = page(client, cast, "mina", NOTICES)
    assert "Gaps are not looked for through" in shown
    assert "have not been read yet" in shown


def test_a_manager_chooses_how_far_ahead_and_by_which_way(client: Client, cast: Cast) -> None:
    values = {"action": "settings", "horizon_days": "30", "reason": "longer rotas"}
    shown = as_(client, cast, "mina").post(NOTICES, values, follow=True).content.decode()
    assert "Noted" in shown
    row = NoticeSettings.objects.get()
    assert (row.horizon_days, row.by_email) == (30, False)
    assert ConfigChange.objects.get(action="set_notices").reason == "longer rotas"
    answer = client.post(NOTICES, {"action": "settings", "horizon_days": "85"})
    assert answer.status_code == 422
    assert NoticeSettings.objects.get().horizon_days == 30
    assert "Nobody is mailed." in page(client, cast, "vic", NOTICES)


def test_the_secret_is_shown_once_and_the_address_never_again(client: Client, cast: Cast) -> None:
    answer = as_(client, cast, "mina").post(NOTICES, {"action": "webhook", "url": URL})
    shown = answer.content.decode()
    assert answer.status_code == 200
    secret = shown.partition('id="raw-secret">')[2].partition("<")[0]
    assert secret.startswith("pws_")
    assert "no-store" in answer["Cache-Control"]
    for who in ("mina", "ada", "vic", "rhea"):
        again = page(client, cast, who, NOTICES)
        assert "https://hooks.example.com/…XYZ1" in again
        for hidden in (secret, "s3cr3t", "/services/"):
            assert hidden not in again
    answer = as_(client, cast, "mina").post(NOTICES, {"action": "renew"})
    renewed = answer.content.decode().partition('id="raw-secret">')[2].partition("<")[0]
    assert renewed.startswith("pws_")
    assert renewed != secret
    assert "the one before signs beside it until" in answer.content.decode()


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/", "https://10.0.0.1/hunter2", "https://localhost/", "nonsense"]
)
def test_an_address_that_may_not_be_is_said_beside_the_form(client: Client, cast: Cast, url: str) -> None:
    answer = as_(client, cast, "mina").post(NOTICES, {"action": "webhook", "url": url})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode()
    assert not Webhook.objects.exists()


def test_a_test_is_sent_by_the_worker_and_its_outcome_is_followed(
    client: Client, cast: Cast, queued: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Answering:
        def send(self, *_: Any, **__: Any) -> Answer:
            return Answer(202, milliseconds=12)

    monkeypatch.setattr(deliveries, "transport", Answering)
    as_(client, cast, "mina").post(NOTICES, {"action": "webhook", "url": URL})
    shown = client.post(NOTICES, {"action": "test"}, follow=True).content.decode()
    assert queued == ["send"]
    assert "A test is on its way" in shown
    assert f'hx-get="{NOTICES}" hx-trigger="every 2s"' in shown
    tasks.send_notices()
    headers = {"HX-Request": "true", "HX-Target": "deliveries"}
    part = client.get(NOTICES, headers=headers).content.decode()
    assert "<html" not in part
    assert "It answered 202, after 12 ms." in part
    assert "hx-trigger" not in part
    assert "asked for by mina@example.com" in part
    assert [row.outcome for row in Entry.objects.filter(kind="notice").order_by("pk")] == ["intended", "done"]
    shown = page(client, cast, "mina", f"/audit/?q={quote('kind:notice')}")
    assert "Notice to a webhook" in shown
    assert "test, to https://hooks.example.com/…XYZ1" in shown


def test_what_waits_for_its_next_try_is_told_and_not_followed(client: Client, cast: Cast) -> None:
    later = timezone.now() + dt.timedelta(minutes=30)
    common = {"team": cast.payments, "channel": "webhook", "event": "test", "subject": "S", "text": "", "attempts": 2}
    Delivery.objects.create(created_at=timezone.now(), due_at=later, told="It answered 503.", **common)
    shown = page(client, cast, "mina", NOTICES)
    assert "It answered 503." in shown
    assert "Tried 2 times. Next try" in shown
    assert "every 2s" not in shown


def test_removing_the_webhook_says_so(client: Client, cast: Cast) -> None:
    as_(client, cast, "mina").post(NOTICES, {"action": "webhook", "url": URL})
    shown = client.post(NOTICES, {"action": "remove", "reason": "moved away"}, follow=True).content.decode()
    assert "nothing is posted any more" in shown
    assert ConfigChange.objects.get(action="remove_webhook").reason == "moved away"
    for action in ("remove", "renew", "test"):
        assert "has no webhook" in client.post(NOTICES, {"action": action}, follow=True).content.decode()
    assert client.post(NOTICES, {"action": "nonsense"}).status_code == 404


@pytest.mark.parametrize("path", [NOTICES, CHECKS])
def test_members_and_auditors_change_nothing_and_others_learn_nothing(client: Client, cast: Cast, path: str) -> None:
    for who, status in (("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)):
        assert as_(client, cast, who).post(path, {"action": "webhook", "url": URL}).status_code == status
    assert as_(client, cast, "mina").put(path).status_code == 405


@pytest.mark.parametrize("count", [1, 30])
def test_the_page_asks_as_much_for_many_notices_as_for_one(
    client: Client, cast: Cast, read: Connection, django_assert_max_num_queries: Any, count: int
) -> None:
    look(cast.payments, timezone.now())
    [first] = Delivery.objects.all()
    [gap] = NoticedGap.objects.filter(policy_id="PBOOKS1")
    for number in range(count):
        first.pk = None
        Delivery.objects.create(**{f.attname: getattr(first, f.attname) for f in first._meta.fields if f.name != "id"})
        values = {f.attname: getattr(gap, f.attname) for f in gap._meta.fields if f.name != "id"}
        NoticedGap.objects.create(**{**values, "policy_id": f"PX{number}"})
    as_(client, cast, "mina").get(NOTICES)
    with django_assert_max_num_queries(12):
        assert client.get(NOTICES).status_code == 200


# Checks


def filled(connection: Connection, **more: Any) -> dict[str, Any]:
    return {
        "about": f"service.PSVC001.{connection.pk}",
        "weekdays": ["7"],
        "clock": "03:00",
        "time_zone": "UTC",
        "whom": "anybody",
        "within_minutes": "15",
        **more,
    }


@pytest.fixture
def check(client: Client, cast: Cast, read: Connection) -> StandingCheck:
    as_(client, cast, "mina").post(CHECKS, filled(read))
    return StandingCheck.objects.get()


def test_before_there_is_a_check_the_page_says_what_to_do_first(client: Client, cast: Cast) -> None:
    assert "First register a PagerDuty token under" in page(client, cast, "mina", CHECKS)
    assert "First a manager registers" in page(client, cast, "vic", CHECKS)


def test_before_anything_was_read_it_says_so(client: Client, cast: Cast, connection: Connection) -> None:
    shown = page(client, cast, "mina", CHECKS)
    assert "nothing was read of PagerDuty so far" in shown
    assert "Make a check" not in shown
    assert "A manager makes them." in page(client, cast, "vic", CHECKS)


def test_a_check_is_made_run_and_told(client: Client, cast: Cast, read: Connection, queued: list[str]) -> None:
    shown = page(client, cast, "mina", CHECKS)
    assert "Make the first one below" in shown
    assert "Checkout</option>" in shown
    assert "Checkout first (escalation policy)</option>" in shown
    answer = client.post(CHECKS, filled(read), follow=True)
    row = StandingCheck.objects.get()
    assert answer.redirect_chain == [(f"{CHECKS}{row.pk}/", 302)]
    shown = answer.content.decode()
    assert "Checkout at 03:00 on Sundays (UTC) must reach anybody within 15 minutes" in shown
    assert "Nobody is on call on any level" in shown
    assert f"/paged/?of=service.PSVC001.{read.pk}&amp;at=" in shown
    assert (row.state, row.made_by, CheckRun.objects.get().asked_by) == (
        "fails",
        "mina@example.com",
        "mina@example.com",
    )
    assert [(each.event, each.channel) for each in Delivery.objects.all()] == [("check_failed", "email")]
    assert queued == ["send"]
    assert client.get(f"/paged/?of=service.PSVC001.{read.pk}").status_code == 200
    for who in ("mina", "vic", "ada"):
        listed = page(client, cast, who, CHECKS)
        assert f'href="{CHECKS}{row.pk}/"' in listed
        assert "fails" in listed
        assert "Nobody is on call" in listed


def test_an_auditor_sees_checks_and_how_they_stand_and_not_who_is_on_call(
    client: Client, cast: Cast, read: Connection
) -> None:
    as_(client, cast, "mina").post(CHECKS, filled(read, weekdays=["3"]))
    row = StandingCheck.objects.get()
    assert "Pam would be told" in page(client, cast, "vic", f"{CHECKS}{row.pk}/")
    for path in (CHECKS, f"{CHECKS}{row.pk}/"):
        shown = page(client, cast, "rhea", path)
        assert "Checkout at 03:00 on Wednesdays" in shown
        assert "holds" in shown
        assert "Pam" not in shown


def test_what_is_wrong_is_said_beside_the_form_and_what_was_typed_stays(
    client: Client, cast: Cast, read: Connection
) -> None:
    as_(client, cast, "mina")
    for wrong, told in (
        ({"weekdays": []}, "Choose at least one day of the week."),
        ({"whom": "people", "people": []}, "Choose at least one person."),
        ({"about": "service.PGONE01.x"}, "Select a valid choice"),
        ({"time_zone": "Mars/Olympus"}, "Select a valid choice"),
        ({"clock": "25:00"}, "Enter a valid time"),
        ({"within_minutes": "-1"}, "greater than or equal to 0"),
    ):
        answer = client.post(CHECKS, filled(read, **wrong))
        assert answer.status_code == 422
        assert told in answer.content.decode()
    assert 'value="-1"' in answer.content.decode()
    assert not StandingCheck.objects.exists()


def test_named_people_are_chosen_by_name_and_kept_by_id(client: Client, cast: Cast, read: Connection) -> None:
    as_(client, cast, "mina").post(CHECKS, filled(read, weekdays=["1"], whom="people", people=["PPAM", "PSAM"]))
    row = StandingCheck.objects.get()
    assert (row.whom_ids, row.whom_names, row.state) == (["PPAM", "PSAM"], ["Pam", "Sam"], "holds")
    shown = page(client, cast, "mina", f"{CHECKS}{row.pk}/")
    assert "must reach Pam or Sam within" in shown
    assert '<option value="PPAM" selected>' in shown


def test_run_now_keeps_a_history(client: Client, cast: Cast, check: StandingCheck) -> None:
    here = f"{CHECKS}{check.pk}/"
    shown = as_(client, cast, "mina").post(here, {"action": "run"}, follow=True).content.decode()
    assert "It fails: " in shown
    assert check.runs.count() == 2
    assert client.post(here, {"action": "nonsense"}).status_code == 404
    for who, status in (("vic", 403), ("rhea", 403), ("omar", 404)):
        for action in ("run", "change", "remove"):
            assert as_(client, cast, who).post(here, {"action": action}).status_code == status
    assert as_(client, cast, "omar").get(here).status_code == 404
    assert as_(client, cast, "omar").get(f"/teams/search/checks/{check.pk}/").status_code == 404


def test_a_check_is_changed_and_removed(client: Client, cast: Cast, read: Connection, check: StandingCheck) -> None:
    here = f"{CHECKS}{check.pk}/"
    as_(client, cast, "mina")
    values = {"action": "change", **filled(read, weekdays=["2"]), "reason": "another day"}
    shown = client.post(here, values, follow=True).content.decode()
    assert "Checkout at 03:00 on Tuesdays" in shown
    check.refresh_from_db()
    assert (check.state, check.told_state) == ("holds", "")
    assert [row.event for row in Delivery.objects.order_by("created_at")] == ["check_failed", "check_holds"]
    assert client.post(here, {"action": "change", **filled(read, weekdays=[])}).status_code == 422
    shown = client.post(here, {"action": "remove", "reason": "done with"}, follow=True).content.decode()
    assert "The check is removed." in shown
    assert client.get(here).status_code == 404
    assert ConfigChange.objects.get(action="remove_standing_check").reason == "done with"


def test_a_check_of_what_is_gone_can_still_be_seen_and_changed(
    client: Client, cast: Cast, read: Connection, check: StandingCheck
) -> None:
    Connection.objects.filter(pk=read.pk).update(is_enabled=False)
    shown = page(client, cast, "mina", f"{CHECKS}{check.pk}/")
    assert "Checkout (as it is)" in shown


@pytest.mark.parametrize("count", [1, 20])
def test_the_list_asks_as_much_for_many_checks_as_for_one(
    client: Client, cast: Cast, check: StandingCheck, django_assert_max_num_queries: Any, count: int
) -> None:
    values = {f.attname: getattr(check, f.attname) for f in check._meta.fields if f.name != "id"}
    for _ in range(count):
        StandingCheck.objects.create(**values)
    as_(client, cast, "mina").get(CHECKS)
    with django_assert_max_num_queries(11):
        assert client.get(CHECKS).status_code == 200
    with django_assert_max_num_queries(12):
        assert client.get(f"{CHECKS}{check.pk}/").status_code == 200


def test_changes_are_told_in_the_record_in_words(client: Client, cast: Cast, check: StandingCheck) -> None:
    shown = page(client, cast, "mina", f"/audit/?q={quote('kind:config')}")
    assert "make standing check: Checkout (check" in shown
    record = json.loads(Entry.objects.filter(kind="config").latest("pk").record)
    assert record["details"]["after"]["check"].startswith("Checkout at 03:00 on Sundays")


def test_the_record_of_a_notice_tells_what_was_sent_and_what_came_of_it(
    client: Client, cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def send(self, *_: Any, **__: Any) -> Answer:
            return Answer(failure="timeout", detail="no answer within 10 seconds")

    monkeypatch.setattr(deliveries, "transport", Away)
    as_(client, cast, "mina").post(NOTICES, {"action": "webhook", "url": URL})
    client.post(NOTICES, {"action": "test"})
    tasks.send_notices()
    shown = page(client, cast, "mina", f"/audit/{Entry.objects.filter(kind='notice').latest('pk').pk}/")
    for told in (
        "https://hooks.example.com/…XYZ1",
        "no answer within 10 seconds",
        "SHA-256 of the body",
        "not certain",
    ):
        assert told in shown
    assert "At PagerDuty" not in shown
