"""Mails about what people ask managers for: to the managers when it is asked, to whoever asked when it is answered."""

from __future__ import annotations

import datetime as dt
import logging
from typing import Final

from django.conf import settings
from django.core.mail import send_mail

from integrations.actions import addresses_of
from integrations.pagerduty.catalog import TOOLS
from policies.core.text import shown
from policies.models import ToolRequest

log = logging.getLogger(__name__)
AGAIN: Final = dt.timedelta(minutes=5)
"""When a mail that could not be sent, or that whoever sent it was killed at, is due again."""


def mail_due(now: dt.datetime) -> int:
    """Send every mail that is due. Returns how many were; what could not be sent stays due."""
    sent = 0
    for row in ToolRequest.objects.filter(mail_due_at__lte=now).select_related("team", "user"):
        taken = now + AGAIN
        mine = ToolRequest.objects.filter(pk=row.pk, mail_due_at=row.mail_due_at)
        if not mine.update(mail_due_at=taken):
            continue  # somebody else sends it
        try:
            _mail(row)
        except Exception:
            # Whatever the mail backend raises: the others do not wait for it.
            log.exception("No mail of the request %s could be sent; it is tried again", row.pk)
            continue
        # An answer that came while it was sent is a mail of its own.
        ToolRequest.objects.filter(pk=row.pk, mail_due_at=taken).update(mail_due_at=None)
        sent += 1
    return sent


def _mail(row: ToolRequest) -> None:
    title = TOOLS[row.tool].title if row.tool in TOOLS else row.tool
    team, asker, whom = shown(row.team.name, 100), shown(str(row.user), 150), shown(row.subject_name, 150)
    page = f"{settings.PUBLIC_URL}/requests/{row.pk}/"
    if row.closed_at is None:
        send_mail(
            f"{asker} asks for {title} in {team}",
            f"{asker} ({row.user.email}) asks that {whom} may use {title} ({row.tool}) in {team}:\n\n"
            f"  {row.why}\n\nAllow or decline it, with a word, on\n{page}\n",
            None,
            addresses_of(row.team),
        )
        return
    if not ToolRequest.objects.visible_to(row.user).filter(pk=row.pk).exists():
        return  # whoever has left is told nothing more of the team
    answer = "allowed" if row.allowed else "declined"
    send_mail(
        f"{title} in {team}: {answer}",
        f"What you asked for, that {whom} may use {title} ({row.tool}) in {team}, was {answer} by {row.closed_by}:\n\n"
        f"  {row.word}\n\n{page}\n",
        None,
        [row.user.email],
    )
