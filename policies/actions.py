"""Every change of who may do what. Each function is one transaction: the state, its ConfigChange, the policy's version and an
entry of the journal, all or nothing. Views, admin and commands call these; nothing else writes.

``by`` is the person who asks, or the name of a trusted command or job.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import re
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.text import slugify

from policies import keys
from policies.core.call import Entry, EntryKind, Risk, State, Tool
from policies.core.redact import Redactor
from policies.journal import append_in_transaction
from policies.models import AgentKey, ConfigChange, Membership, PolicyVersion, Team, ToolRule, ToolSetting, User

By = User | str

MAXIMUM_CALLS_PER_MINUTE = 960
"""PagerDuty's own limit of a connection."""
_SECRET = re.compile(
    r"pwk_[a-z0-9]{8}_|(?<![A-Za-z0-9+_-])(?=[A-Za-z0-9+_-]*[0-9])(?=[A-Za-z0-9+_-]*[a-z])"
    r"(?=[A-Za-z0-9+_-]*[A-Z])[A-Za-z0-9+_-]{20,}(?![A-Za-z0-9+_-])"
)


class Refused(Exception):
    """Whoever asks may not do this. The text is a sentence for people."""


def name_of(by: By) -> str:
    """How a change names its author."""
    return by.email if isinstance(by, User) else by


def require_administrator(by: By, what: str) -> None:
    if isinstance(by, User) and not (by.is_active and by.is_administrator):
        raise Refused(f"Only an administrator may {what}.")


def require_manager(by: By, team: Team, what: str) -> None:
    """An administrator, or a manager of ``team``. An auditor changes nothing, whatever else they are."""
    if not isinstance(by, User):
        return
    if not Team.objects.editable_by(by).filter(pk=team.pk).exists():
        raise Refused(f"Only a manager of {team.name} or an administrator may {what}.")


def plain(text: str, what: str, *, maximum: int, required: bool = True) -> str:
    """Text that people typed, stripped. Raises ``ValidationError`` on what looks like a secret: it would be kept for good."""
    text = " ".join(text.split())
    if required and not text:
        raise ValidationError(f"{what} is missing.")
    if len(text) > maximum:
        raise ValidationError(f"{what} is longer than {maximum} characters.")
    if not text.isprintable():
        raise ValidationError(f"{what} holds characters that cannot be shown.")
    if _SECRET.search(text):
        raise ValidationError(
            f"{what} looks as if it held a token or a key. Leave secrets out: this text is kept for good."
        )
    return text


def move_version() -> int:
    """Move the policy's version, and hold its row until the transaction ends: changes follow one another."""
    PolicyVersion.objects.get_or_create(pk=1)
    row = PolicyVersion.objects.select_for_update().get(pk=1)
    row.version += 1
    row.save()
    return row.version


def record_change(
    *, by: By, team: Team | None, action: str, target: str, before: Any, after: Any, reason: str = ""
) -> ConfigChange:
    """The ConfigChange, the moved version and the journal's entry of a change, in the caller's transaction.

    ``before`` and ``after`` are JSON values without secrets.
    """
    version = move_version()
    now = timezone.now()
    change = ConfigChange.objects.create(
        at=now,
        actor=name_of(by),
        team_id=team.pk if team else None,
        team=team.name if team else "",
        action=action,
        target=target[:200],
        before=before,
        after=after,
        reason=reason,
        policy_version=version,
    )
    append_in_transaction(
        Entry(
            kind=EntryKind.CONFIG,
            at=now,
            decision_id=f"cfg-{uuid4().hex[:28]}",
            team_id=change.team_id,
            actor=f"user:{by.pk}" if isinstance(by, User) else by,
            details={
                "action": action,
                "target": target[:200],
                "before": before,
                "after": after,
                "reason": reason,
                "policy_version": version,
                "by": name_of(by),
                "team": change.team,
            },
        )
    )
    return change


# People and teams


@transaction.atomic
def do_create_user(email: str, *, by: By, password: str | None, name: str = "", role: str = "") -> User:
    """Raises ``ValidationError`` when the address is taken or malformed."""
    require_administrator(by, "create people")
    user = User(email=email.strip().lower(), name=plain(name, "The name", maximum=150, required=False), role=role)
    user.set_password(password)
    user.full_clean()
    user.save()
    record_change(by=by, team=None, action="create_user", target=user.email, before=None, after={"role": role})
    return user


@transaction.atomic
def do_update_user(
    user: User, *, by: By, name: str | None = None, role: str | None = None, is_active: bool | None = None
) -> None:
    """Keys that a person issued belong to the team, and stay."""
    require_administrator(by, "change people")
    before = {"name": user.name, "role": user.role, "is_active": user.is_active}
    after = {
        "name": user.name if name is None else plain(name, "The name", maximum=150, required=False),
        "role": user.role if role is None else role,
        "is_active": user.is_active if is_active is None else is_active,
    }
    stays = after["is_active"] and after["role"] == User.Role.ADMINISTRATOR
    if isinstance(by, User) and by.pk == user.pk and not stays:
        raise Refused("You cannot take your own administration away: ask another administrator.")
    for field, value in after.items():
        setattr(user, field, value)
    user.full_clean(exclude=["password"])
    user.save()
    record_change(by=by, team=None, action="update_user", target=user.email, before=before, after=after)


@transaction.atomic
def do_set_password(user: User, *, by: By, password: str) -> None:
    if not (isinstance(by, User) and by.pk == user.pk):
        require_administrator(by, "set another's password")
    user.set_password(password)
    user.save(update_fields=["password"])
    record_change(by=by, team=None, action="set_password", target=user.email, before=None, after=None)


@transaction.atomic
def do_create_team(name: str, *, by: By, slug: str = "") -> Team:
    require_administrator(by, "create shared teams")
    name = plain(name, "The team's name", maximum=100)
    team = Team(name=name, slug=slug or _free_slug(name))
    team.full_clean()
    team.save()
    record_change(by=by, team=team, action="create_team", target=team.name, before=None, after={"slug": team.slug})
    return team


@transaction.atomic
def do_create_personal_workspace(user: User, *, by: By) -> Team:
    """A team of one, of which the person is the manager."""
    if isinstance(by, User) and by.pk != user.pk:
        require_administrator(by, "create another's personal workspace")
    if user.is_auditor:
        raise Refused("An auditor changes nothing, and so has no personal workspace.")
    if Team.objects.filter(owner=user).exists():
        raise ValidationError("There is one personal workspace for each person, and this one exists already.")
    name = f"{user.name or user.email.partition('@')[0]}'s workspace"[:100]
    team = Team.objects.create(name=name, slug=_free_slug(name), kind=Team.Kind.PERSONAL, owner=user)
    Membership.objects.create(team=team, user=user, role=Membership.Role.MANAGER)
    record_change(
        by=by, team=team, action="create_personal_workspace", target=team.name, before=None, after={"owner": user.email}
    )
    return team


def _free_slug(name: str) -> str:
    base = slugify(name)[:40] or "team"
    taken = set(Team.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in (base, *(f"{base}-{n}" for n in range(2, 10_000))) if slug not in taken)


@transaction.atomic
def do_set_membership(team: Team, *, user: User, role: str, by: By) -> Membership:
    require_manager(by, team, "choose its members")
    if team.kind == Team.Kind.PERSONAL and user.pk != team.owner_id:
        raise Refused("A personal workspace has its owner alone.")
    if role not in Membership.Role.values:
        raise ValidationError("There is no such role: manager or member.")
    existing = Membership.objects.filter(team=team, user=user).first()
    before = existing.role if existing else None
    if before == role:
        assert existing is not None  # noqa: S101
        return existing
    if before == Membership.Role.MANAGER:
        _keep_a_manager(team, user, by)
    membership, _ = Membership.objects.update_or_create(team=team, user=user, defaults={"role": role})
    record_change(by=by, team=team, action="set_membership", target=user.email, before=before, after=role)
    return membership


@transaction.atomic
def do_remove_member(team: Team, *, user: User, by: By) -> None:
    require_manager(by, team, "choose its members")
    if team.kind == Team.Kind.PERSONAL:
        raise Refused("A personal workspace has its owner alone.")
    existing = Membership.objects.filter(team=team, user=user).first()
    if existing is None:
        return
    if existing.role == Membership.Role.MANAGER:
        _keep_a_manager(team, user, by)
    existing.delete()
    record_change(by=by, team=team, action="remove_member", target=user.email, before=existing.role, after=None)


def _keep_a_manager(team: Team, user: User, by: By) -> None:
    others = Membership.objects.filter(team=team, role=Membership.Role.MANAGER, user__is_active=True).exclude(user=user)
    if not others.exists() and isinstance(by, User) and not by.is_administrator:
        raise Refused(f"{team.name} would be left without a manager: name another one first.")


# Policy


@transaction.atomic
def do_set_tools(
    team: Team, *, states: Mapping[str, State], tools: Mapping[str, Tool], by: By, reason: str = ""
) -> int:
    """Set what a team says of some tools. Returns how many changed; each is a ConfigChange of its own."""
    require_manager(by, team, "set its tools")
    reason = plain(reason, "The reason", maximum=500, required=False)
    locked = set(ToolRule.objects.filter(locked=True).values_list("tool", flat=True))
    settings_now = {row.tool: row for row in ToolSetting.objects.select_for_update().filter(team=team)}
    changed = 0
    for name, state in states.items():
        tool = tools.get(name)
        if tool is None:
            raise ValidationError(f"There is no tool {name[:64]!r} in the catalogue.")
        row = settings_now.get(name)
        before = State(row.state) if row else tool.default
        if state is before:
            continue
        if name in locked and state is not State.OFF:
            raise Refused(f"{tool.title} is locked off for all teams by an administrator.")
        ToolSetting.objects.update_or_create(team=team, tool=name, defaults={"state": state.value})
        record_change(
            by=by, team=team, action="set_tool", target=name, before=before.value, after=state.value, reason=reason
        )
        changed += 1
    return changed


def do_apply_preset(
    team: Team, *, name: str, preset: frozenset[str], tools: Mapping[str, Tool], by: By, reason: str = ""
) -> int:
    """The preset's tools on, all others off; locked ones stay as they are. Returns how many changed."""
    locked = set(ToolRule.objects.filter(locked=True).values_list("tool", flat=True))
    states = {tool: State.ON if tool in preset else State.OFF for tool in tools if tool not in locked}
    return do_set_tools(team, states=states, tools=tools, by=by, reason=reason or f"preset {name}")


@transaction.atomic
def do_set_tool_rule(
    name: str, *, tools: Mapping[str, Tool], by: By, locked: bool, risk: str = "", reason: str = ""
) -> ToolRule:
    """Lock a tool off for all teams, or raise its risk. The catalogue's risk is the least there is."""
    require_administrator(by, "lock tools or raise their risk")
    reason = plain(reason, "The reason", maximum=500, required=False)
    tool = tools.get(name)
    if tool is None:
        raise ValidationError(f"There is no tool {name[:64]!r} in the catalogue.")
    if risk and Risk(risk).rank < tool.risk.rank:
        raise ValidationError(f"{tool.title} is of {tool.risk.value} risk: it can only be raised.")
    row = ToolRule.objects.filter(tool=name).first()
    before = {"locked": row.locked, "risk": row.risk} if row else {"locked": False, "risk": ""}
    after = {"locked": locked, "risk": risk}
    row, _ = ToolRule.objects.update_or_create(tool=name, defaults={**after, "reason": reason})
    if before != after:
        record_change(by=by, team=None, action="set_tool_rule", target=name, before=before, after=after, reason=reason)
    return row


@transaction.atomic
def do_switch_all_writes_off(teams: QuerySet[Team], *, tools: Mapping[str, Tool], by: By, reason: str = "") -> int:
    """Every writing tool off, in every one of ``teams``. Returns how many settings changed."""
    states = {name: State.OFF for name, tool in tools.items() if tool.writes}
    return sum(
        do_set_tools(team, states=states, tools=tools, by=by, reason=reason or "all writes off") for team in teams
    )


# Agent keys


@transaction.atomic
def do_issue_key(
    team: Team,
    *,
    name: str,
    by: By,
    tools: Mapping[str, Tool],
    expires_at: dt.datetime | None = None,
    networks: Iterable[str] = (),
    narrowed_to: Iterable[str] | None = None,
    calls_per_minute: int | None = None,
) -> tuple[AgentKey, str]:
    """A new key and its secret, which is shown this once."""
    require_manager(by, team, "issue agent keys")
    name = plain(name, "The key's name", maximum=100)
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError("The key would have expired already: choose a later time.")
    try:
        blocks = [str(ipaddress.ip_network(block.strip(), strict=False)) for block in networks if block.strip()]
    except ValueError as error:
        raise ValidationError(f"A source network is no CIDR block: {error}.") from error
    narrowed = None if narrowed_to is None else sorted(set(narrowed_to))
    if narrowed is not None:
        if not narrowed:
            raise ValidationError("A key that is narrowed to no tool could do nothing: choose at least one.")
        if unknown := [tool for tool in narrowed if tool not in tools]:
            raise ValidationError(f"There is no tool {unknown[0][:64]!r} in the catalogue.")
    limit = settings.CALLS_PER_MINUTE if calls_per_minute is None else calls_per_minute
    if limit == 0 and isinstance(by, User) and not by.is_administrator:
        raise Refused("Only an administrator may issue a key without a call limit.")
    if not 0 <= limit <= MAXIMUM_CALLS_PER_MINUTE:
        raise ValidationError(f"The call limit is between 1 and {MAXIMUM_CALLS_PER_MINUTE} a minute.")
    prefix, secret = keys.new_key()
    key = AgentKey.objects.create(
        team=team,
        name=name,
        prefix=prefix,
        digest=keys.digest_of(prefix, secret),
        created_by=name_of(by),
        expires_at=expires_at,
        networks=blocks,
        tools=narrowed,
        calls_per_minute=limit,
    )
    after = {
        "expires_at": expires_at.isoformat() if expires_at else None,
        "networks": blocks,
        "tools": narrowed,
        "calls_per_minute": limit,
    }
    record_change(by=by, team=team, action="issue_key", target=f"{name} (pwk_{prefix})", before=None, after=after)
    return key, keys.shown(prefix, secret)


@transaction.atomic
def do_revoke_key(key: AgentKey, *, by: By, reason: str = "") -> None:
    """Takes effect on the next write everywhere, and on the next read within a second. It cannot be undone."""
    require_manager(by, key.team, "revoke agent keys")
    reason = plain(reason, "The reason", maximum=500, required=False)
    if key.revoked_at is not None:
        return
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    record_change(
        by=by,
        team=key.team,
        action="revoke_key",
        target=f"{key.name} (pwk_{key.prefix})",
        before="usable",
        after="revoked",
        reason=reason,
    )


# Sign-ins

FAILED_SIGN_INS_A_MINUTE = 10
_failures: dict[str, tuple[int, int]] = {}
_failures_lock = threading.Lock()


def record_sign_in(*, user: User | None, email: str, ip: str, what: str) -> None:
    """``what``: signed_in, signed_out or refused. A flood of refusals from one source is counted, not a row each."""
    count = 1
    if what == "refused":
        minute = int(time.time() // 60)
        with _failures_lock:
            if len(_failures) > 1_000:
                _failures.clear()
            began, seen = _failures.get(ip, (minute, 0))
            seen = seen + 1 if began == minute else 1
            _failures[ip] = (minute, seen)
        if seen > FAILED_SIGN_INS_A_MINUTE and seen & (seen - 1):
            return  # Beyond ten a minute only powers of two are written, with the count so far.
        count = seen
    known = user or User.objects.filter(email__iexact=email).first()
    # A stranger may have typed a password where the address belongs.
    who = known.email if known else Redactor(settings.SECRET_KEY.encode()).string(email)
    with transaction.atomic():
        append_in_transaction(
            Entry(
                kind=EntryKind.SIGN_IN,
                at=timezone.now(),
                decision_id=f"sgn-{uuid4().hex[:28]}",
                actor=f"user:{known.pk}" if known else "",
                verdict="deny" if what == "refused" else "allow",
                details={"what": what, "who": who, "ip": ip, "count": count},
            )
        )
