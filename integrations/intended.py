"""What people do to gaps that are meant to be, and what is read of them."""

from __future__ import annotations

import datetime as dt
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from integrations.models import Connection, IntendedGap
from integrations.pagerduty.analysis.intended import Mark
from policies.actions import (
    By,
    clean_reason,
    hold_version,
    name_of,
    plain,
    record_change,
    require_manager,
    time_zones,
)
from policies.core.text import shown

LONGEST: Final = dt.timedelta(days=366)
"""How far ahead a mark may hold: what is meant is looked at again within a year."""
MOST: Final = 200
"""Marks of one connection that hold or will."""


def mark_of(row: IntendedGap) -> Mark:
    start, end, until = (int(each.timestamp()) for each in (row.starts_at, row.ends_at, row.until))
    return Mark(start, end, until, row.weekly, row.zone)


def marks_of(connections: Collection[UUID], now: dt.datetime) -> Mapping[tuple[UUID, str], Sequence[IntendedGap]]:
    """The marks that hold or will, by connection and policy id: one look-up, whatever is asked for."""
    found: dict[tuple[UUID, str], list[IntendedGap]] = defaultdict(list)
    for row in IntendedGap.objects.filter(connection__in=connections, until__gt=now):
        found[row.connection_id, row.policy_id].append(row)
    return found


def _facts(row: IntendedGap) -> dict[str, Any]:
    return {
        "policy_id": row.policy_id,
        "starts_at": row.starts_at.isoformat(),
        "ends_at": row.ends_at.isoformat(),
        "weekly": row.weekly,
        "zone": row.zone,
        "until": row.until.isoformat(),
        "reason": row.reason,
    }


def do_mark_intended(
    connection: Connection,
    *,
    policy_id: str,
    policy_name: str,
    starts_at: dt.datetime,
    ends_at: dt.datetime,
    until: dt.datetime,
    by: By,
    reason: str,
    weekly: bool = False,
    zone: str = "UTC",
) -> IntendedGap:
    """Say that nobody need be reached by a policy in these hours.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: no reason, no hours, too long, or there are too many already.
    """
    require_manager(by, connection.team, "mark a gap as intended")
    reason = clean_reason(reason)
    now = timezone.now()
    if not reason:
        raise ValidationError("Say why it is intended: whoever looks next must know.")
    if not starts_at < ends_at:
        raise ValidationError("It ends before it begins.")
    if until <= now or until <= starts_at:
        raise ValidationError("It would never hold: choose a later day.")
    if until > now + LONGEST:
        raise ValidationError("A gap is intended for a year at most: look at it again then.")
    if weekly and ends_at - starts_at > dt.timedelta(days=7):
        raise ValidationError("It is longer than a week, so it cannot come again every week: mark it alone.")
    if zone not in time_zones():
        raise ValidationError("There is no such time zone.")
    with transaction.atomic():
        hold_version()
        if not Connection.objects.filter(pk=connection.pk).exists():
            raise ValidationError("This connection is deleted.")
        if IntendedGap.objects.filter(connection=connection, until__gt=now).count() >= MOST:
            raise ValidationError(f"{connection.name} has {MOST} intended gaps already: take some back first.")
        row = IntendedGap.objects.create(
            connection=connection,
            policy_id=plain(policy_id, "The policy's id", maximum=40),
            policy_name=shown(policy_name, 200),
            starts_at=starts_at,
            ends_at=ends_at,
            weekly=weekly,
            zone=zone,
            until=until,
            reason=reason,
            made_by=name_of(by),
            created_at=now,
        )
        record_change(
            by=by,
            team=connection.team,
            action="mark_intended",
            target=f"{row.policy_name or policy_id} ({policy_id})",
            before=None,
            after=_facts(row),
            reason=reason,
        )
    return row


def do_unmark_intended(mark: IntendedGap, *, by: By, reason: str = "") -> None:
    """Take a mark back: its gap is a gap like any other again.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: it was taken back already.
    """
    team = mark.connection.team
    require_manager(by, team, "take back that a gap is intended")
    with transaction.atomic():
        hold_version()
        row = IntendedGap.objects.select_for_update().filter(pk=mark.pk).first()
        if row is None:
            raise ValidationError("This was taken back already.")
        facts, target = _facts(row), f"{row.policy_name or row.policy_id} ({row.policy_id})"
        row.delete()
        record_change(
            by=by,
            team=team,
            action="unmark_intended",
            target=target,
            before=facts,
            after=None,
            reason=clean_reason(reason),
        )
