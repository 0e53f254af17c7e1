"""Every change of who may do what. Each function is one transaction: the state, its ConfigChange, the policy's version and an
entry of the journal, all or nothing. Views, admin and commands call these; nothing else writes.

``by`` is the person who asks, or the name of a trusted command or job.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import ipaddress
import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from django.conf import settings
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, QuerySet
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.text import slugify

from policies import keys
from policies.core.call import Entry, EntryKind, Risk, State, Tool
from policies.core.decide import EVERYTHING
from policies.core.redact import Redactor
from policies.core.text import redacted, shown
from policies.journal import append_in_transaction
from policies.models import (
    AgentKey,
    Alarm,
    ConfigChange,
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
    *, by: User, team_id: int | None, query: str, form: str, until: int, action: str = "export_audit"
) -> None:
    """Put on record that ``by`` takes away what ``query`` finds of the record, up to the entry ``until``, before it is given.
    ``team_id``: the only team that it is of. ``action``: what is made of the record; ``export_access`` is who could use what.
    Nobody's rights change: the policy's version stays.
    """
    require_reader(by)
    team = (Team.objects.filter(pk=team_id).values_list("name", flat=True).first() or "") if team_id else ""
    after = {"form": form, "up_to_entry": until}
    told = {"action": action, "target": _kept(query or "everything")[:LONGEST], "before": None, "after": after}
    _append(by, team_id, timezone.now(), {**told, "reason": "", "team": team})


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
    validate_password(password, user)
    user.set_password(password)
    user.save(update_fields=["password"])
    # Whoever gets a new password is not kept out by what others guessed at the old one.
    SignInFailures.objects.filter(subject=_guess_subject("account", user.email.lower())).delete()
    record_change(by=by, team=None, action="set_password", target=user.email, before=None, after=None)


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
def do_set_membership(team: Team, *, user: User, role: str, by: By, reason: str = "") -> Membership:
    require_manager(by, team, "choose its members")
    reason = clean_reason(reason)
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
def do_remove_member(team: Team, *, user: User, by: By, reason: str = "") -> None:
    require_manager(by, team, "choose its members")
    reason = clean_reason(reason)
    if team.kind == Team.Kind.PERSONAL:
        raise Refused("A personal workspace has its owner alone.")
    existing = Membership.objects.filter(team=team, user=user).first()
    if existing is None:
        return
    if existing.role == Membership.Role.MANAGER:
        _keep_a_manager(team, user, by)
    existing.delete()
    record_change(
        by=by, team=team, action="remove_member", target=user.email, before=existing.role, after=None, reason=reason
    )


def _keep_a_manager(team: Team, user: User, by: By) -> None:
    managers = Membership.objects.filter(team=team, role=Membership.Role.MANAGER, user__is_active=True)
    # Whoever became an auditor since changes nothing, and so is no manager that a team could be left with.
    others = managers.exclude(user=user).exclude(user__role=User.Role.AUDITOR)
    if not others.exists() and isinstance(by, User) and not by.is_administrator:
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
    record_change(
        by=by,
        team=team,
        action="issue_key",
        target=f"{name} (pwk_{prefix})",
        before=None,
        after=after,
        reason=reason,
    )
    return key, keys.shown(prefix, secret)


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


class TooManyGuesses(Exception):
    """No further password is tried until ``again_at``."""

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


def _guess_subjects(email: str, ip: str) -> dict[str, int]:
    """What a guess is counted for, with its limit. The address comes first: a source that is at its limit adds no rows."""
    source, account = source_of(ip), email.strip().lower()
    return {
        _guess_subject("address", source): GUESSES_FROM_AN_ADDRESS,
        _guess_subject("both", f"{source} {account}"): GUESSES_OF_AN_ACCOUNT_FROM_AN_ADDRESS,
        _guess_subject("account", account): GUESSES_OF_AN_ACCOUNT,
    }


def _guess_subject(what: str, value: str) -> str:
    return salted_hmac("policies.sign-in-failures", f"{what}:{value}", algorithm="sha256").hexdigest()


@transaction.atomic
def count_guess(*, email: str, ip: str) -> None:
    """Count a password that is about to be tried as wrong: before it is hashed, so that guesses made side by side are all
    counted, and a flood of them costs no hashing. ``forgive_guess`` takes it back.

    Raises:
        TooManyGuesses: of this account or from this address too many were wrong; nothing is counted.
    """
    now = timezone.now()
    since = now - dt.timedelta(minutes=GUESSING_MINUTES)
    rows = []
    # In this order here and below: no deadlock.
    for subject, limit in _guess_subjects(email, ip).items():
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


@transaction.atomic
def forgive_guess(*, email: str, ip: str) -> None:
    """The password was right: the account starts anew. The address does not, or an own account would let one guess on."""
    address, both, account = _guess_subjects(email, ip)
    SignInFailures.objects.filter(subject=address, count__gt=0).update(count=F("count") - 1)
    SignInFailures.objects.filter(subject=both).update(count=0)
    SignInFailures.objects.filter(subject=account).update(count=0)


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
