"""``manage.py agent_config KEY --client CLIENT [--team SLUG]``: what an assistant needs to use an agent key over MCP."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.models import Q
from django.urls import reverse

from policies.core.text import redacted, shown
from policies.models import AgentKey, Team
from portal.connecting import configurations, unusable

LINE = 1_000
"""Characters of one line that is told: names come from people."""


class Command(BaseCommand):
    help = (
        "Print what an assistant needs to reach the portal over MCP with an agent key. Standard output is what the client "
        "takes, standard error says where it goes. The key is not in it: only a digest of it is kept. Exit 2: no such key."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("key", help="the agent key's name, or its prefix: what stands between pwk_ and the next _")
        parser.add_argument("--client", required=True, choices=list(configurations()))
        parser.add_argument("--team", help="the team's slug, where several teams have a key of that name")

    def handle(self, *args: Any, key: str, client: str, team: str | None, **options: Any) -> None:
        found = self._found(key, team)
        wanted = configurations()[client]
        self.stderr.write(shown(f"{wanted.title}, the key {found.name} of {found.team.name}. {wanted.where}", LINE))
        self.stdout.write(wanted.text)
        self.stderr.write(wanted.key)

    def _found(self, name: str, slug: str | None) -> AgentKey:
        keys = AgentKey.objects.select_related("team").order_by("team__slug", "-created_at")
        if slug is not None:
            if not Team.objects.filter(slug=slug).exists():
                raise _wrong(
                    f"There is no team {slug!r}. The teams: {_listed(Team.objects.values_list('slug', flat=True))}."
                )
            keys = keys.filter(team__slug=slug)
        prefix = name.removeprefix("pwk_").partition("_")[0]
        named = list(keys.filter(Q(name__iexact=name) | Q(prefix=prefix)))
        usable = [key for key in named if key.is_usable]
        called = redacted(name)  # somebody may give the key itself in place of its name
        if len(usable) > 1:
            which = _listed(f"pwk_{key.prefix} of {key.team.slug}" for key in usable)
            raise _wrong(
                f"{len(usable)} usable keys are called {called}: give --team, or a prefix as the name ({which})."
            )
        if usable:
            return usable[0]
        if named:
            page = f"{settings.PUBLIC_URL}{reverse('team-agents', args=[named[0].team.slug])}"
            raise _wrong(f"{unusable(named[0])} Issue a new one at {page} .")
        others = _listed(key.name for key in keys if key.is_usable)
        raise _wrong(
            f"There is no agent key called {called!r}{f' in {slug}' if slug else ''}. Usable keys: {others or 'none'}."
        )


def _wrong(why: str) -> CommandError:
    return CommandError(shown(why, LINE), returncode=2)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
