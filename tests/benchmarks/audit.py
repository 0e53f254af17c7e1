"""``/audit/`` with a long journal: what the list, every filter, an older page, a wide time and one entry cost, and the other
pages that look into it; and what an export takes of memory.

``python -m tests.benchmarks.audit [--entries 1000000] [--requests 20]``, on SQLite, or on a new database beside the one that
DATABASE_URL names on PostgreSQL. The entries are made up and not chained: what is measured only reads. Figures of
one machine and minute: compare within a run.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import random
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

TEAMS, KEYS = 200, 400
DAYS = 60
BOUND = 150
"""Milliseconds that the 95th percentile must stay under."""
READS = (
    "list_incidents",
    "get_incident",
    "list_oncalls",
    "list_services",
    "list_schedules",
    "list_users",
    "list_teams",
)
WRITES = ("create_incident", "update_incident", "add_note_to_incident")


def rows(
    count: int, stream: int, keys: list[str], connections: list[str], team_ids: list[int]
) -> Iterator[tuple[Any, ...]]:
    """Entries as the columns of ``policies.journal.COLUMNS``: reads, now and then a write with its intent, few denials."""
    made = random.Random(7)
    began = dt.datetime.now(dt.UTC) - dt.timedelta(days=DAYS)
    step = dt.timedelta(days=DAYS) / count
    seq = 0
    while seq < count:
        number = made.randrange(KEYS)
        team = number % TEAMS
        denied = made.random() < 0.004
        writes = made.random() < 0.06
        tool = made.choice(WRITES if writes else READS)
        decision = f"{made.getrandbits(120):030x}"
        target = f"P{made.randrange(36**4):07X}"
        details = {
            "actor": {"id": keys[number], "kind": "agent", "name": f"Bot {number}"},
            "arguments": {
                "path": {"id": target},
                "query": {"limit": "25", "statuses[]": ["triggered", "acknowledged"]},
            },
            "client": "python-requests/2.32",
            "connection": f"Account {team}",
            "credential": f"pwk_{number:08x}",
            "door": "mcp" if number % 3 else "rest",
            "held": "team_ids",
            "ip": f"10.0.{team}.{number % 250}",
            "method": "PUT" if writes else "GET",
            "operation": "updateIncident" if writes else "listIncidents",
            "path": "/incidents/{id}" if writes else "/incidents",
            "policy_version": 12,
            "reason": f"The policy of Team {team} has {tool} {'off' if denied else 'on'}.",
            "recorded_at": "2026-11-30T12:00:00.000000Z",
            "redaction": 2,
            "request_digest": f"{made.getrandbits(64):016x}",
            "risk": "high" if made.random() < 0.01 else "medium" if writes else "low",
            "rule": "setting",
            "status": 403 if denied else 200,
            "targets": [{"id": target, "type": "incident"}],
            "team": f"Team {team}",
            "upstream": {"attempts": 1, "bytes": 44_120, "milliseconds": 48.2, "request_id": decision, "status": 200},
            "use": {"id": decision[:16], "tool": tool},
        }
        kinds = ("intent", "result") if writes and not denied else ("result",)
        for kind in kinds:
            seq += 1
            at = began + step * seq
            outcome = "intended" if kind == "intent" else "denied" if denied else "done"
            verdict = "deny" if denied else "allow"
            columns = (kind, decision, team_ids[team], keys[number], tool, verdict, outcome, connections[team])
            names = ("kind", "decision_id", "team_id", "actor", "tool", "verdict", "outcome", "resource")
            record = json.dumps(
                {
                    **dict(zip(names, columns, strict=True)),
                    "at": at.isoformat(),
                    "details": details,
                    "schema": 1,
                    "seq": seq,
                },
                sort_keys=True,
                separators=(",", ":"),
            )
            yield (stream, seq, at, *columns, record, f"{seq:064x}")


def fill(count: int) -> dict[str, Any]:
    """People, teams, keys, connections and ``count`` entries. Returns what the requests are about."""
    from django.db import connection
    from django.utils import timezone

    from integrations.fields import seal
    from integrations.models import Connection
    from policies.journal import COLUMNS
    from policies.models import AgentKey, Membership, Stream, Team, User

    ada = User.objects.create_user("ada@example.com", None, name="Ada", role="administrator")
    mina = User.objects.create_user("mina@example.com", None, name="Mina")
    teams = Team.objects.bulk_create([Team(name=f"Team {n}", slug=f"team-{n}") for n in range(TEAMS)])
    for team in teams[:1]:
        Membership.objects.create(user=mina, team=team, role="manager")
    nora = User.objects.create_user("nora@example.com", None, name="Nora")
    Membership.objects.bulk_create([Membership(user=nora, team=team, role="manager") for team in teams[:5]])
    keys = AgentKey.objects.bulk_create(
        [AgentKey(team=teams[n % TEAMS], name=f"Bot {n}", prefix=f"{n:08x}", digest="0") for n in range(KEYS)]
    )
    accounts = []
    for number, team in enumerate(teams):
        pk = uuid.uuid4()
        named = Connection(id=pk, team=team, name=f"Account {number}", kind="account", fingerprint=f"{number:064x}")
        named.token = seal(pk, "made up")
        accounts.append(named)
    Connection.objects.bulk_create(accounts)
    stream = Stream.objects.create(name="benchmark", created_at=timezone.now())
    made = rows(
        count,
        stream.pk,
        [f"key:{key.pk}" for key in keys],
        [str(row.pk) for row in accounts],
        [team.pk for team in teams],
    )
    began = time.monotonic()
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY policies_entry ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                for row in made:
                    copy.write_row(row)
            cursor.execute("VACUUM ANALYZE policies_entry")
    else:
        connection.ensure_connection()
        raw: Any = connection.connection
        raw.execute("PRAGMA synchronous=OFF")
        raw.execute("BEGIN")
        raw.executemany(
            f"INSERT INTO policies_entry ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})",
            ((*row[:2], row[2].replace(tzinfo=None).isoformat(" "), *row[3:]) for row in made),
        )
        raw.execute("COMMIT")
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        raw.execute("PRAGMA synchronous=FULL")
    print(f"{count:,} entries on {connection.vendor}, made in {time.monotonic() - began:.0f} s", flush=True)
    return {"ada": ada, "mina": mina, "nora": nora}


def asked(made: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Who asks for which address, and how the table calls it."""
    from policies.models import Entry

    some = Entry.objects.order_by("-id")[1_000]
    target = json.loads(some.record)["details"]["targets"][0]["id"]
    use = json.loads(some.record)["details"]["use"]["id"]
    filters = {
        "everything": "",
        "team": "team:team-7",
        "agent": 'agent:"Bot 7"',
        "an agent that is gone": 'agent:"Bot that was"',
        "person": "person:mina@example.com",
        "tool": "tool:list_incidents",
        "risk": "risk:high",
        "verdict": "verdict:deny",
        "outcome": "outcome:denied",
        "an outcome that never was": "outcome:unknown",
        "connection": 'connection:"Account 7"',
        "a connection that is gone": "connection:gone",
        "door": "door:rest",
        "without the portal's own": "jobs:hidden",
        "kind": "kind:intent",
        "target": f"target:{target}",
        "no such target": "target:PNOWHERE",
        "use": f"use:{use}",
        "decision": f"decision:{some.decision_id}",
        "words": "checkout",
        "eight words": "a b c d e f g nowhere",
        "last hour": "since:1h",
        "7 days": "since:7d verdict:deny",
        "30 days, denied, a tool": "since:30d verdict:deny tool:list_users",
        "from, to": "since:2026-11-01 until:2026-11-03T12:00",
        "all at once": f'team:team-7 agent:"Bot 7" tool:list_users risk:low verdict:deny door:mcp target:{target} since:30d x',
    }
    told = [("ada", name, f"/audit/?{urlencode({'q': text})}") for name, text in filters.items()]
    for who in ("mina", "nora"):
        told += [(who, f"{name}, as {who}", f"/audit/?{urlencode({'q': filters[name]})}") for name in SCOPED]
    pages = {
        "an entry": f"/audit/{some.pk}/",
        "home": "/",
        "tools": "/teams/team-7/tools/",
        "a category of all teams": "/grid/category/?category=incidents&state=on",
    }
    return [*told, *(("ada", name, path) for name, path in pages.items()), ("nora", "home, as nora", "/")]


SCOPED = ("everything", "risk", "verdict", "no such target", "words", "7 days", "an outcome that never was")
"""Filters that a manager of one team (Mina) and one of five (Nora) ask with, too."""


def measure(made: dict[str, Any], requests: int) -> bool:
    """Print the table. Whether everything was in time."""
    from django.db.models import Max
    from django.test import Client

    from policies.models import Entry

    highest = Entry.objects.aggregate(last=Max("pk"))["last"]
    places = random.Random(3)
    slow = []
    print(f"{highest:,} entries, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    heading()
    clients = {name: Client(headers={"host": "127.0.0.1"}) for name in made}
    for name, client in clients.items():
        client.force_login(made[name])
    for who, name, path in asked(made):
        # Every other one is somewhere in the middle, as when one pages.
        paths = [
            path if number % 2 or not path.startswith("/audit/?") else
            f"{path}&before={places.randrange(highest // 50, highest)}"
            for number in range(requests)
        ]  # fmt: skip
        if not timed(clients[who], name, path, paths, BOUND):
            slow.append(name)
    return not slow


def heading() -> None:
    print(f"{'':34}{'median':>9}{'95th':>9}  ms{'processor':>12}")


def timed(client: Any, name: str, first: str, paths: Sequence[str], bound: float) -> bool:
    """Print a line of the table: what ``paths`` cost once ``first`` was asked for. Whether their 95th percentile is in time."""
    client.get(first)
    times, busy = [], []
    for path in paths:
        began, worked = time.perf_counter(), time.process_time()
        answer = client.get(path)
        times.append((time.perf_counter() - began) * 1000)
        busy.append((time.process_time() - worked) * 1000)
        assert answer.status_code == 200, (path, answer.status_code)
        assert b'id="problems"' not in answer.content, path
    worst = sorted(times)[-max(1, len(times) // 20)]
    print(
        f"{name:34}{statistics.median(times):9.1f}{worst:9.1f}    {statistics.median(busy):12.1f}"
        f"{'  too slow' if worst > bound else ''}",
        flush=True,
    )
    return worst <= bound


def take(made: dict[str, Any]) -> None:
    """Export everything in both forms, and print what it took."""
    from portal.audit.export import stream
    from portal.audit.query import Query
    from portal.audit.search import scope

    where = scope(Query(), made["ada"], dt.datetime.now(dt.UTC))
    ends = where.ends()
    assert ends is not None

    async def drain(form: str) -> tuple[int, int]:
        size, first = 0, 0
        async for piece in stream(where.rows, ends, form):
            size += len(piece)
            # What the first pieces take is taken for good.
            first = first or (resident() if size > 20_000_000 else 0)
        return size, resident() - first

    for form in ("jsonl", "csv"):
        began = time.monotonic()
        size, grown = asyncio.run(drain(form))
        print(
            f"export as {form}: {size / 1e6:,.0f} MB in {time.monotonic() - began:.0f} s, memory grew by {grown / 1e6:.1f} MB"
        )


def resident() -> int:
    """Bytes of memory that the process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    told = argparse.ArgumentParser(description=__doc__)
    told.add_argument("--entries", type=int, default=1_000_000)
    told.add_argument("--requests", type=int, default=20)
    told.add_argument(
        "--folder", type=Path, help="keep SQLite's database here, and take it from here where it is filled"
    )
    arguments = told.parse_args()
    with database(arguments.folder):
        from policies.models import User

        people = {"ada": "Ada", "mina": "Mina", "nora": "Nora"}
        known = {key: User.objects.filter(name=said).first() for key, said in people.items()}
        made = known if all(known.values()) else fill(arguments.entries)
        in_time = measure(made, arguments.requests)
        take(made)
    sys.exit(not in_time)


@contextmanager
def database(kept: Path | None = None) -> Iterator[None]:
    """Django set up with a new database, empty but for its tables: beside the one that DATABASE_URL names on PostgreSQL, else on
    SQLite. ``kept``: a folder that SQLite's is taken from, and stays in."""
    with tempfile.TemporaryDirectory(prefix="pagewarden-benchmark-") as folder:
        os.environ["DATA_DIR"] = str(kept or folder)
        os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
        server = os.environ.get("DATABASE_URL", "")
        name = f"pagewarden_benchmark_{uuid.uuid4().hex[:10]}"
        if on_server := server.startswith("postgres") and kept is None:
            psql(server, f"CREATE DATABASE {name}")
            os.environ["DATABASE_URL"] = f"{server.rsplit('/', 1)[0]}/{name}"
        import django

        django.setup()
        from django.core.management import call_command
        from django.db import connections

        call_command("migrate", verbosity=0)
        try:
            yield
        finally:
            connections.close_all()
            if on_server:
                psql(server, f"DROP DATABASE {name} WITH (FORCE)")


def psql(server: str, statement: str) -> None:
    import psycopg

    with psycopg.connect(f"{server.rsplit('/', 1)[0]}/postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


if __name__ == "__main__":
    main()
