"""Every change of who may do what. Each function is one transaction: the state, its ConfigChange, the policy's version and an
entry of the journal, all or nothing. Views, admin and commands call these; nothing else writes.

``by`` is the person who asks, or the name of a trusted command or job.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import ipaddress
import secrets
import threading
import time
import zoneinfo
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.text import slugify

from policies import keys
from policies.core import chain
from policies.core.call import Entry, EntryKind, Risk, State, Tool
from policies.core.decide import EVERYTHING
from policies.core.redact import Redactor
from policies.core.text import redacted, shown
from policies.journal import append_in_transaction
from policies.models import (
    AgentKey,
    Alarm,
    BrowserSession,
    ConfigChange,
    Invitation,
    JournalCheck,
    Membership,
    PolicyVersion,
    ReadsGoOn,
    Reveal,
    Review,
    SavedView,
    SignInFailures,
    Stop,
    Team,
    ToolRequest,
    ToolRule,
    ToolSetting,
    User,
)
from policies.rehearsal import Rehearsal, rehearse
from policies.verification import STALE

By = User | str

MAXIMUM_CALLS_PER_MINUTE = 960
"""The most that a key may be given: beyond it, one agent could spend what the service allows a whole connection."""


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
    if shown(text, maximum) != text:
        raise ValidationError(f"{what} holds characters that cannot be shown.")
    if redacted(text) != text:
        raise ValidationError(
            f"{what} looks as if it held a token or a key. Leave secrets out: this text is kept for good."
        )
    return text


def clean_reason(reason: str) -> str:
    """Why somebody changes something, as it is kept; empty where they did not say."""
    return plain(reason, "The reason", maximum=500, required=False)


def hold_version() -> PolicyVersion:
    """The row of the policy's version, locked until the transaction ends: changes follow one another."""
    PolicyVersion.objects.get_or_create(pk=1, defaults={"version": 0})
    return PolicyVersion.objects.select_for_update().get(pk=1)


def move_version() -> int:
    """Move the policy's version, and hold its row."""
    row = hold_version()
    row.version += 1
    row.save()
    return row.version


LONGEST = 1_000
"""Characters of one text that a record of a change keeps."""


def _kept(value: Any) -> Any:
    """A JSON value as a record of a change keeps it. ``plain`` has refused what people typed with a secret in it; this is for
    what came another way."""
    if isinstance(value, str):
        return redacted(shown(value, LONGEST))
    if isinstance(value, Mapping):
        return {_kept(key): _kept(item) for key, item in value.items()}
    return [_kept(item) for item in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, slots=True)
class Changed:
    """What became of one thing. ``before`` and ``after`` are JSON values."""

    team: Team | None
    target: str
    before: Any
    after: Any


def record_change(
    *, by: By, team: Team | None, action: str, target: str, before: Any, after: Any, reason: str = ""
) -> ConfigChange:
    """The ConfigChange, the moved version and the journal's entry of a change, in the caller's transaction.

    ``before`` and ``after`` are JSON values. Secrets in any text are left out, for all of it is kept for good.
    """
    return record_changes([Changed(team, target, before, after)], by=by, action=action, reason=reason)[0]


def record_changes(changed: Sequence[Changed], *, by: By, action: str, reason: str = "") -> list[ConfigChange]:
    """Several changes of one kind that are made in one stroke: each has its ConfigChange and its entry, and all the same
    version."""
    reason = _kept(reason)[:500]
    version = move_version()
    now = timezone.now()
    changes = ConfigChange.objects.bulk_create(
        ConfigChange(
            at=now,
            actor=name_of(by),
            team_id=one.team.pk if one.team else None,
            team=one.team.name if one.team else "",
            action=action,
            target=_kept(one.target)[:200],
            before=_kept(one.before),
            after=_kept(one.after),
            reason=reason,
            policy_version=version,
        )
        for one in changed
    )
    append_in_transaction(
        *(
            Entry(
                kind=EntryKind.CONFIG,
                at=now,
                decision_id=f"cfg-{uuid4().hex[:28]}",
                team_id=change.team_id,
                actor=f"user:{by.pk}" if isinstance(by, User) else by,
                details={
                    "action": action,
                    "target": change.target,
                    "before": change.before,
                    "after": change.after,
                    "reason": reason,
                    "policy_version": version,
                    "by": name_of(by),
                    "team": change.team,
                },
            )
            for change in changes
        )
    )
    return changes


def _append(by: By, team_id: int | None, at: dt.datetime, details: Mapping[str, Any]) -> None:
    """The journal's entry of what somebody did to the portal itself."""
    append_in_transaction(
        Entry(
            kind=EntryKind.CONFIG,
            at=at,
            decision_id=f"cfg-{uuid4().hex[:28]}",
            team_id=team_id,
            actor=f"user:{by.pk}" if isinstance(by, User) else by,
            details={**details, "by": name_of(by)},
        )
    )


# The record


def require_reader(by: User) -> None:
    """Whoever reads any of the record (``ViaTeamIdQuerySet``): administrators, auditors, and managers of some team."""
    reads = by.is_active and (by.is_administrator or by.is_auditor or Team.objects.editable_by(by).exists())
    if not reads:
        raise Refused("Managers, auditors and administrators read the record.")


@transaction.atomic
def do_record_export(
    *, by: User, team_id: int | None, query: str, form: str, until: int | None, action: str = "export_audit"
) -> None:
    """Put on record that ``by`` takes away what ``query`` finds of the record, up to the entry ``until``, before it is given.
    ``team_id``: the only team that it is of. ``action``: what is made of the record; ``export_access`` is who could use what.
    ``until`` is None of what is no part of the record: then whoever sees it may take it away.
    Nobody's rights change: the policy's version stays.
    """
    if until is not None:
        require_reader(by)
    team = (Team.objects.filter(pk=team_id).values_list("name", flat=True).first() or "") if team_id else ""
    after: dict[str, Any] = {"form": form} if until is None else {"form": form, "up_to_entry": until}
    told = {"action": action, "target": _kept(query or "everything")[:LONGEST], "before": None, "after": after}
    _append(by, team_id, timezone.now(), {**told, "reason": "", "team": team})


KEPT_CHECKS = 20
"""Checks of the journal that its page still tells of; that they were asked for stays on record."""


@transaction.atomic
def do_check_journal(*, by: User, held: str = "") -> JournalCheck:
    """Put on record that ``by`` has the whole journal verified, against the newest checkpoint or the one that they hold (JSON).
    Whoever calls this leaves the work to the worker, unless the answer is known already.

    Raises ``ValidationError`` where ``held`` is no checkpoint or was edited, and while another check is under way.
    """
    if not (by.is_active and (by.is_administrator or by.is_auditor)):
        raise Refused("Administrators and auditors verify the journal.")
    hold_version()  # two that ask at once do not have it verified twice
    now, state, told = timezone.now(), JournalCheck.State.WAITING, ""
    target = "the newest checkpoint"
    if held:
        try:
            checkpoint = chain.Checkpoint.from_json(held)
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(checkpoint.public_key))
        except ValueError as error:
            raise ValidationError(
                "This is no checkpoint: choose a file that was downloaded here, or copied from the folder of checkpoints."
            ) from error
        if not chain.is_signed_by(checkpoint, key):
            raise ValidationError("This checkpoint was edited since it was signed. Use another copy, or an older one.")
        target = f"the checkpoint of {shown(checkpoint.at, 40)}, held by them"
        if key != chain.signing_key(settings.JOURNAL_SIGNING_KEY).public_key():
            state = JournalCheck.State.UNKNOWN
            told = "Cannot tell: the checkpoint was signed by another key than JOURNAL_SIGNING_KEY"
    open_ones = JournalCheck.objects.filter(state__in=[JournalCheck.State.WAITING, JournalCheck.State.RUNNING])
    if state == JournalCheck.State.WAITING and open_ones.filter(seen_at__gt=now - STALE).exists():
        raise ValidationError("The journal is being verified already: wait until that is done.")
    made = JournalCheck.objects.create(at=now, seen_at=now, actor=name_of(by), held=held, state=state, told=told)
    JournalCheck.objects.filter(pk__in=JournalCheck.objects.order_by("-pk").values_list("pk")[KEPT_CHECKS:]).delete()
    _append(by, None, now, {"action": "check_journal", "target": target, "before": None, "after": None, "reason": ""})
    return made


@transaction.atomic
def do_set_digest(*, by: User, wanted: bool) -> None:
    """Whether ``by`` gets the weekly digest. Nobody's rights change: the policy's version stays."""
    before = User.objects.values_list("weekly_digest", flat=True).get(pk=by.pk)
    if before == wanted:
        return
    User.objects.filter(pk=by.pk).update(weekly_digest=wanted)
    told = {"action": "set_weekly_digest", "target": by.email, "before": before, "after": wanted, "reason": ""}
    _append(by, None, timezone.now(), told)


@transaction.atomic
def do_mark_reviewed(*, by: User, team_id: int | None, query: str, first: int, last: int, note: str) -> Review:
    """Put on record that ``by`` looked through what ``query`` finds from the entry ``first`` to the entry ``last``.
    ``team_id``: the only team that it is of. An auditor may: what they review does not change.

    Raises ``ValidationError`` on a note that is empty or holds a secret, and on a range that holds nothing.
    """
    require_reader(by)
    note = plain(note, "The note", maximum=500)
    if team_id is None and not (by.is_administrator or by.is_auditor):
        raise ValidationError("You read several teams: say which this is of, as team:name in the query.")
    if not 0 < first <= last:
        raise ValidationError("There is no entry in this range that was not reviewed before.")
    team = (Team.objects.filter(pk=team_id).values_list("name", flat=True).first() or "") if team_id else ""
    now = timezone.now()
    query = _kept(query)[:500]
    made = Review.objects.create(
        at=now, actor=name_of(by), team_id=team_id, team=team, query=query, first_id=first, last_id=last, note=note
    )
    after = {"from_entry": first, "to_entry": last}
    told = {"action": "mark_reviewed", "target": query or "everything", "before": None, "after": after}
    _append(by, team_id, now, {**told, "reason": note, "team": team})
    return made


MAXIMUM_VIEWS = 50
"""Queries that one person may keep."""


def do_save_view(*, by: User, name: str, query: str) -> SavedView:
    """Keep a query for oneself; one of the same name is replaced. It changes nobody's rights, and is not on record.

    Raises ``ValidationError`` on a name that is none, and when there are too many.
    """
    require_reader(by)
    name = plain(name, "The name", maximum=60)
    if by.saved_views.exclude(name=name).count() >= MAXIMUM_VIEWS:
        raise ValidationError(f"You keep {MAXIMUM_VIEWS} views already: delete one first.")
    return by.saved_views.update_or_create(name=name, defaults={"query": query[:500]})[0]


def do_delete_view(view: SavedView, *, by: User) -> None:
    if view.user_id != by.pk:
        raise Refused("This view is somebody else's.")
    view.delete()


# People and teams


@transaction.atomic
def do_create_user(email: str, *, by: By, password: str | None, name: str = "", role: str = "") -> User:
    """Raises ``ValidationError`` when the address is taken or malformed."""
    require_administrator(by, "create people")
    user = User(email=email.strip().lower(), name=plain(name, "The name", maximum=150, required=False), role=role)
    if password is not None:
        validate_password(password, user)
    user.set_password(password)
    user.full_clean()
    user.save()
    record_change(by=by, team=None, action="create_user", target=user.email, before=None, after={"role": role})
    return user


@transaction.atomic
def do_update_user(
    user: User,
    *,
    by: By,
    name: str | None = None,
    role: str | None = None,
    is_active: bool | None = None,
    reason: str = "",
) -> None:
    """Keys that a person issued belong to the team, and stay: ``integrations.leaving`` deals with what somebody held.

    Raises ``Refused`` where nobody would be left who administers.
    """
    require_administrator(by, "change people")
    reason = clean_reason(reason)
    hold_version()  # two administrators do not end each other's administration at once
    before = {"name": user.name, "role": user.role, "is_active": user.is_active}
    after = {
        "name": user.name if name is None else plain(name, "The name", maximum=150, required=False),
        "role": user.role if role is None else role,
        "is_active": user.is_active if is_active is None else is_active,
    }
    stays = after["is_active"] and after["role"] == User.Role.ADMINISTRATOR
    if isinstance(by, User) and by.pk == user.pk and not stays:
        raise Refused("You cannot take your own administration away: ask another administrator.")
    others = User.objects.get_queryset().filter(role=User.Role.ADMINISTRATOR, is_active=True).exclude(pk=user.pk)
    if before["role"] == User.Role.ADMINISTRATOR and before["is_active"] and not stays and not others.exists():
        raise Refused(f"{user} is the last administrator: make somebody else one first.")
    for field, value in after.items():
        setattr(user, field, value)
    user.full_clean(exclude=["password"])
    user.save(update_fields=list(after))  # a password that was set meanwhile stays
    if before["is_active"] and not after["is_active"]:
        _forget_sessions(user)  # else those that somebody left open go on when they are switched on again
    record_change(by=by, team=None, action="update_user", target=user.email, before=before, after=after, reason=reason)


def _forget_sessions(user: User) -> None:
    """Sign somebody out everywhere."""
    Session.objects.filter(session_key__in=list(user.sessions.values_list("session_key", flat=True))).delete()
    user.sessions.all().delete()


@transaction.atomic
def do_set_password(user: User, *, by: By, password: str) -> None:
    own = isinstance(by, User) and by.pk == user.pk
    if not own:
        require_administrator(by, "set another's password")
    validate_password(password, user)
    hold_version()  # before any other row
    user.set_password(password)
    user.save(update_fields=["password"])
    _forget_sessions(user)  # with the old password every session of theirs has ended
    # Whoever gets a new password is not kept out by what others guessed at the old one.
    guessed = [_guess_subject(what, user.email.lower()) for what in (["account"] if own else ["account", "code"])]
    SignInFailures.objects.filter(subject__in=guessed).delete()
    record_change(by=by, team=None, action="set_password", target=user.email, before=None, after=None)


@functools.cache
def time_zones() -> frozenset[str]:
    """The names that zones have, such as Europe/Berlin."""
    return frozenset(zoneinfo.available_timezones())


def do_set_time_zone(user: User, *, by: User, time_zone: str) -> None:
    """The zone in which pages tell somebody times; empty: their browser's. It changes nobody's rights, and is not on record.

    Raises ``ValidationError`` on what is no zone.
    """
    if by.pk != user.pk:
        raise Refused("Everybody chooses their own time zone.")
    if time_zone and time_zone not in time_zones():
        raise ValidationError("There is no such time zone. Choose one from the list.")
    user.time_zone = time_zone
    user.save(update_fields=["time_zone"])


@transaction.atomic
def do_create_team(name: str, *, by: By, slug: str = "", reason: str = "") -> Team:
    require_administrator(by, "create shared teams")
    reason = clean_reason(reason)
    name = plain(name, "The team's name", maximum=100)
    team = Team(name=name, slug=slug or _free_slug(name))
    team.full_clean()
    team.save()
    record_change(
        by=by,
        team=team,
        action="create_team",
        target=team.name,
        before=None,
        after={"slug": team.slug},
        reason=reason,
    )
    return team


@transaction.atomic
def do_create_personal_workspace(user: User, *, by: By) -> Team:
    """A team of one, of which the person is the manager."""
    if isinstance(by, User) and by.pk != user.pk:
        require_administrator(by, "create another's personal workspace")
    elif isinstance(by, User) and not settings.PERSONAL_WORKSPACES:
        raise Refused("This portal has no personal workspaces: ask an administrator for a team.")
    hold_version()
    if user.is_auditor:
        raise Refused("An auditor changes nothing, and so has no personal workspace.")
    if Team.objects.filter(owner=user).exists():
        raise ValidationError("There is one personal workspace for each person, and this one exists already.")
    whose = (user.name or user.email.partition("@")[0])[:80]
    name = f"{whose}'s workspace"
    team = Team.objects.create(name=name, slug=_free_slug(name), kind=Team.Kind.PERSONAL, owner=user)
    Membership.objects.create(team=team, user=user, role=Membership.Role.MANAGER)
    record_change(
        by=by, team=team, action="create_personal_workspace", target=team.name, before=None, after={"owner": user.email}
    )
    return team


@transaction.atomic
def do_hand_over_workspace(team: Team, *, to: User, by: By, reason: str = "") -> None:
    """Make a personal workspace a shared team with ``to`` as its manager: its owner has left, and it shall go on."""
    require_administrator(by, "hand over a personal workspace")
    reason = clean_reason(reason)
    hold_version()
    row = Team.objects.select_related("owner").get(pk=team.pk)
    if row.kind != Team.Kind.PERSONAL or row.owner is None:
        raise ValidationError(f"{row.name} is no personal workspace.")
    before = {"kind": row.kind, "owner": row.owner.email}
    row.memberships.all().delete()
    row.kind, row.owner = Team.Kind.SHARED, None
    row.save(update_fields=["kind", "owner"])
    Membership.objects.create(team=row, user=to, role=Membership.Role.MANAGER)
    after = {"kind": row.kind, "manager": to.email}
    record_change(
        by=by, team=row, action="hand_over_workspace", target=row.name, before=before, after=after, reason=reason
    )


def _free_slug(name: str) -> str:
    base = slugify(name)[:40] or "team"
    taken = set(Team.objects.filter(slug__startswith=base).values_list("slug", flat=True))
    return next(slug for slug in (base, *(f"{base}-{n}" for n in range(2, 10_000))) if slug not in taken)


@transaction.atomic
def do_set_membership(team: Team, *, user: User, role: str, by: By, reason: str = "") -> Membership:
    require_manager(by, team, "choose its members")
    reason = clean_reason(reason)
    hold_version()  # two managers do not remove each other at once
    if team.kind == Team.Kind.PERSONAL and user.pk != team.owner_id:
        raise Refused("A personal workspace has its owner alone.")
    if role not in Membership.Role.values:
        raise ValidationError("There is no such role: manager or member.")
    if role == Membership.Role.MANAGER and user.is_auditor:
        raise Refused(f"{user} is an auditor, who changes nothing: name another manager.")
    existing = Membership.objects.filter(team=team, user=user).first()
    before = existing.role if existing else None
    if before == role:
        assert existing is not None  # noqa: S101
        return existing
    if before == Membership.Role.MANAGER:
        _keep_a_manager(team, user, by)
    membership, _ = Membership.objects.update_or_create(team=team, user=user, defaults={"role": role})
    record_change(
        by=by, team=team, action="set_membership", target=user.email, before=before, after=role, reason=reason
    )
    return membership


@transaction.atomic
def do_remove_member(team: Team, *, user: User, by: By, reason: str = "", leaderless: bool = False) -> None:
    """``leaderless``: an administrator means to leave the team without a manager."""
    require_manager(by, team, "choose its members")
    reason = clean_reason(reason)
    hold_version()
    if team.kind == Team.Kind.PERSONAL:
        raise Refused("A personal workspace has its owner alone.")
    existing = Membership.objects.filter(team=team, user=user).first()
    if existing is None:
        return
    if existing.role == Membership.Role.MANAGER and not leaderless:
        _keep_a_manager(team, user, by)
    if leaderless:
        require_administrator(by, f"leave {team.name} without a manager")
    existing.delete()
    record_change(
        by=by, team=team, action="remove_member", target=user.email, before=existing.role, after=None, reason=reason
    )


def leads_alone(team: Team, user: User) -> bool:
    """Whether nobody but ``user`` manages a team."""
    managers = Membership.objects.filter(team=team, role=Membership.Role.MANAGER, user__is_active=True)
    # Whoever became an auditor since changes nothing, and so is no manager that a team could be left with.
    return not managers.exclude(user=user).exclude(user__role=User.Role.AUDITOR).exists()


def _keep_a_manager(team: Team, user: User, by: By) -> None:
    if isinstance(by, User) and leads_alone(team, user):
        raise Refused(f"{team.name} would be left without a manager: name another one first.")


# Policy


@dataclass(frozen=True, slots=True)
class SettingChange:
    """What would become, or became, of one tool of one team."""

    team: Team
    tool: Tool
    before: State
    after: State


def _locked() -> set[str]:
    return set(ToolRule.objects.filter(locked=True).values_list("tool", flat=True))


def _states(teams: Collection[Team]) -> dict[tuple[int, str], State]:
    """(Team, tool) → what the team says of it, where it does."""
    rows = ToolSetting.objects.filter(team__in=teams).order_by()
    return {(team, tool): State(state) for team, tool, state in rows.values_list("team_id", "tool", "state")}


def setting_changes(
    wanted: Mapping[Team, Mapping[str, State]], *, tools: Mapping[str, Tool], locked_too: bool = False
) -> list[SettingChange]:
    """What it would change to set ``wanted`` (of each team, tool → state). What is locked off stays as it is, unless
    ``locked_too``."""
    locked, rows = set() if locked_too else _locked(), _states(wanted)
    found = []
    for team, states in wanted.items():
        for name, after in states.items():
            tool = tools[name]
            before = rows.get((team.pk, name), tool.default)
            if name not in locked and before is not after:
                found.append(SettingChange(team, tool, before, after))
    return found


def digest_of(changes: Iterable[SettingChange]) -> str:
    """What a page sends back to say which changes it had listed: no others are made on the strength of it."""
    lines = sorted(f"{one.team.pk}:{one.tool.name}:{one.before.value}:{one.after.value}" for one in changes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


class ReasonMissing(ValidationError):
    """It may be done, once it is said why."""


def _set_tools(changes: Sequence[SettingChange], *, by: By, reason: str) -> int:
    """Each a ConfigChange of its own. A person says why a tool of high risk is switched on."""
    if not changes:
        return 0
    if not reason and isinstance(by, User):
        raised = dict(ToolRule.objects.exclude(risk="").values_list("tool", "risk"))
        for one in changes:
            if one.after is State.ON and Risk.HIGH in (one.tool.risk, raised.get(one.tool.name)):
                raise ReasonMissing(f"{one.tool.title} is of high risk: say why it is switched on.")
    ToolSetting.objects.bulk_create(
        [
            ToolSetting(team=one.team, tool=one.tool.name, state=one.after.value, updated_at=timezone.now())
            for one in changes
        ],
        update_conflicts=True,
        unique_fields=["team", "tool"],
        update_fields=["state", "updated_at"],
    )
    record_changes(
        [Changed(one.team, one.tool.name, one.before.value, one.after.value) for one in changes],
        by=by,
        action="set_tool",
        reason=reason,
    )
    return len(changes)


def last_change(team: Team, name: str) -> ConfigChange | None:
    """The newest change of what a team says of a tool."""
    return ConfigChange.objects.filter(team_id=team.pk, action="set_tool", target=name).first()


@transaction.atomic
def do_set_tools(
    team: Team,
    *,
    states: Mapping[str, State],
    tools: Mapping[str, Tool],
    by: By,
    reason: str = "",
    seen: Mapping[str, State] | None = None,
) -> int:
    """Set what a team says of some tools. Returns how many changed; each is a ConfigChange of its own.

    ``seen``: what whoever asks saw the tools at. Raises ``ValidationError`` where one is at something else by now, unless it
    is what they want; ``ReasonMissing`` where a tool of high risk is switched on by a person who does not say why.
    """
    require_manager(by, team, "set its tools")
    reason = clean_reason(reason)
    hold_version()  # before any other row, here and everywhere: no deadlock
    locked, rows = _locked(), _states([team])
    changes = []
    for name, state in states.items():
        tool = tools.get(name)
        if tool is None:
            raise ValidationError(f"There is no tool {name[:64]!r} in the catalogue.")
        before = rows.get((team.pk, name), tool.default)
        if state is before:
            continue
        if name in locked and state is not State.OFF:
            raise Refused(f"{tool.title} is locked off for all teams by an administrator.")
        if seen is not None and seen.get(name, before) is not before:
            newest = last_change(team, name)
            who = f" by {newest.actor}" if newest else ""
            raise ValidationError(
                f"{tool.title} was set to {before.value.replace('_', ' ')}{who} meanwhile, and is left so: look again."
            )
        changes.append(SettingChange(team, tool, before, state))
    return _set_tools(changes, by=by, reason=reason)


UNDO_MINUTES = 10


@transaction.atomic
def do_undo_set_tool(team: Team, *, change: int, tools: Mapping[str, Tool], by: By) -> ConfigChange:
    """Set a tool back to what it was before the change of that number. Returns that change.

    Raises ``ValidationError`` unless it is the newest change of that tool, made by the same person a moment ago: to set back
    what was there needs no reason of its own, even where the tool is of high risk.
    """
    require_manager(by, team, "set its tools")
    hold_version()
    undone = ConfigChange.objects.filter(pk=change, team_id=team.pk, action="set_tool").first()
    if undone is None or undone.target not in tools:
        raise ValidationError("There is no such change to undo.")
    tool = tools[undone.target]
    newest = last_change(team, tool.name)
    if newest is not None and newest.pk != undone.pk:
        raise ValidationError(
            f"{tool.title} was changed by {newest.actor} meanwhile, and is left as it is: look again."
        )
    if undone.actor != name_of(by) or undone.at < timezone.now() - dt.timedelta(minutes=UNDO_MINUTES):
        raise ValidationError(
            f"Whoever made a change can undo it for {UNDO_MINUTES} minutes. Set the tool anew instead."
        )
    do_set_tools(
        team,
        states={tool.name: State(str(undone.before))},
        tools=tools,
        by=by,
        reason=f"undone: {undone.reason}"[:500] if undone.reason else "undone",
        seen={tool.name: State(str(undone.after))},
    )
    return undone


def _confirm(changes: Sequence[SettingChange], seen: str) -> None:
    if digest_of(changes) != seen:
        raise ValidationError("Tools were changed meanwhile: look again at what this would do.")


@transaction.atomic
def do_set_tools_of_teams(
    teams: Iterable[Team], *, states: Mapping[str, State], tools: Mapping[str, Tool], by: By, reason: str, seen: str
) -> int:
    """The same tools in the same states for several teams, locked ones as they are. Returns how many settings changed.

    ``seen``: the digest of the changes that whoever asks has confirmed. Raises ``ValidationError`` if they would be others.
    """
    require_administrator(by, "set the tools of several teams")
    reason = plain(reason, "The reason", maximum=500)
    hold_version()
    changes = setting_changes(dict.fromkeys(teams, states), tools=tools)
    _confirm(changes, seen)
    return _set_tools(changes, by=by, reason=reason)


def clone_changes(source: Team, target: Team, *, tools: Mapping[str, Tool]) -> list[SettingChange]:
    """What would become of ``target`` if its tools were set as those of ``source`` are. What is locked off stays."""
    rows = _states([source])
    wanted = {name: rows.get((source.pk, name), tool.default) for name, tool in tools.items()}
    return setting_changes({target: wanted}, tools=tools)


@transaction.atomic
def do_clone_policy(source: Team, target: Team, *, tools: Mapping[str, Tool], by: By, reason: str, seen: str) -> int:
    """Set the tools of ``target`` as those of ``source`` are. Returns how many changed. ``seen``: as above."""
    require_administrator(by, "set a team's tools as another's are")
    reason = plain(reason, "The reason", maximum=400)
    hold_version()
    changes = clone_changes(source, target, tools=tools)
    _confirm(changes, seen)
    return _set_tools(changes, by=by, reason=f"as {source.name}: {reason}")


def preset_changes(team: Team, *, preset: frozenset[str], tools: Mapping[str, Tool]) -> dict[str, tuple[State, State]]:
    """What a preset would change: its tools on, all others off, locked ones as they are. State before and after, by tool."""
    wanted = {name: State.ON if name in preset else State.OFF for name in tools}
    return {one.tool.name: (one.before, one.after) for one in setting_changes({team: wanted}, tools=tools)}


@transaction.atomic
def do_apply_preset(
    team: Team,
    *,
    name: str,
    preset: frozenset[str],
    tools: Mapping[str, Tool],
    by: By,
    reason: str = "",
    seen: Mapping[str, tuple[State, State]] | None = None,
) -> int:
    """The preset's tools on, all others off; locked ones stay as they are. Returns how many changed.

    ``seen``: the changes that whoever asks has confirmed. Raises ``ValidationError`` if they would be others by now.
    """
    require_manager(by, team, "set its tools")
    hold_version()
    changes = preset_changes(team, preset=preset, tools=tools)
    if seen is not None and changes != seen:
        raise ValidationError(f"The tools of {team.name} were changed meanwhile: look again at what this would do.")
    why = f"preset {name}: {reason}" if reason.strip() else f"preset {name}"
    return do_set_tools(
        team, states={tool: after for tool, (_, after) in changes.items()}, tools=tools, by=by, reason=why
    )


@transaction.atomic
def do_set_tool_rule(
    name: str,
    *,
    tools: Mapping[str, Tool],
    by: By,
    locked: bool,
    risk: str = "",
    reason: str = "",
    seen: bool | None = None,
) -> ToolRule:
    """Lock a tool off for all teams, or raise its risk. The catalogue's risk is the least there is.

    ``seen``: whether it was locked when whoever asks looked. Raises ``ValidationError`` if that is no longer so.
    """
    require_administrator(by, "lock tools or raise their risk")
    reason = plain(reason, "The reason", maximum=500, required=locked)
    hold_version()  # before any other row
    tool = tools.get(name)
    if tool is None:
        raise ValidationError(f"There is no tool {name[:64]!r} in the catalogue.")
    if risk and Risk(risk).rank < tool.risk.rank:
        raise ValidationError(f"{tool.title} is of {tool.risk.value} risk: it can only be raised.")
    row = ToolRule.objects.filter(tool=name).first()
    if seen is not None and seen is not (row is not None and row.locked):
        raise ValidationError(f"{tool.title} was {'un' if seen else ''}locked meanwhile: look again.")
    before = (
        {"locked": row.locked, "risk": row.risk, "reason": row.reason}
        if row
        else {"locked": False, "risk": "", "reason": ""}
    )
    after = {"locked": locked, "risk": risk, "reason": reason}
    if row is None or before != after:
        row, _ = ToolRule.objects.update_or_create(tool=name, defaults={**after, "actor": name_of(by)})
    if before != after:
        record_change(by=by, team=None, action="set_tool_rule", target=name, before=before, after=after, reason=reason)
    return row


@transaction.atomic
def do_set_reveals(team: Team, *, kinds: Collection[str], known: Collection[str], by: By, reason: str) -> bool:
    """Choose what those who call for a team are shown unmasked: ``kinds``, of those that may be revealed at all (``known``,
    the integration's words). Whether anything changed.

    To show more is an administrator's choice: the team's token reaches people and keys that are not the team's. A manager
    may show less.
    """
    require_manager(by, team, "choose what its assistants are shown")
    reason = plain(reason, "The reason", maximum=500)
    if unknown := sorted(set(kinds) - set(known)):
        raise ValidationError(f"{unknown[0][:64]!r} is nothing that can be shown unmasked.")
    hold_version()  # before any other row
    before, after = set(Reveal.objects.filter(team=team).values_list("kind", flat=True)), set(kinds)
    if after == before:
        return False
    if after - before:
        require_administrator(by, "let a team's assistants see what is masked")
    Reveal.objects.filter(team=team).exclude(kind__in=after).delete()
    Reveal.objects.bulk_create([Reveal(team=team, kind=kind) for kind in sorted(after - before)])
    record_change(
        by=by,
        team=team,
        action="set_reveals",
        target=team.name,
        before=sorted(before),
        after=sorted(after),
        reason=reason,
    )
    return True


def writes_that_are_on(team: Team, *, tools: Mapping[str, Tool]) -> list[Tool]:
    """What ``do_switch_all_writes_off`` would change: locked ones too, for a lock may be lifted."""
    rows = dict(ToolSetting.objects.filter(team=team).values_list("tool", "state"))
    return [
        tool for tool in tools.values() if tool.writes and State(rows.get(tool.name, tool.default)) is not State.OFF
    ]


@transaction.atomic
def do_switch_all_writes_off(teams: QuerySet[Team], *, tools: Mapping[str, Tool], by: By, reason: str = "") -> int:
    """Every writing tool off, in every one of ``teams``. Returns how many settings changed."""
    for team in teams:
        require_manager(by, team, "set its tools")
    reason = clean_reason(reason) or "all writes off"
    hold_version()
    states = {name: State.OFF for name, tool in tools.items() if tool.writes}
    changes = setting_changes(dict.fromkeys(teams, states), tools=tools, locked_too=True)
    return _set_tools(changes, by=by, reason=reason)


# Requests

ASKABLE = frozenset({"tool_off", "needs_approval", "narrowed_key"})
"""Rules that a manager can set aside, and so be asked to."""
MAXIMUM_REQUESTS_A_DAY = 10
"""Of one person. Each is a mail to every manager."""


@transaction.atomic
def do_request_tool(
    team: Team, *, by: User, tool: Tool, subject: str, subject_name: str, rule: str, why: str
) -> ToolRequest:
    """Ask the managers of a team to allow a tool: to one of its agents, or to whoever asks (``subject``, a principal's id).
    ``rule``: what denies it now.

    Raises ``Refused`` for whoever may change it themselves or has asked too often; ``ValidationError`` where it was asked for
    already, and on a reason that is missing or holds a secret.
    """
    if by.is_auditor or not Team.objects.visible_to(by).filter(pk=team.pk).exists():
        raise Refused(f"Only people of {team.name} may ask its managers for something.")
    if Team.objects.editable_by(by).filter(pk=team.pk).exists():
        raise Refused(f"You may change this yourself: you manage {team.name}.")
    if rule not in ASKABLE:
        raise Refused("A manager of the team cannot change what stands in the way here.")
    why = plain(why, "The reason", maximum=500)
    hold_version()  # before any other row; and two at once are counted one after the other
    now = timezone.now()
    asked = ToolRequest.objects.filter(user=by)
    if asked.open().filter(team=team, subject=subject, tool=tool.name).exists():
        raise ValidationError("You have asked for this already: it waits for an answer.")
    if asked.filter(at__gt=now - dt.timedelta(days=1)).count() >= MAXIMUM_REQUESTS_A_DAY:
        raise Refused(f"You have asked {MAXIMUM_REQUESTS_A_DAY} times within a day: talk to a manager of {team.name}.")
    made = ToolRequest.objects.create(
        team=team,
        user=by,
        subject=subject,
        subject_name=_kept(subject_name)[:150],
        tool=tool.name,
        why=why,
        rule=rule,
        at=now,
        mail_due_at=now,
    )
    after = {"for": made.subject_name, "rule": rule}
    told = {"action": "request_tool", "target": tool.name, "before": None, "after": after}
    _append(by, team.pk, now, {**told, "reason": why, "team": team.name})
    return made


@transaction.atomic
def do_answer_request(
    request: ToolRequest, *, by: By, allow: bool, word: str, tools: Mapping[str, Tool]
) -> ToolRequest:
    """Allow or decline what somebody asked for, with a word to them. To allow it switches the tool on where it is not: whatever
    else stands in the way stays.

    Raises ``ValidationError`` where it was answered meanwhile.
    """
    team = request.team
    require_manager(by, team, "answer what its people ask for")
    word = plain(word, "A word to whoever asked", maximum=500)
    hold_version()  # before any other row
    now = timezone.now()
    values = {"closed_at": now, "closed_by": name_of(by), "allowed": allow, "word": word, "mail_due_at": now}
    if not ToolRequest.objects.open().filter(pk=request.pk).update(**values):
        raise ValidationError("It was answered meanwhile: look again.")
    if allow:
        do_set_tools(team, states={request.tool: State.ON}, tools=tools, by=by, reason=word)
    after = {"answer": "allowed" if allow else "declined", "for": request.subject_name, "asked_by": request.user.email}
    told = {"action": "answer_request", "target": request.tool, "before": "asked for", "after": after}
    _append(by, team.pk, now, {**told, "reason": word, "team": team.name})
    request.refresh_from_db()
    return request


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
    reason: str = "",
) -> tuple[AgentKey, str]:
    """A new key and its secret, which is shown this once."""
    require_manager(by, team, "issue agent keys")
    hold_version()  # no stop comes between this look and the key
    if Stop.objects.filter(team_id=team.pk, by_administrator=True).exists():
        # Else whoever holds the key that was stopped is given another.
        require_administrator(
            by, f"issue keys of {team.name} while it or one of its keys is stopped by an administrator"
        )
    reason = clean_reason(reason)
    name = plain(name, "The key's name", maximum=100)
    held = _key_limits(
        by, tools=tools, expires_at=expires_at, networks=networks, narrowed_to=narrowed_to, limit=calls_per_minute
    )
    prefix, secret = keys.new_key()
    key = AgentKey.objects.create(
        team=team,
        name=name,
        prefix=prefix,
        digest=keys.digest_of(prefix, secret),
        created_by=name_of(by),
        **held,
    )
    record_change(
        by=by,
        team=team,
        action="issue_key",
        target=f"{name} (pwk_{prefix})",
        before=None,
        after=key_facts(key),
        reason=reason,
    )
    return key, keys.shown(prefix, secret)


def _key_limits(
    by: By,
    *,
    tools: Mapping[str, Tool],
    expires_at: dt.datetime | None,
    networks: Iterable[str],
    narrowed_to: Iterable[str] | None,
    limit: int | None,
    unlimited_already: bool = False,
) -> dict[str, Any]:
    """What holds a key back, as the fields of its row; the order of ``networks`` and tools does not count."""
    if expires_at is not None and expires_at <= timezone.now():
        raise ValidationError("The key would have expired already: choose a later time.")
    try:
        blocks = sorted({str(ipaddress.ip_network(block.strip(), strict=False)) for block in networks if block.strip()})
    except ValueError as error:
        raise ValidationError(f"A source network is no CIDR block: {error}.") from error
    narrowed = None if narrowed_to is None else sorted(set(narrowed_to))
    if narrowed is not None:
        if not narrowed:
            raise ValidationError("A key that is narrowed to no tool could do nothing: choose at least one.")
        if unknown := [tool for tool in narrowed if tool not in tools]:
            raise ValidationError(f"There is no tool {unknown[0][:64]!r} in the catalogue.")
    limit = settings.CALLS_PER_MINUTE if limit is None else limit
    if limit == 0 and isinstance(by, User) and not by.is_administrator and not unlimited_already:
        raise Refused("Only an administrator may leave a key without a call limit.")
    if not 0 <= limit <= MAXIMUM_CALLS_PER_MINUTE:
        raise ValidationError(f"The call limit is between 1 and {MAXIMUM_CALLS_PER_MINUTE} a minute.")
    return {"expires_at": expires_at, "networks": blocks, "tools": narrowed, "calls_per_minute": limit}


def key_facts(key: AgentKey) -> dict[str, Any]:
    """What holds a key back, as the record keeps it; a page sends its ``facts_digest`` back to say what it had shown."""
    return {
        "expires_at": key.expires_at.isoformat() if key.expires_at else None,
        "networks": sorted(key.networks),
        "tools": None if key.tools is None else sorted(key.tools),
        "calls_per_minute": key.calls_per_minute,
    }


def facts_digest(key: AgentKey) -> str:
    return hashlib.sha256(repr(sorted(key_facts(key).items())).encode()).hexdigest()


def _widened(before: AgentKey, after: Mapping[str, Any], tools: Mapping[str, Tool]) -> list[str]:
    """What ``after`` lets a key do that ``before`` does not, a sentence for each of the four."""
    found = []
    if before.tools is not None:
        if after["tools"] is None:
            found.append("It could use all that its team allows, now and later.")
        elif more := [name for name in after["tools"] if name not in before.tools]:
            found.append(f"It could also use {', '.join(tools[name].title for name in more)}.")
    if before.networks and not after["networks"]:
        found.append("It could come from anywhere.")
    elif before.networks:
        old = [ipaddress.ip_network(block) for block in before.networks]
        new = [ipaddress.ip_network(block) for block in after["networks"]]
        if outside := [str(block) for block in new if not any(_holds(whole, block) for whole in old)]:
            found.append(f"It could also come from {', '.join(outside)}.")
    if before.calls_per_minute and not after["calls_per_minute"]:
        found.append("It could make calls without a limit.")
    elif before.calls_per_minute and after["calls_per_minute"] > before.calls_per_minute:
        found.append(f"It could make up to {after['calls_per_minute']} calls a minute.")
    if before.expires_at is not None and (after["expires_at"] is None or after["expires_at"] > before.expires_at):
        until = after["expires_at"]
        found.append(f"It could be used until {until:%Y-%m-%d %H:%M} UTC." if until else "It would never expire.")
    return found


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _holds(whole: Network, part: Network) -> bool:
    if isinstance(whole, ipaddress.IPv4Network):
        return isinstance(part, ipaddress.IPv4Network) and part.subnet_of(whole)
    return isinstance(part, ipaddress.IPv6Network) and part.subnet_of(whole)


class Widens(ValidationError):
    """It may be done, once each of ``sentences`` is confirmed: what a key could do then and cannot do now."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("This lets the key do more than now: confirm each point, or take it back.")
        self.sentences = sentences


@transaction.atomic
def do_change_key(
    key: AgentKey,
    *,
    by: By,
    tools: Mapping[str, Tool],
    expires_at: dt.datetime | None,
    networks: Iterable[str],
    narrowed_to: Iterable[str] | None,
    calls_per_minute: int,
    widening: Collection[str] = (),
    seen: str | None = None,
    reason: str = "",
) -> AgentKey:
    """Change what holds an issued key back: it binds the next write at once, and the next read within a second.

    ``widening``: the sentences of ``Widens`` that whoever asks has confirmed; ``seen``: the ``facts_digest`` of what they saw.

    Raises:
        Widens: the key could do more than now, and not all of it was confirmed.
        ValidationError: bad input; the key is revoked; or somebody else has changed it meanwhile.
        Refused: it takes an administrator (no call limit; any widening while an administrator stops the team or its keys).
    """
    require_manager(by, key.team, "change agent keys")
    reason = clean_reason(reason)
    hold_version()  # before any other row
    row = AgentKey.objects.select_related("team").get(pk=key.pk)
    if row.revoked_at is not None:
        raise ValidationError("The key is revoked, for good: issue another.")
    if seen is not None and seen != facts_digest(row):
        raise ValidationError("The key was changed by somebody else meanwhile: look again at what it may do.")
    held = _key_limits(
        by,
        tools=tools,
        expires_at=expires_at,
        networks=networks,
        narrowed_to=narrowed_to,
        limit=calls_per_minute,
        unlimited_already=row.calls_per_minute == 0,
    )
    wider, before = _widened(row, held, tools), key_facts(row)
    if wider and Stop.objects.filter(team_id=row.team_id, by_administrator=True).exists():
        require_administrator(by, f"let keys of {row.team.name} do more while an administrator stops it or one of them")
    if not set(wider) <= set(widening):
        raise Widens(wider)
    for field, value in held.items():
        setattr(row, field, value)
    if key_facts(row) != before:
        row.save(update_fields=list(held))
        record_change(
            by=by,
            team=row.team,
            action="widen_key" if wider else "narrow_key",
            target=f"{row.name} (pwk_{row.prefix})",
            before=before,
            after=key_facts(row),
            reason=reason,
        )
    return row


@transaction.atomic
def do_revoke_key(key: AgentKey, *, by: By, reason: str = "") -> None:
    """Takes effect on the next write everywhere, and on the next read within a second. It cannot be undone."""
    require_manager(by, key.team, "revoke agent keys")
    reason = clean_reason(reason)
    if key.revoked_at is not None:
        return
    hold_version()  # before any other row
    key.revoked_at = timezone.now()
    key.save(update_fields=["revoked_at"])
    key.alarms.open().update(closed_at=key.revoked_at, closed_by=name_of(by), mail_due_at=None)
    record_change(
        by=by,
        team=key.team,
        action="revoke_key",
        target=f"{key.name} (pwk_{key.prefix})",
        before="usable",
        after="revoked",
        reason=reason,
    )


@transaction.atomic
def do_hand_over_key(key: AgentKey, *, to: User, by: By, reason: str = "") -> None:
    """Say who answers for a key now that whoever issued it has left. What it may do stays as it is."""
    require_manager(by, key.team, "hand over agent keys")
    reason = clean_reason(reason)
    hold_version()
    row = AgentKey.objects.select_related("team").get(pk=key.pk)
    before = row.kept_by or row.created_by
    row.kept_by = to.email
    row.save(update_fields=["kept_by"])
    record_change(
        by=by,
        team=row.team,
        action="hand_over_key",
        target=f"{row.name} (pwk_{row.prefix})",
        before=before,
        after=to.email,
        reason=reason,
    )


@transaction.atomic
def do_close_alarm(alarm: Alarm, *, by: By, reason: str = "") -> None:
    """Whoever manages the key knows of it, and it is well: what was noticed is known of the key from now on."""
    require_manager(by, alarm.key.team, "close its alarms")
    reason = clean_reason(reason)
    hold_version()  # before any other row
    still_open = Alarm.objects.open().filter(pk=alarm.pk)
    if not still_open.update(closed_at=timezone.now(), closed_by=name_of(by), mail_due_at=None):
        return
    record_change(
        by=by,
        team=alarm.key.team,
        action="close_alarm",
        target=f"{alarm.key.name} (pwk_{alarm.key.prefix})",
        before=alarm.get_kind_display(),
        after="that was us",
        reason=reason,
    )


# The kill switch


@transaction.atomic
def do_stop(*, by: By, reason: str, team: Team | None = None, key: AgentKey | None = None) -> Stop:
    """Nothing more goes out of an agent key, else of a team, else of everybody: the next write at once, the next read within
    a second. Stopped already: an administrator's stop takes the place of a manager's, and the reason is the newer one."""
    subject, target, team = _stop_of(by, team, key)
    reason = plain(reason, "The reason", maximum=500).rstrip(".")
    hold_version()  # before any other row
    standing = Stop.objects.filter(subject=subject).first()
    is_administrators = not isinstance(by, User) or by.is_administrator
    stop, _ = Stop.objects.update_or_create(
        subject=subject,
        defaults={
            "target": target,
            "team_id": team.pk if team else None,
            "reason": reason,
            "actor": name_of(by),
            "kept_by": "",
            "by_administrator": is_administrators or (standing is not None and standing.by_administrator),
            "at": timezone.now(),
        },
    )
    before = standing.reason if standing else None
    record_change(by=by, team=team, action="stop", target=target, before=before, after=reason, reason=reason)
    return stop


def _stop_of(by: By, team: Team | None, key: AgentKey | None) -> tuple[str, str, Team | None]:
    """The subject of a stop, its name, and the team that it concerns. Raises ``Refused`` for whoever may not stop it."""
    team = key.team if key is not None else team
    if team is None:
        require_administrator(by, "stop everything")
        return EVERYTHING, EVERYTHING, None
    require_manager(by, team, "stop its assistants")
    if key is not None:
        return f"key:{key.pk}", f"{key.name} (pwk_{key.prefix})", team
    return f"team:{team.pk}", team.name, team


@transaction.atomic
def do_rehearse_stop(*, by: By, reason: str = "", team: Team | None = None, key: AgentKey | None = None) -> Rehearsal:
    """What ``do_stop`` would stop now, on record as a rehearsal. Nothing is stopped, and no version moves."""
    _, target, team = _stop_of(by, team, key)
    reason = clean_reason(reason)
    found = rehearse(team, key, timezone.now())
    append_in_transaction(
        Entry(
            kind=EntryKind.CONFIG,
            at=timezone.now(),
            decision_id=f"cfg-{uuid4().hex[:28]}",
            team_id=team.pk if team else None,
            actor=f"user:{by.pk}" if isinstance(by, User) else by,
            details={
                "action": "rehearse_stop",
                "target": _kept(target),
                "before": None,
                "after": {"keys": len(found.keys), "calls": found.calls},
                "reason": _kept(reason),
                "by": name_of(by),
                "team": team.name if team else "",
            },
        )
    )
    return found


@transaction.atomic
def do_lift_stop(stop: Stop, *, by: By, reason: str) -> None:
    """What an administrator stopped only an administrator sets going again."""
    # As it is now: an administrator may have taken it over since it was read.
    hold_version()  # before any other row
    standing = Stop.objects.filter(pk=stop.pk).first()
    if standing is None:
        return
    stop = standing
    team = Team.objects.filter(pk=stop.team_id).first() if stop.team_id is not None else None
    if stop.by_administrator or team is None:
        require_administrator(by, "lift what an administrator has stopped")
    else:
        require_manager(by, team, "lift a stop of its assistants")
    reason = plain(reason, "The reason", maximum=500)
    stop.delete()
    record_change(
        by=by, team=team, action="lift_stop", target=stop.target, before=stop.reason, after=None, reason=reason
    )


@transaction.atomic
def do_hand_over_stop(stop: Stop, *, to: User, by: By, reason: str = "") -> None:
    """Say whom to ask about a stop now that whoever made it has left. It goes on, and who may lift it stays."""
    hold_version()
    standing = Stop.objects.filter(pk=stop.pk).first()
    if standing is None:
        return
    team = Team.objects.filter(pk=standing.team_id).first() if standing.team_id is not None else None
    if team is None:
        require_administrator(by, "hand over a stop of everything")
    else:
        require_manager(by, team, "hand over its stops")
    reason = clean_reason(reason)
    before = standing.kept_by or standing.actor
    standing.kept_by = to.email
    standing.save(update_fields=["kept_by"])
    record_change(
        by=by, team=team, action="hand_over_stop", target=standing.target, before=before, after=to.email, reason=reason
    )


# When the database is away

MAXIMUM_MINUTES_OF_READS = 60
"""The longest that a revocation, a stop or the kill switch may go unseen by reads."""


@transaction.atomic
def do_set_reads_go_on(*, by: By, on: bool, reason: str, minutes: int = 15) -> None:
    """Whether reads go on when the database is away, decided by what was confirmed last, for at most ``minutes``: no
    revocation, stop or other change is seen meanwhile. Writes never do."""
    require_administrator(by, "choose whether reads go on when the database is away")
    reason = plain(reason, "The reason", maximum=500)
    if on and not 1 <= minutes <= MAXIMUM_MINUTES_OF_READS:
        raise ValidationError(f"Reads may go on for 1 to {MAXIMUM_MINUTES_OF_READS} minutes.")
    hold_version()  # before any other row
    standing = ReadsGoOn.objects.first()
    before = f"{standing.minutes} minutes" if standing else "off"
    after = f"{minutes} minutes" if on else "off"
    if before == after:
        return
    if on:
        values = {"minutes": minutes, "reason": reason, "actor": name_of(by), "at": timezone.now()}
        ReadsGoOn.objects.update_or_create(pk=1, defaults=values)
    elif standing is not None:
        standing.delete()
    record_change(
        by=by,
        team=None,
        action="reads_go_on",
        target="when the database is away",
        before=before,
        after=after,
        reason=reason,
    )


# Sign-ins

GUESSING_MINUTES = 15
GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS = 10
GUESSES_FROM_AN_ADDRESS = 30
GUESSES_OF_AN_ACCOUNT = 100
"""From anywhere: one source alone cannot keep somebody out of their account. A new password ends it at once."""
GUESSES_OF_A_CODE = 10
"""Of a second factor, from anywhere: only whoever knows the password gets that far, and a code is short."""


BEGUN_FROM_AN_ADDRESS = 60
"""Sign-ins that leave a row before anybody is known, by a passkey or a provider, and were not completed: a stranger must not
fill the disk with them."""


class TooManyGuesses(Exception):
    """No further password or code is tried until ``again_at``."""

    def __init__(self, again_at: dt.datetime) -> None:
        super().__init__("Too many wrong passwords.")
        self.again_at = again_at


def source_of(ip: str) -> str:
    """Whom an address stands for: of IPv6 its /64, for whoever has one address of it has all; an IPv4 address written as
    IPv6 is that IPv4 address."""
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        return ip
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def _guess_subjects(email: str, ip: str, code: bool) -> dict[str, int]:
    """What a guess is counted for, with its limit. The address comes first: a source that is at its limit adds no rows."""
    source, account = source_of(ip), email.strip().lower()
    subjects = {
        _guess_subject("address", source): GUESSES_FROM_AN_ADDRESS,
        _guess_subject("both", f"{source} {account}"): GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS,
        _guess_subject("account", account): GUESSES_OF_AN_ACCOUNT,
    }
    return {**subjects, _guess_subject("code", account): GUESSES_OF_A_CODE} if code else subjects


def _guess_subject(what: str, value: str) -> str:
    return salted_hmac("policies.sign-in-failures", f"{what}:{value}", algorithm="sha256").hexdigest()


def count_guess(*, email: str, ip: str, code: bool = False) -> None:
    """Count a password, or a code of a second factor, that is about to be tried as wrong: before it is hashed, so that
    guesses made side by side are all counted, and a flood of them costs no hashing. ``take_back_guess`` and
    ``forgive_guesses`` undo it.

    Raises:
        TooManyGuesses: of this account or from this address too many were wrong; nothing is counted.
    """
    _count(_guess_subjects(email, ip, code))


def count_begun(*, ip: str) -> None:
    """Count a sign-in that begins without a guess. Raises ``TooManyGuesses``; one that is completed is taken back."""
    _count({_guess_subject("begun", source_of(ip)): BEGUN_FROM_AN_ADDRESS})


@transaction.atomic
def _count(subjects: Mapping[str, int]) -> None:
    now = timezone.now()
    since = now - dt.timedelta(minutes=GUESSING_MINUTES)
    rows = []
    # In this order here and below: no deadlock.
    for subject, limit in subjects.items():
        row, _ = SignInFailures.objects.select_for_update().get_or_create(subject=subject, defaults={"began_at": now})
        if row.began_at <= since:
            row.began_at, row.count = now, 0
        if row.count >= limit:
            raise TooManyGuesses(row.began_at + dt.timedelta(minutes=GUESSING_MINUTES))
        rows.append(row)
    for row in rows:
        row.count += 1
        row.save(update_fields=["began_at", "count"])
    # What others are at is passed over, so that nobody waits to tidy up.
    old = SignInFailures.objects.select_for_update(skip_locked=True).filter(began_at__lte=since)
    SignInFailures.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:200])).delete()


def take_back_guess(*, ip: str) -> None:
    """It was right. Of the address no more than this one is forgiven, or an own account would let one guess on."""
    _take_back("address", ip)


def take_back_begun(*, ip: str) -> None:
    _take_back("begun", ip)


def _take_back(what: str, ip: str) -> None:
    counted = SignInFailures.objects.filter(subject=_guess_subject(what, source_of(ip)), count__gt=0)
    counted.update(count=F("count") - 1)


@transaction.atomic
def forgive_guesses(*, email: str, ip: str, code: bool = False) -> None:
    """The account starts anew. Codes do with ``code`` alone: with a password that is right, guesses at the code go on."""
    _, *subjects = _guess_subjects(email, ip, code)
    for subject in subjects:
        SignInFailures.objects.filter(subject=subject).update(count=0)


FAILED_SIGN_INS_A_MINUTE = 10
_failures: dict[str, tuple[int, int]] = {}
_failures_lock = threading.Lock()


def record_sign_in(*, user: User | None, email: str, ip: str, what: str, how: str = "") -> None:
    """``what``: signed_in, signed_out or refused. A flood of refusals from one source is counted, not a row each.
    ``how``: what a session was opened with, or tried to be."""
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
    known = user or User.objects.get_queryset().of_address(email).first()
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
                details={"what": what, "who": who, "ip": ip, "count": count, **({"how": how} if how else {})},
            )
        )


def record_account_change(user: User, *, by: By, action: str, what: str) -> None:
    """Put on record, in the caller's transaction, that how somebody signs in was changed: a second factor, a provider's
    account. ``what`` names it. Nobody's rights change: the policy's version stays."""
    told = {"action": action, "target": user.email, "before": None, "after": _kept(what), "reason": "", "team": ""}
    _append(by, None, timezone.now(), told)


def open_session(user: User, *, session_key: str, ip: str, device: str, how: str) -> None:
    """Keep where somebody signed in. The sessions that ended by themselves are forgotten."""
    kept = BrowserSession.objects.filter(user=user)
    keys = list(kept.values_list("session_key", flat=True))
    alive = Session.objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
    kept.exclude(session_key__in=list(alive.values_list("session_key", flat=True))).delete()
    device = redacted(shown(device, 200))[:200]
    BrowserSession.objects.update_or_create(
        session_key=session_key, defaults={"user": user, "ip": ip[:45], "device": device, "how": how[:200]}
    )
    _note_seen(session_key, time.monotonic())


SEEN_SECONDS = 300
_seen: dict[str, float] = {}


def note_seen(user: User, *, session_key: str, ip: str, device: str) -> None:
    """Keep when a session was last used, and from where: by each process every five minutes at most, not by every page."""
    now = time.monotonic()
    if now - _seen.get(session_key, -SEEN_SECONDS) < SEEN_SECONDS:
        return
    _note_seen(session_key, now)
    rows = BrowserSession.objects.filter(session_key=session_key)
    if not rows.update(seen_at=timezone.now(), ip=ip[:45]):
        open_session(user, session_key=session_key, ip=ip, device=device, how="")  # older than this list


def _note_seen(session_key: str, now: float) -> None:
    if len(_seen) > 10_000:
        _seen.clear()
    _seen[session_key] = now


def forget_expired_sessions() -> None:
    """Those of Django that have expired, and what is kept of them."""
    expired = Session.objects.filter(expire_date__lt=timezone.now())
    while keys := list(expired.values_list("session_key", flat=True)[:500]):
        BrowserSession.objects.filter(session_key__in=keys).delete()
        Session.objects.filter(session_key__in=keys).delete()


def close_session(session_key: str | None) -> None:
    """Somebody signed out there."""
    BrowserSession.objects.filter(session_key=session_key).delete()


@transaction.atomic
def do_end_sessions(sessions: QuerySet[BrowserSession], *, by: User) -> int:
    """Sign out where these sessions are: one's own, or anybody's for an administrator. Returns how many."""
    ended = list(sessions.select_related("user"))
    for row in ended:
        if row.user_id != by.pk:
            require_administrator(by, "sign others out")
        Session.objects.filter(session_key=row.session_key).delete()
        row.delete()
        record_sign_in(user=row.user, email=row.user.email, ip=row.ip, what="signed_out", how=f"ended by {by.email}")
    return len(ended)


# Coming in

INVITATION_DAYS = 7


def invitation_digest(token: str) -> str:
    return salted_hmac("policies.invitations", token, algorithm="sha256").hexdigest()


def _require_inviter(by: By, team: Team | None, role: str) -> None:
    if team is None or role:
        require_administrator(by, "invite to the portal")
    if team is not None:
        require_manager(by, team, "invite to it")


@transaction.atomic
def do_invite(
    email: str, *, by: User, role: str = "", team: Team | None = None, team_role: str = Membership.Role.MEMBER
) -> tuple[Invitation, str]:
    """Invite somebody who does not sign in yet. Returns the invitation, and the secret of its link, which is kept nowhere.

    Raises:
        ValidationError: the address is none, signs in already or is invited already.
    """
    _require_inviter(by, team, role)
    if team is not None and team.kind == Team.Kind.PERSONAL:
        raise Refused("A personal workspace has its owner alone.")
    if role == User.Role.AUDITOR and team is not None and team_role == Membership.Role.MANAGER:
        raise Refused("An auditor changes nothing, and so manages no team.")
    token, now = secrets.token_urlsafe(32), timezone.now()
    made = Invitation(
        email=email.strip().lower(),
        role=role,
        team=team,
        team_role=team_role,
        digest=invitation_digest(token),
        invited_by=by,
        sent_at=now,
        expires_at=now + dt.timedelta(days=INVITATION_DAYS),
    )
    made.full_clean(exclude=["team", "invited_by"])
    hold_version()  # of two who invite the same person at once, one learns of the other
    known = User.objects.get_queryset().of_address(made.email).first()
    if known is not None:
        add = "add them to the team" if team is not None else "no invitation is needed"
        told = f"signs in here already: {add}." if known.is_active else "was switched off: ask an administrator."
        raise ValidationError(f"{made.email} {told}")
    waiting = Invitation.objects.filter(email=made.email, team=team, accepted_at=None, revoked_at=None)
    if waiting.exists():
        raise ValidationError(f"{made.email} is invited already: send that invitation again, or revoke it.")
    made.save()
    _record_invitation(made, by=by, action="invite", after=_invited_as(made))
    return made, token


def _invited_as(invitation: Invitation) -> dict[str, str]:
    return {
        **({"role": invitation.role} if invitation.role else {}),
        **({"team_role": invitation.team_role} if invitation.team_id else {}),
        "expires_at": invitation.expires_at.isoformat(),
    }


def _record_invitation(invitation: Invitation, *, by: By, action: str, after: Any) -> None:
    record_change(by=by, team=invitation.team, action=action, target=invitation.email, before=None, after=after)


def _open_invitation(invitation: Invitation, by: By) -> Invitation:
    """The row, locked; refused where it was accepted or revoked, or is not the asker's."""
    _require_inviter(by, invitation.team, invitation.role)
    row = Invitation.objects.select_for_update().get(pk=invitation.pk)
    if row.accepted_at or row.revoked_at:
        raise ValidationError(f"This invitation of {row.email} was {row.state} already.")
    return row


@transaction.atomic
def do_resend_invitation(invitation: Invitation, *, by: User) -> tuple[Invitation, str]:
    """A new link, for as long as the first; the old one is void. ``by`` stands for it from now on."""
    row = _open_invitation(invitation, by)
    token, now = secrets.token_urlsafe(32), timezone.now()
    row.digest, row.invited_by, row.sent_at = invitation_digest(token), by, now
    row.expires_at = now + dt.timedelta(days=INVITATION_DAYS)
    row.save()
    _record_invitation(row, by=by, action="resend_invitation", after=_invited_as(row))
    return row, token


@transaction.atomic
def do_revoke_invitation(invitation: Invitation, *, by: User) -> None:
    row = _open_invitation(invitation, by)
    row.revoked_at = timezone.now()
    row.save(update_fields=["revoked_at"])
    _record_invitation(row, by=by, action="revoke_invitation", after=None)


def invitation_of(token: str) -> Invitation | None:
    """The invitation that a link is of, as long as it may be accepted."""
    rows = Invitation.objects.select_related("team", "invited_by").filter(digest=invitation_digest(token))
    return next((row for row in rows if row.state == Invitation.State.WAITING), None)


@transaction.atomic
def do_accept_invitation(
    token: str, *, person: User | None = None, name: str = "", password: str | None = None
) -> User:
    """Come in, once. ``person``: whoever signs in already, by the address that was invited; else an account is made, which
    without a ``password`` signs in by a provider alone.

    Raises:
        Refused: it is no longer open, is for another address, or whoever invited may no longer do so.
        ValidationError: the password is none to take, or the address signs in already.
    """
    row = Invitation.objects.select_for_update().filter(digest=invitation_digest(token)).first()
    if row is None or row.state != Invitation.State.WAITING:
        raise Refused("This invitation is no longer open: ask for a new one.")
    inviter = row.invited_by
    try:
        if not inviter.is_active:
            raise Refused("switched off")
        _require_inviter(inviter, row.team, row.role)
    except Refused:
        raise Refused("Whoever invited you may no longer do so: ask for a new invitation.") from None
    if person is None:
        by = f"invitation by {inviter.email}"
        person = do_create_user(row.email, by=by, password=password, name=name, role=row.role)
    elif person.email.lower() != row.email:
        raise Refused(f"This invitation is for {row.email}, and you are signed in as {person.email}.")
    elif row.role and not person.role:
        do_update_user(person, by=inviter, role=row.role)
    if row.team is not None and not Membership.objects.filter(team=row.team, user=person).exists():
        do_set_membership(row.team, user=person, role=row.team_role, by=inviter)
    row.accepted_at = timezone.now()
    row.save(update_fields=["accepted_at"])
    _record_invitation(row, by=person, action="accept_invitation", after=None)
    return person


SET_UP_HOURS = 24


def set_up_token(now: dt.datetime) -> str:
    """The secret of the set-up link: one for all processes that start within the same hour. It is signed, not kept."""
    hour = int(now.timestamp()) // 3_600 * 3_600
    return Signer(salt="policies.set-up").sign_object({"until": hour + (SET_UP_HOURS + 1) * 3_600})


def may_set_up(token: str) -> bool:
    """Whether this link makes the first administrator: nobody is here yet, and it has not expired."""
    try:
        until = int(Signer(salt="policies.set-up").unsign_object(token)["until"])
    except (BadSignature, ValueError, KeyError, TypeError):
        return False
    return until > time.time() and not User.objects.get_queryset().exists()


@transaction.atomic
def do_set_up(token: str, *, email: str, name: str, password: str) -> User:
    """Make the first administrator. Works once: with somebody here, no link does."""
    hold_version()
    if not may_set_up(token):
        raise Refused("This link no longer sets the portal up: somebody is here already, or it has expired.")
    return do_create_user(email, by="the set-up link", password=password, name=name, role=User.Role.ADMINISTRATOR)
