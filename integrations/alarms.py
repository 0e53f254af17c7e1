"""Alarms as people are told of them, on pages and by mail."""

from __future__ import annotations

import datetime as dt
import logging
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.core.mail import send_mail
from django.db.models import QuerySet

from integrations.actions import addresses_of
from integrations.pagerduty.catalog import TOOLS
from policies.alarms import QUIET, Kind
from policies.models import Alarm

log = logging.getLogger(__name__)

SENDING: Final = dt.timedelta(minutes=5)
"""Nobody else takes up a mail that is being sent; if whoever sends it is killed, it is due again after that."""
AGAIN: Final = dt.timedelta(minutes=1)
"""When a mail that could not be sent is tried again."""


@dataclass(frozen=True, slots=True)
class Opened:
    """An open alarm, and its signs in words: when, what, and the decision to look up; the newest first."""

    alarm: Alarm
    signs: list[tuple[dt.datetime, str, str]]

    @property
    def before(self) -> int:
        """How many more there were, which the journal alone still tells of one by one."""
        return self.alarm.count - sum(int(sign["count"]) for sign in self.alarm.signs)


def opened(alarms: QuerySet[Alarm]) -> list[Opened]:
    return [
        Opened(
            alarm,
            [
                (dt.datetime.fromisoformat(sign["at"]), told(alarm, sign), sign["decision_id"])
                for sign in reversed(alarm.signs)
            ],
        )
        for alarm in alarms.select_related("key__team")
    ]


def told(alarm: Alarm, sign: dict[str, Any]) -> str:
    """One sign as a sentence without its end, for pages and mails alike."""
    tool = TOOLS[sign["tool"]].title if sign["tool"] in TOOLS else ""
    where = f"from {sign['ip']}"
    if alarm.kind == Kind.DENIALS:
        return f"{sign['count']} calls were denied within minutes, {where}" + (f", of {tool} last" if tool else "")
    if alarm.kind == Kind.FIRST_WRITE:
        return f"It wrote for the first time, {where}" + (f", with {tool}" if tool else "")
    if sign["refused"]:
        return f"The right key came {where}, where it may not be used, and was refused"
    return f"It was used {where} ({sign['network']}), where it had never been" + (f", for {tool}" if tool else "")


def mail_due(now: dt.datetime) -> int:
    """Mail every alarm that is due to the managers of its team. Returns how many; what could not be sent stays due."""
    sent = 0
    for alarm in Alarm.objects.open().filter(mail_due_at__lte=now).select_related("key__team"):
        taken = now + SENDING
        mine = Alarm.objects.filter(pk=alarm.pk, mail_due_at=alarm.mail_due_at)
        if not mine.update(mail_due_at=taken):
            continue  # somebody else sends it
        # As it is now that it is ours.
        alarm = Alarm.objects.select_related("key__team").get(pk=alarm.pk)
        left = Alarm.objects.filter(pk=alarm.pk, mail_due_at=taken)
        try:
            _mail(alarm)
        except Exception:
            # Whatever the mail backend raises: the others do not wait for it.
            log.exception("No mail of the alarm %s could be sent; it is tried again", alarm.pk)
            left.update(mail_due_at=now + AGAIN)
            continue
        # Signs that came while it was sent are mailed the next time.
        if not left.filter(count=alarm.count).update(mail_due_at=None, mailed_at=now):
            left.update(mail_due_at=now + QUIET[Kind(alarm.kind)], mailed_at=now)
        sent += 1
    return sent


def _mail(alarm: Alarm) -> None:
    key, team = alarm.key, alarm.key.team
    signs = "\n".join(f"- {sign['at'][:16].replace('T', ' ')} UTC: {told(alarm, sign)}." for sign in alarm.signs)
    send_mail(
        f"The agent key {key.name} of {team.name} {alarm.get_kind_display()}",
        f"The agent key {key.name} (pwk_{key.prefix}_…) of {team.name} {alarm.get_kind_display()}:\n\n{signs}\n\n"
        "If that was you, say so there, and it is known from then on. If not, revoke the key there at once:\n"
        f"{settings.PUBLIC_URL}/teams/{team.slug}/agents/#alarm-{alarm.pk}\n",
        None,
        addresses_of(team),
    )
