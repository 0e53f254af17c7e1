"""The incidents of a simulated account as rows, without its documents: as ``log_reading.py`` would read them, and quicker."""

from __future__ import annotations

from collections.abc import Iterator

from integrations.pagerduty.analysis.incidents import KIND, Incident, Step
from integrations.pagerduty.sandbox.documents import escalation_policy_of
from integrations.pagerduty.sandbox.world import Happening, World
from integrations.pagerduty.sandbox.world import Incident as Simulated

ASSIGNED = ("assign", "notify", "escalate")
ACTED = ("acknowledge", "resolve")


def rows(world: World, places: slice = slice(None)) -> Iterator[Incident]:
    for incident in world.incidents[places]:
        service = world.services[incident.service]
        yield Incident(
            id=incident.id,
            created=int(incident.created),
            number=incident.place + 1,
            title=incident.title,
            service_id=service["id"],
            policy_id=escalation_policy_of(world, incident)["id"],
            urgency=incident.urgency,
            priority="" if incident.priority is None else world.priorities[incident.priority]["name"],
            team_ids=tuple(team["id"] for team in service["teams"]),
            status=incident.status,
            resolved=None if incident.resolved is None else int(incident.resolved[0]),
            steps=tuple(_steps(world, incident)),
        )


def _steps(world: World, incident: Simulated) -> Iterator[Step]:
    for happening in incident.happenings():
        person = "" if happening.agent is None else world.users[happening.agent]["id"]
        kind = happening.type if happening.type in KIND else "other"
        user = person if kind in (*ASSIGNED, *ACTED) else ""
        yield Step(happening.id, int(happening.at), kind, user, _way(happening), "" if kind in ASSIGNED else person)


def _way(happening: Happening) -> str:
    match happening.type:
        case "notify":
            return str(happening.channel["notification"]["type"]).removesuffix("_notification")
        case "escalate":
            return "timeout" if happening.channel.get("type") == "timeout" else "manual"
        case "resolve":
            return "auto" if happening.agent is None else ""
    return ""
