"""The outbox: what a team is to be told is written down together with what it tells of (``put``), and sent from there by
whichever worker claims it (``send_due``). A process that is killed in between loses nothing.

A webhook's sending is on record twice, under one decision id: *about to be sent* is durable before a byte leaves, what became of
it is written afterwards. A claim that its process did not live to end is taken up after ``SENDING``, and the attempt before it is
told as *not certain*: receivers know a notice that came twice by its id, which all its attempts share.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import uuid4

from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from integrations.actions import addresses_of
from integrations.models import Delivery, NoticeSettings, Webhook
from integrations.webhooks.message import secret_name
from integrations.webhooks.transport import Answer, Transport
from policies.core.call import Entry, EntryKind, Outcome
from policies.core.decide import EVERYTHING
from policies.journal import append_in_transaction
from policies.models import Stop, Team

log = logging.getLogger(__name__)

JOB: Final = "job:notices"
SENDING: Final = dt.timedelta(minutes=5)
"""Nobody else takes up what is being sent; if whoever sends it is killed, it is due again after that."""
AGAIN: Final = tuple(dt.timedelta(minutes=minutes) for minutes in (1, 5, 30, 120, 480))
"""How long after each failed attempt the next one waits; after the last of these it is given up."""
STOPPED: Final = dt.timedelta(minutes=5)
"""How often it is asked whether a stop that holds a notice was lifted."""
KEPT: Final = dt.timedelta(days=90)
AT_ONCE: Final = 50
"""Deliveries that one run tries."""

FAILURES: Final = {
    "sealed": "its address or secret does not open",
    "address": "its address is none",
    "private_address": "its name leads into a private network",
    "resolve": "its name leads nowhere",
    "connect": "it was not reached",
    "tls": "its certificate was not accepted",
    "proxy": "the proxy did not let it through",
    "timeout": "it did not answer in time",
    "disconnected": "it broke off before it answered",
    "malformed": "what it answered is no HTTP",
}


@dataclass(frozen=True, slots=True)
class Notice:
    """What a team is told."""

    event: Delivery.Event
    subject: str
    """A sentence without its end."""
    text: str
    """Lines, for an e-mail; made fit to be shown."""
    document: Mapping[str, Any]
    """JSON, for programs."""
    page: str
    """Where more stands: a path."""


def put(team: Team, notice: Notice, chosen: NoticeSettings, now: dt.datetime) -> list[Delivery]:
    """Write a notice down for each channel that the team has, in the caller's transaction."""
    channels = [Delivery.Channel.EMAIL] if chosen.by_email else []
    if Webhook.objects.filter(team=team).exists():
        channels.append(Delivery.Channel.WEBHOOK)
    return [_put(team, channel, notice, now) for channel in channels]


def put_test(webhook: Webhook, asked_by: str, now: dt.datetime) -> Delivery:
    team = webhook.team
    said = f"This is a test of the notices of {team.name}"
    notice = Notice(Delivery.Event.TEST, said, f"{said}. Nothing is wrong.", {}, f"/teams/{team.slug}/notices/")
    return _put(team, Delivery.Channel.WEBHOOK, notice, now, asked_by)


def _put(team: Team, channel: Delivery.Channel, notice: Notice, now: dt.datetime, asked_by: str = "") -> Delivery:
    page = f"{settings.PUBLIC_URL}{notice.page}"
    document = {
        "event": notice.event.value,
        "at": now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "team": {"slug": team.slug, "name": team.name},
        "page": page,
        # What chat programs show of it. They would take angle brackets in a name for a command of theirs.
        "text": f"{notice.subject}. {page}".replace("<", "‹").replace(">", "›"),
        **notice.document,
    }
    return Delivery.objects.create(
        team=team,
        channel=channel,
        event=notice.event,
        subject=notice.subject[:300],
        text=f"{notice.text}\n\n{page}\n",
        document=document if channel == Delivery.Channel.WEBHOOK else {},
        asked_by=asked_by,
        created_at=now,
        due_at=now,
    )


@cache
def transport() -> Transport:
    """One a process: it reads the certificates that it trusts."""
    return Transport()


def send_due(now: dt.datetime) -> int:
    """Send what is due, the oldest first. Returns how many arrived; what did not stays due, or is given up.

    Where one of a team's does not get through, its others wait for the next run: a receiver that is down keeps nobody else
    waiting for longer than one attempt takes, however much waits for it.
    """
    arrived, tried, blocked = 0, 0, set()
    due = Delivery.objects.filter(due_at__lte=now).order_by("due_at", "created_at")
    for pk, team, channel in list(due.values_list("pk", "team_id", "channel")):
        if (team, channel) in blocked:
            continue
        if tried == AT_ONCE:
            break
        tried += 1
        # None: somebody else has taken it up meanwhile.
        if (row := due.filter(pk=pk).select_related("team").first()) is None:
            continue
        try:
            done = _send(row, now)
        except Exception:
            # The database may be away, or a mail backend raise what it likes: the others do not wait for it.
            log.exception("The notice %s could not be sent; it is tried again", row.pk)
            done = False
        if done is False:
            blocked.add((team, channel))
        arrived += done is True
    return arrived


def _send(row: Delivery, now: dt.datetime) -> bool | None:
    """Whether it arrived; None: somebody else sends it, or it cannot be sent at all."""
    if row.attempts > len(AGAIN):
        # Only where a process ended in the midst of the last attempt: whatever ends them must not do so for ever.
        _give_up(row, f"It was tried {row.attempts} times, and the last try was not lived to the end.")
        return None
    if row.channel == Delivery.Channel.WEBHOOK:
        if _is_stopped(row.team):
            told = "It waits: nothing of this team goes out until the stop is lifted."
            Delivery.objects.filter(pk=row.pk, due_at=row.due_at).update(due_at=now + STOPPED, told=told)
            return None
        webhook = Webhook.objects.filter(team=row.team).first()
        if webhook is None:
            _give_up(row, "The team has no webhook any more.")
            return None
        return _post(row, webhook, now)
    whom = addresses_of(row.team)
    if not whom:
        _give_up(row, "The team has no manager, and the portal no administrator, to be mailed.")
        return None
    return _mail(row, whom, now)


def _is_stopped(team: Team) -> bool:
    """The kill switch holds what the portal sends of itself, too: to a webhook, that is. People are told by mail all the same."""
    return Stop.objects.filter(subject__in=(EVERYTHING, f"team:{team.pk}")).exists()


def _give_up(row: Delivery, told: str) -> None:
    with transaction.atomic():
        mine = Delivery.objects.filter(pk=row.pk, due_at=row.due_at, attempts=row.attempts)
        if mine.update(due_at=None, state=Delivery.State.GIVEN_UP, told=told, attempt="") and row.attempt:
            _record_lost(row, {"what": row.event, "delivery": str(row.pk), "team": row.team.name, "by": JOB})


def _record_lost(row: Delivery, about: Mapping[str, Any], resource: str = "") -> None:
    """Of an attempt whose process did not live to say what came of it: its first entry gets its second. A mail has neither."""
    if row.channel == Delivery.Channel.WEBHOOK:
        lost = {
            "attempt": row.attempts,
            "reason": "The process that sent it ended before it could record what came of it.",
        }
        append_in_transaction(_entry(row, resource, row.attempt, Outcome.UNKNOWN, {**about, **lost}))


def _claim(row: Delivery, now: dt.datetime) -> str:
    """Make an attempt one's own, in a transaction. Returns its id; empty: somebody else has it."""
    attempt = f"ntc-{uuid4().hex[:28]}"
    mine = Delivery.objects.filter(pk=row.pk, due_at=row.due_at, attempts=row.attempts)
    # A run of many that do not answer takes longer than a claim holds: by its beginning the claim would be over already.
    claimed = mine.update(
        due_at=max(now, timezone.now()) + SENDING, attempts=F("attempts") + 1, attempt=attempt, tried_at=now
    )
    return attempt if claimed else ""


def _conclude(row: Delivery, attempt: str, now: dt.datetime, *, arrived: bool, final: bool, **told: Any) -> bool:
    """What came of an attempt, if it is still one's own. Whether it was."""
    tried = row.attempts + 1
    if arrived:
        fate: dict[str, Any] = {"state": Delivery.State.SENT, "due_at": None}
    elif final or tried > len(AGAIN):
        fate = {"state": Delivery.State.GIVEN_UP, "due_at": None}
    else:
        fate = {"due_at": now + AGAIN[tried - 1]}
    return bool(Delivery.objects.filter(pk=row.pk, attempt=attempt).update(attempt="", **fate, **told))


def _mail(row: Delivery, whom: Sequence[str], now: dt.datetime) -> bool | None:
    if not (attempt := _claim(row, now)):
        return None
    try:
        send_mail(row.subject, row.text, None, list(whom))
    except Exception as error:
        # Whatever the mail backend raises.
        log.exception("No mail of the notice %s could be sent", row.pk)
        told = f"The mail could not be sent: {type(error).__name__}."
        _conclude(row, attempt, now, arrived=False, final=False, told=told)
        return False
    told = f"Mailed to {len(whom)} manager{'s' if len(whom) != 1 else ''}."
    _conclude(row, attempt, now, arrived=True, final=True, told=told)
    return True


def _post(row: Delivery, webhook: Webhook, now: dt.datetime) -> bool | None:
    body = json.dumps({"id": str(row.pk), **row.document}, ensure_ascii=True, separators=(",", ":")).encode()
    about = {
        "what": row.event,
        "delivery": str(row.pk),
        "to": webhook.hint,
        "bytes": len(body),
        "digest": hashlib.sha256(body).hexdigest(),
        "team": row.team.name,
        "by": JOB,
        **({"on_behalf_of": row.asked_by} if row.asked_by else {}),
    }
    with transaction.atomic():
        if not (attempt := _claim(row, now)):
            return None
        if row.attempt:
            _record_lost(row, about, str(webhook.pk))
        about["attempt"] = row.attempts + 1
        append_in_transaction(_entry(row, str(webhook.pk), attempt, Outcome.INTENDED, about))
    # On record, and so it may leave.
    answer = transport().send(
        webhook.pk,
        webhook.address,
        _secrets(webhook, now),
        delivery=str(row.pk),
        event=row.event,
        at=int(timezone.now().timestamp()),
        body=body,
    )
    outcome, told = _told(answer)
    became = {"status": answer.status, "failure": answer.failure, "detail": answer.detail, "ms": answer.milliseconds}
    with transaction.atomic():
        append_in_transaction(_entry(row, str(webhook.pk), attempt, outcome, {**about, **became}))
        _conclude(
            row,
            attempt,
            now,
            arrived=answer.arrived,
            final=answer.is_final,
            status=answer.status or None,
            told=told[:300],
        )
    return answer.arrived


def _secrets(webhook: Webhook, now: dt.datetime) -> list[tuple[str, Any]]:
    """What each is sealed as, and the sealed: the one that was replaced too, for its time."""
    found = [(secret_name(webhook.generation), webhook.secret)]
    if webhook.replaced is not None and webhook.replaced_until is not None and webhook.replaced_until > now:
        found.append((secret_name(webhook.generation - 1), webhook.replaced))
    return found


def _entry(row: Delivery, resource: str, attempt: str, outcome: Outcome, details: Mapping[str, Any]) -> Entry:
    return Entry(
        kind=EntryKind.NOTICE,
        at=timezone.now(),
        decision_id=attempt,
        team_id=row.team_id,
        actor=JOB,
        outcome=outcome,
        resource=resource,
        details=dict(details),
    )


def _told(answer: Answer) -> tuple[Outcome, str]:
    """How an attempt ended, for the record and for people."""
    if answer.arrived:
        return Outcome.DONE, f"It answered {answer.status}, after {answer.milliseconds:,} ms."
    if answer.status:
        if answer.status == 410:
            hint = " It is gone for good, it says."
        elif answer.status < 400:
            hint = " It redirects, and redirects are not followed: set the address that it leads to."
        else:
            hint = ""
        # Not *refused*, which is what PagerDuty does.
        return Outcome.FAILED, f"It answered {answer.status}.{hint}"
    said = FAILURES.get(answer.failure, answer.failure)
    told = f"{said[:1].upper()}{said[1:]}" + (f" ({answer.detail})." if answer.detail else ".")
    return (Outcome.UNKNOWN if answer.sent else Outcome.FAILED), told


def forget_old(now: dt.datetime) -> int:
    """Take away what was told long ago. The journal keeps that it was."""
    return Delivery.objects.filter(due_at=None, created_at__lt=now - KEPT).delete()[0]
