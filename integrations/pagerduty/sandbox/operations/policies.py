"""Escalation policies."""

from __future__ import annotations

from typing import Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find,
    invalid,
    matching,
    of_teams,
    route,
)
from integrations.pagerduty.sandbox.documents import Document
from integrations.pagerduty.sandbox.schedule_documents import schedule_document
from integrations.pagerduty.sandbox.shapes import (
    Shape,
    list_of,
    one_of,
    record,
    reference_to,
    string,
    whole,
)
from integrations.pagerduty.sandbox.world import (
    World,
    document,
    reference,
)

STRATEGIES: Final = ("assign_to_everyone", "round_robin")


def targets_of(world: World) -> list[Document]:
    """What a level of a policy can notify."""
    return [*world.users, *world.schedules, *world.v3]


def _policy(ask: Ask, policy: Document) -> Document:
    """With what it refers to as that is now called."""
    world = ask.world
    services = [row for row in world.services if row["escalation_policy"]["id"] == policy["id"]]
    teams = [find(world.teams, row["id"]) for row in policy["teams"]]
    known = {row["id"]: row for row in targets_of(world)}

    def target(row: Document) -> Document:
        whole = known.get(row["id"])
        if whole is None:  # somebody who has left the account
            return row
        if "targets" not in ask.include or whole["type"] == "schedule_v3":
            return reference(whole)
        return whole if whole["type"] == "user" else schedule_document(world, whole)

    return {
        **policy,
        "services": [docs.expanded(row, "services", ask.include) for row in services],
        "teams": [docs.expanded(row, "teams", ask.include) for row in teams],
        "escalation_rules": [
            {**rule, "targets": [target(row) for row in rule["targets"]]} for rule in policy["escalation_rules"]
        ],
    }


@route("GET", "/escalation_policies", "escalation_policies.read")
def list_policies(ask: Ask) -> Result:
    rows = of_teams(matching(ask.world.policies, ask.one("query")), ask.many("team_ids"))
    if users := ask.many("user_ids"):
        rows = [
            row
            for row in rows
            if any(target["id"] in users for rule in row["escalation_rules"] for target in rule["targets"])
        ]
    rows = sorted(rows, key=lambda row: row["name"], reverse=ask.one("sort_by").endswith("desc"))
    return 200, ask.page("escalation_policies", rows, lambda row: _policy(ask, row))


@route("GET", "/escalation_policies/{id}", "escalation_policies.read")
def get_policy(ask: Ask) -> Result:
    return 200, {"escalation_policy": _policy(ask, find(ask.world.policies, ask.path["id"]))}


def _policy_shapes(world: World) -> dict[str, Shape]:
    rule = record(
        {
            "escalation_delay_in_minutes": whole(1, 1440),
            "targets": list_of(reference_to(targets_of(world), "a user or a schedule"), 1, 10),
        },
        {"id": string(), "escalation_rule_assignment_strategy": one_of(*STRATEGIES)},
    )
    return {
        "type": string(),
        "name": string(longest=100),
        "escalation_rules": list_of(rule, 1, 20),
        "description": string(blank=True),
        "num_loops": whole(0, 9),
        "on_call_handoff_notifications": one_of("if_has_services", "always"),
        "teams": list_of(reference_to(world.teams, "a team"), 0, 1),
    }


def _change_policy(ask: Ask, policy: Document, asked: Document) -> None:
    if any(row["name"] == asked.get("name") and row["id"] != policy["id"] for row in ask.world.policies):
        raise invalid("Name has already been taken")
    targets = targets_of(ask.world)
    kept = {rule["id"] for rule in policy.get("escalation_rules", ())}
    named = [rule.get("id") for rule in asked.get("escalation_rules", ())]
    changed: Document = {
        name: asked[name]
        for name in ("name", "description", "num_loops", "on_call_handoff_notifications")
        if name in asked
    }
    if "name" in asked:
        changed["summary"] = asked["name"]
    if "teams" in asked:
        changed["teams"] = [reference(ask.world.teams[place]) for place in asked["teams"]]
    if "escalation_rules" in asked:
        changed["escalation_rules"] = [
            {
                "id": rule["id"] if rule.get("id") in kept - {*named[:number]} else ask.world.next_id("PR"),
                "escalation_delay_in_minutes": rule["escalation_delay_in_minutes"],
                "targets": [reference(targets[place]) for place in rule["targets"]],
                "escalation_rule_assignment_strategy": rule.get("escalation_rule_assignment_strategy", STRATEGIES[0]),
            }
            for number, rule in enumerate(asked["escalation_rules"])
        ]
    policy |= changed


@route("POST", "/escalation_policies", "escalation_policies.write")
def create_policy(ask: Ask) -> Result:
    shapes = _policy_shapes(ask.world)
    required = {name: shapes.pop(name) for name in ("name", "escalation_rules")}
    asked = ask.read("escalation_policy", record(required, shapes))
    identifier = ask.world.next_id("P")
    policy: Document = {
        **document("escalation_policy", "escalation_policies", identifier, ""),
        "description": "",
        "num_loops": 0,
        "on_call_handoff_notifications": "if_has_services",
        "services": [],
        "teams": [],
    }
    _change_policy(ask, policy, asked)
    ask.world.policies.append(policy)
    return 201, {"escalation_policy": _policy(ask, policy)}


@route("PUT", "/escalation_policies/{id}", "escalation_policies.write")
def update_policy(ask: Ask) -> Result:
    policy = find(ask.world.policies, ask.path["id"])
    _change_policy(ask, policy, ask.read("escalation_policy", record({}, _policy_shapes(ask.world))))
    return 200, {"escalation_policy": _policy(ask, policy)}


@route("DELETE", "/escalation_policies/{id}", "escalation_policies.write")
def delete_policy(ask: Ask) -> Result:
    world = ask.world
    policy = find(world.policies, ask.path["id"])
    if any(service["escalation_policy"]["id"] == policy["id"] for service in world.services):
        raise invalid("Escalation policy is used by a service and cannot be deleted")
    place = world.policies.index(policy)
    for incident in world.incidents:
        # Incidents know a policy by its place. One whose policy is gone is left with its service's.
        if incident.policy is not None and incident.policy >= place:
            incident.policy = None if incident.policy == place else incident.policy - 1
    world.policies.remove(policy)
    return 204, None
