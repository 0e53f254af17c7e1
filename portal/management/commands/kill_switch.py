"""Stop an agent, a team or everything at once, see what is stopped, and set it going again."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError

from policies.actions import do_lift_stop, do_stop
from policies.core.decide import EVERYTHING
from policies.core.text import shown
from policies.models import AgentKey, Stop, Team

BY = "the command kill_switch"


class Command(BaseCommand):
    help = (
        "kill_switch stop --everything | --team SLUG | --key PREFIX --reason TEXT: nothing of it goes out any more, the next "
        "write at once, the next read within a second. kill_switch lift: the same options. kill_switch status [--json]."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("what", choices=("stop", "lift", "status"))
        which = parser.add_mutually_exclusive_group()
        which.add_argument("--everything", action="store_true", help="every team, people and jobs too")
        which.add_argument("--team", help="a team's slug")
        which.add_argument("--key", help="the prefix of an agent key: what stands between pwk_ and the next _")
        parser.add_argument("--reason", default="", help="why; it is kept in the record, and callers are told")
        parser.add_argument("--json", action="store_true", help="print JSON alone")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["what"] != "status":
            try:
                self._change(options)
            except ValidationError as error:
                raise CommandError(" ".join(error.messages), returncode=2) from None
        self._tell(options)

    def _change(self, options: dict[str, Any]) -> None:
        team = key = None
        subject = EVERYTHING
        if slug := options["team"]:
            if (team := Team.objects.filter(slug=slug).first()) is None:
                raise CommandError(f"There is no team {slug!r}.", returncode=2)
            subject = f"team:{team.pk}"
        elif prefix := options["key"]:
            prefix = prefix.removeprefix("pwk_").partition("_")[0]
            if (key := AgentKey.objects.select_related("team").filter(prefix=prefix).first()) is None:
                raise CommandError(f"There is no agent key with the prefix {prefix!r}.", returncode=2)
            subject = f"key:{key.pk}"
        elif not options["everything"]:
            raise CommandError("Say what: --everything, --team SLUG or --key PREFIX.", returncode=2)
        if options["what"] == "stop":
            do_stop(by=BY, reason=options["reason"], team=team, key=key)
        elif (stop := Stop.objects.filter(subject=subject).first()) is not None:
            do_lift_stop(stop, by=BY, reason=options["reason"])
        else:
            raise CommandError("That is not stopped.", returncode=2)

    def _tell(self, options: dict[str, Any]) -> None:
        stops = list(Stop.objects.all())
        if options["json"]:
            rows = [
                {
                    "subject": stop.subject,
                    "target": stop.target,
                    "reason": stop.reason,
                    "by": stop.actor,
                    "at": stop.at.isoformat(),
                }
                for stop in stops
            ]
            self.stdout.write(json.dumps({"stopped": rows}))
            return
        for stop in stops:
            told = f"Stopped: {stop.target}, by {stop.actor} at {stop.at:%Y-%m-%d %H:%M} UTC: {stop.reason}"
            self.stdout.write(shown(told, 1_000))
        if not stops:
            self.stdout.write("Nothing is stopped.")
