"""What the configuration was: what it is now, with every change since then undone, one by one, as the journal's entries of
configuration tell them. So a look at yesterday reads a day's changes, however long the journal is."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from policies.core.call import EntryKind, Kind, Principal, Risk, Role, State
from policies.core.decide import EVERYTHING, Policy
from policies.models import AgentKey, Entry, Membership, Stop, Stream, Team, ToolRule, ToolSetting, User
from policies.snapshot import current_version

STREAM: Final = "configuration"
STEP: Final = 500
"""Entries that are read at a time."""
MAXIMUM: Final = 50_000
"""Entries that one look back reads at most."""
_PREFIX: Final = re.compile(r"\(pwk_([a-z0-9]{8})\)$", re.ASCII)
ASIDE: Final = frozenset(
    {
        *("set_password", "set_reveals", "reads_go_on", "close_alarm", "rehearse_stop", "rotate_keys"),
        *("export_audit", "export_access", "export_response", "export_load"),
        *("mark_reviewed", "request_tool", "answer_request"),
        *(
            "check_journal",
            "set_weekly_digest",
            "invite",
            "resend_invitation",
            "revoke_invitation",
            "accept_invitation",
        ),
        *("link_provider", "unlink_provider", "add_second_factor", "remove_second_factor", "remove_second_factors"),
        *("renew_recovery_codes", "let_go", "hand_over_key", "hand_over_stop", "hand_over_connection"),
        *("use_connection", "register_token", "replace_token", "promote_token", "discard_replacement"),
        *("set_token_expiry", "set_bounds", "set_account_wide_tools", "set_kind", "detect_kind", "set_from_email"),
        *("propose_from_email", "approve_from_email", "discard_from_email", "make_feed", "revoke_feed"),
        *("enable_connection", "disable_connection", "delete_connection"),
        *("set_notices", "set_webhook", "renew_webhook_secret", "remove_webhook"),
        *("make_standing_check", "change_standing_check", "remove_standing_check"),
        *("mark_intended", "unmark_intended", "mute_finding", "unmute_finding"),
    }
)
"""Changes that say nothing of who may use which tool, by the policy alone: what a connection reaches is not in it."""


class TooFar(Exception):
    """More has changed since then than one look back reads. The text is a sentence for people."""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of configuration."""

    id: int
    at: dt.datetime
    team_id: int | None
    details: dict[str, Any]

    @property
    def version(self) -> int | None:
        """The policy's version from this change on; None: it moved none."""
        version = self.details.get("policy_version")
        return version if isinstance(version, int) else None


@dataclass(slots=True)
class Key:
    """An agent key, as it was."""

    id: str
    prefix: str
    name: str
    team_id: int
    narrowed_to: frozenset[str] | None
    expires_at: dt.datetime | None
    is_revoked: bool


@dataclass(slots=True)
class Person:
    id: int
    email: str
    name: str
    role: str
    is_active: bool


@dataclass(slots=True)
class Configuration:
    """Who there was, and what was set: at first as it is now. ``undo`` takes it back, one change at a time."""

    version: int
    tools: frozenset[str] | None
    """The tools whose settings are known; None: all."""
    teams: dict[int, str] = field(default_factory=dict)
    settings: dict[int, dict[str, State]] = field(default_factory=lambda: defaultdict(dict))
    rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    stops: dict[str, str] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    """By prefix."""
    people: dict[str, Person] = field(default_factory=dict)
    """By e-mail."""
    members: dict[int, dict[str, str]] = field(default_factory=lambda: defaultdict(dict))
    """Team → e-mail → role."""
    unknown: set[str] = field(default_factory=set)
    """Kinds of changes that were come upon, and that nothing here knows to undo."""

    def policy(self, teams: Collection[int] | None = None) -> Policy:
        """The policy of these teams, or of all."""
        return Policy(
            version=self.version,
            teams={team: dict(self.settings[team]) for team in (list(self.settings) if teams is None else teams)},
            locked={name: rule["reason"] for name, rule in self.rules.items() if rule["locked"]},
            risks={name: Risk(rule["risk"]) for name, rule in self.rules.items() if rule["risk"]},
            stops=dict(self.stops),
        )

    def undo(self, change: Change) -> bool:
        """Take a change back: the newest that has not been. Whether it is one that a decision depends on."""
        details, team = change.details, change.team_id
        action, target, before = str(details.get("action", "")), str(details.get("target", "")), details.get("before")
        if (version := change.version) is not None:
            self.version = version - 1
        match action:
            case "set_tool":
                if team is None or (self.tools is not None and target not in self.tools):
                    return False
                self.settings[team][target] = State(str(before))
            case "set_tool_rule":
                self.rules[target] = {"locked": False, "risk": "", "reason": "", **(before or {})}
            case "stop" | "lift_stop":
                subject = self._subject(target, team)
                if before is None:
                    self.stops.pop(subject, None)
                else:
                    self.stops[subject] = str(before)
            case "create_team":
                self.teams.pop(team or 0, None)
            case "create_personal_workspace":
                self.teams.pop(team or 0, None)
                self.members.pop(team or 0, None)
            case "hand_over_workspace":
                owner = before.get("owner") if isinstance(before, dict) else None
                self.members[team or 0] = {str(owner): Membership.Role.MANAGER.value} if owner else {}
            case "set_membership" | "remove_member":
                if before is None:
                    self.members[team or 0].pop(target, None)
                else:
                    self.members[team or 0][target] = str(before)
            case "create_user":
                self.people.pop(target, None)
            case "update_user":
                if (person := self.people.get(target)) is not None and isinstance(before, dict):
                    person.name = str(before.get("name", person.name))
                    person.role = str(before.get("role", person.role))
                    person.is_active = bool(before.get("is_active", person.is_active))
            case _ if action not in ASIDE:
                self._undo_of_key(action, target, before)
            case _:
                return False
        return True

    def _undo_of_key(self, action: str, target: str, before: Any) -> None:
        prefix = _PREFIX.search(target)
        key = self.keys.get(prefix[1]) if prefix else None
        if action == "issue_key":
            self.keys.pop(prefix[1] if prefix else "", None)
        elif action == "revoke_key":
            if key is not None:
                key.is_revoked = False
        elif prefix and isinstance(before, dict) and "tools" in before:
            if key is not None:
                key.narrowed_to = None if before["tools"] is None else frozenset(before["tools"])
                if "expires_at" in before:
                    key.expires_at = dt.datetime.fromisoformat(before["expires_at"]) if before["expires_at"] else None
        else:
            self.unknown.add(action)

    def _subject(self, target: str, team: int | None) -> str:
        if team is None:
            return EVERYTHING
        prefix = _PREFIX.search(target)
        key = self.keys.get(prefix[1]) if prefix else None
        return f"key:{key.id}" if key is not None and key.team_id == team else f"team:{team}"

    def agent(self, key: Key) -> Principal:
        team = self.teams.get(key.team_id, "")
        return Principal(
            Kind.AGENT,
            f"key:{key.id}",
            key.name,
            key.team_id,
            team,
            narrowed_to=key.narrowed_to,
            credential=f"pwk_{key.prefix}",
        )

    def person(self, person: Person, team_id: int) -> Principal:
        role = Role.of(person.role, self.members[team_id].get(person.email, "")) if person.is_active else Role.NONE
        name = person.name or person.email
        return Principal(Kind.PERSON, f"user:{person.id}", name, team_id, self.teams.get(team_id, ""), role)

    def principal(self, actor: str, team_id: int, job_tools: frozenset[str]) -> Principal | None:
        """Who an entry's ``actor`` was, in a team; None: they are not known."""
        kind, _, which = actor.partition(":")
        if kind == "job":
            return Principal(Kind.JOB, actor, which, team_id, self.teams.get(team_id, ""), narrowed_to=job_tools)
        if kind == "key":
            return next((self.agent(key) for key in self.keys.values() if key.id == which), None)
        return next((self.person(one, team_id) for one in self.people.values() if str(one.id) == which), None)


def present(team_ids: Collection[int], tools: Collection[str] | None = None) -> Configuration:
    """The configuration of some teams as it is now. ``tools``: the only ones whose settings are wanted."""
    for _ in range(3):
        version = current_version()
        found = _read(team_ids, tools, version)
        if current_version() == version:
            break
    return found


def _read(team_ids: Collection[int], tools: Collection[str] | None, version: int) -> Configuration:
    found = Configuration(version, None if tools is None else frozenset(tools))
    found.teams.update(Team.objects.filter(pk__in=team_ids).values_list("pk", "name"))
    rows = ToolSetting.objects.filter(team__in=team_ids).order_by()
    if tools is not None:
        rows = rows.filter(tool__in=tools)
    for team_id, tool, state in rows.values_list("team_id", "tool", "state"):
        found.settings[team_id][tool] = State(state)
    for name, locked, risk, reason in ToolRule.objects.values_list("tool", "locked", "risk", "reason"):
        found.rules[name] = {"locked": locked, "risk": risk, "reason": reason}
    found.stops.update(Stop.objects.values_list("subject", "reason"))
    for key in AgentKey.objects.filter(team__in=team_ids):
        narrowed = None if key.tools is None else frozenset(key.tools)
        found.keys[key.prefix] = Key(
            str(key.pk), key.prefix, key.name, key.team_id, narrowed, key.expires_at, key.revoked_at is not None
        )
    for pk, email, name, role, is_active in User.objects.get_queryset().values_list(
        "pk", "email", "name", "role", "is_active"
    ):
        found.people[email] = Person(pk, email, name, role, is_active)
    members = Membership.objects.filter(team__in=team_ids).order_by()
    for team_id, email, role in members.values_list("team_id", "user__email", "role"):
        found.members[team_id][email] = role
    return found


def changes() -> Iterator[Change]:
    """The journal's entries of configuration, the newest first. Raises ``TooFar``."""
    stream = Stream.objects.filter(name=STREAM).first()
    if stream is None:
        return
    rows = Entry.objects.filter(stream=stream, kind=EntryKind.CONFIG.value).order_by("-seq")
    below: int | None = None
    for _ in range(MAXIMUM // STEP):
        part = list((rows if below is None else rows.filter(seq__lt=below))[:STEP])
        for row in part:
            yield Change(row.pk, row.at, row.team_id, json.loads(row.record)["details"])
        if len(part) < STEP:
            return
        below = part[-1].seq
    raise TooFar(f"More than {MAXIMUM:,} changes were made since: it cannot be told that far back.")


def begins() -> dt.datetime | None:
    """When the record of configuration begins: before it nothing can be told. None: there is no record yet."""
    return Stream.objects.filter(name=STREAM).values_list("created_at", flat=True).first()


def at_version(version: int, team_id: int) -> Configuration:
    """The configuration of a team while the policy was at ``version``. Raises ``TooFar``."""
    found = present([team_id])
    for change in changes():
        if change.version is None:
            continue
        if change.version <= version:
            break
        found.undo(change)
    found.version = version
    return found
