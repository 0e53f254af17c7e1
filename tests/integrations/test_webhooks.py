"""A team's webhook: what managers do to it, and the outbox that it is sent from: on record before and after, once each."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from django.core import mail
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DatabaseError, transaction
from django.utils import timezone

from integrations.fields import Sealed
from integrations.models import Delivery, NoticeSettings, Webhook
from integrations.webhooks import deliveries
from integrations.webhooks.actions import (
    do_remove_webhook,
    do_renew_webhook_secret,
    do_send_test,
    do_set_webhook,
)
from integrations.webhooks.deliveries import Notice, put, send_due
from integrations.webhooks.message import Address
from integrations.webhooks.transport import Answer, Transport
from policies.actions import Refused, do_lift_stop, do_stop
from policies.models import ConfigChange, Entry
from policies.verification import verify_whole
from tests.conftest import Cast
from tests.integrations.test_notices import together
from tests.integrations.test_webhook_transport import LOOPBACK, OK, Play, answering, local, receiver
from tests.tunnels import written

pytestmark = pytest.mark.django_db
URL = "https://hooks.example.com/services/T0/B0/s3cr3tXYZ1"
GONE = b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"


class Sent:
    """Stands for the transport: answers as it is told, the last answer again and again, and keeps what it was given."""

    def __init__(self, *answers: Answer | BaseException) -> None:
        self.answers = list(answers) or [Answer(200)]
        self.bodies: list[dict[str, Any]] = []
        self.secrets: list[list[str]] = []

    def send(self, row_id: Any, address: Sealed, secrets: Any, **told: Any) -> Answer:
        self.bodies.append(json.loads(told["body"]))
        self.secrets.append([what for what, _ in secrets])
        answer = self.answers[min(len(self.bodies), len(self.answers)) - 1]
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture
def sends(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Sent]:
    def use(*answers: Answer | BaseException) -> Sent:
        made = Sent(*answers)
        monkeypatch.setattr(deliveries, "transport", lambda: made)
        return made

    return use


@pytest.fixture
def now() -> dt.datetime:
    return timezone.now().replace(microsecond=0)


@pytest.fixture
def webhook(cast: Cast) -> Webhook:
    return do_set_webhook(cast.payments, url=URL, by=cast.mina)[0]


def notice(subject: str = "Payments: a gap") -> Notice:
    return Notice(Delivery.Event.GAP_OPENED, subject, "A gap.", {"gaps": [1]}, "/teams/payments/notices/")


def due(cast: Cast, now: dt.datetime, subject: str = "Payments: a gap", *, by_email: bool = False) -> None:
    with transaction.atomic():
        put(cast.payments, notice(subject), NoticeSettings(team=cast.payments, by_email=by_email), now)


def entries() -> list[dict[str, Any]]:
    rows = Entry.objects.filter(kind="notice").order_by("pk")
    return [{"outcome": row.outcome, "id": row.decision_id, **json.loads(row.record)["details"]} for row in rows]


# From end to end


@pytest.fixture
def hooked(
    cast: Cast, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Play], tuple[Any, str]]]:
    """A real receiver of this test's, which the transport may reach: it, and the webhook's secret."""
    from contextlib import ExitStack

    authority = trustme.CA()
    settings.OUTBOUND_CA_FILE = written(authority, tmp_path)
    with ExitStack() as stack:

        def make(play: Play) -> tuple[Any, str]:
            server = stack.enter_context(receiver(authority, play))
            monkeypatch.setattr(deliveries, "transport", lambda: local(LOOPBACK, seconds=2))
            _, secret = do_set_webhook(cast.payments, url=f"https://hooks.example.com:{server.port}/in", by=cast.mina)
            return server, secret

        yield make


@pytest.mark.django_db(transaction=True)  # a verification has one of its own
def test_a_notice_arrives_signed_and_is_on_record_before_and_after(
    cast: Cast, now: dt.datetime, hooked: Callable[[Play], tuple[Any, str]], tmp_path: Path, settings: Any
) -> None:
    settings.CHECKPOINT_DIR = tmp_path / "checkpoints"  # none of another test's
    server, secret = hooked(answering(OK))
    due(cast, now)
    assert send_due(now) == 1
    assert send_due(now + dt.timedelta(days=1)) == 0
    [request] = server.requests
    head, _, body = request.partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    signed = f"{headers['X-Pagewarden-Timestamp']}.".encode() + body
    assert headers["X-Pagewarden-Signature"] == "v1=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    assert abs(int(headers["X-Pagewarden-Timestamp"]) - timezone.now().timestamp()) < 60
    row = Delivery.objects.get()
    document = json.loads(body)
    assert document["id"] == headers["X-Pagewarden-Delivery"] == str(row.pk)
    assert document["event"] == headers["X-Pagewarden-Event"] == "gap_opened"
    assert document["team"] == {"slug": "payments", "name": "Payments"}
    assert document["gaps"] == [1]
    assert (row.state, row.status, row.attempts, row.due_at) == ("sent", 204, 1, None)
    before, after = entries()
    assert (before["outcome"], after["outcome"]) == ("intended", "done")
    assert before["id"] == after["id"]
    assert before["digest"] == after["digest"] == hashlib.sha256(body).hexdigest()
    assert (after["what"], after["status"], after["delivery"]) == ("gap_opened", 204, str(row.pk))
    assert {each.team_id for each in Entry.objects.filter(kind="notice")} == {cast.payments.pk}
    assert verify_whole().fault is None


def test_the_lines_of_the_documentation_verify_it(
    cast: Cast, now: dt.datetime, hooked: Callable[[Play], tuple[Any, str]]
) -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    lines = text[text.index("    import hashlib, hmac, time") :].split("\n")
    code = itertools.takewhile(lambda line: not line or line.startswith("    "), lines)
    told: dict[str, Any] = {}
    exec("\n".join(line[4:] for line in code), told)  # noqa: S102
    server, secret = hooked(answering(OK))
    due(cast, now)
    send_due(now)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
    assert told["is_ours"](secret, headers, body)
    assert not told["is_ours"](secret, headers, body + b" ")
    assert not told["is_ours"]("pws_other", headers, body)
    late = str(int(headers["X-Pagewarden-Timestamp"]) - 301)
    assert not told["is_ours"](secret, {**headers, "X-Pagewarden-Timestamp": late}, body)
    both = f"v1={'0' * 64},{headers['X-Pagewarden-Signature']}"
    assert told["is_ours"](secret, {**headers, "X-Pagewarden-Signature": both}, body)


def test_no_record_and_no_page_of_the_admin_holds_the_address_or_a_secret(
    cast: Cast, now: dt.datetime, hooked: Callable[[Play], tuple[Any, str]]
) -> None:
    _, secret = hooked(answering(BROKEN))
    do_set_webhook(cast.payments, url=URL, by=cast.mina, reason="moved")
    _, renewed = do_renew_webhook_secret(cast.payments, by=cast.mina)
    due(cast, now)
    send_due(now)
    told = [row.record for row in Entry.objects.all()] + [
        json.dumps([row.before, row.after, row.target]) for row in ConfigChange.objects.all()
    ]
    for hidden in (secret, renewed, "s3cr3t", "/services/"):
        assert not any(hidden in text for text in told)
    row = Webhook.objects.get()
    assert str(row.address) == str(row.secret) == "<sealed>"
    assert row.hint == "https://hooks.example.com/…XYZ1"


# Trying again


def test_what_does_not_arrive_is_tried_again_later_and_later_and_given_up_at_last(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(503))
    due(cast, now)
    at, waits = now, []
    while (row := Delivery.objects.get()).due_at is not None:
        waits.append((row.due_at - at).total_seconds() / 60)
        at = row.due_at
        assert send_due(at - dt.timedelta(seconds=1)) == 0
        send_due(at)
    assert waits == [0, 1, 5, 30, 120, 480]
    assert (row.state, row.attempts, row.status) == ("given_up", 6, 503)
    assert row.told == "It answered 503."
    assert len({body["id"] for body in made.bodies}) == 1
    assert [each["attempt"] for each in entries()] == [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize(
    ("answer", "outcome", "told"),
    [
        (Answer(503), "failed", "It answered 503."),
        (Answer(404), "failed", "It answered 404."),
        (Answer(302), "failed", "redirects are not followed"),
        (Answer(failure="timeout", detail="no answer"), "unknown", "It did not answer in time (no answer)."),
        (Answer(failure="connect", detail="refused", sent=False), "failed", "It was not reached (refused)."),
        (Answer(failure="private_address", sent=False), "failed", "Its name leads into a private network."),
    ],
)
def test_how_an_attempt_ended_is_told_and_recorded(
    cast: Cast,
    webhook: Webhook,
    now: dt.datetime,
    sends: Callable[..., Sent],
    answer: Answer,
    outcome: str,
    told: str,
) -> None:
    sends(answer)
    due(cast, now)
    assert send_due(now) == 0
    assert [each["outcome"] for each in entries()] == ["intended", outcome]
    row = Delivery.objects.get()
    assert told in row.told
    assert row.due_at == now + dt.timedelta(minutes=1)


def test_a_receiver_that_is_gone_for_good_is_not_tried_again(
    cast: Cast, now: dt.datetime, hooked: Callable[[Play], tuple[Any, str]]
) -> None:
    server, _ = hooked(answering(GONE))
    due(cast, now)
    send_due(now)
    send_due(now + dt.timedelta(days=1))
    assert len(server.requests) == 1
    assert Delivery.objects.get().state == "given_up"


def test_a_receiver_that_is_down_holds_up_one_attempt_and_no_mail(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(503))
    for number in range(5):
        due(cast, now, f"Payments: gap {number}", by_email=True)
    assert send_due(now) == 5
    assert len(made.bodies) == 1
    assert len(mail.outbox) == 5
    made.answers = [Answer(200)]
    assert send_due(now + dt.timedelta(minutes=1)) == 5


def test_however_much_waits_for_a_receiver_that_is_down_the_others_are_told(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "AT_ONCE", 3)
    do_set_webhook(cast.search, url=URL, by=cast.omar)
    for number in range(5):
        due(cast, now, f"Payments: gap {number}")
    with transaction.atomic():
        put(cast.search, notice("Search: a gap"), NoticeSettings(team=cast.search, by_email=False), now)
    made = sends(Answer(503), Answer(200))
    assert send_due(now) == 1
    assert [body["team"]["slug"] for body in made.bodies] == ["payments", "search"]


# Killed, and two at once


class Killed(BaseException):
    """As a process ends: nothing catches it."""


def test_killed_while_it_is_sent_it_is_told_as_not_certain_and_sent_again_under_its_id(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Killed(), Answer(200))
    due(cast, now)
    with pytest.raises(Killed):
        send_due(now)
    assert [each["outcome"] for each in entries()] == ["intended"]
    assert send_due(now + dt.timedelta(minutes=4)) == 0
    assert send_due(now + dt.timedelta(minutes=6)) == 1
    assert [each["outcome"] for each in entries()] == ["intended", "unknown", "intended", "done"]
    first, lost, second, done = entries()
    assert (first["id"], second["id"]) == (lost["id"], done["id"])
    assert first["id"] != second["id"]
    assert made.bodies[0] == made.bodies[1]


def test_what_is_sent_late_in_a_long_run_is_nobody_elses_meanwhile(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    began = now - dt.timedelta(minutes=10)
    due(cast, began)
    made = sends(Killed(), Answer(200))
    with pytest.raises(Killed):
        send_due(began)
    assert send_due(now) == 0
    assert len(made.bodies) == 1


def test_what_kills_whoever_sends_it_does_not_do_so_for_ever(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Killed())
    due(cast, now)
    for _ in range(6):
        with pytest.raises(Killed):
            send_due(now)
        now += dt.timedelta(minutes=6)
    assert send_due(now) == 0
    assert len(made.bodies) == 6
    row = Delivery.objects.get()
    assert (row.state, row.due_at, row.attempt) == ("given_up", None, "")
    assert [each["outcome"] for each in entries()] == ["intended", "unknown"] * 6


def test_killed_while_it_is_sent_and_the_webhook_removed_its_record_still_ends(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    sends(Killed())
    due(cast, now)
    with pytest.raises(Killed):
        send_due(now)
    do_remove_webhook(cast.payments, by=cast.mina)
    assert send_due(now + dt.timedelta(minutes=6)) == 0
    assert [each["outcome"] for each in entries()] == ["intended", "unknown"]
    row = Delivery.objects.get()
    assert (row.state, row.told) == ("given_up", "The team has no webhook any more.")


def test_what_cannot_be_recorded_is_not_sent(
    cast: Cast,
    webhook: Webhook,
    now: dt.datetime,
    sends: Callable[..., Sent],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    made = sends(Answer(200))
    due(cast, now)

    def away(*_: Any, **__: Any) -> None:
        raise DatabaseError("away")

    with monkeypatch.context() as patch:
        patch.setattr(deliveries, "append_in_transaction", away)
        assert send_due(now) == 0
    assert made.bodies == []
    assert Delivery.objects.get().attempts == 0
    assert send_due(now) == 1


@pytest.mark.django_db(transaction=True)
def test_two_workers_at_once_send_one(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(200))
    for number in range(3):
        due(cast, now, f"Payments: gap {number}")
    logging.disable()  # of SQLite's lock, should one wait too long
    together(lambda: send_due(now))
    send_due(now + dt.timedelta(minutes=6))
    logging.disable(logging.NOTSET)
    assert len({body["id"] for body in made.bodies}) == len(made.bodies) == 3
    assert Delivery.objects.filter(state="sent").count() == 3


@pytest.mark.django_db(transaction=True)
def test_nothing_is_sent_inside_a_transaction(
    cast: Cast, now: dt.datetime, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Looking:
        def send(self, *_: Any, **__: Any) -> Answer:
            # What somebody else sees of the record at that moment.
            thread = threading.Thread(target=look)
            thread.start()
            thread.join()
            return Answer(200)

    def look() -> None:
        from django.db import connection

        seen.append(list(Entry.objects.filter(kind="notice").values_list("outcome", flat=True)))
        connection.close()

    monkeypatch.setattr(deliveries, "transport", Looking)
    due(cast, now)
    send_due(now)
    assert seen == [["intended"]]


# The kill switch


def test_while_a_stop_holds_nothing_goes_to_the_webhook_and_people_are_mailed(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(200))
    stop = do_stop(by=cast.mina, team=cast.payments, reason="it loops")
    due(cast, now, by_email=True)
    assert send_due(now) == 1
    assert (made.bodies, len(mail.outbox), entries()) == ([], 1, [])
    assert "stop" in Delivery.objects.get(channel="webhook").told
    do_lift_stop(stop, by=cast.mina, reason="it is mended")
    assert send_due(now + dt.timedelta(minutes=5)) == 1
    do_stop(by=cast.ada, reason="all of it")
    due(cast, now)
    assert send_due(now) == 0
    assert len(made.bodies) == 1


# What managers do


def test_only_managers_set_renew_remove_and_test(cast: Cast) -> None:
    do_set_webhook(cast.payments, url=URL, by=cast.mina)
    for who in (cast.vic, cast.omar, cast.rhea, cast.zed):
        for act in (
            lambda who=who: do_set_webhook(cast.payments, url=URL, by=who),
            lambda who=who: do_renew_webhook_secret(cast.payments, by=who),
            lambda who=who: do_remove_webhook(cast.payments, by=who),
            lambda who=who: do_send_test(cast.payments, by=who),
        ):
            with pytest.raises(Refused):
                act()
    do_send_test(cast.payments, by=cast.ada)


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/", "https://10.0.0.1/", "https://[::1]/", "https://localhost/", ""]
)
def test_an_address_that_may_not_be_is_refused_when_it_is_set(cast: Cast, url: str) -> None:
    with pytest.raises(ValidationError):
        do_set_webhook(cast.payments, url=url, by=cast.mina)
    assert not Webhook.objects.exists()
    assert not ConfigChange.objects.filter(action="set_webhook").exists()


def test_each_change_is_on_record(cast: Cast) -> None:
    do_set_webhook(cast.payments, url=URL, by=cast.mina, reason="we use chat")
    do_renew_webhook_secret(cast.payments, by=cast.mina)
    do_set_webhook(cast.payments, url="https://other.example.com/", by=cast.ada)
    do_remove_webhook(cast.payments, by=cast.mina)
    found = [
        (row.action, row.before, row.after) for row in ConfigChange.objects.order_by("pk") if "webhook" in row.action
    ]
    hint, other = "https://hooks.example.com/…XYZ1", "https://other.example.com/"
    assert found == [
        ("set_webhook", None, {"address": hint, "secret": 1}),
        ("renew_webhook_secret", {"address": hint, "secret": 1}, {"address": hint, "secret": 2}),
        ("set_webhook", {"address": hint, "secret": 2}, {"address": other, "secret": 3}),
        ("remove_webhook", {"address": other, "secret": 3}, None),
    ]


def test_a_renewed_secret_signs_beside_the_one_before_for_a_day(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(200))
    do_renew_webhook_secret(cast.payments, by=cast.mina)
    for hours in (1, 25):
        due(cast, now + dt.timedelta(hours=hours))
        send_due(now + dt.timedelta(hours=hours))
    assert made.secrets == [["secret 2", "secret 1"], ["secret 2"]]


def test_another_address_has_another_secret_and_the_old_one_signs_no_more(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(200))
    do_renew_webhook_secret(cast.payments, by=cast.mina)
    do_set_webhook(cast.payments, url="https://other.example.com/", by=cast.mina)
    due(cast, now)
    send_due(now)
    assert made.secrets == [["secret 3"]]


def test_a_test_says_that_it_is_one_and_who_asked(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(200))
    for _ in range(5):
        do_send_test(cast.payments, by=cast.mina)
    with pytest.raises(ValidationError):
        do_send_test(cast.payments, by=cast.mina)
    assert send_due(timezone.now()) == 5
    assert made.bodies[0]["event"] == "test"
    assert "Nothing is wrong" not in made.bodies[0]["text"]
    assert entries()[0]["on_behalf_of"] == "mina@example.com"
    do_remove_webhook(cast.payments, by=cast.mina)
    with pytest.raises(ValidationError):
        do_send_test(cast.payments, by=cast.mina)


def test_chat_programs_take_no_commands_from_names(
    cast: Cast, webhook: Webhook, now: dt.datetime, sends: Callable[..., Sent]
) -> None:
    made = sends(Answer(200))
    due(cast, now, "Payments: <!channel> & <@U1>")
    send_due(now)
    assert made.bodies[0]["text"].startswith("Payments: ‹!channel› & ‹@U1›. http")


def test_without_a_webhook_nothing_is_put_down_for_one(cast: Cast, now: dt.datetime) -> None:
    due(cast, now, by_email=True)
    assert [row.channel for row in Delivery.objects.all()] == ["email"]


def test_a_team_without_anybody_to_mail_gives_up(cast: Cast, now: dt.datetime) -> None:
    cast.payments.memberships.all().delete()
    type(cast.ada).objects.filter(role="administrator").update(is_active=False)
    due(cast, now, by_email=True)
    send_due(now)
    assert Delivery.objects.get().state == "given_up"


def test_keys_are_rotated_without_a_notice_that_fails(
    cast: Cast, webhook: Webhook, now: dt.datetime, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography.fernet import Fernet

    from integrations.fields import open_for_webhook

    new, old = Fernet.generate_key().decode(), settings.FIELD_ENCRYPTION_KEY
    do_renew_webhook_secret(cast.payments, by=cast.mina)
    settings.FIELD_ENCRYPTION_KEY = [new, *old]
    call_command("rotate_keys")
    assert "1 webhooks resealed" in capsys.readouterr().out
    settings.FIELD_ENCRYPTION_KEY = [new]
    row = Webhook.objects.get()
    assert row.replaced is not None
    assert open_for_webhook(row.pk, "address", row.address) == URL
    assert open_for_webhook(row.pk, "secret 2", row.secret)
    assert open_for_webhook(row.pk, "secret 1", row.replaced)
    settings.FIELD_ENCRYPTION_KEY = [Fernet.generate_key().decode()]
    with pytest.raises(SystemExit):
        call_command("rotate_keys")
    assert "a webhook's address or secret opens with none" in capsys.readouterr().err


def test_the_one_transport_of_a_process_reaches_public_addresses_alone(settings: Any) -> None:
    deliveries.transport.cache_clear()
    made = deliveries.transport()
    assert isinstance(made, Transport)
    assert made is deliveries.transport()
    where = Address("hooks.example.com", 443, urlsplit(URL).path)
    assert made._allowed(LOOPBACK) is False
    assert "s3cr3t" not in repr(where)
    deliveries.transport.cache_clear()
