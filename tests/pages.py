"""Every address of the portal, from the URL configuration itself, with an example of what each of them is about.

The matrix of who may what, the hostile texts, the screenshots and the browser take their pages from here: a page that is added
to the URL configuration is in all of them, or a test says what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import apps
from django.contrib.admin.utils import quote
from django.urls import URLPattern, URLResolver, get_resolver, resolve
from django.utils import timezone

from integrations.mirror_tasks import unpacked
from integrations.pagerduty.catalog import CATEGORIES
from policies.actions import set_up_token


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
        rows = ("stop", "audit-entry", "request", "mirror", "schedule", "coverage-policy", "escalation", "load-swaps")
        return "slug" in self.parameters or self.name in rows


def addresses() -> dict[str, Address]:
    """URL name → address, in the order of the URL configuration; what has several names goes by its first."""
    found: dict[str, Address] = {}
    for address in _walk(get_resolver(), "", ""):
        found.setdefault(address.route, address)
    return {address.name: address for address in found.values()}


def _walk(resolver: URLResolver, namespace: str, route: str) -> Iterator[Address]:
    for each in resolver.url_patterns:
        here = route + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from _walk(each, f"{namespace}{each.namespace}:" if each.namespace else namespace, here)
        elif isinstance(each, URLPattern):
            parameters = (*each.pattern.converters, *each.pattern.regex.groupindex)
            yield Address(f"{namespace}{each.name or here}", here, tuple(dict.fromkeys(parameters)))


def _first(rows: Any) -> Any:
    row = rows.order_by(*(("created_at",) if hasattr(rows.model, "created_at") else ()), "pk").first()
    assert row is not None, f"There is no {rows.model.__name__} to be an example: tests/world.py makes them."
    return row.pk


INVITED = "come-in"
"""The secret of an invitation's link."""
PROVIDER = "corp"
"""An OIDC provider, where the settings have it."""


def _key(team: Any) -> dict[str, Any]:
    return {"pk": _first(team.agent_keys.filter(revoked_at=None))}


def _passkey(team: Any) -> dict[str, Any]:
    """Of somebody who manages it."""
    mine = {"user__memberships__team": team, "user__memberships__role": "manager"}
    return {"pk": _first(_model("mfa.Authenticator").filter(type="webauthn", **mine))}


def _seat(team: Any) -> int:
    """A membership: of somebody who does not manage it, where there is one."""
    return int(team.memberships.order_by("-role", "pk").values_list("pk", flat=True)[0])


GAPPY = "PGAPPY1"
"""An escalation policy that reaches nobody on Sundays."""


def _schedule(team: Any) -> str:
    rows = _model("integrations.MirroredDocument").filter(connection=_first(team.connections), kind="schedules")
    return str(rows.filter(gone_at=None).order_by("remote_id").values_list("remote_id", flat=True)[0])


def _rota(team: Any) -> dict[str, Any]:
    return {"connection": _first(team.connections), "schedule_id": _schedule(team)}


def _in_the_rota(team: Any) -> str:
    """Whoever has its first turns: its manager."""
    rows = _model("integrations.MirroredDocument").filter(connection=_first(team.connections), kind="schedules")
    document = unpacked(rows.get(remote_id=_schedule(team)).body)["schedule"]
    return str(document["schedule_layers"][0]["users"][0]["user"]["id"])


def feed_token(team: Any) -> str:
    """The secret of its manager's calendar feed."""
    return f"pwf_{team.slug}"


EXAMPLES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "invitation": lambda team: {"token": INVITED},
    "set-up": lambda team: {"token": set_up_token(timezone.now())},
    "openid_connect_login": lambda team: {"provider_id": PROVIDER},
    "openid_connect_callback": lambda team: {"provider_id": PROVIDER},
    "mfa_remove_webauthn": _passkey,
    "member-leave": lambda team: {"pk": _seat(team)},
    "stop": lambda team: {"pk": _first(_model("policies.Stop").filter(team_id=team.pk))},
    "connection": lambda team: {"pk": _first(team.connections)},
    "connection-test": lambda team: {"pk": _first(team.connections)},
    "connection-delete": lambda team: {"pk": _first(team.connections)},
    "standing-check": lambda team: {"pk": _first(team.standing_checks)},
    "mirror": lambda team: {"connection": _first(team.connections)},
    "coverage-policy": lambda team: {"connection": _first(team.connections), "policy_id": GAPPY},
    "escalation": lambda team: {"connection": _first(team.connections), "policy_id": GAPPY},
    "schedule": _rota,
    "load-swaps": _rota,
    "feed": lambda team: {"token": feed_token(team)},
    "team-preset": lambda team: {"name": "observer"},
    "agent-connect": _key,
    "agent-change": _key,
    "stop-agent": _key,
    "person": lambda team: {"pk": team.memberships.order_by("role", "pk").values_list("user", flat=True)[0]},
    "request": lambda team: {"pk": _first(team.tool_requests)},
    "audit-checkpoint": lambda team: {"pk": _first(_model("policies.Checkpoint"))},
    "grid-tool": lambda team: {"name": "resolve_incident"},
    "audit-entry": lambda team: {"pk": _first(_model("policies.Entry").filter(team_id=team.pk))},
    "admin:policies_membership_change": lambda team: {"object_id": _seat(team)},
    "admin:policies_membership_delete": lambda team: {"object_id": _seat(team)},
    "admin:view_on_site": lambda team: {"content_type_id": 1, "object_id": 1},
    "admin:app_list": lambda team: {"app_label": "policies"},
}
"""URL name → the parameters of an example that belongs to a team, but for its slug. Those of one row of a model in the admin are
found by its name."""

QUERIES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "search key": lambda team: {"q": f"pwk_{team.agent_keys.order_by('created_at')[0].prefix}"},
    "try tool": lambda team: {"tool": "list_incidents"},
    "grid-clone teams": lambda team: {"source": "payments", "target": "search"},
    "grid-category state": lambda team: {"category": CATEGORIES[0], "state": "on"},
    "explain decision": lambda team: {"decision": _decision(team)},
    "explain agent": lambda team: {"who": f"key:{_key(team)['pk']}", "tool": "resolve_incident"},
    "explain oneself": lambda team: {"who": f"me:{team.slug}", "tool": "resolve_incident", "arguments": "{}"},
    "coverage weeks": lambda team: {"weeks": 12, "team": team.slug},
    "response hour": lambda team: {"connection": _first(team.connections), "days": 28, "by": "hour"},
    "escalations days": lambda team: {"days": 365, "severity": "high", "team": team.slug},
    "escalation if": lambda team: {
        "if": "yes",
        "loops": 2,
        "was-1": 1,
        "delay-1": 20,
        "target-1": "schedule.PSCHGAP",
        "was-2": 0,
        "delay-2": 15,
        "target-2": "schedule.PSCHGAP",
    },
    "paged policy": lambda team: {"of": f"policy.{GAPPY}.{_first(team.connections)}"},
    "schedule day": lambda team: {"view": "day", "zone": "Asia/Kolkata"},
    "schedule month": lambda team: {"view": "month", "zone": "Europe/Berlin"},
    "load person": lambda team: {"connection": _first(team.connections), "person": _in_the_rota(team)},
    "load year": lambda team: {
        "connection": _first(team.connections),
        "days": 365,
        "hours": "insights",
        "sort": "name",
    },
    "load-swaps found": lambda team: {"found": "yes"},
    "access team": lambda team: {"day": timezone.now().date().isoformat(), "what": "risk:high", "team": team.slug},
}
"""URL name and a word → what the address of such a page asks for: an example that belongs to a team, where it names one."""


def _decision(team: Any) -> str:
    entries = _model("policies.Entry").filter(team_id=team.pk, kind="result").order_by("pk")
    return str(entries.values_list("decision_id", flat=True)[0])


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
