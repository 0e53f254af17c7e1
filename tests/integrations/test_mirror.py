"""The mirror, read from the simulated PagerDuty through the one pipeline: what it costs, what it survives, what it may hold."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.db.models import F
from django.utils import timezone

from integrations import actions, mirror, mirror_history, mirror_tasks, tasks
from integrations.gateway import runtime
from integrations.models import Connection, Mirror, MirroredDocument, MirroredIncident, MirrorPart, PastKnown, PastShift
from integrations.pagerduty import resolve
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from policies.actions import do_set_tool_rule, do_stop
from policies.models import Entry
from tests.conftest import Cast
from tests.gateway.processes import Portal, free_port, running
from tests.mirrored import at, mirrored

pytestmark = pytest.mark.django_db(transaction=True)
TOKENS = demo_tokens(7)
Kind = MirrorPart.Kind


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def region(sandbox: str, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sandbox as it was at the start, and a runtime of this test alone. What happens all the time is read by
    ``test_history.py``."""
    minutes = {kind: each for kind, each in mirror.MINUTES.items() if kind not in mirror_history.KINDS}
    monkeypatch.setattr(mirror, "MINUTES", minutes)
    settings.PAGERDUTY_SANDBOX_URL = sandbox
    settings.CALL_TIME_LIMIT = 10.0
    switch(sandbox, "reset")
    mirror.forget_cached()
    yield
    runtime.current().stop_thread()


def switch(sandbox: str, what: str, **values: Any) -> None:
    request = urllib.request.Request(f"{sandbox}/_sandbox/{what}", json.dumps(values).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10).read()


def asked(sandbox: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{sandbox}/_sandbox/stats", timeout=10) as answer:
        calls: dict[str, int] = json.load(answer)["calls"]
    return calls


def to_pagerduty(sandbox: str, method: str, path: str, body: Any = None) -> Any:
    """As somebody at PagerDuty's own pages."""
    request = urllib.request.Request(
        f"{sandbox}{path}", None if body is None else json.dumps(body).encode(), method=method
    )
    request.add_header("Authorization", f"Token token={TOKENS['account_2'].value}")
    request.add_header("From", demo_from_email(7))
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=10) as answer:
        told = answer.read()
    return json.loads(told) if told else None


def register(cast: Cast, whose: str = "account", **changes: Any) -> Connection:
    values: dict[str, Any] = {
        "name": "Main",
        "token": TOKENS[whose].value,
        "kind": TOKENS[whose].kind,
        "region": "sandbox",
        "from_email": demo_from_email(7),
        "by": cast.ada,
        "whole_account": "team_ids" not in changes and "service_ids" not in changes,
        **changes,
    }
    return actions.do_register_token(cast.payments, **values)


def read(connection: Connection, **values: Any) -> mirror.Run:
    return mirror.sync(connection, by="a test", **{"seconds": 60.0, **values})


def digests(connection: Connection) -> set[tuple[str, str, str]]:
    rows = MirroredDocument.objects.filter(connection=connection, gone_at=None)
    return set(rows.values_list("kind", "remote_id", "digest"))


def part(connection: Connection, kind: str) -> MirrorPart:
    return MirrorPart.objects.get(connection=connection, kind=kind)


def long_ago(connection: Connection, *kinds: str) -> None:
    """Make parts due."""
    rows = MirrorPart.objects.filter(connection=connection, kind__in=kinds)
    rows.update(begun_at=timezone.now() - dt.timedelta(days=2))


def test_a_first_reading_keeps_all_of_an_account_and_each_call_is_on_record(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    assert mirror.kept(connection).is_empty
    run = read(connection)
    assert (run.done, run.told) == (True, "")
    kept = mirror.kept(connection)
    account = kept.account
    assert (len(account.schedules), len(account.policies), len(account.services), len(account.people)) == (
        32,
        37,
        40,
        45,
    )
    assert {schedule.kind for schedule in account.schedules.values()} == {"v2", "v3"}
    assert account.teams["PTEAM00"] == "Payments"
    assert kept.problems == []
    assert kept.as_of is not None
    assert timezone.now() - kept.as_of < dt.timedelta(minutes=2)
    entries = Entry.objects.filter(actor="job:mirror")
    assert entries.count() == run.calls == sum(asked(sandbox).values()) < 120
    assert set(entries.values_list("kind", "verdict", "outcome", "team_id", "resource")) == {
        ("result", "allow", "done", cast.payments.pk, str(connection.pk))
    }
    assert {json.loads(row.record)["details"]["on_behalf_of"] for row in entries} == {"a test"}
    # Each schedule of layers was asked for in its own zone.
    v2 = [schedule for schedule in account.schedules.values() if schedule.kind == "v2"]
    zones = [
        json.loads(row.record)["details"]["arguments"]["query"].get("time_zone")
        for row in entries
        if json.loads(row.record)["details"]["operation"] == "getSchedule"
    ]
    assert sorted(zones) == sorted(schedule.zone for schedule in v2)


def test_people_whom_a_policy_names_and_nobody_is_are_deleted_where_all_people_are_known(cast: Cast) -> None:
    connection = register(cast)
    read(connection)

    def gone() -> set[tuple[str, str]]:
        policies = mirror.kept(connection).account.policies.values()
        targets = [(row.name, one) for row in policies for level in row.levels for one in level.targets]
        return {(name, one.id) for name, one in targets if one.deleted}

    assert gone() == {("Left behind", "PUSRGONE")}
    people = MirrorPart.objects.filter(connection=connection, kind=Kind.USERS)
    # Somebody whom a policy names that was read after the people may be new.
    as_of = people.get().as_of
    people.update(as_of=timezone.now() - dt.timedelta(hours=3))
    assert gone() == set()
    people.update(as_of=as_of)
    assert gone() == {("Left behind", "PUSRGONE")}
    people.update(problem="Some people could not be read.")
    assert gone() == set()


def test_somebody_new_whom_a_changed_policy_names_is_read_at_once(cast: Cast) -> None:
    connection = register(cast)
    read(connection)
    policies = mirror.kept(connection).account.policies.values()
    policy, user = next(
        (policy.id, target.id)
        for policy in policies
        for level in policy.levels
        for target in level.targets
        if target.kind == "user" and not target.deleted
    )
    rows = MirroredDocument.objects.filter(connection=connection)
    rows.filter(kind=Kind.USERS, remote_id=user).delete()  # as before there was such a person
    rows.filter(kind=Kind.POLICIES, remote_id=policy).update(digest="")
    long_ago(connection, Kind.POLICIES)
    assert read(connection).done
    assert rows.filter(kind=Kind.USERS, remote_id=user).exists()
    # What did not change asks for nobody.
    long_ago(connection, Kind.POLICIES)
    before = part(connection, Kind.USERS).begun_at
    read(connection)
    assert part(connection, Kind.USERS).begun_at == before


def test_contact_methods_come_with_the_people_and_masked(cast: Cast) -> None:
    connection = register(cast)
    read(connection)
    person = mirror.kept(connection).account.people["PUSR000"]
    assert person.contacts is not None
    assert {contact.kind for contact in person.contacts} >= {"email", "phone"}
    assert all(contact.address.startswith("•••") for contact in person.contacts)
    assert person.ladder
    bodies = [mirror_tasks.unpacked(body) for body in MirroredDocument.objects.values_list("body", flat=True)]
    text = json.dumps(bodies, ensure_ascii=False)
    assert re.search(r'"address": "(?!•••)', text) is None
    assert text.count('"address": "•••') > 100
    assert "/private/" not in text  # addresses of calendar feeds
    row = next(row for row in Entry.objects.filter(tool="list_users") if row.actor == "job:mirror")
    assert json.loads(row.record)["details"]["tools"] == [
        "list_users",
        "list_user_contact_methods",
        "list_user_notification_rules",
    ]


def test_nothing_is_asked_for_that_is_fresh_and_nothing_written_that_did_not_change(cast: Cast) -> None:
    connection = register(cast)
    first = read(connection)
    before, version = digests(connection), mirror.kept(connection).version
    written = set(MirroredDocument.objects.values_list("pk", "read_at"))
    assert read(connection).calls == 0
    again = read(connection, again=True)
    assert (again.done, again.written) == (True, 0)
    assert again.calls < first.calls
    assert (digests(connection), mirror.kept(connection).version) == (before, version)
    assert set(MirroredDocument.objects.values_list("pk", "read_at")) == written


def test_what_changed_is_found_by_a_quick_look_and_read_alone(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    read(connection)
    soon = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(hours=1)
    override = {
        "start": soon.isoformat(),
        "end": (soon + dt.timedelta(hours=5)).isoformat(),
        "user": {"id": "PUSR003", "type": "user_reference"},
    }
    to_pagerduty(sandbox, "POST", "/schedules/PSCH000/overrides", {"overrides": [override]})
    schedule = to_pagerduty(sandbox, "GET", "/schedules/PSCH001")["schedule"]
    layers = [{**layer, "rotation_turn_length_seconds": 86_400} for layer in reversed(schedule["schedule_layers"])]
    changed = {name: schedule[name] for name in ("type", "name", "time_zone")} | {"schedule_layers": layers}
    to_pagerduty(sandbox, "PUT", "/schedules/PSCH001", {"schedule": changed})
    long_ago(connection, Kind.CHANGES)
    before = len(asked(sandbox))
    run = read(connection)
    assert run.written == 2
    assert run.calls <= 6
    assert len(asked(sandbox)) - before <= 3
    account = mirror.kept(connection).account
    assert any(
        each.user == "PUSR003" and each.end - each.start == 18_000 for each in account.schedules["PSCH000"].overrides
    )
    assert {layer.turn for layer in account.schedules["PSCH001"].layers} == {86_400}
    # The quick look vouches for all of them.
    assert part(connection, Kind.SCHEDULES).as_of == part(connection, Kind.CHANGES).begun_at


def test_what_vanished_is_gone_only_after_all_was_looked_through(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    read(connection)
    MirroredDocument.objects.create(
        connection=connection, kind=Kind.POLICIES, remote_id="PESCOLD", body=b"x", digest="d", read_at=timezone.now()
    )
    long_ago(connection, Kind.POLICIES)
    switch(sandbox, "fault", fault="403", count=2)
    read(connection)
    standing = MirroredDocument.objects.get(remote_id="PESCOLD")
    assert standing.gone_at is None
    assert "PagerDuty answered 403" in part(connection, Kind.POLICIES).problem
    long_ago(connection, Kind.POLICIES)
    read(connection)
    standing.refresh_from_db()
    assert standing.gone_at is not None
    assert part(connection, Kind.POLICIES).problem == ""
    assert "PESCOLD" not in mirror.kept(connection).account.policies


def test_a_part_that_is_refused_is_told_with_its_words_and_keeps_no_other_back(cast: Cast) -> None:
    do_set_tool_rule("list_services", tools=TOOLS, by=cast.ada, locked=True, reason="too much")
    connection = register(cast)
    run = read(connection)
    assert run.done
    kept = mirror.kept(connection)
    [problem] = kept.problems
    assert (problem.kind, problem.as_of) == (Kind.SERVICES, None)
    assert "switched list_services off for all teams: too much" in problem.problem
    assert len(kept.account.policies) == 37
    assert kept.as_of is not None
    # It is not tried again every few minutes.
    assert read(connection).calls == 0


def test_without_the_leave_to_see_numbers_people_are_read_all_the_same(cast: Cast) -> None:
    do_set_tool_rule("list_user_notification_rules", tools=TOOLS, by=cast.ada, locked=True, reason="private")
    connection = register(cast)
    read(connection)
    kept = mirror.kept(connection)
    assert len(kept.account.people) == 45
    assert kept.account.people["PUSR000"].ladder is None
    assert "Contact methods and notification rules could not be read" in kept.parts[Kind.USERS].problem


def test_a_list_that_goes_on_beyond_what_pagerduty_lists_is_told(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_tasks, "PAGE", 10)
    monkeypatch.setattr(mirror_tasks, "FARTHEST", 20)
    connection = register(cast)
    read(connection)
    for kind in ("users", "schedules", "oncalls"):
        assert "lists no more than 20" in part(connection, kind).problem
    # Who is beyond it is not known: nobody is taken for deleted.
    policies = mirror.kept(connection).account.policies.values()
    assert not any(target.deleted for one in policies for level in one.levels for target in level.targets)


def test_calls_are_bounded_and_the_next_run_goes_on_where_this_one_stood(cast: Cast) -> None:
    connection = register(cast)
    calls, runs = 0, 0
    while not (run := read(connection, calls=10)).done:
        assert run.calls <= 10 + mirror_tasks.AT_ONCE * mirror.MOST_CALLS
        assert run.told == ""
        calls, runs = calls + run.calls, runs + 1
    assert runs >= 4
    assert calls + run.calls < 130
    whole = register(cast, "account_3", name="Whole")
    read(whole)
    assert {each for each in digests(connection) if each[0] != Kind.ONCALLS} == {
        each for each in digests(whole) if each[0] != Kind.ONCALLS
    }


def test_a_rate_limit_is_obeyed(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    switch(sandbox, "rate_limit", enforce=True, limit=960)
    read(connection, calls=5)
    # Of the limit, others have used all: nothing more is asked for before it is over.
    switch(sandbox, "rate_limit", enforce=True, limit=1)
    first, second = read(connection, seconds=0.2), read(connection, seconds=0.2)
    assert "rate limit" in first.told
    assert second.calls == 0
    row = Mirror.objects.get()
    assert row.wait_until is not None
    assert row.wait_until > timezone.now()
    assert mirror.due(timezone.now()) == []
    assert not mirror.ask_for(connection, by=cast.mina.email)
    switch(sandbox, "rate_limit", enforce=False, limit=960)
    Mirror.objects.update(wait_until=timezone.now())
    assert read(connection).done


def test_a_quarter_of_the_limit_is_all_that_is_used_in_a_minute_and_a_low_rest_is_left_to_others(
    cast: Cast, sandbox: str
) -> None:
    connection = register(cast)
    switch(sandbox, "rate_limit", enforce=False, limit=120)
    run = read(connection, seconds=1.0)
    assert not run.done
    assert run.calls <= 120 * mirror.SHARE + mirror_tasks.AT_ONCE * mirror.MOST_CALLS
    used = read(connection, seconds=0.1).calls
    assert used <= mirror_tasks.AT_ONCE * mirror.MOST_CALLS
    # People and agents have used two thirds of theirs: the mirror makes one step, sees it, and waits.
    switch(sandbox, "rate_limit", enforce=False, limit=960)
    for _ in range(600):
        to_pagerduty(sandbox, "GET", "/abilities")
    other = register(cast, "account_2", name="Other")
    assert read(other, seconds=0.1).calls <= mirror.MOST_CALLS


def test_pagerduty_in_trouble_is_left_alone_and_nothing_is_lost(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    read(connection, calls=12)
    before = digests(connection)
    switch(sandbox, "fault", fault="500", count=1_000)
    run = read(connection)
    assert "PagerDuty answered 500" in run.told
    assert run.calls < 30
    assert digests(connection) >= before
    switch(sandbox, "reset")
    Mirror.objects.update(wait_until=None)
    assert read(connection, again=True).done
    assert len(mirror.kept(connection).account.schedules) == 32


def test_what_the_portal_itself_fails_on_is_not_tried_again_at_once(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = register(cast)

    def fails(call: Any) -> Any:
        raise RuntimeError("a fault of the portal's")

    monkeypatch.setattr(resolve, "resolve", fails)
    assert read(connection).calls
    now = timezone.now()
    assert mirror.due(now) == []
    assert mirror.due(now + dt.timedelta(minutes=2)) == [connection]


def test_two_at_once_are_one(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    runs: list[mirror.Run] = []

    def go() -> None:
        runs.append(read(connection))
        connections.close_all()

    threads = [threading.Thread(target=go) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(run.told for run in runs) == ["", mirror.BUSY, mirror.BUSY]
    assert sum(run.calls for run in runs) == sum(asked(sandbox).values())
    rows = MirroredDocument.objects.values_list("kind", "remote_id")
    assert len(rows) == len(set(rows))


def test_who_has_lost_the_lease_writes_nothing_more(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = register(cast)
    ask = mirror._Sync._ask_for

    def taken_meanwhile(self: Any, kind: str, state: Any, todo: Any) -> Any:
        found = ask(self, kind, state, todo)
        Mirror.objects.update(holder="somebody else")
        return found

    monkeypatch.setattr(mirror._Sync, "_ask_for", taken_meanwhile)
    assert read(connection).told == mirror.BUSY
    assert not MirroredDocument.objects.exists()
    assert Mirror.objects.get().holder == "somebody else"


BOUNDED = pytest.mark.parametrize(
    "bounds",
    [{"team_ids": ["PTEAM00"]}, {"team_ids": ["PTEAM01"], "service_ids": ["PSVC00E"]}, {"service_ids": ["PSVC00E"]}],
)


@BOUNDED
def test_nothing_outside_a_connections_bounds_is_in_its_mirror(cast: Cast, bounds: dict[str, Any]) -> None:
    connection = register(cast, **bounds)
    assert read(connection).done
    teams, services = set(bounds.get("team_ids", ())), set(bounds.get("service_ids", ()))
    account = mirror.kept(connection).account
    assert account.services
    for service in account.services.values():
        assert set(service.team_ids) & teams or service.id in services
    for policy in account.policies.values():
        assert set(policy.team_ids) & teams or (set(policy.service_ids) and set(policy.service_ids) <= services)
    assert services <= set(account.services)
    for person in MirroredDocument.objects.filter(kind=Kind.USERS):
        assert {team["id"] for team in mirror_tasks.unpacked(person.body)["teams"]} & teams
    for schedule in account.schedules.values():
        assert set(schedule.team_ids) & teams
    # Who is on call for a service inside is told, also where its policy serves others as well.
    theirs = {service.policy_id for service in account.services.values()}
    assert {each.policy_id for each in mirror.on_call(connection)} <= set(account.policies) | theirs
    if teams:
        assert account.schedules
        assert account.people
        # What reading costs is bounded too: nothing is tried again and again only to be denied.
        denied = Entry.objects.filter(actor="job:mirror", verdict="deny").count()
        read(connection, again=True)
        assert Entry.objects.filter(actor="job:mirror", verdict="deny").count() == denied


def test_narrower_bounds_take_away_what_was_read_at_once(cast: Cast) -> None:
    connection = register(cast)
    read(connection)
    assert PastShift.objects.exists()
    actions.do_set_bounds(connection, whole_account=False, team_ids=["PTEAM00"], service_ids=[], by=cast.ada)
    connection.refresh_from_db()
    kept = mirror.kept(connection)
    assert (kept.account.schedules, kept.account.services, kept.as_of) == ({}, {}, None)
    assert mirror.past(connection, "PSCH001", Span(0, 2**40)) == ()
    assert mirror.rates(connection) == {}
    assert read(connection).done
    schedules = set(mirror.kept(connection).account.schedules)
    assert schedules
    assert set(PastShift.objects.values_list("schedule_id", flat=True)) <= schedules
    assert set(PastKnown.objects.values_list("schedule_id", flat=True)) <= schedules


def test_the_past_stays_as_it_was_when_the_definition_changes_and_when_the_schedule_goes(
    cast: Cast, sandbox: str
) -> None:
    connection = register(cast)
    read(connection)
    today = int(time.time()) // 86_400 * 86_400
    window = Span(today - 10 * 86_400, today)
    before = mirror.past(connection, "PSCH000", window)
    assert before
    assert sum(each.end - each.start for each in before) > 5 * 86_400
    everybody(sandbox, "PSCH000", "PUSR003")
    assert read(connection, again=True).written >= 1
    assert {
        slice.user
        for slice in mirror.kept(connection).account.schedules["PSCH000"].rendered
        if slice.start > today + 86_400
    }
    assert mirror.past(connection, "PSCH000", window) == before
    MirroredDocument.objects.filter(remote_id="PSCH000").update(gone_at=timezone.now())
    Mirror.objects.update(version=F("version") + 1)
    assert "PSCH000" not in mirror.kept(connection).account.schedules
    assert mirror.past(connection, "PSCH000", window) == before


def everybody(sandbox: str, schedule_id: str, user: str) -> None:
    """Have one person on call by all of a schedule's layers."""
    schedule = to_pagerduty(sandbox, "GET", f"/schedules/{schedule_id}")["schedule"]
    users = [{"user": {"id": user, "type": "user_reference"}}]
    layers = [{**layer, "users": users} for layer in reversed(schedule["schedule_layers"])]
    changed = {name: schedule[name] for name in ("type", "name", "time_zone")} | {"schedule_layers": layers}
    to_pagerduty(sandbox, "PUT", f"/schedules/{schedule_id}", {"schedule": changed})


def test_each_day_is_added_to_the_past_as_pagerduty_had_it_then(cast: Cast) -> None:
    """The simulated PagerDuty renders its past anew from a changed definition: what was kept shows that nobody else did."""
    connection = register(cast)
    first = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
    with at(first):
        account = Sandbox(7, first)
    mirrored(connection, sandbox=account, now=first)
    schedule = next(row for row in account.world.schedules if row["id"] == "PSCH000")
    midnight = int(first.timestamp()) // 86_400 * 86_400
    with at(first):
        before = mirror.past(connection, "PSCH000", Span(midnight - 5 * 86_400, midnight))
    assert len({slice.user for slice in before}) >= 1
    for layer in schedule["schedule_layers"]:
        layer["users"] = [{"user": {"id": "PUSR003", "type": "user_reference"}}]
    account.world.kept = None
    later = first + dt.timedelta(days=3)
    mirrored(connection, sandbox=account, now=later)
    with at(later):
        assert mirror.past(connection, "PSCH000", Span(midnight - 5 * 86_400, midnight)) == before
        after = mirror.past(connection, "PSCH000", Span(midnight + 86_400, midnight + 3 * 86_400 + 3_600))
    assert {slice.user for slice in after} == {"PUSR003"}
    # One shift, though half of it is of yesterday's record and half of today's rendering.
    assert len(after) == 1
    assert mirror.past_known(connection, "PSCH000") == Span(midnight - 14 * 86_400, midnight + 3 * 86_400)


def test_incidents_are_counted_by_service_and_hour_of_the_week_and_not_kept(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    read(connection)
    rates = mirror.rates(connection)
    assert set(rates) >= set(mirror.kept(connection).account.services)
    assert all(len(week) == 168 for week in rates.values())
    today = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    since, until = (today - dt.timedelta(days=84)).isoformat(), today.isoformat()
    total, offset = 0, 0
    while True:
        query = f"since={since}&until={until}&limit=100&offset={offset}".replace("+", "%2B")
        page = to_pagerduty(sandbox, "GET", f"/incidents?{query}")
        total, offset = total + len(page["incidents"]), offset + 100
        if not page["more"]:
            break
    assert round(sum(map(sum, rates.values())) * 12) == total > 100
    stored = [
        mirror_tasks.unpacked(body)
        for body in MirroredDocument.objects.filter(kind=Kind.INCIDENTS).values_list("body", flat=True)
    ]
    assert len(stored) == 84
    assert all(isinstance(count, int) for day in stored for hours in day.values() for count in hours)
    # A day that is over is counted once.
    long_ago(connection, Kind.INCIDENTS)
    before = sum(count for path, count in asked(sandbox).items() if path == "GET /incidents")
    read(connection)
    assert sum(count for path, count in asked(sandbox).items() if path == "GET /incidents") == before


def test_what_is_stopped_or_switched_off_is_not_asked_for_every_minute(cast: Cast, sandbox: str) -> None:
    connection = register(cast)
    stop = do_stop(by=cast.mina, reason="quiet please", team=cast.payments)
    assert mirror.due(timezone.now()) == []
    run = read(connection)
    assert (run.calls, run.done) == (0, False)
    assert "quiet please" in run.told
    assert "quiet please" in mirror.kept(connection).told
    stop.delete()
    assert mirror.due(timezone.now()) == [connection]
    actions.do_set_enabled(connection, False, by=cast.mina)
    tasks.sync_connection(str(connection.pk))
    assert mirror.due(timezone.now()) == []
    assert asked(sandbox) == {}


def test_the_worker_reads_what_is_due_and_goes_on_until_all_is_read(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = register(cast)
    left: list[str] = []
    monkeypatch.setattr(tasks.sync_connection, "enqueue", left.append)
    monkeypatch.setattr(mirror, "CALLS_A_RUN", 20)
    tasks.sync_mirrors()
    assert left == [str(connection.pk)]
    while left:
        tasks.sync_connection(left.pop())
    assert mirror.kept(connection).as_of is not None


def test_a_connection_that_is_deleted_takes_its_mirror_along(cast: Cast) -> None:
    from integrations.leaving import ending_of

    connection = register(cast)
    read(connection)
    MirroredIncident.objects.create(
        connection=connection, remote_id="PI1", created=1_790_000_000, change=1, body=b"", entries=b""
    )
    told = " ".join(ending_of(connection, timezone.now()).under_way)
    assert "What was read of the account" in told
    assert ", 1 incident, with who" in told
    assert "with who was on call since" in told
    actions.do_delete_connection(connection, by=cast.mina)
    for model in (Mirror, MirrorPart, MirroredDocument, MirroredIncident, PastShift, PastKnown):
        assert not model._default_manager.exists()


def test_an_auditor_and_an_outsider_see_no_mirror(cast: Cast) -> None:
    connection = register(cast)
    see = {
        who.email for who in (cast.ada, cast.mina, cast.vic, cast.omar, cast.rhea, cast.zed) if mirror.visible_to(who)
    }
    assert see == {"ada@example.com", "mina@example.com", "vic@example.com"}
    assert mirror.visible_to(cast.vic) == [connection]


def test_what_is_kept_costs_two_look_ups_once_it_is_parsed(cast: Cast, django_assert_num_queries: Any) -> None:
    row, other = register(cast), register(cast, "account_2", name="Other", team_ids=["PTEAM00"], whole_account=False)
    read(row)
    read(other)
    mirror.kept_of([row, other])
    with django_assert_num_queries(2):
        found = mirror.kept_of([row, other])
    assert found[row.pk].account is mirror.kept(row).account
    assert len(found[other.pk].account.schedules) < len(found[row.pk].account.schedules)


PROGRAM = """
import django; django.setup()
from integrations import mirror
from integrations.models import Connection
run = mirror.sync(Connection.objects.get(), by="a process", seconds=60, earlier=False)
print(run.done)
"""


def test_killed_in_the_middle_it_goes_on_without_loss_or_double(tmp_path: Path, sandbox: str) -> None:
    """Of real processes, on a database of their own. The lease of who was killed runs out; here it is let run out."""
    portal = Portal(tmp_path, sandbox)
    try:
        portal.seed(token=TOKENS["account"].value, from_email=demo_from_email(7))
        kills = 0
        for wait in (1.6, 1.9, 2.2, 2.5, 2.8, 3.1):
            process = subprocess.Popen(
                [sys.executable, "-c", PROGRAM], env=portal.env, cwd=Path.cwd(), start_new_session=True
            )
            time.sleep(wait)
            kills += process.poll() is None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            portal.sql("UPDATE integrations_mirror SET held_until = begun_at")
        assert kills
        assert portal.shell(PROGRAM).strip() == "True"
        told = portal.shell(
            "import json\n"
            "from integrations import mirror\n"
            "from integrations.models import *\n"
            "rows = MirroredDocument.objects.exclude(kind='incidents')\n"
            "account = mirror.kept(Connection.objects.get()).account\n"
            "print(json.dumps([rows.count(), rows.exclude(gone_at=None).count(), len(account.schedules), len(account.policies),"
            " len(account.services), len(account.people), MirrorPart.objects.filter(as_of=None).count(),"
            " sum(map(sum, mirror.rates(Connection.objects.get()).values()))]))"
        )
        counts = json.loads(told)
        assert counts[:7] == [32 + 37 + 40 + 44 + 6 + 37, 0, 32, 37, 40, 45, 0]
        assert counts[7] > 50
        assert portal.manage("verify_audit", check=False).returncode == 0
    finally:
        portal.close()
