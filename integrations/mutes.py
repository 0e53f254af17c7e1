"""Findings about escalation policies that a team does not want to be told of for a while, and why."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping
from typing import Any, Final
from uuid import UUID

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils import timezone

from integrations.models import Connection, MutedFinding
from integrations.pagerduty.analysis.escalation import RULES, Finding
from policies.actions import By, clean_reason, hold_version, name_of, plain, record_change, require_manager
from policies.core.text import shown

LONGEST: Final = dt.timedelta(days=366)
"""How far ahead a finding may be muted: it is looked at again within a year."""
MOST: Final = 500
"""Muted findings of one connection that hold."""


def mutes_of(connections: Collection[UUID], now: dt.datetime) -> Mapping[UUID, Mapping[tuple[str, str], MutedFinding]]:
    """Those that hold, by connection, and there by the policy's id and the finding's key: one look-up, whatever is asked for."""
    found: dict[UUID, dict[tuple[str, str], MutedFinding]] = {id: {} for id in connections}
    for row in MutedFinding.objects.filter(connection__in=connections, until__gt=now):
        found[row.connection_id][row.policy_id, row.key] = row
    return found


def _facts(row: MutedFinding) -> dict[str, Any]:
    return {
        "policy_id": row.policy_id,
        "finding": row.key,
        "words": row.words,
        "until": row.until.isoformat(),
        "reason": row.reason,
    }


def _target(row: MutedFinding) -> str:
    about = f"{row.policy_name or row.policy_id} ({row.policy_id})" if row.policy_id else "no policy"
    return f"{row.key.partition(':')[0]} of {about}"


def do_mute_finding(
    connection: Connection, finding: Finding, *, policy_name: str, until: dt.datetime, by: By, reason: str
) -> MutedFinding:
    """Say that a finding is known, and is not to be told until a day.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: no reason, no day within a year, muted already, or there are too many already.
    """
    require_manager(by, connection.team, "mute a finding")
    reason = clean_reason(reason)
    now = timezone.now()
    if finding.rule.name not in RULES:
        raise ValidationError("There is no such rule.")
    if not reason:
        raise ValidationError("Say why it is muted: whoever looks next must know.")
    if until <= now:
        raise ValidationError("It would never hold: choose a later day.")
    if until > now + LONGEST:
        raise ValidationError("A finding is muted for a year at most: look at it again then.")
    with transaction.atomic():
        hold_version()
        if not Connection.objects.filter(pk=connection.pk).exists():
            raise ValidationError("This connection is deleted.")
        holding = MutedFinding.objects.filter(connection=connection, until__gt=now)
        if holding.filter(policy_id=finding.policy_id, key=finding.key).exists():
            raise ValidationError("This is muted already. Take that back first to choose another day.")
        if holding.count() >= MOST:
            raise ValidationError(f"{connection.name} has {MOST} muted findings already: take some back first.")
        row = MutedFinding.objects.create(
            connection=connection,
            policy_id=plain(finding.policy_id, "The policy's id", maximum=40),
            policy_name=shown(policy_name, 200),
            key=plain(finding.key, "The finding's key", maximum=200),
            words=shown(finding.words, 500),
            until=until,
            reason=reason,
            made_by=name_of(by),
            created_at=now,
        )
        record_change(
            by=by,
            team=connection.team,
            action="mute_finding",
            target=_target(row),
            before=None,
            after=_facts(row),
            reason=reason,
        )
    return row


def do_unmute_finding(mute: MutedFinding, *, by: By, reason: str = "") -> None:
    """Have a finding told again.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: that was done already.
    """
    team = mute.connection.team
    require_manager(by, team, "have a finding told again")
    with transaction.atomic():
        hold_version()
        row = MutedFinding.objects.select_for_update().filter(pk=mute.pk).first()
        if row is None:
            raise ValidationError("This is told again already.")
        facts, target = _facts(row), _target(row)
        row.delete()
        record_change(
            by=by,
            team=team,
            action="unmute_finding",
            target=target,
            before=facts,
            after=None,
            reason=clean_reason(reason),
        )
