"""Every address of the portal, from the URL configuration itself, with an example of what each of them is about.

The matrix of who may what, the hostile texts, the screenshots and the browser take their pages from here: a page that is added
to the URL configuration is in all of them, or a test says what is missing. Run as a program it prints the examples of the
environment's database as JSON, URL name → path: ``python -m tests.pages``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.admin.utils import quote
from django.urls import URLPattern, URLResolver, get_resolver, resolve


@dataclass(frozen=True)
class Address:
    name: str
    """As ``reverse`` takes it, with its namespace; one that has no name is called by its route."""
    route: str
    """From the root, as the URL configuration writes it, with no slash before it."""
    parameters: tuple[str, ...]

    @property
    def of_a_team(self) -> bool:
        """Whether it is about something that belongs to a team."""
        return "slug" in self.parameters or self.name in ("stop", "audit-entry")


def addresses() -> dict[str, Address]:
    """URL name → address, in the order of the URL configuration."""
    found: dict[str, Address] = {}
    for address in _walk(get_resolver(), "", ""):
        found.setdefault(address.name, address)
    return found


def _walk(resolver: URLResolver, namespace: str, route: str) -> Iterator[Address]:
    for each in resolver.url_patterns:
        here = route + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _walk(each, f"{namespace}{each.namespace}:" if each.namespace else namespace, here)
        elif isinstance(each, URLPattern):
            parameters = (*each.pattern.converters, *each.pattern.regex.groupindex)
            yield Address(f"{namespace}{each.name or here}", here, tuple(dict.fromkeys(parameters)))


def _first(rows: Any) -> Any:
    row = rows.order_by("pk").first()
    assert row is not None, f"There is no {rows.model.__name__} to be an example: tests/world.py makes them."
    return row.pk


EXAMPLES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "stop": lambda team: {"pk": _first(_model("policies.Stop").filter(team_id=team.pk))},
    "connection": lambda team: {"pk": _first(team.connections)},
    "team-preset": lambda team: {"name": "observer"},
    "agent-connect": lambda team: {"pk": _first(team.agent_keys.filter(revoked_at=None))},
    "stop-agent": lambda team: {"pk": _first(team.agent_keys.filter(revoked_at=None))},
    "grid-tool": lambda team: {"name": "resolve_incident"},
    "audit-entry": lambda team: {"pk": _first(_model("policies.Entry").filter(team_id=team.pk))},
    "admin:view_on_site": lambda team: {"content_type_id": 1, "object_id": 1},
    "admin:app_list": lambda team: {"app_label": "policies"},
}
"""URL name → the parameters of an example that belongs to a team, but for its slug. Those of one row of a model in the admin are
found by its name."""


def _model(label: str) -> Any:
    return apps.get_model(label)._default_manager.all()


def path_of(address: Address, team: Any) -> str:
    """An example of it that belongs to ``team``, or is of the portal as a whole."""
    values: dict[str, Any] = {"slug": team.slug} if "slug" in address.parameters else {}
    if make := EXAMPLES.get(address.name):
        values |= make(team)
    elif address.parameters == ("object_id",):
        app, model = address.route.split("/")[1:3]
        values["object_id"] = quote(_first(_model(f"{app}.{model}")))
    elif address.route == "admin/(?P<url>.*)$":
        values["url"] = "nothing"
    missing = set(address.parameters) - values.keys()
    assert not missing, (
        f"The page {address.name} (/{address.route}) is about something: say in EXAMPLES of tests/pages.py where an example of "
        f"its {' and '.join(sorted(missing))} comes from."
    )
    return _path(address, values)


def _path(address: Address, values: dict[str, Any]) -> str:
    """Filled in here and not by ``reverse``, which does not find what has no name."""

    def value(found: re.Match[str]) -> str:
        return str(values[found[1] or found[2]])

    # As ``ResolverMatch.route`` has it.
    route = address.route.replace("^", "")
    path = "/" + re.sub(r"\(\?P<(\w+)>[^)]*\)|<(?:\w+:)?(\w+)>", value, route).removesuffix("$")
    assert resolve(path).route == route, f"{path} is taken for {resolve(path).view_name}, not for {address.name}."
    return path


if __name__ == "__main__":
    import django

    django.setup()
    from policies.models import Team

    first = Team.objects.get(slug="payments")
    print(json.dumps({name: path_of(address, first) for name, address in addresses().items()}))  # noqa: T201
