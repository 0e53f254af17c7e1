"""Escalation policies."""

from __future__ import annotations

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


def _policy(ask: Ask, policy: Document) -> Document:
    found = dict(policy)
    if "services" in ask.include:
        found["services"] = [find(ask.world.services, row["id"]) for row in policy["services"]]
    if "teams" in ask.include:
        found["teams"] = [find(ask.world.teams, row["id"]) for row in policy["teams"]]
    if "targets" in ask.include:
        everything = {row["id"]: row for row in (*ask.world.users, *map(docs.bare, ask.world.schedules))}
        found["escalation_rules"] = [
            {**rule, "targets": [everything.get(row["id"], row) for row in rule["targets"]]}
            for rule in policy["escalation_rules"]
        ]
    return found


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
    targets = [*world.users, *world.schedules]
    rule = record(
        {
            "escalation_delay_in_minutes": whole(1, 1440),
            "targets": list_of(reference_to(targets, "a user or a schedule"), 1, 10),
        }
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
    targets = [*ask.world.users, *ask.world.schedules]
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
                "id": ask.world.next_id("PR"),
                "escalation_delay_in_minutes": rule["escalation_delay_in_minutes"],
                "targets": [reference(targets[place]) for place in rule["targets"]],
                "escalation_rule_assignment_strategy": "assign_to_everyone",
            }
            for rule in asked["escalation_rules"]
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
    return 201, {"escalation_policy": policy}


@route("PUT", "/escalation_policies/{id}", "escalation_policies.write")
def update_policy(ask: Ask) -> Result:
    policy = find(ask.world.policies, ask.path["id"])
    _change_policy(ask, policy, ask.read("escalation_policy", record({}, _policy_shapes(ask.world))))
    return 200, {"escalation_policy": policy}
