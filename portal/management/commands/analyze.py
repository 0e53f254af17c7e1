"""``manage.py analyze WHAT --input FILE… [--json]``: the analysis, on PagerDuty's documents saved as JSON. No token is
needed.

With ``--json`` standard output is one JSON document and nothing else; what is wrong with the input goes to standard error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError, CommandParser

from integrations.measured import DEFINITIONS
from policies.core.text import shown
from portal.management.analyses import Answer, Asked, escalation, load, response, schedules


class Command(BaseCommand):
    help = "Analyse PagerDuty's documents, saved as JSON files as its REST API answers them. No token is needed."
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        kinds = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
        for name, (words, _) in ANALYSES.items():
            kind = kinds.add_parser(name, help=words, description=words)
            kind.add_argument(
                "--input", nargs="+", action="extend", required=True, type=Path, metavar="FILE", help="JSON documents"
            )
            kind.add_argument("--since", default="", metavar="T", help="ISO 8601; without an offset in --time-zone")
            kind.add_argument(
                "--until",
                default="",
                metavar="T",
                help="with one of both alone, two weeks from or to it; with neither, the time that incidents, on-call "
                "entries or rendered entries in the documents reach over, or else two weeks from now",
            )
            kind.add_argument(
                "--time-zone", default="", metavar="Z", help="of the times; default: the schedule's own, or UTC"
            )
            if name == "load":
                kind.add_argument(
                    "--hours",
                    choices=DEFINITIONS,
                    default=DEFINITIONS[0],
                    help="business, off and sleep hours as PagerDuty's API counts them (sleep from 22:00 to 08:00), or its "
                    "Insights (from 21:00)",
                )
            if name == "escalation":
                kind.add_argument(
                    "--everybody",
                    action="store_true",
                    help="the users among the documents are all of the account: whom a policy names besides was deleted",
                )
            kind.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            documents = [_read(path) for path in options["input"]]
            asked = Asked(
                documents,
                options["since"],
                options["until"],
                options["time_zone"],
                options.get("hours", DEFINITIONS[0]),
                options.get("everybody", False),
            )
            answer = ANALYSES[options["what"]][1](asked)
        except ValueError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"problem": str(error)}))
            raise CommandError(shown(str(error), 2_000)) from None
        notes = [shown(note, 2_000) for note in answer.notes]
        if options["json"]:
            self.stdout.write(json.dumps(answer.document))
            for note in notes:
                self.stderr.write(note)
            return
        for line in [shown(line, 2_000) for line in answer.lines] + notes:
            self.stdout.write(line)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} holds no JSON: {error}.") from None


ANALYSES: Final[Mapping[str, tuple[str, Callable[[Asked], Answer]]]] = {
    "schedule": (
        "Who is on call when, and when nobody is, rendered from a schedule's layers or rotations and its overrides. Several "
        "schedules are told together (entries name everybody of them), and each by itself under schedules.",
        schedules.schedule,
    ),
    "coverage": (
        "When nobody is on call: the gaps of each schedule, of escalation policies with their levels together (an instant at "
        "which no level reaches anybody, told apart from one that a lower level covers), and of services. The files hold "
        "schedules, escalation policies, services and users in any order.",
        schedules.coverage,
    ),
    "escalation": (
        "What keeps escalation policies from waking somebody: gaps, levels, delays, people who cannot be told, and what is "
        "used by nothing; each with its evidence, what it comes to, and the change that mends it. The files hold escalation "
        "policies, schedules, users (with contact methods and notification rules) and services, in any order.",
        escalation.escalation,
    ),
    "response": (
        "How fast incidents were notified of, acknowledged and resolved, those that were not included: by policy, level, "
        "service, team, urgency, priority and hour, and which level is slowest. The files hold incidents and their log "
        "entries, as PagerDuty's lists, page by page, in any order.",
        response.response,
    ),
    "load": (
        "What being on call costs whom: hours, pages, interruptions by the hours of each person's own day, nights and rests, "
        "and how evenly that is shared. The files hold incidents, their log entries, on-call entries, users (for their time "
        "zones), and schedules and policies (for who takes turns), as PagerDuty's lists, page by page, in any order.",
        load.load,
    ),
}
