"""The database goes away under mixed load and comes back, in both modes: nothing unrecorded, nothing lost, nobody's hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from integrations.gateway import runtime as runtimes
from integrations.gateway.pipeline import Answer
from policies.actions import do_set_reads_go_on
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.journal import Journal, JournalUnavailable
from policies.models import Entry
from tests.conftest import Cast
from tests.gateway.outage import Load, ask, check, crowding, settled, wait_until, waiting, writes_at
from tests.gateway.postgres import Cluster, binaries, cluster
from tests.gateway.processes import ROOT, Portal, received, recording_upstream
from tests.gateway.test_pipeline import Setting, outcomes

ENTRIES_MISSING = "The journal cannot record"
CLOSED = ("The configuration cannot be read, so nothing can be allowed.", ENTRIES_MISSING)


@pytest.fixture(scope="module")
def database() -> Iterator[Cluster]:
    if (programs := binaries()) is None:
        pytest.skip("PostgreSQL's server is not installed")
    with cluster(programs) as running:
        yield running


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    with recording_upstream(tmp_path) as running:
        yield running


@pytest.fixture
def portal(database: Cluster, upstream: tuple[str, Path], tmp_path: Path) -> Iterator[Portal]:
    portal = Portal(tmp_path, upstream[0], {"CALL_TIME_LIMIT": "3"}, server=database.url)
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        yield portal
    finally:
        # Whatever became of this test, the next one begins with a database that answers.
        database.start() if database.process is None else database.thaw()
        portal.close()


def let_reads_go_on(portal: Portal) -> None:
    portal.manage("reads_go_on", "on", "--minutes", "5", "--reason", "people on call need to see")


def ready(portal: Portal) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"{portal.url}/readyz", timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def is_ready(portal: Portal) -> bool:
    status, told = ready(portal)
    return status == 200 and told["status"] == "ready"


def away(database: Cluster, how: str) -> float:
    """Since when it is."""
    getattr(database, how)()
    return time.monotonic()


def back(database: Cluster, how: str) -> float:
    """Until when it was away."""
    returned = time.monotonic()
    database.start() if how == "kill" else database.thaw()
    return returned


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_reads_go_on_and_writes_do_not_where_an_administrator_chose_so(
    portal: Portal, database: Cluster, upstream: tuple[str, Path], how: str
) -> None:
    let_reads_go_on(portal)
    portal.start()
    load = Load(portal)
    load.start()
    try:
        time.sleep(1.5)
        gone = away(database, how)
        # A frozen server is noticed after two seconds without an answer.
        wait_until(lambda: ready(portal)[1]["spooling"]["entries"] > 0, 15, "entries are spooled")
        wait_until(lambda: len(load.within(gone, time.monotonic(), writes=False)) > 60, 30, "reads go on")
        sent = settled(lambda: writes_at(upstream[1]))
        status, told = ready(portal)
        assert (status, told["status"], told["spooling"]["reads_go_on"]) == (200, "reads only", True)
        assert portal.call("DELETE", "/incidents/PT4KHLK").status == 403  # denied as ever, and on record
        time.sleep(1.5)
        assert writes_at(upstream[1]) == sent
        crowded = crowding()
        returned = back(database, how)
        wait_until(lambda: ask(portal, writes=True).status == 201, 5, "a write goes through")
        wait_until(lambda: is_ready(portal) and not waiting(portal), 10, "all is brought in")
        time.sleep(0.5)
    finally:
        load.stop()
    reads = load.between(gone, returned, writes=False)
    assert {call.status for call in reads} == {200}
    assert max(call.ended - call.began for call in reads) < 6 * crowded  # about two seconds
    writes = load.within(gone, returned, writes=True)
    assert {call.status for call in writes} == {503}
    assert all("was not sent" in call.said for call in writes)
    portal.stop()
    found = check(portal, load, upstream[1])
    assert found["spooled"] >= len(reads) / 2
    spooled = [entry for entry in portal.entries(kind="result") if "spooled" in entry["record"]["details"]]
    assert {"denied", "done"} <= {entry["outcome"] for entry in spooled}
    refused = [entry for entry in spooled if entry["record"]["details"]["rule"] == "database_away"]
    assert refused
    assert all(entry["verdict"] == "deny" for entry in refused)
    for entry in spooled:
        told = entry["record"]["details"]["spooled"]
        assert told["confirmed"] <= told["at"]


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_by_default_everything_stops_and_what_was_under_way_is_on_record(
    portal: Portal, database: Cluster, upstream: tuple[str, Path], how: str
) -> None:
    portal.start()
    load = Load(portal)
    load.start()
    try:
        time.sleep(1.5)
        gone = away(database, how)
        wait_until(lambda: not ready(portal)[1]["checks"]["database"], 15, "it is noticed")
        sent = settled(lambda: len(received(upstream[1])))
        status, told = ready(portal)
        assert (status, told["status"], told["spooling"]["reads_go_on"]) == (503, "not ready", False)
        time.sleep(1)
        assert len(received(upstream[1])) == sent
        returned = back(database, how)
        wait_until(lambda: ask(portal, writes=True).status == 201, 5, "a write goes through")
        wait_until(lambda: is_ready(portal) and not waiting(portal), 10, "all is brought in")
    finally:
        load.stop()
    calls = [call for writes in (False, True) for call in load.within(gone, returned, writes=writes)]
    assert {call.status for call in calls} == {503}
    assert all(call.said.startswith(CLOSED) for call in calls)
    portal.stop()
    check(portal, load, upstream[1])
    for entry in portal.entries(kind="result"):
        if (spooled := entry["record"]["details"].get("spooled")) is not None:
            assert spooled["withheld"] is True


def test_a_process_killed_while_the_database_is_away_leaves_its_spool_to_the_next(
    portal: Portal, database: Cluster, upstream: tuple[str, Path]
) -> None:
    let_reads_go_on(portal)
    portal.start()
    load = Load(portal, readers=3, writers=1)
    load.start()
    time.sleep(1)
    database.kill()
    wait_until(lambda: ready(portal)[1]["spooling"]["entries"] > 40, 15, "entries are spooled")
    portal.kill()
    load.stop()
    [file] = waiting(portal)
    assert file.stat().st_mode & 0o177 == 0
    assert file.parent.stat().st_mode & 0o077 == 0
    # Without what was confirmed last there is nothing to decide by: a process that starts now stays closed, and opens by itself.
    with pytest.raises(AssertionError):
        portal.start(seconds=3)
    assert portal.process is not None
    wait_until(lambda: ask(portal, writes=False).status == 503, 10, "it answers")
    assert ready(portal)[1]["spooling"] == {"reads_go_on": False, "entries": 0, "files": 1, "problem": ""}
    database.start()
    wait_until(lambda: is_ready(portal) and not waiting(portal), 12, "the dead one's spool is brought in")
    assert ask(portal, writes=False).status == 200
    portal.stop()
    found = check(portal, load, upstream[1], killed=True)
    assert found["spooled"] > 20


def test_pages_and_the_worker_recover_by_themselves(portal: Portal, database: Cluster) -> None:
    code = (
        "from django.contrib.sessions.backends.db import SessionStore\nfrom policies.models import User\n"
        "ada = User.objects.get(email='ada@example.com')\nstore = SessionStore()\n"
        "store.update({'_auth_user_id': str(ada.pk), '_auth_user_backend': 'portal.backends.LimitedBackend',"
        " '_auth_user_hash': ada.get_session_auth_hash()})\nstore.create()\nprint(store.session_key)"
    )
    session = portal.shell(code).strip()

    def page() -> int:
        request = urllib.request.Request(f"{portal.url}/", headers={"Cookie": f"sessionid={session}"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code

    def test_connection() -> None:
        portal.sql("UPDATE integrations_connection SET health_at = NULL")
        portal.shell(
            "from integrations.tasks import test_one_connection\n"
            f"test_one_connection.enqueue({portal.seeded['connection']!r})"
        )

    def tested() -> bool:
        code = "from integrations.models import Connection\nprint(Connection.objects.get().health_at is not None)"
        return portal.shell(code).strip() == "True"

    portal.start(static=True)
    with (portal.folder / "worker.log").open("ab") as log:
        command = [sys.executable, "manage.py", "run_worker"]
        worker = subprocess.Popen(command, env=portal.env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
    try:
        assert page() == 200
        test_connection()
        wait_until(tested, 30, "the worker tests a connection")
        database.kill()
        assert page() == 500
        time.sleep(2)
        database.start()
        wait_until(lambda: page() == 200, 12, "pages are shown")
        test_connection()
        wait_until(tested, 30, "the worker tests a connection again")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def test_where_somebody_holds_sqlite_locked_reads_go_on_too(tmp_path: Path, upstream: tuple[str, Path]) -> None:
    portal = Portal(tmp_path, upstream[0], server="")
    try:
        portal.seed(states={"add_note_to_incident": "on"})
        let_reads_go_on(portal)
        portal.start()
        load = Load(portal)
        holder = sqlite3.connect(tmp_path / "portal.sqlite3", isolation_level=None)
        holder.execute("BEGIN IMMEDIATE")
        load.asked.append(ask(portal, writes=False))
        load.asked.append(ask(portal, writes=False))
        load.asked.append(ask(portal, writes=True))
        assert [call.status for call in load.asked] == [200, 200, 503]
        crowded = crowding()
        assert load.asked[0].ended - load.asked[0].began < 7 * crowded  # LOCK_SECONDS, once
        assert load.asked[1].ended - load.asked[1].began < 1 * crowded
        assert len(waiting(portal)) == 1
        holder.execute("ROLLBACK")
        holder.close()
        wait_until(lambda: not waiting(portal), 10, "all is brought in")
        load.asked.append(ask(portal, writes=True))
        assert load.asked[-1].status == 201
        portal.stop()
        assert check(portal, load, upstream[1])["spooled"] == 3
    finally:
        portal.close()


@pytest.fixture
def setting(cast: Cast, settings: Any, tmp_path: Path) -> Setting:
    settings.SPOOL_DIR = tmp_path / "spool"
    return Setting(cast)


def gone(*_: object) -> Any:
    raise OperationalError("the server closed the connection")


@pytest.mark.django_db(transaction=True)
def test_reads_go_on_no_longer_than_was_chosen(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    do_set_reads_go_on(by=setting.cast.ada, on=True, minutes=2, reason="people on call need to see")

    async def scenario() -> list[Answer]:
        async with setting.running() as started:
            monkeypatch.setattr(runtimes, "current_version", gone)
            monkeypatch.setattr(Journal, "_commit", gone)
            await asyncio.sleep(1.2)
            answers = [await started.pipeline.run(setting.call()), await started.pipeline.run(setting.note())]
            started.watch._confirmed = time.monotonic() - 100
            answers.append(await started.pipeline.run(setting.call()))
            started.watch._confirmed = time.monotonic() - 120
            answers.append(await started.pipeline.run(setting.call()))
            monkeypatch.undo()
            for _ in range(100):
                await asyncio.sleep(0.1)
                if started.watch.fresh() is not None and not started.spool.holding:
                    break
            answers.append(await started.pipeline.run(setting.note()))
            return answers

    answers = asyncio.run(scenario())
    assert [answer.status for answer in answers] == [200, 503, 200, 503, 200]
    assert "configuration cannot be read" in answers[3].problem
    assert outcomes(answers[1]) == [("result", "failed")]


@pytest.mark.django_db(transaction=True)
def test_an_error_of_the_portals_own_is_no_database_that_is_away(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_set_reads_go_on(by=setting.cast.ada, on=True, reason="people on call need to see")

    def broken() -> int:
        raise ValueError("not one of the words that there are")

    async def scenario() -> int:
        async with setting.running() as started:
            monkeypatch.setattr(runtimes, "current_version", broken)
            await asyncio.sleep(1.2)
            return int((await started.pipeline.run(setting.call())).status)

    assert asyncio.run(scenario()) == 503


@pytest.mark.django_db(transaction=True)
def test_a_journal_that_failed_once_is_found_ready_without_another_call(setting: Setting) -> None:
    """Whoever shares calls out sends none to what is not ready: it must find out by itself."""

    async def scenario() -> bool:
        async with setting.running() as started:
            refused = NewEntry(EntryKind.RESULT, timezone.now(), "x", team_id=2**80)
            with pytest.raises(JournalUnavailable):
                await started.journal.append(refused)
            for _ in range(100):
                await asyncio.sleep(0.1)
                if started.is_ready()["journal"]:
                    return True
            return False

    assert asyncio.run(scenario())
    assert not Entry.objects.filter(decision_id="trial").exists()
