"""``include[]`` and whatever else could widen an answer, in every spelling, of every operation: allowed by the tool, or not
sent."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode

from integrations.pagerduty.catalog import HARMLESS, HOLDS, INCLUDES, OPERATIONS, UNPUBLISHED, tools_for
from integrations.pagerduty.resolve import BODY_OPTIONAL, resolve
from policies.core.call import Call, Door, JobCredential, KeyCredential, Operation, PersonCredential
from tests.gateway.processes import Portal, received
from tests.published_schema import published, resolved

SERVED: Final = {id: operation for id, operation in OPERATIONS.items() if tools_for(id)}
DENIED: Final[Mapping[str, frozenset[str]]] = {
    # Another tool's data, which a key may not have: a log entry's channel, a step's inputs, integration keys, people.
    "getIncident": frozenset({"first_trigger_log_entries"}),
    "listIncidents": frozenset({"first_trigger_log_entries"}),
    "listIncidentAlerts": frozenset({"first_trigger_log_entries"}),
    "getLogEntry": frozenset({"channels"}),
    "listLogEntries": frozenset({"channels"}),
    "listIncidentLogEntries": frozenset({"channels"}),
    "listIncidentWorkflows": frozenset({"steps"}),
    "getMaintenanceWindow": frozenset({"users"}),
    "listMaintenanceWindows": frozenset({"users"}),
    "getService": frozenset({"integrations"}),
    "listServices": frozenset({"integrations"}),
    "getStatusPagePost": frozenset({"status_page_post_update"}),
    "listTeamUsers": frozenset({"users"}),
    "listUsers": frozenset({"contact_methods", "notification_rules", "subdomains"}),
    "getUser": frozenset({"calendar_urls", "contact_methods", "notification_rules", "subdomains"}),
    "getCurrentUser": frozenset({"calendar_urls", "contact_methods", "notification_rules", "subdomains"}),
    "getUserNotificationRules": frozenset({"contact_methods"}),
}
"""What PagerDuty publishes for an operation's ``include[]`` and its tool may not ask for."""
TAKEN: Final = ("include[]={}", "include%5B%5D={}", "include%5b%5d={}", "%69nclude[]={}", "include[]={0}&include[]={0}")
NEVER: Final = (
    *("include={}", "include[0]={}", "include%5B0%5D={}", "include[][]={}", "INCLUDE[]={}", "Include[]={}"),
    *("include%255B%255D={}", "include[{}]=1", "include.={}", "+include[]={}", "include[]%00={}", "include[%5D%5D={}"),
    *("includes[]={}", "includes={}", "include[]=;{}", "include[]={},", "include[]=%20{}", "limit=1;include[]={}"),
)
WIDE: Final = (
    "include",
    "include[]",
    "includes",
    "fields",
    "fields[]",
    "expand",
    "_method",
    "additional_fields",
    "scope",
)
"""What other APIs, or Rails, would widen or turn a request by: keys of bodies, names in queries."""


def call(operation: Operation, query: str = "", body: Any = None) -> Call:
    path = operation.path.replace("{entity_type}", "users")
    path = "/".join("PX00001" if part.startswith("{") else part for part in path.split("/"))
    sent = b"" if body is None else json.dumps(body).encode()
    return Call(Door.REST, KeyCredential("x"), operation.method, path, query, sent, "application/json" if sent else "")


def parameters(folder: Path, operation: Operation) -> dict[str, set[str]]:
    """Query parameter → the words that PagerDuty publishes for it, none where it lists none."""
    found: dict[str, set[str]] = {}
    for each in published(folder, operation.method, operation.path)["parameters"]:
        parameter = resolved(folder, each)
        if parameter["in"] == "query":
            schema = resolved(folder, parameter.get("schema", {}))
            found[parameter["name"]] = set(schema.get("enum") or schema.get("items", {}).get("enum") or ())
    return found


def fault(call: Call) -> str:
    return resolve(call).fault


def judged(operation: Operation, query: str) -> tuple[str, str]:
    """What is wrong with the query, beside a body that will do, and what would be sent of it."""
    root = min(HOLDS[operation.id], default="")
    body = {root: [{"title": "x"}] if root == "incidents" else {"title": "x"}} if operation.has_body else None
    found = resolve(call(operation, query, body))
    assert not found.fault.startswith("body_"), (operation.id, found.problem)
    return found.fault, found.request.query if found.request else ""


def test_what_the_portals_own_jobs_include_needs_the_tool_whose_data_it_is() -> None:
    """And nobody else may include it, whichever tools they have on."""
    query = "include[]=contact_methods&include[]=notification_rules&include[]=teams"
    job = resolve(Call(Door.JOB, JobCredential("mirror", "x"), "GET", "/users", query))
    assert (job.fault, [tool.name for tool in job.tools]) == (
        "",
        ["list_users", "list_user_contact_methods", "list_user_notification_rules"],
    )
    person = Call(Door.WEB, PersonCredential(1, "Ada", 1, "Payments", "x"), "GET", "/users", query)
    assert fault(person) == "include_not_allowed"
    for value in ("subdomains", "contact_methods,subdomains", "calendar_urls"):
        assert fault(Call(Door.JOB, JobCredential("mirror", "x"), "GET", "/users", f"include[]={value}")) != ""
    assert fault(Call(Door.JOB, JobCredential("mirror", "x"), "GET", "/users/PX00001", query)) == "include_not_allowed"


def test_what_of_the_published_values_is_denied_is_decided_one_by_one(schema_dir: Path) -> None:
    denied = {}
    for id, operation in SERVED.items():
        values = parameters(schema_dir, operation).get("include[]", set())
        if left := {value for value in values if any(value not in INCLUDES[tool.name] for tool in tools_for(id))}:
            denied[id] = left
    assert denied == DENIED


def test_every_value_of_every_operation_passes_where_its_tool_may_include_it_and_in_no_other_spelling(
    schema_dir: Path,
) -> None:
    values = {value for one in SERVED.values() for value in parameters(schema_dir, one).get("include[]", ())}
    values |= {value for allowed in INCLUDES.values() for value in allowed} | {"", "everything"}
    allowed = 0
    for id, operation in SERVED.items():
        for value in sorted(values):
            may = operation.reads and all(value in INCLUDES[tool.name] for tool in tools_for(id))
            allowed += may
            for spelling in TAKEN:
                problem, sent = judged(operation, spelling.format(value))
                if may:
                    pair = urlencode([("include[]", value)])
                    assert (problem, sent) in (("", pair), ("", f"{pair}&{pair}")), (id, spelling, value)
                else:
                    assert problem in ("include_not_allowed", "query_unexpected"), (id, spelling, value)
            for spelling in NEVER:
                assert judged(operation, spelling.format(value))[0].startswith(("query_", "include_")), (id, spelling)
    assert allowed > 60


def test_an_operation_takes_the_parameters_that_it_publishes_and_of_others_what_only_cuts_a_list(
    schema_dir: Path,
) -> None:
    taken = {id: parameters(schema_dir, operation).keys() for id, operation in SERVED.items()}
    names = {name for one in taken.values() for name in one} | {*WIDE, *HARMLESS, "user_ids", "team_ids", "limit[]"}
    for id, operation in SERVED.items():
        for name in names - {"include[]"}:
            known = name in taken[id] or (operation.reads and name in HARMLESS)
            problem = judged(operation, f"{quote(name)}=PX00001")[0]
            if known:
                assert problem == "", (id, name)
            else:
                assert problem.startswith(("query_", "include_")), (id, name)


def test_a_body_holds_the_keys_that_its_operation_publishes_and_no_other(schema_dir: Path) -> None:
    for id, operation in SERVED.items():
        if not operation.has_body:
            continue
        content = published(schema_dir, operation.method, operation.path)["requestBody"]["content"]
        schema = resolved(schema_dir, content["application/json"]["schema"])
        known = {*tops(schema_dir, schema), *UNPUBLISHED.get(id, ())}
        assert known
        for name in known:
            assert not fault(call(operation, body={name: {}})).startswith("body_unknown"), (id, name)
        whole: dict[str, Any] = {name: {} for name in known}
        for stray in (*WIDE, "Incident", "incident_id", "team_ids"):
            assert fault(call(operation, body={**whole, stray: "x"})).startswith("body_"), (id, stray)
        if id in BODY_OPTIONAL:
            assert fault(call(operation)) == ""


def tops(folder: Path, schema: Mapping[str, Any]) -> set[str]:
    """Names at the top of a body, in whatever parts its schema comes."""
    found = set(schema.get("properties", {}))
    for part in (*schema.get("allOf", ()), *schema.get("oneOf", ()), *schema.get("anyOf", ())):
        found |= tops(folder, resolved(folder, part))
    return found


def test_what_arrives_includes_what_is_allowed_and_nothing_else(
    portal: Portal, upstream: tuple[str, Path], schema_dir: Path
) -> None:
    """Through the door, with every tool on: each published value of each operation."""
    portal.shell(
        "from policies.actions import do_set_tools\nfrom policies.models import Team\n"
        "from policies.core.call import State\nfrom integrations.pagerduty.catalog import TOOLS\n"
        "do_set_tools(Team.objects.get(slug='payments'), states=dict.fromkeys(TOOLS, State.ON), tools=TOOLS, by='test')"
    )
    sent = 0
    for id, operation in SERVED.items():
        for value in sorted(parameters(schema_dir, operation).get("include[]", ())):
            asked = call(operation)
            before = len(received(upstream[1]))
            answer = portal.call(operation.method, f"{asked.path}?include%5B%5D={value}")
            arrived = [one["path"] for one in received(upstream[1])[before:]]
            if value in DENIED.get(id, ()):
                assert (answer.status, arrived) == (400, []), (id, value)
                assert "may not include that" in answer.errors[0]
            else:
                assert (answer.status, arrived) == (200, [f"{asked.path}?include%5B%5D={value}"]), (id, value)
                sent += 1
    assert sent > 40
