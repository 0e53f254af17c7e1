"""The cast with one of everything that a page can show, for a team, for another team, and for a personal workspace."""

from __future__ import annotations

import datetime as dt
import json
import time
import zlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP
from allauth.mfa.webauthn.internal.auth import WebAuthn
from allauth.socialaccount.models import SocialAccount
from django.apps import apps
from django.db import models, transaction
from django.db.models import F
from django.test import Client
from django.utils import timezone

from integrations import mirror, mirror_tasks
from integrations.actions import (
    do_issue_agent_key,
    do_propose_from_email,
    do_register_token,
    do_replace_token,
)
from integrations.feeds import digest_of, do_make_feed
from integrations.intended import do_mark_intended
from integrations.models import (
    Attempt,
    CheckRun,
    Connection,
    ConnectionTest,
    Delivery,
    Feed,
    Mirror,
    MirroredDocument,
    PastKnown,
    RunningTest,
    StandingCheck,
)
from integrations.mutes import do_mute_finding
from integrations.notices import look
from integrations.pagerduty.catalog import TOOLS
from integrations.review import reviewed
from integrations.standing import Asked, do_make_check
from integrations.standing import run as run_check
from integrations.sweep import swept
from integrations.webhooks.actions import do_renew_webhook_secret, do_send_test, do_set_webhook
from policies.actions import (
    count_guess,
    do_create_personal_workspace,
    do_invite,
    do_mark_reviewed,
    do_save_view,
    do_set_membership,
    do_set_reads_go_on,
    do_set_reveals,
    do_set_tool_rule,
    do_set_tools,
    do_stop,
    invitation_digest,
    record_sign_in,
)
from policies.alarms import Kind, Sign, note
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind, Outcome, Risk, State
from policies.journal import append_in_transaction, write_checkpoint
from policies.models import (
    AgentCalls,
    AgentKey,
    Alarm,
    ConfigChange,
    Counted,
    Digest,
    Entry,
    Invitation,
    JournalCheck,
    LastVerification,
    Membership,
    Team,
    ToolCalls,
    ToolRequest,
    User,
)
from tests.conftest import PASSWORD, Cast, make_cast
from tests.kept import keep, policy, schedule, service
from tests.mirrored import mirrored
from tests.pages import EXAMPLES, GAPPY, INVITED, QUERIES, addresses, feed_token, path_of

DAYS_KNOWN = 40
"""Of what is mirrored of the past: a year takes longer than it is worth."""
NETWORKS = ("198.51.100.7", "203.0.113.9")


@dataclass(frozen=True)
class World:
    cast: Cast
    pia: User
    """Manages her own workspace, and is in no other team."""
    dora: User
    """Managed Payments once, was a member of Search, and is deactivated."""
    workspace: Team


def make_world() -> World:
    """In the transaction that is open. Each team has a connection with a replacement and a proposed address that wait, a key with
    an alarm, a key that is stopped, calls that were let through and denied, and what its people keep."""
    cast = make_cast()
    pia, dora = (
        User.objects.create_user(f"{who}@example.com", PASSWORD, name=who.capitalize()) for who in ("pia", "dora")
    )
    workspace = do_create_personal_workspace(pia, by=pia)
    do_set_membership(cast.payments, user=dora, role="manager", by=cast.ada)
    do_set_membership(cast.search, user=dora, role="member", by=cast.ada)
    for number, (team, manager) in enumerate(((cast.payments, cast.mina), (cast.search, cast.omar), (workspace, pia))):
        _furnish(number, team, manager, cast.ada)
    # One tool that the two teams do not have alike.
    do_set_tools(cast.payments, states={"add_note_to_incident": State.ON}, tools=TOOLS, by=cast.mina)
    User.objects.filter(pk=dora.pk).update(is_active=False)
    do_save_view(by=cast.rhea, name="Denied", query="verdict:deny")
    _furnish_the_portal(cast.ada, cast.mina)
    ToolRequest.objects.filter(team=cast.payments).update(user=cast.vic)
    return World(cast, pia, dora, workspace)


def furnish_demo() -> dict[str, Any]:
    """What the demo lacks of what pages show, made by Payments' people. Returns the pages (URL name → path), and a session of
    each of the people who look at them. A row of ``QUERIES`` is a page, too."""
    people = {name: User.objects.get(name=name.capitalize()) for name in ("ada", "mina", "rhea", "vic")}
    team = Team.objects.get(slug="payments")
    with transaction.atomic():
        _furnish(0, team, people["mina"], people["ada"])
        _furnish_the_portal(people["ada"], people["mina"])
    sessions = {name: session_of(person) for name, person in people.items()}
    paths = {name: path_of(address, team) for name, address in addresses().items()}
    paths |= {row: f"{paths[row.split()[0]]}?{urlencode(query(team))}" for row, query in QUERIES.items()}
    return {"paths": paths, "sessions": sessions}


def session_of(person: User) -> str:
    """The cookie of somebody who is signed in, and need not say again who they are as long as a test takes."""
    client = Client()
    client.force_login(person)
    session = client.session
    session["account_authentication_methods"] = [
        {"method": "password", "at": time.time() + 3_600, "reauthenticated": True}
    ]
    session["account_authentication_methods_user"] = str(person.pk)
    session.save()
    return client.cookies["sessionid"].value


def _furnish_the_portal(ada: User, mina: User) -> None:
    do_save_view(by=ada, name="Denied", query="verdict:deny")
    do_set_tool_rule("snooze_incident", tools=TOOLS, by=ada, locked=True, risk="", reason="never")
    do_set_reads_go_on(by=ada, on=True, reason="people on call need to see", minutes=15)
    count_guess(email=mina.email, ip="203.0.113.9")
    record_sign_in(user=mina, email="", ip="203.0.113.9", what="signed_in")
    write_checkpoint()
    found = {"at": timezone.now(), "status": "intact", "entries": 1, "told": "Every entry is as it was written."}
    LastVerification.objects.get_or_create(pk=1, defaults=found)
    Counted.objects.get_or_create(pk=1)
    JournalCheck.objects.create(
        at=timezone.now(), seen_at=timezone.now(), actor=ada.email, state="intact", told="Intact."
    )
    Digest.objects.get_or_create(user=mina, week=dt.date(2026, 1, 5))
    guest, _ = do_invite("guest@example.com", by=ada)
    Invitation.objects.filter(pk=guest.pk).update(digest=invitation_digest(INVITED))
    session_of(ada)
    SocialAccount.objects.create(user=ada, provider="https://id.example.com", uid="ada")


def _furnish(number: int, team: Team, manager: User, ada: User) -> None:
    connection = _connection(number, team, manager, ada)
    assistant, stopped = (
        do_issue_agent_key(connection, name=f"{name} of {team.slug}", by=manager, tools=TOOLS)[0]
        for name in ("assistant", "night bot")
    )
    for ip in NETWORKS:
        note(Sign(Kind.NEW_NETWORK, str(assistant.pk), time.time(), ip, "list_incidents", f"seen-{number}"))
    do_stop(by=manager, reason="it loops", key=stopped)
    do_set_tools(team, states={"create_incident": State.ON}, tools=TOOLS, by=manager, reason="on trial")
    do_set_reveals(team, kinds=["addresses"], known=["addresses"], by=ada, reason="asked for")
    do_save_view(by=manager, name="Denied", query="verdict:deny")
    do_mark_reviewed(by=manager, team_id=team.pk, query="verdict:deny", first=1, last=2, note="Looked at.")
    _calls(number, team, assistant)
    asked = {
        "subject": f"key:{assistant.pk}",
        "subject_name": assistant.name,
        "why": "We are on call.",
        "rule": "tool_off",
    }
    ToolRequest.objects.create(team=team, user=manager, tool="merge_incidents", **asked)
    if team.kind == Team.Kind.SHARED:
        do_invite(f"newcomer-{number}@example.com", by=manager, team=team)
    example = EXAMPLES["schedule"](team)["schedule_id"]
    _be_somebody(connection, example, manager)
    for feed, token in (
        do_make_feed(by=manager, connection=connection, schedule_id=example, name="Nights"),
        do_make_feed(by=manager),
    ):
        Feed.objects.filter(pk=feed.pk).update(digest=digest_of(feed_token(team) if feed.connection_id else token))
    _second_factors(manager)


def _be_somebody(connection: Connection, schedule_id: str, person: User) -> None:
    """One of those who have turns in the schedule has this person's address."""
    rows = MirroredDocument.objects.filter(connection=connection)
    layers = mirror_tasks.unpacked(rows.get(kind="schedules", remote_id=schedule_id).body)["schedule"][
        "schedule_layers"
    ]
    row = rows.get(kind="users", remote_id=layers[0]["users"][0]["user"]["id"])
    text = json.dumps({**mirror_tasks.unpacked(row.body), "email": person.email}).encode()
    rows.filter(pk=row.pk).update(body=zlib.compress(text, 1), digest=str(row.pk))
    Mirror.objects.filter(pk=connection.pk).update(version=F("version") + 1)


def _second_factors(person: User) -> None:
    TOTP.activate(person, SECRET)
    RecoveryCodes.activate(person)
    WebAuthn.add(person, "Laptop", PASSKEY)


SECRET = "JBSWY3DPEHPK3PXP"
PASSKEY = {
    "id": "Y3JlZGVudGlhbA",
    "rawId": "Y3JlZGVudGlhbA",
    "type": "public-key",
    "clientExtensionResults": {"credProps": {"rk": True}},
    "response": {
        "clientDataJSON": "eyJ0eXBlIjoid2ViYXV0aG4uY3JlYXRlIiwiY2hhbGxlbmdlIjoiWTJoaGJHeGxibWRsIiwib3JpZ2luIjoiaHR0cDov"
        "L2xvY2FsaG9zdCIsImNyb3NzT3JpZ2luIjpmYWxzZX0",
        "attestationObject": "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YViOAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABBAAAAAAAA"
        "AAAAAAAAAAAAAAAAAAAACmNyZWRlbnRpYWylAQIDJiABIVgg2ndpIwqQEIHVvPiJQEBRYA87Mpq8UyAtao6hanTO-uYiWCAlzL-CpYzeCK59CNpp"
        "cvhWjpXKW_gTAfq9V0cFsZ_hOw",
    },
}
"""What a browser says of a passkey that it made: ``RegistrationResponse`` of fido2, of a key that nobody holds."""


def _connection(number: int, team: Team, manager: User, ada: User) -> Connection:
    connection = team.connections.order_by("created_at").first() or do_register_token(
        team,
        name="Main",
        token=f"y_NbAkKc66ryYTWUXYE{number}",
        kind="user",
        region="us",
        from_email=manager.email,
        by=ada,
        team_ids=["PTEAM01"],
    )
    do_replace_token(connection, token=f"u_NbAkKc66ryYTWUXYE{number}", by=ada)
    do_propose_from_email(connection, email="night@example.com", by=manager)
    if connection.kind == "user":
        Connection.objects.filter(pk=connection.pk).update(detected_kind="oauth")
    ConnectionTest.objects.create(
        connection=connection, passed=False, message="PagerDuty refused it.", asked_by=manager.email
    )
    tested = {"begun_at": timezone.now(), "of_candidate": False, "asked_by": manager.email}
    RunningTest.objects.update_or_create(
        connection=connection, defaults={**tested, "steps": [["GET /abilities", "200"]], "ended_at": timezone.now()}
    )
    mirrored(connection, history=True, days=DAYS_KNOWN)
    _gaps(connection, manager)
    _noticed(connection, manager)
    return connection


def _gaps(connection: Connection, manager: User) -> None:
    """A policy that reaches nobody on Sundays, one of which is meant to be so."""
    sunday = timezone.now().astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    sunday += dt.timedelta(days=6 - sunday.weekday() or 7)
    keep(
        connection,
        schedule("PSCHGAP", "Six days", users=["PUSRGAP"], days=6),
        policy(GAPPY, "Not on Sundays", "PSCHGAP", loops=1),
        service("PSVCGAP", GAPPY, "Books"),
    )
    # Nobody was, as far back as the other schedules are known: of load nothing is told but where all are.
    now = int(timezone.now().timestamp())
    PastKnown.objects.create(connection=connection, schedule_id="PSCHGAP", since=now - DAYS_KNOWN * 86_400, until=now)
    do_mark_intended(
        connection,
        policy_id=GAPPY,
        policy_name="Not on Sundays",
        starts_at=sunday,
        ends_at=sunday + dt.timedelta(hours=20),
        until=sunday + dt.timedelta(days=9),
        by=manager,
        reason="the books are closed",
    )
    account = mirror.kept(connection).account
    moment = timezone.now()
    found = reviewed(connection, swept(connection, account, moment), moment).of(GAPPY).findings
    do_mute_finding(
        connection,
        next(one for one in found if one.rule.name == "single_level"),
        policy_name="Not on Sundays",
        until=moment + dt.timedelta(days=60),
        by=manager,
        reason="nobody else knows the books",
    )


def _noticed(connection: Connection, manager: User) -> None:
    """What the team is told: of the gaps that there are, and of a check that fails; and where it is told."""
    team, now = connection.team, timezone.now()
    do_set_webhook(team, url="https://hooks.example.com/services/T0/B0/s3cr3tXYZ1", by=manager)
    do_renew_webhook_secret(team, by=manager)
    look(team, now)
    asked = Asked(connection, "service", "PSVCGAP", [6, 7], dt.time(3, 0), "Europe/Berlin", "people", ["PUSRGAP"], 15)
    run_check(do_make_check(team, asked, by=manager), now)
    do_send_test(team, by=manager)
    # None is to leave this process, nor to wait for a worker: each ended in one way or another.
    Delivery.objects.filter(team=team).update(due_at=None, state="sent", told="It answered 200.", status=200)
    Delivery.objects.filter(team=team, channel="email").update(told="Mailed to 1 manager.", status=None)
    last = Delivery.objects.filter(team=team).latest("created_at")
    Delivery.objects.filter(pk=last.pk).update(state="given_up", told="It answered 503.", status=503, attempts=6)


def _calls(number: int, team: Team, key: AgentKey) -> None:
    now = timezone.now()
    actor = f"key:{key.pk}"
    told: dict[str, Any] = {
        "actor": {"kind": "agent", "id": actor, "name": key.name},
        "method": "GET",
        "path": "/incidents",
    }
    for decision, verdict, outcome in (("let", "allow", Outcome.DONE), ("denied", "deny", Outcome.DENIED)):
        append_in_transaction(
            NewEntry(
                EntryKind.RESULT,
                now,
                f"{decision}-{number}",
                team.pk,
                actor,
                "list_incidents",
                verdict,
                outcome=outcome,
                details=told,
            )
        )
    begins = now.replace(hour=now.hour - now.hour % 6, minute=0, second=0, microsecond=0)
    counted = {"calls": 2, "denied": 1}
    ToolCalls.objects.get_or_create(team_id=team.pk, begins=begins, tool="list_incidents", defaults=counted)
    AgentCalls.objects.get_or_create(team_id=team.pk, begins=begins, actor=actor, defaults=counted)
    Attempt.objects.create(
        scope=f"{number:064}",
        request="r" * 64,
        is_keyed=True,
        actor=actor,
        operation="createIncident",
        decision_id=f"let-{number}",
        at=now,
        expires_at=now + dt.timedelta(days=1),
    )


HOSTILE = "\"'><b data-hostile onclick=alert(1)><script>alert(1)</script>\u202e\u200b\x1b[31m" + "W" * 10_000
"""Breaks out of an attribute and of an element, turns the direction of writing, hides, and is a word of ten thousand letters."""
ACTING = frozenset("\u202e\u200b\x1b")
CODES = frozenset(
    ["id", "kind", "what", "method", "action", "rule", "revealed", "door", "schema", "at", "seq", "expires_at"]
)
WORDS = frozenset(["", *State, *Risk, *Membership.Role, *User.Role])
"""Of an entry, what the portal itself writes in words of its own."""


def spoil() -> None:
    """All text that people, clients or PagerDuty may have written is hostile: an earlier release stored it, say, or somebody
    who reached the database."""
    for label in ("policies", "integrations"):
        for model in apps.get_app_config(label).get_models():
            texts = {
                field.name: HOSTILE[: field.max_length]
                for field in model._meta.concrete_fields
                if type(field) is models.CharField and _is_free(field)
            }
            alone = {name for one in model._meta.constraints for name in getattr(one, "fields", ())} & texts.keys()
            if texts:
                model._default_manager.update(**{name: text for name, text in texts.items() if name not in alone})
            for number, row in enumerate(model._default_manager.all() if alone else ()):
                differing = {name: f"{texts[name][:-4]}{number}" for name in alone}
                model._default_manager.filter(pk=row.pk).update(**differing)
    ConfigChange.objects.update(before=HOSTILE, after={HOSTILE: [HOSTILE]})
    check = {"ok": False, "message": HOSTILE, "derived": False}
    tool = {"serves": "no", "tool": "list_incidents", "message": HOSTILE, "derived": False}
    ConnectionTest.objects.update(findings={"remedy": HOSTILE, "checks": [check], "tools": [tool]})
    RunningTest.objects.update(steps=[[HOSTILE, HOSTILE]], ended_at=None)
    SocialAccount.objects.update(uid=HOSTILE[:191])
    Authenticator.objects.filter(type="webauthn").update(data={"name": HOSTILE, "credential": PASSKEY})
    Connection.objects.update(bound_team_ids=[HOSTILE], bound_service_ids=[HOSTILE])
    AgentKey.objects.update(tools=[HOSTILE])
    StandingCheck.objects.update(whom_names=[HOSTILE], whom_ids=[HOSTILE])
    CheckRun.objects.update(occurrences=[{"at": 1_800_000_000, "holds": False, "told": HOSTILE}])
    for row in MirroredDocument.objects.all():
        body = json.dumps(_hostile_document(mirror_tasks.unpacked(row.body))).encode()
        MirroredDocument.objects.filter(pk=row.pk).update(body=zlib.compress(body, 1), digest=str(row.pk))
    for row in Mirror.objects.select_related("connection"):
        # Within these bounds, or none of it would be shown.
        Mirror.objects.filter(pk=row.pk).update(version=row.version + 1, bounds=mirror._bounds(row.connection))
    for alarm in Alarm.objects.all():
        alarm.signs = [{**sign, "ip": HOSTILE, "network": HOSTILE, "tool": HOSTILE} for sign in alarm.signs]
        alarm.save()
    for entry in Entry.objects.all():
        record = json.loads(entry.record)
        record["details"] = _spoiled(record["details"])
        Entry.objects.filter(pk=entry.pk).update(
            record=json.dumps(record), tool=HOSTILE[:64], resource=HOSTILE[:64], actor=HOSTILE[:254]
        )


def _hostile_document(value: Any) -> Any:
    """With all that people of PagerDuty's type in it: names and what is shown in their place."""
    if isinstance(value, dict):
        typed = ("name", "summary", "description", "label", "email", "address")
        return {
            key: HOSTILE[:300] if key in typed and isinstance(inner, str) else _hostile_document(inner)
            for key, inner in value.items()
        }
    return [_hostile_document(inner) for inner in value] if isinstance(value, list) else value


def _is_free(field: models.CharField[Any, Any]) -> bool:
    """Whether it holds more than a word or a digest of the portal's own."""
    codes = {
        "password",
        "digest",
        "signature",
        "operation",
        "tool",
        "action",
        "request",
        "public_key",
        "hash",
        "network",
        "bounds",
        "remote_id",
        "schedule_id",
        "user_id",
    }
    return not (field.choices or field.unique or field.name in codes or (field.max_length or 0) < 49)


def _spoiled(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: inner if key in CODES else _spoiled(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_spoiled(inner) for inner in value]
    return HOSTILE if isinstance(value, str) and value not in WORDS else value
