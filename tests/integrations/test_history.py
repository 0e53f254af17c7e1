"""The history of a connection's incidents: what is mirrored of it is what the account itself tells, however it is read."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from integrations import actions, history, mirror, mirror_history, mirror_tasks
from integrations.mirror_tasks import Got, Kind
from integrations.models import Connection, Mirror, MirroredIncident, MirrorPart, PastKnown, PastShift
from integrations.pagerduty.analysis.incidents import STATUSES, Log, log_of
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.sandbox import ask, documents
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.world import Happening, demo_from_email, demo_tokens
from tests.conftest import Cast
from tests.gateway.processes import Portal, free_port, running
from tests.mirrored import InProcess, at, mirrored

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY = 86_400
TOKENS = demo_tokens(7)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def fresh() -> None:
    history.forget_cached()


def register(cast: Cast, whose: str = "account", **changes: Any) -> Connection:
    values: dict[str, Any] = {
        "name": "Main",
        "token": TOKENS[whose].value,
        "kind": TOKENS[whose].kind,
        "region": "us",
        "by": cast.ada,
        "whole_account": "team_ids" not in changes and "service_ids" not in changes,
        **changes,
    }
    return actions.do_register_token(cast.payments, **values)


def told(sandbox: Sandbox, since: float, until: float) -> dict[str, tuple[int, list[tuple[int, str]]]]:
    """What the account itself knows: of each incident that began in a time, when, and its log's times and types."""
    return {
        one.id: (int(one.created), sorted((int(each.at), each.type) for each in one.happenings() if each.at <= until))
        for one in sandbox.world.incidents
        if since <= int(one.created) and one.created <= until
    }


NAMES = {"annotate": "other", "custom_field_value_change": "other"}


def test_each_incident_and_each_entry_is_there_once(cast: Cast) -> None:
    connection = register(cast)
    sandbox = Sandbox(7, NOW)
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=20)
        found = history.history(connection)
        assert found.known == Span(int(NOW.timestamp()) - 20 * DAY, int(NOW.timestamp()))
        expected = told(sandbox, *found.known)
        kept = history.incidents(connection, expected)
    assert set(found.log.ids) == set(expected) == set(kept)
    for id, (created, entries) in expected.items():
        assert kept[id].created == created
        assert sorted((step.at, step.kind) for step in kept[id].steps) == sorted(
            (at, NAMES.get(kind, kind)) for at, kind in entries
        )


def test_a_window_that_holds_more_than_pagerduty_lists_is_cut(cast: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated PagerDuty lists 300 rows here: two busy weeks hold many times as many."""
    monkeypatch.setattr(ask, "ROW_LIMIT", 300)
    monkeypatch.setattr(mirror_history, "FARTHEST", 300)
    monkeypatch.setattr(mirror_tasks, "FARTHEST", 300)
    connection, sandbox = register(cast), Sandbox(7, NOW)
    kinds = [Kind.HISTORY, Kind.EARLIER]
    with at(NOW), mock.patch.object(mirror_history, "KEPT_DAYS", 14):
        mirrored(connection, now=NOW, sandbox=sandbox)
        run = InProcess(connection, sandbox, 7, kinds).run(again=True)
        found = history.history(connection)
        assert found.known is not None
        expected = told(sandbox, *found.known)
        assert set(found.log.ids) == set(expected)
        entries = sum(len(each) for _, each in expected.values())
        assert len(found.log.at) == entries > 1_500
    assert found.problem == ""
    # Cut by what the first page tells there is: few calls are lost by it.
    assert run.calls < 2 * (entries + len(expected)) / 100


def test_where_the_number_of_rows_is_not_told_reaching_the_limit_tells(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "ROW_LIMIT", 300)
    monkeypatch.setattr(mirror_history, "FARTHEST", 300)
    monkeypatch.setattr(ask.Ask, "flag", lambda self, name: False if name == "total" else self.one(name) == "true")
    connection, sandbox = register(cast), Sandbox(7, NOW)
    with at(NOW), mock.patch.object(mirror_history, "KEPT_DAYS", 6):
        Mirror.objects.create(connection=connection, bounds=mirror._bounds(connection))
        InProcess(connection, sandbox, 7, [Kind.HISTORY, Kind.EARLIER]).run(again=True)
        found = history.history(connection)
        assert found.known is not None
        expected = told(sandbox, *found.known)
    assert set(found.log.ids) == set(expected)
    assert len(found.log.at) == sum(len(each) for _, each in expected.values()) > 300


def test_one_second_with_more_than_is_listed_is_told_and_not_read_for_ever(
    cast: Cast, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ask, "ROW_LIMIT", 100)
    monkeypatch.setattr(mirror_history, "FARTHEST", 100)
    connection, sandbox = register(cast), Sandbox(7, NOW)
    storm = int(NOW.timestamp()) - 3_600
    for one in sandbox.world.incidents[-3:]:
        one.log = [Happening(f"R{one.id[1:]}X{n}", "annotate", storm, 0, {"type": "api"}) for n in range(90)]
    with at(NOW), mock.patch.object(mirror_history, "KEPT_DAYS", 1):
        Mirror.objects.create(connection=connection, bounds=mirror._bounds(connection))
        run = InProcess(connection, sandbox, 7, [Kind.HISTORY, Kind.EARLIER]).run(again=True)
        found = history.history(connection)
    assert run.done
    assert run.calls < 100
    assert f"Of {dt.datetime.fromtimestamp(storm, dt.UTC):%Y-%m-%dT%H:%M}" in found.problem
    assert "PagerDuty lists no more than 100 log entries: the others are not known." in found.problem


def test_what_happens_later_shows_and_is_read_by_few_calls(cast: Cast) -> None:
    connection, sandbox = register(cast), Sandbox(7, NOW)
    kinds = [Kind.HISTORY, Kind.EARLIER]
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=3)
        before = history.history(connection)
    triggered = next(one for one in sandbox.world.incidents if one.status == "triggered")
    others = [one for one in sandbox.world.incidents if one.status == "acknowledged"][:5]
    later = NOW + dt.timedelta(minutes=30)
    moment = NOW.timestamp() + 600
    triggered.happens("acknowledge", moment, 3)
    triggered.status, triggered.acknowledged = "acknowledged", (moment, 3)
    for one in others:
        one.happens("resolve", moment, 4)
        one.status, one.resolved = "resolved", (moment, 4)
    sandbox.world.kept = None
    with at(later):
        run = InProcess(connection, sandbox, 7, kinds).run(again=True)
        after = history.history(connection)
        rows = history.incidents(connection, [triggered.id, *(one.id for one in others)])
    with at(later + dt.timedelta(minutes=10)):
        # Nothing new: a window, what is new, and what is open.
        assert InProcess(connection, sandbox, 7, [Kind.HISTORY]).run(again=True).calls == 3
        assert history.history(connection).log is after.log
    # And five are more than are asked for one by one: one list of those resolved lately tells of all of them.
    assert run.calls == 4
    assert (rows[triggered.id].status, rows[triggered.id].steps[-1].kind) == ("acknowledged", "acknowledge")
    assert {(rows[one.id].status, rows[one.id].resolved) for one in others} == {("resolved", int(moment))}
    assert after.known is not None
    assert before.known is not None
    assert after.known.end == before.known.end + 1_800
    assert after.log is not before.log
    # The log that somebody holds is not written to.
    assert STATUSES[before.log.status[before.log.place[triggered.id]]] == "triggered"
    assert STATUSES[after.log.status[after.log.place[triggered.id]]] == "acknowledged"


def test_the_columns_carried_on_are_those_that_a_fresh_process_makes(cast: Cast) -> None:
    connection, sandbox = register(cast), Sandbox(7, NOW)
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=6)
        MirrorPart.objects.filter(kind=Kind.EARLIER).update(since=int(NOW.timestamp()) - 2 * DAY)
        history.history(connection)
        MirrorPart.objects.filter(kind=Kind.EARLIER).update(since=int(NOW.timestamp()) - 6 * DAY)
        ids = list(MirroredIncident.objects.order_by("created").values_list("remote_id", flat=True)[5:20])
        gone, changed = ids[:3], ids[3:]
        number = Mirror.objects.get().history + 1
        MirroredIncident.objects.filter(remote_id__in=gone).update(body=b"", read_at=0, change=number)
        MirroredIncident.objects.filter(remote_id__in=changed).update(change=number)
        Mirror.objects.update(history=number)
        carried = history.history(connection).log
        history.forget_cached()
        fresh = history.history(connection).log
        rows = history.incidents(connection, fresh.ids)
    assert not set(gone) & set(fresh.ids)
    assert as_rows(carried) == as_rows(fresh) == as_rows(log_of(rows.values()))


def as_rows(log: Log) -> list[Any]:
    """Without the order in which names were met."""

    def named(table: tuple[str, ...], codes: Any) -> list[str]:
        return ["" if code < 0 else table[code] for code in codes]

    starts, teams = log.step_starts, log.team_starts
    columns = [
        log.ids,
        log.created.tolist(),
        log.resolved.tolist(),
        named(log.services, log.service),
        named(log.policies, log.policy),
        named(log.priorities, log.priority),
        log.urgency.tolist(),
        log.status.tolist(),
        [named(log.teams, log.team[teams[i] : teams[i + 1]]) for i in range(len(log))],
        [log.at[starts[i] : starts[i + 1]].tolist() for i in range(len(log))],
        [log.kind[starts[i] : starts[i + 1]].tolist() for i in range(len(log))],
        [log.way[starts[i] : starts[i + 1]].tolist() for i in range(len(log))],
        [named(log.users, log.user[starts[i] : starts[i + 1]]) for i in range(len(log))],
        [named(log.users, log.by[starts[i] : starts[i + 1]]) for i in range(len(log))],
    ]
    return list(zip(*columns, strict=True))


@pytest.mark.parametrize(
    "bounds",
    [{"team_ids": ["PTEAM00"]}, {"service_ids": ["PSVC00E"]}, {"team_ids": ["PTEAM01"], "service_ids": ["PSVC00E"]}],
)
def test_what_is_asked_for_is_what_the_bounds_can_list(cast: Cast, bounds: dict[str, Any]) -> None:
    """Lists of log entries can be held by teams alone: of services of its own, those of each incident are asked for."""
    connection = register(cast, **bounds)
    Mirror.objects.create(connection=connection, bounds=mirror._bounds(connection))
    part = MirrorPart(connection=connection, kind=Kind.HISTORY)
    told = {(task[0], task[1]) for task in mirror_history.begin(connection, part, NOW)}
    assert (("span", "entries") in told) == ("team_ids" in bounds)
    assert (("changed logs", 0) in told) == ("service_ids" in bounds)
    row = MirroredIncident(
        connection=connection,
        remote_id="PI000001",
        created=int(NOW.timestamp()) - 60,
        change=1,
        is_open=True,
        body=mirror_history.pack(mirror_history.Body(service="PSVC00E")),
        entries=b"",
    )
    row.save()
    MirroredIncident.objects.create(
        connection=connection, remote_id="PI000002", created=row.created, change=1, body=b"", entries=b""
    )
    part.state = {"queue": [["changed logs", 0]]}
    mirror_history.unfold(connection, part)
    assert part.state["queue"] == ([["log", "PI000001", 0]] if "service_ids" in bounds else [])


def test_other_bounds_take_all_of_it_away(cast: Cast) -> None:
    connection, sandbox = register(cast), Sandbox(7, NOW)
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=3)
        assert len(history.history(connection).log)
        actions.do_set_bounds(connection, whole_account=False, team_ids=["PTEAM00"], service_ids=[], by=cast.ada)
        connection.refresh_from_db()
        found = history.history(connection)
        assert (len(found.log), found.known) == (0, None)
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=3)
        found = history.history(connection)
        services = {row["id"] for row in sandbox.world.services if any(t["id"] == "PTEAM00" for t in row["teams"])}
        assert found.known is not None
        expected = told(sandbox, *found.known)
        mine = {one.id for one in sandbox.world.incidents if sandbox.world.services[one.service]["id"] in services}
    assert set(found.log.ids) == set(expected) & mine != set()
    assert set(MirroredIncident.objects.values_list("remote_id", flat=True)) <= mine


def test_who_was_on_call_is_as_pagerduty_renders_it(cast: Cast) -> None:
    connection, sandbox = register(cast), Sandbox(7, NOW)
    end = int(NOW.timestamp())
    window = Span(end - 60 * DAY, end + 7 * DAY)
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox, history=True, days=70)
        found, known = history.duties(connection, window)
        account = mirror.kept(connection).account
    assert known == window
    for schedule in sandbox.world.schedules[:8]:
        expected = [
            (int(start), int(end), user)
            for start, end, user in final_shifts(schedule, window.start, window.end)
            if user
        ]
        mine = {(each.start, each.end, each.user) for each in found if each.schedule_id == schedule["id"]}
        assert sum(end - start for start, end, _ in mine) == sum(end - start for start, end, _ in expected)
        assert {user for _, _, user in mine} == {user for _, _, user in expected}
        levels = {(each.policy_id, each.level) for each in found if each.schedule_id == schedule["id"]}
        assert levels == {
            (policy.id, number)
            for policy in account.policies.values()
            for number, level in enumerate(policy.levels, 1)
            for target in level.targets
            if target.id == schedule["id"]
        } or levels == {("", 0)}


def test_what_was_kept_of_a_schedules_past_stays_when_what_is_before_it_comes(cast: Cast) -> None:
    connection, sandbox = register(cast), Sandbox(7, NOW)
    with at(NOW):
        mirrored(connection, now=NOW, sandbox=sandbox)
        kept = set(PastShift.objects.values_list("schedule_id", "start", "end", "user_id"))
        # Somebody changes them all: PagerDuty renders their past anew.
        for schedule in sandbox.world.schedules:
            for layer in schedule["schedule_layers"]:
                layer["users"] = [{"user": {"id": "PUSR003", "type": "user_reference"}}]
        sandbox.world.kept = None
        run = InProcess(connection, sandbox, 7, [Kind.SHIFTS])
        assert run.run(again=True).done
        assert run.calls > len(PastKnown.objects.all())
    rows = PastShift.objects.values_list("schedule_id", "start", "end", "user_id")
    assert kept <= set(rows)
    first = {id: min(start for schedule, start, _, _ in kept if schedule == id) for id, *_ in kept}
    earlier = [row for row in rows if row[0] in first and row not in kept]
    assert earlier
    # Not a second of what was known is told twice.
    assert all(end <= int(NOW.timestamp()) // DAY * DAY - 14 * DAY for _, _, end, _ in earlier)
    assert InProcess(connection, sandbox, 7, [Kind.SHIFTS]).run(again=False).calls == 0


def test_the_same_entry_however_often_and_in_whatever_order_is_one(cast: Cast) -> None:
    connection = register(cast)
    Mirror.objects.create(connection=connection)
    sandbox = Sandbox(7, NOW)
    one = sandbox.world.incidents[-80]
    entries = [documents.entry_document(sandbox.world, one, each) for each in one.happenings()]
    document = documents.incident_document(sandbox.world, one)

    def keep(*got: Got) -> list[tuple[int, str, str]]:
        mirror_history.write(connection.pk, mirror_history.prepared(connection.pk, got, NOW), got)
        row = MirroredIncident.objects.get(remote_id=one.id)
        return [(step.at, step.kind, step.user) for step in history._incident(row).steps]

    assert len(keep(Got(entries=entries[3:]))) == len(entries) - 3
    row = MirroredIncident.objects.get()
    assert (row.read_at, row.created) == (0, int(one.happenings()[3].at))
    whole = keep(Got(entries=entries[::-1]), Got(entries=entries), Got(incidents=[document, document]))
    assert len(whole) == len(entries)
    assert [at for at, _, _ in whole] == sorted(int(each.at) for each in one.happenings())
    number = MirroredIncident.objects.get().change
    assert keep(Got(entries=entries, touches=True), Got(incidents=[document])) == whole
    row = MirroredIncident.objects.get()
    assert (row.change, row.is_stale, row.created) == (number, False, int(one.created))


def test_an_entry_after_its_document_calls_for_the_document_again(cast: Cast) -> None:
    connection = register(cast)
    Mirror.objects.create(connection=connection)
    sandbox = Sandbox(7, NOW)
    one = sandbox.world.incidents[-80]
    entries = [documents.entry_document(sandbox.world, one, each) for each in one.happenings()]
    document = documents.incident_document(sandbox.world, one)
    for got in (Got(incidents=[document], entries=entries[:-1]), Got(entries=entries[-1:], touches=True)):
        mirror_history.write(connection.pk, mirror_history.prepared(connection.pk, [got], NOW), [got])
    part = MirrorPart(connection=connection, kind=Kind.HISTORY, begun_at=NOW, state={"queue": [["left", 0, 0]]})
    mirror_history.unfold(connection, part)
    assert part.state["queue"] == [["incident", one.id]]
    # It is there no more, or another's by now: it is told of no more.
    got = Got(gone=[one.id])
    mirror_history.write(connection.pk, mirror_history.prepared(connection.pk, [got], NOW), [got])
    row = MirroredIncident.objects.get()
    assert (bytes(row.body), row.is_stale, row.is_open) == (b"", False, False)


# Real processes, through the pipeline

PROGRAM = """
import django; django.setup()
from integrations import mirror, mirror_history
from integrations.models import Connection
mirror_history.KEPT_DAYS = 12
run = mirror.sync(Connection.objects.get(), by="a process", seconds=40, calls=1_000)
print(run.done, run.told)
"""
COUNTED = """
import json
from integrations import history
from integrations.models import *
rows = [history._incident(row) for row in MirroredIncident.objects.filter(read_at__gt=0)]
parts = {part.kind: [part.since, part.until, part.problem] for part in MirrorPart.objects.all()}
told = {row.id: [row.created, sorted((step.at, step.kind) for step in row.steps)] for row in rows}
shifts = list(PastShift.objects.values_list("schedule_id", "start", "user_id"))
print(json.dumps([told, parts, len(shifts), len(set(shifts))]))
"""


def control(url: str, what: str, **values: Any) -> None:
    request = urllib.request.Request(f"{url}/_sandbox/{what}", json.dumps(values).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10).read()


def test_killed_and_limited_in_the_midst_it_goes_on_without_loss_or_double(tmp_path: Path) -> None:
    """The lease of who was killed runs out; here it is let run out."""
    port = free_port()
    url, moment = f"http://127.0.0.1:{port}", dt.datetime.now(dt.UTC)
    command = ("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--now", moment.isoformat())
    with running(*command, port=port):
        portal = Portal(tmp_path, url)
        try:
            control(url, "rate_limit", enforce=False, limit=100_000)
            portal.seed(token=TOKENS["account"].value, from_email=demo_from_email(7))
            kills = 0
            # Wherever it is by then: of the rest of the account 90 calls are made.
            for calls in (100, 115):
                process = subprocess.Popen([sys.executable, "-c", PROGRAM], env=portal.env, start_new_session=True)
                until = time.monotonic() + 30
                while sum(made(url).values()) < calls and process.poll() is None and time.monotonic() < until:
                    time.sleep(0.01)
                kills += process.poll() is None
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                portal.sql("UPDATE integrations_mirror SET held_until = begun_at, minute_calls = 0")
            assert kills
            # And PagerDuty has enough of it once.
            control(url, "fault", fault="429", count=4)
            portal.sql("UPDATE integrations_mirrorpart SET begun_at = NULL WHERE kind = 'history'")
            assert "rate limit was reached" in portal.shell(PROGRAM)
            control(url, "fault", fault="", count=0)
            portal.sql("UPDATE integrations_mirror SET wait_until = NULL, minute_calls = 0")
            assert portal.shell(PROGRAM).strip() == "True"
            rows, parts, shifts, apart = json.loads(portal.shell(COUNTED))
        finally:
            portal.close()
    sandbox = Sandbox(7, moment)
    since, until = parts["earlier"][0], parts["history"][1]
    # Twelve days from when that was begun.
    assert since <= int(moment.timestamp()) - 12 * DAY + 600
    expected = told(sandbox, since, until)
    assert {id: row for id, row in rows.items() if row[0] >= since} == {
        id: [created, sorted([at, NAMES.get(kind, kind)] for at, kind in entries)]
        for id, (created, entries) in expected.items()
    }
    assert shifts == apart > 0
    assert not any(problem for _, _, problem in parts.values())


def made(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/_sandbox/stats", timeout=10) as answer:
        calls: dict[str, int] = json.load(answer)["calls"]
    return calls
