"""Incident workflows and automation actions: what is started here is done at once."""

from __future__ import annotations

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    find_incident,
    invalid,
    matching,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.operations.incidents import add_note
from integrations.pagerduty.sandbox.shapes import (
    one_of,
    record,
    string,
)
from integrations.pagerduty.sandbox.world import (
    document,
    iso,
    number_id,
    reference,
)


def _workflow(workflow: Document, *shown: str) -> Document:
    return {name: value for name, value in workflow.items() if name not in ("steps", "team") or name in shown}


@route("GET", "/incident_workflows", "incident_workflows.read", plan=True)
def list_workflows(ask: Ask) -> Result:
    if unknown := ask.include - {"steps", "team"}:
        raise invalid(f"Include must be steps or team, not {', '.join(sorted(unknown))}")
    rows = matching(ask.world.workflows, ask.one("query"))
    return 200, ask.page("incident_workflows", rows, lambda row: _workflow(row, *ask.include))


@route("GET", "/incident_workflows/{id}", "incident_workflows.read", plan=True)
def get_workflow(ask: Ask) -> Result:
    return 200, {"incident_workflow": _workflow(find(ask.world.workflows, ask.path["id"]), "steps", "team")}


@route("POST", "/incident_workflows/{id}/instances", "incident_workflows:instances.write", plan=True)
def start_workflow(ask: Ask) -> Result:
    """Each step leaves its message on the incident as a note, under the name of the step."""
    world = ask.world
    workflow = find(world.workflows, ask.path["id"])
    asked = ask.read(
        "incident_workflow_instance",
        record(
            {"incident": record({"id": string()}, {"type": one_of("incident_reference", "incident")})},
            {"id": string(longest=255), "type": string()},
        ),
    )
    incident = find_incident(world, asked["incident"]["id"])
    identifier = asked.get("id") or world.next_id("P")
    if identifier in world.workflow_instances:
        raise invalid("An instance with this id was started before")
    if not workflow["is_enabled"]:
        raise invalid("The workflow is disabled")
    world.workflow_instances.append(identifier)
    told = {
        "id": identifier,
        "type": "incident_workflow_instance",
        "summary": workflow["name"],
        "incident_workflow": reference(workflow),
    }
    ask.tell("incident.workflow.started", incident, told)
    for step in workflow["steps"]:
        message = step["action_configuration"]["inputs"][0]["value"]
        add_note(ask, incident, f"{workflow['name']}, {step['name']}: {message}")
    ask.tell("incident.workflow.completed", incident, told)
    return 201, {
        "incident_workflow_instance": {
            "id": identifier,
            "type": "incident_workflow_instance",
            "incident": docs.incident_reference(incident),
        }
    }


@route("POST", "/automation_actions/actions/{id}/invocations", plan=True)
def invoke_action(ask: Ask) -> Result:
    world = ask.world
    action = find(world.automation_actions, ask.path["id"])
    asked = ask.read("invocation", record({"metadata": record({"incident_id": string()}, {"alert_id": string()})}))
    incident = find_incident(world, asked["metadata"]["incident_id"])
    identifier = number_id("01NVCT", len(world.invocations), 20)
    agent = (
        document("account_reference", "account", number_id("PACC", 0, 3), "Pagewarden sandbox")
        if ask.sender is None
        else reference(world.users[ask.sender])
    )
    invocation = {
        **document(
            "invocation", "automation_actions/invocations", identifier, action["name"], "automation-actions/invocations"
        ),
        "action_id": action["id"],
        "action_snapshot": {name: action[name] for name in ("name", "action_type", "action_data_reference")},
        "runner_id": action["runner"],
        "state": "sent",
        "timing": [{"timestamp": iso(ask.now), "state": state} for state in ("created", "sent")],
        "duration": 0,
        "metadata": {"agent": agent, "incident": docs.incident_reference(incident)},
    }
    world.invocations.append(invocation)
    return 201, {"invocation": invocation}
