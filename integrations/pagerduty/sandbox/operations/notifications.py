"""Notifications: who was reached how, and when."""

from __future__ import annotations

from typing import Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import Ask, Result, invalid, route, to_its_end
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.log_entries import active
from integrations.pagerduty.sandbox.world import DAY, Happening, iso

WIDEST: Final = 92 * DAY
"""A little less than three months, whichever they are."""
TYPES: Final = ("sms_notification", "email_notification", "phone_notification", "push_notification")


@route("GET", "/notifications", "users:notifications.read")
def list_notifications(ask: Ask) -> Result:
    zone = ask.zone()
    window = ask.required_window(zone)
    if window[1] - window[0] >= WIDEST:
        raise invalid("The time range must be less than 3 months.")
    since, until = to_its_end(window)
    wanted = ask.one("filter")
    if wanted not in ("", *TYPES):
        raise invalid(f"Filter must be {' or '.join(TYPES)}.")
    rows = ask.kept("notifications", lambda: _notifications(ask, since, until, wanted))
    return 200, ask.page("notifications", rows, lambda row: docs.in_zone(_document(ask, row), zone))


def _notifications(ask: Ask, since: float, until: float, wanted: str) -> list[Happening]:
    """The oldest first."""
    rows = [
        happening
        for incident in active(ask.world.incidents, since, until)
        for happening in incident.happenings()
        if happening.type == "notify" and since <= happening.at <= until and "notification" in happening.channel
    ]
    if wanted:
        rows = [row for row in rows if row.channel["notification"]["type"] == wanted]
    return sorted(rows, key=lambda row: row.at)


def _document(ask: Ask, happening: Happening) -> Document:
    user = ask.world.users[happening.agent or 0]
    return {
        "id": f"PN{happening.id[1:]}",
        "started_at": iso(happening.at),
        "user": docs.expanded(user, "users", ask.include),
        **docs.notification_of(ask.world, happening),
    }
