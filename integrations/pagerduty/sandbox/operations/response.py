"""The response to an incident: snooze, merge, call for help, tell stakeholders."""

from __future__ import annotations

from typing import Any, Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    ApiError,
    Ask,
    Result,
    find_incident,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.alerts import ALERT_LIMIT, kept_alerts
from integrations.pagerduty.sandbox.operations.incidents import acknowledge, notify, on_call, resolve
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    list_of,
    one_of,
    record,
    string,
    whole,
)
from integrations.pagerduty.sandbox.world import DAY, Incident, World, iso, reference

LONGEST_SNOOZE: Final = 7 * DAY


def _open_incident(ask: Ask) -> Incident:
    incident = find_incident(ask.world, ask.path["id"])
    if incident.status == "resolved":
        raise invalid("Incident Already Resolved")
    return incident


@route("POST", "/incidents/{id}/snooze", "incidents.write", needs_from=True)
def snooze(ask: Ask) -> Result:
    duration = ask.read_all(record({"duration": whole(1, LONGEST_SNOOZE)}))["duration"]
    incident = _open_incident(ask)
    if incident.status != "acknowledged":
        acknowledge(ask, incident)
    incident.extras().snoozed_until = ask.now + duration
    incident.happens("snooze", ask.now, ask.sender, {"type": "api", "until": iso(ask.now + duration)})
    if incident.place not in ask.world.snoozed:
        ask.world.snoozed.append(incident.place)
    return 201, {"incident": docs.incident_document(ask.world, incident, ask.include)}


def _incident(world: World) -> Shape:
    """A reference to an incident, or its number as an id."""

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        identifier = value.get("id") if isinstance(value, dict) else None
        if not isinstance(identifier, str):
            faults.append((path, "must be an object with an id"))
            return None
        try:
            return find_incident(world, identifier)
        except ApiError:
            faults.append((path, "is not an incident of the account"))
            return None

    return read


@route("PUT", "/incidents/{id}/merge", "incidents.write", needs_from=True)
def merge(ask: Ask) -> Result:
    target = find_incident(ask.world, ask.path["id"])
    asked = ask.read("source_incidents", list_of(_incident(ask.world), 1))
    sources: list[Incident] = list({row.place: row for row in asked}.values())
    if target.status == "resolved":
        raise invalid("Target incident must be open")
    if target in sources:
        raise invalid("Source incidents must not hold the target incident")
    if sum(len(incident.alert_list()) for incident in (target, *sources)) > ALERT_LIMIT:
        raise invalid("An incident cannot have more than 1000 alerts")
    into = docs.incident_reference(target)
    for source in sources:
        for alert in kept_alerts(source):
            alert.resolved = docs.alert_status(source, alert) == "resolved"
        kept_alerts(target).extend(kept_alerts(source))
        source.extras().alerts = []
        channel = {"type": "api", "summary": f"Merged into {into['summary']}"}
        if source.status == "resolved":
            source.happens("annotate", ask.now, ask.sender, channel)
        else:
            resolve(ask, source, channel, target)
        source.extras().merged_into = target.place
        summary = f"Merged {docs.incident_reference(source)['summary']} into this incident"
        target.happens("annotate", ask.now, ask.sender, {"type": "api", "summary": summary})
    return 200, {"incident": into}


def _person(world: World) -> Shape:
    """The id of a user: it reads as the place."""
    places = {user["id"]: place for place, user in enumerate(world.users)}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, str) or value not in places:
            faults.append((path, "is not the id of a user of the account"))
            return 0
        return places[value]

    return read


_TARGET: Final = record({"id": string(), "type": one_of("user_reference", "escalation_policy_reference")})


def _target(value: Any, path: Path, faults: list[Fault]) -> Any:
    """As the schema has it, or as its example does: ``{"responder_request_target": {...}}``."""
    if isinstance(value, dict) and "responder_request_target" in value:
        value, path = value["responder_request_target"], (*path, "responder_request_target")
    return _TARGET(value, path, faults)


def _called(ask: Ask, target: Document) -> tuple[Document, int]:
    """What a target of a responder request is, and the place of the user whom it calls."""
    if target["type"] == "user_reference":
        for place, user in enumerate(ask.world.users):
            if user["id"] == target["id"]:
                return user, place
    else:
        for policy in ask.world.policies:
            if policy["id"] == target["id"]:
                place_on_call = on_call(ask, policy)
                if place_on_call is None:
                    raise invalid("Nobody of the escalation policy is on call")
                return policy, place_on_call
    raise invalid(f"Responder request target {target['id']} is not one of the account")


def _with_face(user: Document) -> Document:
    return {**reference(user), "avatar_url": user["avatar_url"]}


@route("POST", "/incidents/{id}/responder_requests", "incidents.write", plan=True)
def request_responders(ask: Ask) -> Result:
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    asked = ask.read_all(
        record(
            {
                "requester_id": _person(world),
                "message": string(blank=True),
                "responder_request_targets": list_of(_target, 1, 50),
            }
        )
    )
    called = [_called(ask, target) for target in asked["responder_request_targets"]]
    incident = _open_incident(ask)
    extra, requester = incident.extras(), world.users[asked["requester_id"]]
    targets: list[Document] = []
    for target, place in called:
        user, by_policy = world.users[place], target["type"] == "escalation_policy"
        responder = next((row for row in extra.responders if row["user"]["id"] == user["id"]), None)
        if responder is None or responder["state"] in ("declined", "user_cancelled"):
            extra.responders = [row for row in extra.responders if row is not responder]
            responder = {
                "state": "pending",
                "user": _with_face(user),
                "incident": docs.incident_reference(incident),
                "updated_at": iso(ask.now),
                "message": asked["message"],
                "requester": _with_face(requester),
                "requested_at": iso(ask.now),
                "escalation_policy_requests": [],
            }
            extra.responders.append(responder)
            # As for high urgency, whatever the incident's is.
            notify(ask, incident, place, "high")
            told = docs.responder_told(responder, target if by_policy else None)
            ask.tell("incident.responder.added", incident, told)
        if by_policy and target["name"] not in responder["escalation_policy_requests"]:
            responder["escalation_policy_requests"].append(target["name"])
        targets.append(
            {
                "type": target["type"],
                "id": target["id"],
                "summary": target["summary"],
                "incident_responders": [dict(responder)],
            }
        )
    request = {
        "id": world.next_id("PRR"),
        "incident": docs.incident_reference(incident),
        "requester": reference(requester),
        "requested_at": iso(ask.now),
        "message": asked["message"],
        "responder_request_targets": targets,
    }
    extra.requests.append(request)
    return 200, {"responder_request": request}


@route("PUT", "/incidents/{id}/responder_requests/cancel", "incidents.write", plan=True)
def cancel_responders(ask: Ask) -> Result:
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    asked = ask.read_all(record({"requester_id": _person(world), "responder_request_targets": list_of(_TARGET, 1, 50)}))
    policies = {policy["id"]: policy["name"] for policy in world.policies}
    results = []
    for target in asked["responder_request_targets"]:
        by_policy = target["type"] == "escalation_policy_reference"
        wanted = [
            row
            for row in (incident.extra or docs.NOTHING_MORE).responders
            if (
                policies.get(target["id"]) in row["escalation_policy_requests"]
                if by_policy
                else row["user"]["id"] == target["id"]
            )
        ]
        states = {row["state"] for row in wanted}
        for row in wanted:
            if row["state"] == "pending":
                row |= {"state": "user_cancelled", "updated_at": iso(ask.now)}
        kept = next((state for state in ("joined", "declined") if state in states), "not_found")
        result = "cancelled" if "pending" in states else kept
        results.append({"type": target["type"], "id": target["id"], "result": result})
    return 200, {"responder_request_targets": results}


@route("POST", "/incidents/{id}/status_updates", "incidents.write", needs_from=True)
def create_status_update(ask: Ask) -> Result:
    world, incident = ask.world, find_incident(ask.world, ask.path["id"])
    asked = ask.read_all(record({"message": string()}, {"subject": string(), "html_message": string()}))
    if ("subject" in asked) != ("html_message" in asked):
        raise invalid("Subject and html message must be sent together")
    incident.happens("annotate", ask.now, ask.sender, {"type": "api", "summary": f"Status update: {asked['message']}"})
    # Its stakeholders: the teams of the service.
    teams = {team["id"] for team in world.services[incident.service]["teams"]}
    for place, user in enumerate(world.users):
        if any(team["id"] in teams for team in user["teams"]):
            notification = {"type": "email_notification", "address": user["email"], "status": "success"}
            incident.happens("notify", ask.now, place, {"type": "auto", "notification": notification})
    update = {
        "id": world.next_id("PSU"),
        "message": asked["message"],
        "created_at": iso(ask.now),
        "sender": reference(world.users[ask.sender or 0]),
        **{name: asked[name] for name in ("subject", "html_message") if name in asked},
    }
    told = {"id": update["id"], "message": asked["message"], "trimmed": False, "type": "incident_status_update"}
    ask.tell("incident.status_update_published", incident, told)
    return 200, {"status_update": update}
