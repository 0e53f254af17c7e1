"""``manage.py test_connection TEAM [NAME] [--json]``: exit 0 passed, 1 failed, 2 could not run."""

from __future__ import annotations

import json
import sys
from typing import Any, NoReturn

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandParser
from django.db import DatabaseError

from integrations.actions import CannotTest
from integrations.actions import test_connection as run_test
from integrations.models import Connection, ConnectionTest
from policies.actions import Refused
from policies.core.text import shown
from policies.models import Team

LINE = 1_000
"""Characters of one line that is printed: names and findings come from elsewhere."""


class Command(BaseCommand):
    help = "Test a team's connections, or the one of this name. Exit 0: all passed; 1: one failed; 2: could not run."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("team", help="the team's short name in its address (slug), or its name")
        parser.add_argument("name", nargs="?", help="the connection's name; without it, all of the team")
        parser.add_argument(
            "--candidate", action="store_true", help="test the replacement token; it goes into service if it passes"
        )
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, team: str, name: str | None, candidate: bool, **options: Any) -> None:
        as_json: bool = options["json"]
        try:
            tests = [
                (c, run_test(c, by="manage.py test_connection", candidate=candidate))
                for c in self._connections(team, name)
            ]
        except (CannotTest, Refused, ValidationError, DatabaseError) as error:
            self._stop("; ".join(error.messages) if isinstance(error, ValidationError) else str(error), as_json)
        passed = all(test.passed for _, test in tests)
        if as_json:
            self.stdout.write(
                json.dumps({"passed": passed, "connections": [_told(c, test) for c, test in tests]}, indent=2)
            )
        else:
            for connection, test in tests:
                self._print(connection, test)
        sys.exit(0 if passed else 1)

    def _connections(self, team: str, name: str | None) -> list[Connection]:
        found = Team.objects.filter(slug=team).first() or Team.objects.filter(name=team).first()
        if found is None:
            raise ValidationError(f"There is no team {team}.")
        rows = Connection.objects.filter(team=found)
        if name is not None:
            rows = rows.filter(name=name)
        if not rows:
            raise ValidationError(f"{found.name} has no connection{f' {name}' if name else ''}.")
        return list(rows)

    def _stop(self, why: str, as_json: bool) -> NoReturn:
        if as_json:
            self.stdout.write(json.dumps({"passed": None, "error": why}))
        else:
            self.stderr.write(shown(why, LINE))
        sys.exit(2)

    def _print(self, connection: Connection, test: ConnectionTest) -> None:
        self._line(f"{'passed' if test.passed else 'FAILED'}  {connection}: {test.message}")
        if remedy := test.findings.get("remedy"):
            self._line(f"        {remedy}")
        for check in test.findings["checks"]:
            mark = {True: "ok", False: "NO", None: "? "}[check["ok"]]
            self._line(f"  {mark}  {check['message']}{' (derived)' if check['derived'] else ''}")
        for tool in test.findings["tools"]:
            self._line(
                f"  {tool['serves']:<8}{tool['tool']}: {tool['message']}{' (derived)' if tool['derived'] else ''}"
            )

    def _line(self, text: str) -> None:
        self.stdout.write(shown(text, LINE))


def _told(connection: Connection, test: ConnectionTest) -> dict[str, Any]:
    return {
        "connection": connection.name,
        "passed": test.passed,
        "problem": test.problem,
        "message": test.message,
        "at": test.at.isoformat(),
        "findings": test.findings,
    }
