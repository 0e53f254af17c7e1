"""What people and jobs do to connections. State, ConfigChange, version and journal entry move in one transaction.

A connection's row is only ever written here, field by field and under its lock: a whole-row save of a stale object
could bring back a ciphertext that was resealed or replaced meanwhile.
"""

from __future__ import annotations

import datetime as dt
import logging
import math
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import connection as database
from django.db import transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.views.decorators.debug import sensitive_variables

from integrations.fields import reseal, seal, sealed_by
from integrations.gateway.integration import Bounds
from integrations.models import Connection, ConnectionKey, ConnectionTest, RunningTest
from integrations.pagerduty import catalog, diagnose
from policies.actions import (
    By,
    Refused,
    clean_reason,
    do_issue_key,
    do_revoke_key,
    hold_version,
    name_of,
    plain,
    record_change,
    require_administrator,
    require_manager,
)
from policies.core.call import Call, Door, JobCredential, State, Tool
from policies.core.text import shown
from policies.models import AgentKey, ConfigChange, Membership, Team, User
from policies.snapshot import current_version, load_policy

log = logging.getLogger(__name__)

KEPT_TESTS: Final = 100
"""Of a connection, the newest."""
KEPT_FINDINGS: Final = 20
"""Of the newest tests, those of which all that they found is kept (some 15 kB each), not its sum alone."""
LONGEST_TEST: Final = dt.timedelta(minutes=2)
"""A test that has not ended by then never will: its process is gone."""
REMINDER_DAYS: Final = (30, 14, 7, 1, 0)
"""Days before a token's end at which its managers are reminded, once each."""
BEARER_DAYS: Final = 30
"""How long PagerDuty's OAuth access tokens live, where nothing better is known."""
# RFC 6750's alphabet of tokens. With a quote, a comma or a semicolon in it, Rails would read another token out of the header
# than the one that is recognised here.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}={0,2}", re.ASCII)
_TOKEN_PREFIX = re.compile(r"\A(?:authorization:\s*)?(?:token\s+token=|bearer\s+)", re.IGNORECASE)
_PAGERDUTY_ID = re.compile(r"[A-Z0-9]{5,16}")


class CannotTest(Exception):
    """The portal itself could not make a test's calls: nothing is known of the connection. Says why, for people."""


# Tokens


@sensitive_variables()
def clean_token(token: str) -> str:
    """The token alone, from what a person pasted: blanks and a header's ``Token token=`` or ``Bearer`` are taken off.

    Raises:
        ValidationError: what is left is no token. The message holds nothing of it.
    """
    cleaned = _TOKEN_PREFIX.sub("", token.strip(), count=1).strip()
    if cleaned.startswith("pwk_"):
        raise ValidationError("This is an agent key of this portal, not a PagerDuty token.")
    if not _TOKEN.fullmatch(cleaned):
        raise ValidationError(
            "A PagerDuty token is 16 to 512 letters, digits and signs such as - _ + and ., without blanks or quotes."
        )
    return cleaned


@sensitive_variables()
def fingerprint(token: str) -> str:
    """What a token is recognised by without being known: a hash (64 hex digits) keyed from SECRET_KEY. Padding at its end does
    not make another token of it."""
    return salted_hmac("integrations.token-fingerprint", token.rstrip("="), algorithm="sha256").hexdigest()


def _refuse_known(print_: str, by: By, own: Connection | None = None) -> None:
    """Refuse a token that is registered anywhere, in service or waiting. The caller holds the version's lock."""
    known = (
        Connection.objects.filter(fingerprint=print_).select_related("team").first()
        or Connection.objects.filter(candidate_fingerprint=print_).select_related("team").first()
    )
    if known is None:
        return
    if own is not None and known.pk == own.pk:
        state = "in service" if known.fingerprint == print_ else "waiting for its test"
        raise ValidationError(f"This token is already {state} on this connection.", code="known")
    if not isinstance(by, User) or Team.objects.visible_to(by).filter(pk=known.team_id).exists():
        raise ValidationError(
            f"This token is already registered: it is the connection {known.name} of {known.team.name}. "
            "Issue agent keys for that connection, or register another token.",
            code="known",
        )
    raise ValidationError(
        "This token is already registered in this portal, by a team that you do not see. Register another token, "
        "or ask an "
        "administrator.",
        code="known",
    )


def end_of_day(day: dt.date | None) -> dt.datetime | None:
    """When a token that "expires on" a day stops: the end of that day, UTC. PagerDuty says no more than the day."""
    return None if day is None else dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)


def _end(expires_at: dt.datetime | None) -> dt.datetime | None:
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError("The token's expiry is in the past.")
    return expires_at


# Bounds and From


def clean_bounds(
    whole_account: bool, team_ids: Iterable[str], service_ids: Iterable[str]
) -> tuple[list[str], list[str]]:
    """The teams and services that a connection shall be bounded to, each once and in order.

    Raises:
        ValidationError: they are no ids, are none, or stand beside the whole account.
    """
    teams = sorted({value.strip() for value in team_ids if value.strip()})
    services = sorted({value.strip() for value in service_ids if value.strip()})
    for value in (*teams, *services):
        if not _PAGERDUTY_ID.fullmatch(value):
            raise ValidationError(
                f"{value[:40]!r} is not an id of PagerDuty's: those are like PQ9K7I8, capitals and digits."
            )
    if whole_account and (teams or services):
        raise ValidationError("Choose the whole account, or name PagerDuty teams and services: not both.")
    if not whole_account and not (teams or services):
        raise ValidationError("Name at least one PagerDuty team or service that this connection may touch.")
    return teams, services


def _from_email(email: str, by: By) -> tuple[str, str]:
    """Whom PagerDuty sees as the author of writes now, and who waits for an administrator's signature."""
    email = email.strip()
    if not email and isinstance(by, User):
        email = by.email
    validate_email(email)
    if not email.isascii():
        raise ValidationError("PagerDuty's From takes plain ASCII addresses: write a domain with umlauts as xn--….")
    if not isinstance(by, User) or by.is_administrator or email.lower() == by.email.lower():
        return email, ""
    return by.email, email


# Changing


@contextmanager
def _changing(connection: Connection) -> Iterator[Connection]:
    """The connection's row as it is now, locked. The version's lock comes first, here and everywhere: no deadlock."""
    with transaction.atomic():
        hold_version()
        row = Connection.objects.select_for_update().filter(pk=connection.pk).first()
        if row is None:
            raise ValidationError("This connection is deleted.")
        yield row


def _facts(row: Connection) -> dict[str, Any]:
    """What a ConfigChange tells of a connection: never the token, of which only the last four characters are shown."""
    return {
        "name": row.name,
        "region": row.region,
        "kind": row.kind,
        "last4": row.last4,
        "token_expires_at": row.token_expires_at.isoformat() if row.token_expires_at else None,
        "from_email": row.from_email,
        "from_email_proposed": row.from_email_proposed,
        "whole_account": row.whole_account,
        "team_ids": row.bound_team_ids,
        "service_ids": row.bound_service_ids,
        "account_wide_tools": row.account_wide_tools,
        "enabled": row.is_enabled,
    }


def _record(
    row: Connection, by: By, action: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, reason: str
) -> None:
    record_change(
        by=by,
        team=row.team,
        action=action,
        target=row.name,
        before=before,
        after=after,
        reason=clean_reason(reason),
    )


@sensitive_variables("token", "cleaned")
def do_register_token(
    team: Team,
    *,
    name: str,
    token: str,
    kind: str,
    region: str,
    by: By,
    from_email: str = "",
    whole_account: bool = False,
    team_ids: Iterable[str] = (),
    service_ids: Iterable[str] = (),
    token_expires_at: dt.datetime | None = None,
    reason: str = "",
) -> Connection:
    """Register a PagerDuty token for a team, sealed. It is shown to nobody again.

    ``from_email`` other than the person's own waits for an administrator; until then writes are theirs.

    Raises:
        Refused: ``by`` does not manage the team, or it takes an administrator (account keys, the whole account).
        ValidationError: bad input, or the token is already registered.
    """
    require_manager(by, team, "register a token")
    if kind not in Connection.Kind.values:
        raise ValidationError("A token is an account key, a user key or an OAuth bearer.")
    if region not in Connection.Region.values or (
        region == Connection.Region.SANDBOX and not settings.PAGERDUTY_SANDBOX_URL
    ):
        raise ValidationError("There is no such region.")
    if kind == Connection.Kind.ACCOUNT:
        require_administrator(by, "register an account key")
    if whole_account:
        require_administrator(by, "open the whole PagerDuty account to a team")
    name = plain(name, "The connection's name", maximum=100)
    cleaned = clean_token(token)
    teams, services = clean_bounds(whole_account, team_ids, service_ids)
    email, proposed = _from_email(from_email, by)
    print_ = fingerprint(cleaned)
    row = Connection(
        team=team,
        name=name,
        region=region,
        kind=kind,
        last4=cleaned[-4:],
        fingerprint=print_,
        token_expires_at=_end(token_expires_at),
        from_email=email,
        from_email_proposed=proposed,
        whole_account=whole_account,
        bound_team_ids=teams,
        bound_service_ids=services,
        registered_by=name_of(by),
    )
    row.token = seal(row.pk, cleaned)
    with transaction.atomic():
        hold_version()
        _refuse_known(print_, by)
        if Connection.objects.filter(team=team, name=name).exists():
            raise ValidationError(f"{team.name} already has a connection of this name.")
        row.save(force_insert=True)
        _record(row, by, "register_token", None, _facts(row), reason)
    return row


@sensitive_variables("token", "cleaned")
def do_replace_token(
    connection: Connection, *, token: str, by: By, token_expires_at: dt.datetime | None = None, reason: str = ""
) -> Connection:
    """Put a replacement token beside the one in service, which serves until the replacement has passed its test.

    A replacement that was waiting gives way. Raises as ``do_register_token`` does.
    """
    require_manager(by, connection.team, "replace a token")
    if connection.kind == Connection.Kind.ACCOUNT:
        require_administrator(by, "replace an account key")
    cleaned = clean_token(token)
    print_ = fingerprint(cleaned)
    expires_at = _end(token_expires_at)
    with _changing(connection) as row:
        _refuse_known(print_, by, row)
        before = _candidate_facts(row)
        row.candidate = seal(row.pk, cleaned)
        row.candidate_last4 = cleaned[-4:]
        row.candidate_fingerprint = print_
        row.candidate_expires_at = expires_at
        row.save(update_fields=["candidate", "candidate_last4", "candidate_fingerprint", "candidate_expires_at"])
        _record(row, by, "replace_token", before, _candidate_facts(row), reason)
    return row


def _candidate_facts(row: Connection) -> dict[str, Any]:
    expires_at = row.candidate_expires_at
    return {
        "candidate_last4": row.candidate_last4,
        "candidate_expires_at": expires_at.isoformat() if expires_at else None,
    }


def do_set_token_expiry(
    connection: Connection, *, token_expires_at: dt.datetime | None, by: By, reason: str = ""
) -> Connection:
    """Correct when PagerDuty stops accepting the token in service; None: not known. The reminders start anew."""
    require_manager(by, connection.team, "say when a token expires")
    expires_at = _end(token_expires_at)
    with _changing(connection) as row:
        if row.token_expires_at == expires_at:
            return row
        before = _facts(row)
        row.token_expires_at, row.reminded_days = expires_at, None
        row.save(update_fields=["token_expires_at", "reminded_days"])
        _record(row, by, "set_token_expiry", before, _facts(row), reason)
    return row


_CANDIDATE = ("candidate", "candidate_last4", "candidate_fingerprint", "candidate_expires_at")


def _clear_candidate(row: Connection) -> None:
    row.candidate, row.candidate_last4, row.candidate_fingerprint, row.candidate_expires_at = None, "", None, None


def do_promote_candidate(connection: Connection, *, by: By, tested: str, kind: str, reason: str = "") -> Connection:
    """Put the replacement in service. ``tested`` is the fingerprint of what passed the test, ``kind`` what it turned
    out to be.

    Raises:
        Refused: the replacement is not the one that was tested, or its kind was not told or is another than that of what
            it replaces.
    """
    with _changing(connection) as row:
        if row.candidate is None or row.candidate_fingerprint is None or row.candidate_fingerprint != tested:
            raise Refused("The replacement is not the token that was tested: test it again.")
        if not kind:
            # Else an account key could slip in where a manager may only register a user's.
            raise Refused("The test could not tell what kind of token the replacement is: test it again.")
        if kind != row.kind:
            raise Refused(f"The replacement is not an {row.get_kind_display()}.")
        before = _facts(row)
        row.token, row.last4, row.fingerprint = row.candidate, row.candidate_last4, row.candidate_fingerprint
        row.token_expires_at = row.candidate_expires_at
        row.token_since = timezone.now()
        row.token_version += 1
        row.detected_kind = kind
        row.reminded_days = None
        _clear_candidate(row)
        row.save(
            update_fields=[
                "token",
                "last4",
                "fingerprint",
                "token_expires_at",
                "token_since",
                "token_version",
                "detected_kind",
                "reminded_days",
                *_CANDIDATE,
            ]
        )
        _record(row, by, "promote_token", before, _facts(row), reason)
    return row


def do_discard_candidate(connection: Connection, *, by: By, reason: str = "") -> Connection:
    """Throw the waiting replacement away; the token in service stays."""
    require_manager(by, connection.team, "discard a replacement token")
    with _changing(connection) as row:
        if row.candidate is None:
            raise ValidationError("There is no replacement token.")
        before = _candidate_facts(row)
        _clear_candidate(row)
        row.save(update_fields=_CANDIDATE)
        _record(row, by, "discard_replacement", before, _candidate_facts(row), reason)
    return row


def do_set_bounds(
    connection: Connection,
    *,
    by: By,
    whole_account: bool = False,
    team_ids: Iterable[str] = (),
    service_ids: Iterable[str] = (),
    reason: str = "",
) -> Connection:
    """Set the part of the account that a connection may touch. The whole account, and any widening of an account key's
    bounds, is an administrator's choice."""
    require_manager(by, connection.team, "set a connection's bounds")
    teams, services = clean_bounds(whole_account, team_ids, service_ids)
    with _changing(connection) as row:
        if whole_account and not row.whole_account:
            require_administrator(by, "open the whole PagerDuty account to a team")
        wider = not row.whole_account and not (
            set(teams) <= set(row.bound_team_ids) and set(services) <= set(row.bound_service_ids)
        )
        if wider and row.kind == Connection.Kind.ACCOUNT:
            require_administrator(by, "widen the bounds of an account key")
        before = _facts(row)
        row.whole_account, row.bound_team_ids, row.bound_service_ids = whole_account, teams, services
        if whole_account:
            # It says nothing here, and must not come back unseen with the next bounds.
            row.account_wide_tools = []
        row.save(update_fields=["whole_account", "bound_team_ids", "bound_service_ids", "account_wide_tools"])
        _record(row, by, "set_bounds", before, _facts(row), reason)
    return row


def do_set_account_wide(connection: Connection, *, tools: Iterable[str], by: By, reason: str = "") -> Connection:
    """Say which of the tools that bounds cannot hold may be used all the same through a bounded connection. Allowing one is
    an administrator's choice; taking it back a manager's, too.

    Raises:
        Refused: it takes an administrator.
        ValidationError: a tool that bounds hold, or no tool; or nothing is bounded.
    """
    require_manager(by, connection.team, "say which tools reach the whole account")
    names = set(tools)
    for name in sorted(names):
        if (tool := catalog.TOOLS.get(name)) is None or tool.bounds != "unbounded":
            raise ValidationError(f"{name[:64]!r} is no tool that bounds cannot hold.")
    with _changing(connection) as row:
        if names - set(row.account_wide_tools):
            require_administrator(by, "let a tool reach the whole PagerDuty account")
        if names and row.whole_account:
            raise ValidationError("This connection spans the whole account: every tool reaches it already.")
        if names == set(row.account_wide_tools):
            return row
        before = _facts(row)
        row.account_wide_tools = sorted(names)
        row.save(update_fields=["account_wide_tools"])
        _record(row, by, "set_account_wide_tools", before, _facts(row), reason)
    return row


def do_propose_from_email(connection: Connection, *, email: str, by: By, reason: str = "") -> Connection:
    """Say whom PagerDuty shall see as the author of writes: oneself at once, anybody else after an administrator's
    signature."""
    require_manager(by, connection.team, "choose whom writes are made as")
    now, proposed = _from_email(email, by)
    with _changing(connection) as row:
        before = _facts(row)
        if not proposed:
            row.from_email = now
        row.from_email_proposed = proposed
        row.save(update_fields=["from_email", "from_email_proposed"])
        _record(row, by, "propose_from_email" if proposed else "set_from_email", before, _facts(row), reason)
    return row


def do_approve_from_email(connection: Connection, *, email: str, by: By, reason: str = "") -> Connection:
    """Sign the proposed ``email`` off: named again here, so that nobody signs what was swapped meanwhile."""
    require_administrator(by, "sign off whom writes are made as")
    with _changing(connection) as row:
        if not row.from_email_proposed or row.from_email_proposed.lower() != email.strip().lower():
            raise ValidationError("This is not the e-mail address that waits for a signature.")
        before = _facts(row)
        row.from_email, row.from_email_proposed = row.from_email_proposed, ""
        row.save(update_fields=["from_email", "from_email_proposed"])
        _record(row, by, "approve_from_email", before, _facts(row), reason)
    return row


def do_hand_over_connection(connection: Connection, *, to: User, by: By, held: str, reason: str = "") -> Connection:
    """Say who answers for a connection now that the person with the address ``held`` has left. What was made as them is made
    as ``to``: at once where ``by`` is that person or an administrator; else as ``by`` until an administrator has signed."""
    require_manager(by, connection.team, "hand over a connection")
    now, proposed = _from_email(to.email, by)
    with _changing(connection) as row:
        before = {**_facts(row), "kept_by": row.kept_by or row.registered_by}
        row.kept_by = to.email
        if row.from_email.lower() == held.lower():
            # What somebody else waits for goes on waiting.
            row.from_email, row.from_email_proposed = now, proposed or row.from_email_proposed
        row.save(update_fields=["kept_by", "from_email", "from_email_proposed"])
        after = {**_facts(row), "kept_by": row.kept_by}
        _record(row, by, "hand_over_connection", before, after, reason)
    return row


def do_discard_from_email(connection: Connection, *, by: By, reason: str = "") -> Connection:
    """Withdraw or turn down the proposed address."""
    require_manager(by, connection.team, "withdraw a proposed address")
    with _changing(connection) as row:
        before = _facts(row)
        row.from_email_proposed = ""
        row.save(update_fields=["from_email_proposed"])
        _record(row, by, "discard_from_email", before, _facts(row), reason)
    return row


def do_set_kind(connection: Connection, *, kind: str, by: By, reason: str = "") -> Connection:
    """Correct what kind of token this is, after a test found it to be another. To an account key: administrators."""
    require_manager(by, connection.team, "correct a token's kind")
    if kind not in Connection.Kind.values:
        raise ValidationError("A token is an account key, a user key or an OAuth bearer.")
    with _changing(connection) as row:
        if Connection.Kind.ACCOUNT in (kind, row.kind):
            require_administrator(by, "make a token an account key, or no longer one")
        before = _facts(row)
        row.kind = kind
        row.save(update_fields=["kind"])
        _record(row, by, "set_kind", before, _facts(row), reason)
    return row


def do_set_enabled(connection: Connection, enabled: bool, *, by: By, reason: str = "") -> Connection:
    """Switch a connection on or off. Off, every call through it is denied. Nothing changes where it is so already."""
    require_manager(by, connection.team, "switch a connection")
    with _changing(connection) as row:
        if row.is_enabled is enabled:
            return row
        before = _facts(row)
        row.is_enabled = enabled
        row.save(update_fields=["is_enabled"])
        _record(row, by, "enable_connection" if enabled else "disable_connection", before, _facts(row), reason)
    return row


def do_delete_connection(
    connection: Connection, *, by: By, reason: str = "", seen: Iterable[str] | None = None
) -> list[AgentKey]:
    """Delete a connection with its sealed token and tests, and revoke the agent keys that use it. Returns these.

    ``seen``: the ids of the keys that whoever asks was told of. Raises ``ValidationError`` where another would be revoked.
    """
    require_manager(by, connection.team, "delete a connection")
    told = None if seen is None else set(seen)
    with _changing(connection) as row:
        links = row.keys.select_related("key__team").filter(key__revoked_at=None).order_by("key__name")
        revoked = [link.key for link in links]
        if told is not None and not {str(key.pk) for key in revoked} <= told:
            raise ValidationError(
                "Another key was issued for this connection meanwhile: look again at what would stop."
            )
        for key in revoked:
            do_revoke_key(key, by=by, reason=f"its connection {row.name} was deleted")
        _record(row, by, "delete_connection", _facts(row), None, reason)
        row.delete()
    return revoked


def do_issue_agent_key(
    connection: Connection,
    *,
    name: str,
    by: By,
    tools: Mapping[str, Tool],
    expires_at: dt.datetime | None = None,
    networks: Iterable[str] = (),
    narrowed_to: Iterable[str] | None = None,
    calls_per_minute: int | None = None,
    reason: str = "",
) -> tuple[AgentKey, str]:
    """Issue an agent key that calls through this connection. Returns it with its secret, which is shown once."""
    require_manager(by, connection.team, "issue an agent key")
    with _changing(connection) as row:
        key, secret = do_issue_key(
            row.team,
            name=name,
            by=by,
            expires_at=expires_at,
            networks=tuple(networks),
            narrowed_to=narrowed_to,
            tools=tools,
            calls_per_minute=calls_per_minute,
            reason=reason,
        )
        ConnectionKey.objects.create(key=key, connection=row)
        record_change(
            by=by,
            team=row.team,
            action="use_connection",
            target=f"{key.name} (pwk_{key.prefix})",
            before=None,
            after={"connection": row.name},
            reason=clean_reason(reason),
        )
    return key, secret


# A token's age


def _day(moment: dt.datetime) -> str:
    return f"{moment:%d %B %Y}".lstrip("0")


def suspension(connection: Connection, now: dt.datetime) -> str:
    """Why nothing may be sent through a connection now, as a sentence; empty: it may be used."""
    name = connection.name
    if not connection.is_enabled:
        return f"The connection {name} is switched off."
    if connection.region == Connection.Region.SANDBOX and not settings.PAGERDUTY_SANDBOX_URL:
        return f"The connection {name} is to a sandbox, and this portal has none."
    if connection.detected_kind == Connection.Kind.ACCOUNT and connection.kind != Connection.Kind.ACCOUNT:
        return (
            f"The token of the connection {name} is an account key but was registered as an "
            f"{connection.get_kind_display()}: "
            "an administrator must register it as what it is."
        )
    if connection.token_expires_at is not None and connection.token_expires_at <= now:
        return f"The token of the connection {name} expired on {_day(connection.token_expires_at)}."
    ends = connection.token_ends_at
    if ends is not None and ends <= now:
        return (
            f"The token of the connection {name} is older than the {settings.TOKEN_MAXIMUM_AGE_DAYS} days that "
            f"are allowed: "
            "it must be replaced."
        )
    return ""


def days_left(connection: Connection, now: dt.datetime) -> int | None:
    """Whole days until the token must have been replaced, rounded up; None: there is no end to it."""
    ends = connection.token_ends_at
    return None if ends is None else math.ceil((ends - now) / dt.timedelta(days=1))


def bounds_of(connection: Connection) -> Bounds:
    """The part of the account that a connection may touch."""
    return Bounds(
        connection.whole_account,
        frozenset(connection.bound_team_ids),
        frozenset(connection.bound_service_ids),
        frozenset(connection.account_wide_tools),
    )


def troubles(connection: Connection, now: dt.datetime) -> list[str]:
    """Why calls through a connection do not or may not get through, the worst first; empty: nothing is known to be wrong."""
    told = [suspended] if (suspended := suspension(connection, now)) else []
    if connection.health == "failing":
        told.append(f"The last test failed: {connection.health_message}")
    elif connection.health == "untested":
        told.append("This connection has not been tested yet.")
    return told


def told_of_candidates(connections: Iterable[Connection], now: dt.datetime) -> dict[UUID, str]:
    """Of each replacement token whether it waits for its test or has failed it, by connection: as many look-ups for one as for
    hundreds, and none where no replacement waits."""
    waiting = [row for row in connections if row.candidate_fingerprint is not None]
    if not waiting:
        return {}
    tests = ConnectionTest.objects.filter(connection__in=waiting, of_candidate=True).order_by()
    newest = tests.values("connection").annotate(newest=Max("pk")).values("newest")
    found = {test.connection_id: test for test in ConnectionTest.objects.filter(pk__in=newest)}
    changes = ConfigChange.objects.filter(
        team_id__in={row.team_id for row in waiting}, action="replace_token"
    ).order_by()
    sealed = {
        (team_id, target): at for team_id, target, at in changes.values_list("team_id", "target").annotate(Max("at"))
    }
    return {
        row.pk: _told_of_candidate(row, found.get(row.pk), sealed.get((row.team_id, row.name)), now) for row in waiting
    }


def _told_of_candidate(
    connection: Connection, test: ConnectionTest | None, sealed: dt.datetime | None, now: dt.datetime
) -> str:
    # A test of an earlier replacement says nothing of this one.
    if test is None or test.passed or (sealed is not None and test.at < sealed):
        return f"A replacement token (…{connection.candidate_last4}) waits: it must pass its test to go into service."
    at = f"{test.at:%H:%M} UTC{'' if test.at.date() == now.date() else f' on {test.at:%Y-%m-%d}'}"
    return f"The replacement token (…{connection.candidate_last4}) failed its test at {at}: {test.message}"


def warnings(connection: Connection, now: dt.datetime, candidates: Mapping[UUID, str] | None = None) -> list[str]:
    """What whoever looks at a connection must know, the worst first; empty: all is well. ``candidates``: what
    ``told_of_candidates`` says, where it was asked for many connections at once."""
    told = troubles(connection, now)
    left = days_left(connection, now)
    if left is not None and 0 < left <= REMINDER_DAYS[0]:
        ends = connection.token_ends_at
        assert ends is not None  # noqa: S101  (days_left saw it)
        told.append(f"The token must be replaced within {left} day{'s' if left != 1 else ''}, by {_day(ends)}.")
    if connection.kind == Connection.Kind.OAUTH and connection.token_expires_at is None:
        usual = connection.token_since + dt.timedelta(days=BEARER_DAYS)
        told.append(
            f"OAuth bearer tokens expire. When this one does is not known; PagerDuty's usual {BEARER_DAYS} days "
            f"end on {_day(usual)}."
        )
    if connection.candidate_fingerprint is not None:
        told.append((told_of_candidates([connection], now) if candidates is None else candidates)[connection.pk])
    if connection.from_email_proposed:
        told.append(f"Acting as {connection.from_email_proposed} waits for an administrator's signature.")
    return told


def remind(now: dt.datetime) -> int:
    """E-mail the managers of each connection whose token comes to its end, once a threshold. Returns how many mails."""
    sent = 0
    for connection in Connection.objects.select_related("team"):
        left = days_left(connection, now)
        threshold = (
            None if left is None else min((days for days in REMINDER_DAYS if max(left, 0) <= days), default=None)
        )
        reminded = connection.reminded_days
        if threshold is not None and (reminded is None or threshold < reminded):
            try:
                _mail_reminder(connection, left or 0)
            except Exception:
                # Whatever the mail backend raises: this reminder stays due and the next hour tries again, and the others
                # do not wait for it.
                log.exception("No reminder of the token of the connection %s could be sent", connection.pk)
                continue
            sent += 1
        elif threshold is not None or reminded is None:
            continue
        # After the mail: one too many is better than none. Only if nobody replaced the token meanwhile.
        Connection.objects.filter(pk=connection.pk, token_version=connection.token_version).update(
            reminded_days=threshold
        )
    return sent


def addresses_of(team: Team) -> list[str]:
    """Whom mails about a team go to: its managers, or the administrators where it has none."""
    managers = User.objects.filter(memberships__team=team, memberships__role=Membership.Role.MANAGER, is_active=True)
    return list(managers.values_list("email", flat=True)) or list(
        User.objects.filter(role=User.Role.ADMINISTRATOR, is_active=True).values_list("email", flat=True)
    )


def _mail_reminder(connection: Connection, left: int) -> None:
    when = f"in {left} day{'s' if left != 1 else ''}" if left > 0 else "now"
    ends = connection.token_ends_at
    until = f" on {_day(ends)}" if ends else ""
    team, name = shown(connection.team.name, 100), shown(connection.name, 100)
    send_mail(
        f"The PagerDuty token of {team} ends {when}",
        f"The token (…{connection.last4}) of the connection {name} of {team} comes to "
        f"its end{until}.\n"
        f"From then on every call through it is denied. Replace it on "
        f"{settings.PUBLIC_URL}/teams/{connection.team.slug}/connections/ :\n"
        "the old token serves until the new one has passed its test.\n",
        None,
        addresses_of(connection.team),
    )


# Resealing


def _reseal(connection: Connection) -> str:
    """Reseal a row's tokens under its lock: ``resealed``, ``current`` (nothing to do), ``unreadable`` (no key opens
    it), or ``gone``. A token that is replaced at the same moment is sealed by its replacement."""
    with transaction.atomic():
        row = Connection.objects.select_for_update().filter(pk=connection.pk).first()
        if row is None:
            return "gone"
        places = [sealed_by(sealed) for sealed in (row.token, row.candidate) if sealed is not None]
        if None in places:
            return "unreadable"
        if not any(places):
            return "current"
        row.token = reseal(row.token)
        if row.candidate is not None:
            row.candidate = reseal(row.candidate)
        row.save(update_fields=["token", "candidate"])
    return "resealed"


def do_reseal_tokens(*, by: By) -> Counter[str]:
    """Seal every token anew under the first key, each row in a short transaction of its own: pages and assistants do
    not wait, and every process opens old and new alike as long as both keys are set. Counts ``resealed``,
    ``current``, ``unreadable``."""
    require_administrator(by, "reseal the tokens")
    counts = Counter(_reseal(connection) for connection in Connection.objects.only("pk").iterator())
    if counts["resealed"]:
        with transaction.atomic():
            # Moves the version: every process loads the new seals.
            record_change(
                by=by, team=None, action="rotate_keys", target="sealed tokens", before=None, after=dict(counts)
            )
    return counts


# Tests


def enabled_tools(team: Team) -> list[Tool]:
    """The tools that a team has on, locked ones aside, in the catalogue's order."""
    policy = load_policy(current_version())
    return [
        tool
        for tool in catalog.TOOLS.values()
        if tool.name not in policy.locked and policy.state(team.pk, tool) is State.ON
    ]


def _runner(connection: Connection, by: By, job: str, variant: str = "") -> diagnose.Run:
    """How a diagnosis makes its calls: as one of the portal's jobs, through the pipeline, each on record."""
    # Here, because the runtime's identities read ``suspension`` above.
    from integrations.gateway import runtime

    if database.in_atomic_block:
        raise RuntimeError(
            "A connection cannot be tested inside a transaction: the journal would wait for it for ever."
        )
    # A connection that was registered a moment ago may not be in memory yet.
    runtime.wait_for(lambda started: started.watch.refresh(), 30)

    def run(method: str, path: str, query: str = "") -> diagnose.Heard:
        answer = runtime.call(
            Call(
                door=Door.WEB if isinstance(by, User) else Door.JOB,
                credential=JobCredential(job=job, resource=str(connection.pk), on_behalf_of=name_of(by)),
                method=method,
                path=path,
                query=query,
                at=time.time(),
                variant=variant,
            )
        )
        if answer.reply is not None:
            return diagnose.Heard(reply=answer.reply)
        if answer.verdict is not None and not answer.allowed:
            return diagnose.Heard(rule=answer.verdict.rule, denied=answer.verdict.reason)
        raise CannotTest(answer.problem or "The portal could not make the call.")

    return run


def test_connection(
    connection: Connection,
    *,
    by: By,
    candidate: bool = False,  # noqa: PT028
    step: Step | None = None,  # noqa: PT028
) -> ConnectionTest:
    """Test a connection, or its replacement token, keep the finding, and put a replacement that passes into service.

    Must be called outside ``atomic()``. Takes up to a minute. ``step`` is told of each call that was made.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: there is no replacement to test.
        CannotTest: the portal itself could not make the calls; nothing is stored.
    """
    require_manager(by, connection.team, "test a connection")
    connection = Connection.objects.select_related("team").get(pk=connection.pk)
    if candidate and connection.candidate is None:
        raise ValidationError("There is no replacement token to test.")
    tested = connection.candidate_fingerprint if candidate else connection.fingerprint
    run = _runner(connection, by, "connection_test", "candidate" if candidate else "")
    if step is not None:
        run = _watched(run, step)
    found = diagnose.diagnose(
        run, kind=connection.kind, region=connection.get_region_display(), tools=enabled_tools(connection.team)
    )
    if found.problem == "denied":
        raise CannotTest(found.message)
    return _keep(connection, found, tested=tested or "", by=by, candidate=candidate)


# pytest would take it for a test of its own wherever it is imported.
test_connection.__test__ = False  # type: ignore[attr-defined]  # a function takes any attribute


Step = Callable[[str, str], None]
"""Takes what was asked and what came of it, in a few words each."""


def _watched(run: diagnose.Run, step: Step) -> diagnose.Run:
    def watched(method: str, path: str, query: str = "") -> diagnose.Heard:
        heard = run(method, path, query)
        step(f"{method} {path}", diagnose.in_short(heard))
        return heard

    return watched


def is_running(test: RunningTest, now: dt.datetime) -> bool:
    return test.ended_at is None and test.begun_at > now - LONGEST_TEST


def begin_test(connection: Connection, *, by: User, candidate: bool = False) -> RunningTest:
    """Test a connection in a thread of this process, so that whoever asks can watch. One that runs already goes on.

    Raises:
        Refused: ``by`` does not manage the team.
        ValidationError: there is no replacement to test.
    """
    require_manager(by, connection.team, "test a connection")
    now = timezone.now()
    with _changing(connection) as row:
        if candidate and row.candidate is None:
            raise ValidationError("There is no replacement token to test.")
        standing = RunningTest.objects.filter(pk=row.pk).first()
        if standing is not None and is_running(standing, now):
            return standing
        made, _ = RunningTest.objects.update_or_create(
            pk=row.pk,
            defaults={
                "begun_at": now,
                "ended_at": None,
                "of_candidate": candidate,
                "asked_by": name_of(by),
                "steps": [],
                "passed": None,
                "told": "",
            },
        )
    threading.Thread(target=_run_test, args=(made, by), name="connection-test", daemon=True).start()
    return made


def _run_test(running: RunningTest, by: User) -> None:
    # Only this very run: the connection may be deleted meanwhile, or tested anew.
    own = RunningTest.objects.filter(pk=running.pk, begun_at=running.begun_at)
    steps: list[tuple[str, str]] = []

    def step(asked: str, came: str) -> None:
        steps.append((asked, shown(came, 200)))
        own.update(steps=steps)

    passed = None
    try:
        connection = Connection.objects.select_related("team").get(pk=running.pk)
        found = test_connection(connection, by=by, candidate=running.of_candidate, step=step)
        passed, told = found.passed, " ".join(filter(None, (found.message, found.findings.get("remedy", ""))))
    except (CannotTest, Refused) as error:
        told = str(error)
    except ValidationError as error:
        told = " ".join(error.messages)
    except Connection.DoesNotExist:
        told = "This connection is deleted."
    except Exception:
        log.exception("The test of the connection %s broke off", running.pk)
        told = "The test broke off by an error of the portal's own: test again, and tell an administrator if it stays."
    try:
        own.update(ended_at=timezone.now(), passed=passed, told=told[:1_000])
    finally:
        database.close()


def _keep(connection: Connection, found: diagnose.Diagnosis, *, tested: str, by: By, candidate: bool) -> ConnectionTest:
    # What a test changes of the configuration: the token in service, or that it is not what it was registered as.
    learned = not candidate and bool(found.kind) and found.kind != connection.detected_kind
    with transaction.atomic():
        if candidate or learned:
            hold_version()
        row = Connection.objects.select_for_update().filter(pk=connection.pk).first()
        if row is None or (row.candidate_fingerprint if candidate else row.fingerprint) != tested:
            raise CannotTest("The token was replaced while it was tested. Test it again.")
        now = timezone.now()
        test = ConnectionTest.objects.create(
            connection=row,
            at=now,
            of_candidate=candidate,
            passed=found.passed,
            problem=found.problem,
            message=found.message[:500],
            latency_ms=found.latency_ms,
            findings=found.as_json(),
            asked_by=name_of(by),
        )
        newest = list(row.tests.order_by("-id").values_list("pk", flat=True)[:KEPT_TESTS])
        row.tests.exclude(pk__in=newest).delete()
        row.tests.filter(pk__in=newest[KEPT_FINDINGS:]).exclude(findings={}).update(findings={})
        refused: Refused | None = None
        if candidate and found.passed:
            try:
                row = do_promote_candidate(row, by=by, tested=tested, kind=found.kind, reason="its test passed")
            except Refused as error:
                refused = error  # What the test found is kept all the same.
        if not refused and (not candidate or found.passed):
            row.health = "ok" if found.passed else "failing"
            row.health_at, row.health_message = now, test.message
            row.save(update_fields=["health", "health_at", "health_message"])
        if learned:
            before = {"detected_kind": row.detected_kind}
            row.detected_kind = found.kind
            row.save(update_fields=["detected_kind"])
            _record(row, by, "detect_kind", before, {"detected_kind": row.detected_kind}, "found by a connection test")
    if refused is not None:
        raise refused
    return test


def explain_object(connection: Connection, *, type: str, id_or_name: str, by: By) -> diagnose.Finding:
    """Why can this token (not) see this object? ``type``: one of ``diagnose.OBJECTS``. Must be called outside
    ``atomic()``.

    Raises:
        Refused: ``by`` is not of the team.
        CannotTest: the portal itself could not make the calls.
    """
    # An auditor reads none of PagerDuty, whatever they see of the portal.
    if isinstance(by, User) and (
        by.is_auditor or not Team.objects.visible_to(by).filter(pk=connection.team_id).exists()
    ):
        raise Refused(f"Only people of {connection.team.name} may ask this.")
    run = _runner(connection, by, "explain_object")
    return diagnose.explain_object(
        run,
        type=type,
        id_or_name=id_or_name,
        kind=connection.kind,
        whole_account=connection.whole_account,
        team_ids=frozenset(connection.bound_team_ids),
        service_ids=frozenset(connection.bound_service_ids),
    )
