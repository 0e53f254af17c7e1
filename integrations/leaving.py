"""What ends with a connection that is deleted, and what is left behind by a person who leaves: told beforehand, dealt with in one
transaction."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q
from django.utils import timezone

from integrations.actions import (
    do_discard_from_email,
    do_hand_over_connection,
    do_propose_from_email,
    do_set_enabled,
    enabled_tools,
    is_running,
)
from integrations.models import Connection, MirroredDocument, MirroredIncident, PastKnown, RunningTest
from policies.actions import (
    By,
    clean_reason,
    do_hand_over_key,
    do_hand_over_stop,
    do_hand_over_workspace,
    do_lift_stop,
    do_remove_member,
    do_revoke_key,
    do_set_membership,
    do_update_user,
    hold_version,
    record_change,
    require_administrator,
    require_manager,
)
from policies.core.call import EntryKind, Tool
from policies.models import AgentKey, Entry, Membership, Stop, Team, User

# A connection


@dataclass(frozen=True, slots=True)
class Ending:
    """What stops when a connection is deleted."""

    keys: list[AgentKey]
    """Those that are revoked with it, those used last first; expired ones too, for their end could have been moved."""
    tools: list[Tool]
    """What the team has on and at least one of these keys may use, in the catalogue's order."""
    others: list[Connection]
    """The team's other connections that are switched on: their keys go on."""
    under_way: list[str]
    """What would be cut off or lost, in sentences."""


def ending_of(connection: Connection, now: dt.datetime) -> Ending:
    keys = [link.key for link in connection.keys.select_related("key").filter(key__revoked_at=None)]
    keys.sort(key=lambda key: (key.last_used_at is None, -(key.last_used_at or now).timestamp(), key.name))
    wide = any(key.tools is None for key in keys)
    reach = {tool for key in keys for tool in key.tools or ()}
    tools = [tool for tool in enabled_tools(connection.team) if wide or tool.name in reach] if keys else []
    others = connection.team.connections.filter(is_enabled=True).exclude(pk=connection.pk)
    return Ending(keys, tools, list(others), _under_way(connection, now))


def _under_way(connection: Connection, now: dt.datetime) -> list[str]:
    results = Entry.objects.filter(decision_id=OuterRef("decision_id"), kind=EntryKind.RESULT.value)
    since = now - dt.timedelta(seconds=settings.CALL_TIME_LIMIT)
    # By the index of intents, of which few are so new.
    intents = Entry.objects.filter(kind="intent", at__gte=since, resource=str(connection.pk))
    told = []
    if writes := intents.exclude(Exists(results)).count():
        told.append(
            f"{writes} write{'s are' if writes != 1 else ' is'} on the way to PagerDuty now: what was sent is completed and "
            "recorded."
        )
    running = RunningTest.objects.filter(pk=connection.pk).first()
    if running is not None and is_running(running, now):
        told.append(f"A test runs, asked for by {running.asked_by}: it ends without a finding.")
    if connection.candidate_fingerprint is not None:
        told.append(f"A replacement token (…{connection.candidate_last4}) waits for its test: it is destroyed, too.")
    if connection.from_email_proposed:
        told.append(f"Acting as {connection.from_email_proposed} waits for an administrator's signature.")
    if kept := MirroredDocument.objects.filter(connection=connection).count():
        past = PastKnown.objects.filter(connection=connection).aggregate(since=Min("since"))["since"]
        known = f", with who was on call since {dt.datetime.fromtimestamp(past, dt.UTC):%Y-%m-%d}" if past else ""
        incidents = MirroredIncident.objects.filter(connection=connection).count()
        happened = f", {incidents} incident{'s' if incidents != 1 else ''}" if incidents else ""
        told.append(
            f"What was read of the account ({kept} document{'s' if kept != 1 else ''}{happened}{known}) goes with it; pages and "
            "notices tell no more of it."
        )
    return told


# A person


END: Final = "end"
"""The choice to revoke a thing, or to switch it off; the other one is ``keep:<number of a person>``."""


@dataclass(frozen=True, slots=True)
class Held:
    """One thing that somebody holds, and what may become of it when they leave."""

    id: str
    """``<kind>-<key>``: what a choice is given for."""
    what: str
    """In words, such as *the agent key night bot of Payments*."""
    more: str
    """What helps to choose: when it was used last, what acts as them."""
    ends: str
    """What ending it does, as it is offered: *Revoke it*."""
    ended: str
    """The same once it is done: *revoked*."""
    heirs: tuple[User, ...]
    """Who may keep it."""
    thing: AgentKey | Connection | Stop | Team
    team: Team | None

    @property
    def kind(self) -> str:
        return self.id.partition("-")[0]


KINDS: Final = {
    "manager": "team to manage",
    "workspace": "personal workspace",
    "key": "agent key",
    "connection": "connection",
    "request": "request",
    "stop": "stop",
}
"""In the order in which they are dealt with: a team first gets another manager."""


def _is(field: str, email: str) -> Q:
    """Held by whoever a thing was handed over to, else by whoever made it: by the address as it is kept, for what only looks
    like it is somebody else's (``UserQuerySet.of_address``)."""
    return Q(kept_by=email) | Q(**{"kept_by": "", field: email})


def _keys(email: str, now: dt.datetime) -> Q:
    return _is("created_by", email) & Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))


def _connections(email: str) -> Q:
    return (_is("registered_by", email) | Q(from_email__iexact=email)) & Q(is_enabled=True)


def holds_anything(people: Iterable[User], now: dt.datetime) -> set[int]:
    """Those of ``people`` of whom something is left to be dealt with, in three look-ups."""
    by_email = {person.email.lower(): person.pk for person in people}
    keys, connections, stops = Q(pk__in=[]), Q(pk__in=[]), Q(pk__in=[])
    for email in by_email:
        keys |= _keys(email, now)
        connections |= _connections(email) | Q(from_email_proposed__iexact=email)
        stops |= _is("actor", email)
    found = {kept or made for kept, made in AgentKey.objects.filter(keys).values_list("kept_by", "created_by")}
    for row in Connection.objects.filter(connections):
        found |= {row.kept_by or row.registered_by, row.from_email, row.from_email_proposed}
    found |= {kept or actor for kept, actor in Stop.objects.filter(stops).values_list("kept_by", "actor")}
    return {by_email[email.lower()] for email in found if email.lower() in by_email}


def held_by(user: User, team: Team | None, now: dt.datetime) -> list[Held]:
    """What ``user`` holds in ``team``, or anywhere: a fixed number of look-ups."""
    email, mine = user.email, {} if team is None else {"team": team}
    own = Team.objects.filter(owner=user).first() if team is None else None
    keys = list(
        AgentKey.objects.filter(_keys(email, now), **mine)
        .exclude(team=own)
        .select_related("team")
        .order_by("team__name", "name")
    )
    rows = Connection.objects.filter(_connections(email) | Q(from_email_proposed__iexact=email), **mine)
    connections = list(rows.exclude(team=own).select_related("team"))
    stops = list(Stop.objects.filter(_is("actor", email), **({} if team is None else {"team_id": team.pk})))
    led = Team.objects.filter(memberships__user=user, memberships__role=Membership.Role.MANAGER, kind=Team.Kind.SHARED)
    others = Membership.objects.filter(team=OuterRef("pk"), role=Membership.Role.MANAGER, user__is_active=True)
    others = others.exclude(user=user).exclude(user__role=User.Role.AUDITOR)
    led = led if team is None else led.filter(pk=team.pk)
    # Whoever is switched off already manages nothing.
    alone = list(led.exclude(Exists(others))) if user.is_active else []
    names = {key.team_id: key.team for key in keys} | {row.team_id: row.team for row in connections}
    missing = {stop.team_id for stop in stops if stop.team_id is not None} - set(names)
    names |= Team.objects.in_bulk(missing)
    heirs = _Heirs(user, {*names, *(row.pk for row in alone)})
    found = [
        Held(
            f"manager-{row.pk}",
            f"the team {row.name}, of which they are the only manager",
            "Whoever keeps it becomes its manager.",
            "Leave it to the administrators",
            "left to the administrators",
            heirs.of(row.pk, members=True),
            row,
            row,
        )
        for row in alone
    ]
    if own is not None and (workspace := _workspace(own, heirs, now)) is not None:
        found.append(workspace)
    for key in keys:
        used = "never used" if key.last_used_at is None else f"last used on {key.last_used_at:%Y-%m-%d at %H:%M} UTC"
        what = f"the agent key {key.name} (pwk_{key.prefix}) of {key.team.name}"
        found.append(
            Held(f"key-{key.pk}", what, f"It was {used}.", "Revoke it", "revoked", heirs.of(key.team_id), key, key.team)
        )
    for row in connections:
        what = f"the connection {row.name} of {row.team.name}"
        if row.is_enabled and (row.from_email.lower() == email.lower() or _holds(row, email)):
            acts = row.from_email.lower() == email.lower()
            more = f"Writes are made as {row.from_email}." if acts else "They registered it or kept it."
            if row.kind != Connection.Kind.ACCOUNT:
                more += " Its token may be a person's own: PagerDuty ends it with their account there."
            found.append(
                Held(
                    f"connection-{row.pk}",
                    what,
                    more,
                    "Switch it off",
                    "switched off",
                    heirs.of(row.team_id),
                    row,
                    row.team,
                )
            )
        if row.from_email_proposed.lower() == email.lower():
            found.append(
                Held(
                    f"request-{row.pk}",
                    f"the request that {what} act as them",
                    "It waits for an administrator's signature: one who hands it over signs it.",
                    "Withdraw it",
                    "withdrawn",
                    heirs.of(row.team_id),
                    row,
                    row.team,
                )
            )
    for stop in stops:
        of = names.get(stop.team_id) if stop.team_id is not None else None
        whose = f" of {of.name}" if of is not None and stop.subject.startswith("key:") else ""
        found.append(
            Held(
                f"stop-{stop.pk}",
                f"the stop of {stop.target}{whose}",
                f"Since {stop.at:%Y-%m-%d}: {stop.reason}.",
                "Lift it",
                "lifted",
                heirs.of(None if stop.by_administrator else stop.team_id),
                stop,
                of,
            )
        )
    order = list(KINDS)
    return sorted(found, key=lambda one: order.index(one.kind))


def _holds(row: Connection, email: str) -> bool:
    return (row.kept_by or row.registered_by).lower() == email.lower()


def _workspace(own: Team, heirs: _Heirs, now: dt.datetime) -> Held | None:
    """None: there is nothing in it that goes on."""
    live = Q(revoked_at=None) & (Q(expires_at=None) | Q(expires_at__gt=now))
    keys, connections = own.agent_keys.filter(live).count(), own.connections.filter(is_enabled=True).count()
    if not keys and not connections:
        return None
    many = f"{keys} usable key{'s' if keys != 1 else ''}, {connections} connection{'s' if connections != 1 else ''} switched on"
    return Held(
        f"workspace-{own.pk}",
        f"the personal workspace {own.name}",
        f"{many}. Whoever keeps it gets it as a shared team of theirs.",
        "Close it: revoke its keys, switch its connections off",
        "closed",
        heirs.of(None, fellows=True),
        own,
        own,
    )


class _Heirs:
    """Who may keep what: a team's managers, and administrators. Two look-ups for all of it."""

    def __init__(self, user: User, teams: set[int]) -> None:
        theirs = Membership.objects.filter(user=user, team__kind=Team.Kind.SHARED).values("team_id")
        rows = Membership.objects.filter(Q(team_id__in=teams) | Q(team_id__in=theirs))
        rows = rows.filter(user__is_active=True).exclude(user=user).exclude(user__role=User.Role.AUDITOR)
        self._rows = list(rows.select_related("user").order_by("user__email"))
        people = User.objects.get_queryset().filter(role=User.Role.ADMINISTRATOR, is_active=True).exclude(pk=user.pk)
        self._administrators = list(people)

    def of(self, team_id: int | None, *, members: bool = False, fellows: bool = False) -> tuple[User, ...]:
        """``members``: of the team any, not its managers alone; ``fellows``: the managers of any team of the person's."""
        found = {person.pk: person for person in self._administrators}
        for row in self._rows:
            if (fellows or row.team_id == team_id) and (members or row.role == Membership.Role.MANAGER):
                found[row.user_id] = row.user
        return tuple(sorted(found.values(), key=lambda person: person.email))


def digest_of(held: Iterable[Held]) -> str:
    """What a page sends back to say what it had listed."""
    return hashlib.sha256("\n".join(sorted(one.id for one in held)).encode()).hexdigest()


@transaction.atomic
def do_let_go(
    user: User, *, by: By, team: Team | None, choices: Mapping[str, str], seen: str | None = None, reason: str = ""
) -> str:
    """Take somebody out of ``team``, or switch them off where ``team`` is None, and deal with all that they hold there: each
    thing is kept by a named person, or ended. All of it or nothing. Returns what was done, in a sentence or two.

    ``choices``: of each thing's ``id``, ``END`` or ``keep:<number of a person>``; of what they do not name, what ``""`` says.
    ``seen``: the ``digest_of`` what whoever asks was told of.

    Raises:
        Refused: ``by`` may not do this, or the last administrator would go.
        ValidationError: something has no choice, or one that cannot be; or they hold other things by now.
    """
    if team is None:
        require_administrator(by, "switch people off")
    else:
        require_manager(by, team, "choose its members")
    why = clean_reason(reason)
    hold_version()  # nothing comes to be held between this look and the end
    held = held_by(user, team, timezone.now())
    if seen is not None and digest_of(held) != seen:
        raise ValidationError(f"What {user} holds has changed meanwhile: look again.")
    chosen = {one.id: _chosen(one, choices, user) for one in held}
    because = f"{user.email} left {team.name}" if team is not None else f"{user.email} was switched off"
    because = f"{because}: {why}"[:500] if why else because
    done: Counter[str] = Counter()
    leaderless = False
    for one in held:
        to = chosen[one.id]
        if to is None:
            leaderless = leaderless or one.kind == "manager"
            _end(one, by, because)
        else:
            _hand_over(one, to, user, by, because)
        done[f"{KINDS[one.kind]} {f'kept by {to}' if to is not None else one.ended}"] += 1
    if team is not None:
        do_remove_member(team, user=user, by=by, reason=why, leaderless=leaderless)
    elif user.is_active:
        do_update_user(user, by=by, is_active=False, reason=why)
    told = "; ".join(f"{count} {_many(said, count)}" for said, count in sorted(done.items()))
    if held:
        record_change(
            by=by,
            team=team,
            action="let_go",
            target=user.email,
            before=[one.what for one in held],
            after=[f"{one.what}: {f'kept by {chosen[one.id]}' if chosen[one.id] else one.ended}" for one in held],
            reason=why,
        )
    gone = (
        f"{user} is no longer in {team.name}"
        if team is not None
        else f"{user} is switched off and signed out everywhere"
    )
    return f"{gone}. {told}." if told else f"{gone}: they held nothing that goes on."


def _many(said: str, count: int) -> str:
    kind = next(name for name in KINDS.values() if said.startswith(name))
    plural = "teams to manage" if kind == "team to manage" else f"{kind}s"
    return said if count == 1 else said.replace(kind, plural, 1)


def _chosen(one: Held, choices: Mapping[str, str], user: User) -> User | None:
    """Who keeps a thing; None: it ends."""
    choice = choices.get(one.id) or choices.get("", "")
    if choice == END:
        return None
    kind, _, number = choice.partition(":")
    if kind != "keep":
        raise ValidationError(f"Say what becomes of {one.what}.")
    heir = next((person for person in one.heirs if str(person.pk) == number), None)
    if heir is None:
        raise ValidationError(f"Whoever was chosen may not keep {one.what}: choose a manager or an administrator.")
    return heir


def _end(one: Held, by: By, because: str) -> None:
    match one.thing:
        case AgentKey() as key:
            do_revoke_key(key, by=by, reason=because)
        case Connection() as row if one.kind == "request":
            do_discard_from_email(row, by=by, reason=because)
        case Connection() as row:
            do_set_enabled(row, False, by=by, reason=because)
        case Stop() as stop:
            do_lift_stop(stop, by=by, reason=because)
        case Team() as team if one.kind == "workspace":
            for key in team.agent_keys.filter(revoked_at=None).select_related("team"):
                do_revoke_key(key, by=by, reason=because)
            for row in team.connections.filter(is_enabled=True).select_related("team"):
                do_set_enabled(row, False, by=by, reason=because)
        case Team() as team:
            require_administrator(by, f"leave {team.name} without a manager")


def _hand_over(one: Held, to: User, user: User, by: By, because: str) -> None:
    match one.thing:
        case AgentKey() as key:
            do_hand_over_key(key, to=to, by=by, reason=because)
        case Connection() as row if one.kind == "request":
            do_propose_from_email(row, email=to.email, by=by, reason=because)
        case Connection() as row:
            do_hand_over_connection(row, to=to, by=by, held=user.email, reason=because)
        case Stop() as stop:
            do_hand_over_stop(stop, to=to, by=by, reason=because)
        case Team() as team if one.kind == "workspace":
            do_hand_over_workspace(team, to=to, by=by, reason=because)
        case Team() as team:
            do_set_membership(team, user=to, role=Membership.Role.MANAGER, by=by, reason=because)
