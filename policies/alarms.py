"""Signs that an agent key is in the wrong hands: what is news becomes an alarm, an entry, and a mail that is due."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid4

from django.db import transaction

from policies.actions import hold_version
from policies.core.call import Entry, EntryKind
from policies.journal import append_in_transaction
from policies.models import AgentKey, Alarm, KeyNetwork

Kind = Alarm.Kind
JOB: Final = "job:alarms"
SIGNS: Final = 20
"""The newest signs that an alarm keeps; it counts them all, and each is an entry of the journal."""
QUIET: Final = {
    Kind.NEW_NETWORK: dt.timedelta(hours=1),
    Kind.FIRST_WRITE: dt.timedelta(0),  # there is one in a key's life
    Kind.DENIALS: dt.timedelta(days=1),
}
"""After a mail about a key, how long the next one of the same kind waits. It then tells of all that came meanwhile."""
REFUSED_AGAIN: Final = dt.timedelta(hours=1)
"""How often it is a sign that a key was refused for where it came from: whoever stole it chooses the networks."""


@dataclass(frozen=True, slots=True)
class Sign:
    """What a process noticed of a key. ``at``: Unix time; ``count``: of denials, how many calls."""

    kind: Alarm.Kind
    key_id: str
    at: float
    ip: str
    tool: str = ""
    decision_id: str = ""
    count: int = 1
    refused: bool = False
    """The key may not be used from there, and was not."""


def network_of(ip: str) -> str:
    """The network that an address stands for: of IPv4 its /24, of IPv6 its /48, which one site has; else the text itself."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip[:49]
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(ipaddress.ip_network((address, 24 if address.version == 4 else 48), strict=False))


def note(sign: Sign) -> bool:
    """Record a sign if it is news: once, however many processes noticed it. Whether there is an alarm to mail."""
    if not _may_be_news(sign):
        return False  # known already, as most are when a process has just started: nobody is kept waiting
    with transaction.atomic():
        hold_version()  # before any other row; and so one after the other
        key = AgentKey.objects.select_related("team").filter(pk=sign.key_id, revoked_at=None).first()
        if key is None or not _is_news(key, sign):
            return False
        _raise(key, sign)
    return True


def _may_be_news(sign: Sign) -> bool:
    if sign.kind is Kind.FIRST_WRITE:
        return AgentKey.objects.filter(pk=sign.key_id, wrote_at=None).exists()
    if sign.kind is Kind.NEW_NETWORK and not sign.refused:
        return not KeyNetwork.objects.filter(key=UUID(sign.key_id), network=network_of(sign.ip)).exists()
    return True


def _is_news(key: AgentKey, sign: Sign) -> bool:
    """Whether the sign is one; what it tells of the key is known from here on."""
    at = _moment(sign)
    if sign.kind is Kind.FIRST_WRITE:
        return bool(AgentKey.objects.filter(pk=key.pk, wrote_at=None).update(wrote_at=at))
    if sign.kind is Kind.DENIALS:
        return True
    if sign.refused:
        before = Alarm.objects.filter(key=key, kind=sign.kind, at__gt=at - REFUSED_AGAIN)
        return not any(old["refused"] for alarm in before for old in alarm.signs)
    is_first = not key.seen_networks.exists()
    _, is_new = KeyNetwork.objects.get_or_create(key=key, network=network_of(sign.ip), defaults={"first_at": at})
    # Where a key is first used it is at home; and where it was issued for, it may be.
    return is_new and not is_first and not key.networks


def _raise(key: AgentKey, sign: Sign) -> None:
    at = _moment(sign)
    alarm = Alarm.objects.filter(key=key, kind=sign.kind, closed_at=None).first() or Alarm(
        key=key, kind=sign.kind, count=0
    )
    told: dict[str, Any] = {
        "ip": sign.ip,
        "network": network_of(sign.ip),
        "tool": sign.tool,
        "decision_id": sign.decision_id,
        "count": sign.count,
        "refused": sign.refused,
    }
    alarm.at = at
    alarm.count += sign.count
    alarm.signs = [*alarm.signs, {"at": at.isoformat(timespec="seconds"), **told}][-SIGNS:]
    if alarm.mail_due_at is None:
        mailed = Alarm.objects.filter(key=key, kind=sign.kind, mailed_at__gt=at - QUIET[sign.kind])
        last = mailed.order_by("-mailed_at").values_list("mailed_at", flat=True).first()
        alarm.mail_due_at = at if last is None else last + QUIET[sign.kind]
    alarm.save()
    append_in_transaction(
        Entry(
            kind=EntryKind.ALARM,
            at=at,
            decision_id=f"alm-{uuid4().hex[:28]}",
            team_id=key.team_id,
            actor=JOB,
            tool=sign.tool,
            details={
                "what": sign.kind.value,
                "key": {"id": f"key:{key.pk}", "name": key.name, "credential": f"pwk_{key.prefix}"},
                "team": key.team.name,
                "by": JOB,
                **told,
            },
        )
    )


def _moment(sign: Sign) -> dt.datetime:
    return dt.datetime.fromtimestamp(sign.at, dt.UTC)
