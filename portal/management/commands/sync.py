"""``manage.py sync [TEAM [NAME]] [--due] [--earlier] [--json]``: exit 0 all was read, 1 some could not be, 2 could not run."""

from __future__ import annotations

import json
import sys
import time
from typing import Any, NoReturn

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from integrations import mirror
from integrations.models import Connection, MirrorPart
from policies.core.text import shown
from policies.models import Team

LINE = 1_000
"""Characters of one line that is printed: names and problems come from elsewhere."""


class Command(BaseCommand):
    help = (
        "Read the mirrors of all connections, of a team's, or of the one of this name, to their end. "
        "Exit 0: all was read; 1: some could not be; 2: could not run."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team", nargs="?", help="the team's short name in its address (slug), or its name")
        parser.add_argument("name", nargs="?", help="the connection's name; without it, all of the team")
        parser.add_argument("--due", action="store_true", help="read only what is due, not all of it anew")
        parser.add_argument(
            "--earlier",
            action="store_true",
            help="read on until a year of incidents and shifts is known, which may take hours; else the worker does",
        )
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, team: str | None, name: str | None, due: bool, **options: Any) -> None:
        as_json: bool = options["json"]
        try:
            told = [_read(row, again=not due, earlier=options["earlier"]) for row in _connections(team, name)]
        except (ValidationError, DatabaseError) as error:
            self._stop("; ".join(error.messages) if isinstance(error, ValidationError) else str(error), as_json)
        if as_json:
            self.stdout.write(json.dumps({"connections": told}, indent=2))
        else:
            for row in told:
                self._print(row)
        whole = all(row["done"] and not any(part["problem"] for part in row["parts"]) for row in told)
        sys.exit(0 if whole else 1)

    def _stop(self, why: str, as_json: bool) -> NoReturn:
        if as_json:
            self.stdout.write(json.dumps({"connections": [], "error": why}))
        else:
            self.stderr.write(shown(why, LINE))
        sys.exit(2)

    def _print(self, row: dict[str, Any]) -> None:
        sign = "read  " if row["done"] else "STOPPED"
        self._line(
            f"{sign}  {row['connection']} of {row['team']}: {row['calls']} calls, {row['written']} documents written, "
            f"{row['seconds']} s. {row['told']}"
        )
        for part in row["parts"]:
            self._line(f"  {part['count']:>6} {part['name']}{': ' if part['problem'] else ''}{part['problem']}")

    def _line(self, text: str) -> None:
        self.stdout.write(shown(text.rstrip(), LINE))


def _connections(team: str | None, name: str | None) -> list[Connection]:
    rows = Connection.objects.filter(is_enabled=True).select_related("team").order_by("team__name", "name")
    if team is None:
        return list(rows)
    found = Team.objects.filter(slug=team).first() or Team.objects.filter(name=team).first()
    if found is None:
        raise ValidationError(f"There is no team {team}.")
    rows = rows.filter(team=found)
    if name is not None:
        rows = rows.filter(name=name)
    if not rows:
        raise ValidationError(f"{found.name} has no connection{f' {name}' if name else ''} that is switched on.")
    return list(rows)


def _read(connection: Connection, *, again: bool, earlier: bool) -> dict[str, Any]:
    begun = time.monotonic()
    calls = written = 0
    while True:
        run = mirror.sync(connection, by="manage.py sync", seconds=120, calls=10_000, again=again, earlier=earlier)
        again, calls, written = False, calls + run.calls, written + run.written
        if run.done or run.told:
            break
    return {
        "team": connection.team.slug,
        "connection": connection.name,
        "done": run.done,
        "told": run.told,
        "calls": calls,
        "written": written,
        "seconds": round(time.monotonic() - begun, 1),
        "parts": [
            {
                "kind": part.kind,
                "name": part.get_kind_display(),
                "as_of": part.as_of.isoformat() if part.as_of else None,
                "count": part.count,
                "problem": part.problem,
            }
            for part in MirrorPart.objects.filter(connection=connection)
        ],
    }
