"""The catalogue: the tools that must exist, with everything a tool says of itself, and every operation that is published."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from integrations.pagerduty import catalog
from integrations.pagerduty.catalog import (
    ALIASES,
    BOUNDS,
    BOUNDS_OF,
    CATEGORIES,
    INCLUDES,
    JOB_READS,
    OPERATIONS,
    PRESETS,
    TOOLS,
    tools_for,
)
from integrations.pagerduty.tools import definitions
from policies.core.call import Risk, State, Tool
from tests.published_schema import refused

FREE_TEXT = {"title", "name", "summary", "description", "details", "content", "query", "note", "resolution", "email"}


@lru_cache(maxsize=1)
def schema(folder: Path) -> Any:
    return json.loads((folder / "openapi.json").read_text())


def followed(folder: Path, node: Any) -> Any:
    while isinstance(node, dict) and "$ref" in node:
        found = schema(folder)
        for step in node["$ref"].removeprefix("#/").split("/"):
            step = step.replace("~1", "/").replace("%7B", "{").replace("%7D", "}")
            found = found[int(step)] if isinstance(found, list) else found[step]
        node = found
    return node


def queried(folder: Path, operation_id: str) -> dict[str, Any]:
    """An operation's query parameters, by name, each as its schema."""
    operation = OPERATIONS[operation_id]
    path = schema(folder)["paths"][operation.path]
    listed = [
        followed(folder, each)
        for each in [*path.get("parameters", ()), *path[operation.method.lower()].get("parameters", ())]
    ]
    return {each["name"]: followed(folder, each["schema"]) for each in listed if each["in"] == "query"}


def body_of(folder: Path, operation_id: str) -> Any:
    operation = OPERATIONS[operation_id]
    if not operation.has_body:
        return {}
    body = followed(folder, schema(folder)["paths"][operation.path][operation.method.lower()]["requestBody"])
    return next(iter(body["content"].values()))["schema"]


def fields(folder: Path, node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field that a schema lets a caller write, with its path."""
    node = followed(folder, node)
    if node.get("readOnly") or len(path) > 8:
        return
    yield path, node
    for part in [*node.get("allOf", ()), *node.get("anyOf", ()), *node.get("oneOf", ())]:
        yield from fields(folder, part, path)
    for name, each in node.get("properties", {}).items():
        yield from fields(folder, each, (*path, name))
    if "items" in node:
        yield from fields(folder, node["items"], path)


def written(folder: Path, operation_id: str) -> dict[tuple[str, ...], Any]:
    return dict(fields(folder, body_of(folder, operation_id)))


def test_all_published_operations_are_known_as_they_are_published(schema_dir: Path) -> None:
    published = json.loads((schema_dir / "operations.json").read_text())
    assert len(published) == len(OPERATIONS) == 465
    for row in published:
        operation = OPERATIONS[row["operation_id"]]
        assert (operation.method, operation.path) == (row["method"], row["path"])
        assert set(operation.scopes) == set(row["scopes"])
        assert operation.has_body == row["has_request_body"]
        # The text of three speaks of something else that is deprecated: what they replace, or an older form of their body.
        assert operation.deprecated == (row["deprecated"] or row["end_of_life"])
        assert operation.reads == (row["method"] == "GET" or row["read_only_semantics"])


def test_every_required_tool_is_there_with_its_operations_risk_and_default(schema_dir: Path) -> None:
    rows = json.loads((schema_dir / "required_tools.json").read_text())
    assert len(rows) == 29
    for row in rows:
        assert any(
            set(row["operation_ids"]) <= set(tool.operations)
            and tool.risk.value == row["risk"]
            and tool.default.value == row["default"]
            for tool in TOOLS.values()
        ), row["tool"]


def test_every_operation_worth_a_tool_has_one_with_its_risk_and_default(schema_dir: Path) -> None:
    rows = json.loads((schema_dir / "catalogue_extra.json").read_text())
    assert len(rows) == 94
    for row in rows:
        stated = (row["risk"], "on" if row["default_enabled"] else "off")
        assert {(tool.risk.value, tool.default.value) for tool in tools_for(row["operation_id"])} == {stated}, row


LEFT_OUT = {
    "create_alert_grouping_setting",
    "update_alert_grouping_setting",
    "delete_alert_grouping_setting",
    "create_team",
    "update_team",
    "delete_team",
    "create_user",
    "delete_schedule_v3",
    "update_webhook_subscription",
}
"""Tools of PagerDuty's own MCP server whose operations are refused here."""


def test_whoever_comes_from_pagerdutys_own_server_finds_every_tool_but_nine(schema_dir: Path) -> None:
    rows = json.loads((schema_dir / "official_tools.json").read_text())
    assert len(rows) == 103
    for row in rows:
        name = row["tool"]
        if name in LEFT_OUT:
            assert name not in {*TOOLS, *ALIASES}
            assert not any(tools_for(operation_id) for operation_id in row["operation_ids"])
            continue
        assert (name in TOOLS) != (name in ALIASES), name
        covering = ALIASES.get(name, (name,))
        for operation_id in row["operation_ids"]:
            serving = {tool.name for tool in tools_for(operation_id)}
            # What is only read on the way (a service before its on-calls, a schedule before its update) may be another tool's.
            on_the_way = operation_id.startswith("get") and len(row["operation_ids"]) > 1
            assert serving if on_the_way else serving & set(covering), (name, operation_id)
        assert {TOOLS[each].writes for each in covering} == {row["rw"] == "write"}, name


def test_an_alias_is_one_of_pagerdutys_names_and_names_tools_in_the_catalogues_order(schema_dir: Path) -> None:
    official = {row["tool"] for row in json.loads((schema_dir / "official_tools.json").read_text())}
    assert set(ALIASES) <= official - set(TOOLS)
    assert ALIASES["manage_incidents"] == ("update_incident", "resolve_incident")
    for names in ALIASES.values():
        assert sorted(names, key=list(TOOLS).index) == list(names)


@pytest.mark.parametrize(
    ("aliases", "wrong"), [(["get_team"], "is the name of a tool"), (["list_alerts", "list_alerts"], "occurs twice")]
)
def test_an_alias_that_is_a_tools_name_or_said_twice_fails_the_import(aliases: list[str], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        catalog._aliases([{"name": "get_incident", "aliases": aliases}, {"name": "get_team"}])


def test_what_tools_say_of_themselves_fits_into_an_assistants_head() -> None:
    """It is read on every turn."""
    assert max((definitions.size(tool), tool.name) for tool in TOOLS.values()) <= (2000, "~")
    assert sum(definitions.size(TOOLS[name]) for name in PRESETS["core"]) <= 15_000
    shown = [tool for tool in TOOLS.values() if not tool.writes and tool.default is State.ON]
    assert sum(map(definitions.size, shown)) <= 64_000
    for tool in TOOLS.values():
        told = definitions.definition(tool, needs_approval=True)
        assert len(json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()) <= 2000, tool.name
        assert told["description"].endswith(tool.description)
        assert "approval" in told["description"]
    assert definitions.tokens(TOOLS[name] for name in PRESETS["core"]) < 4_000


def test_a_definition_says_what_a_tool_takes_and_nothing_twice() -> None:
    for tool in TOOLS.values():
        told = definitions.definition(tool)
        Draft202012Validator.check_schema(told["inputSchema"])
        taken = told["inputSchema"]["properties"]
        assert set(tool.input_schema["properties"]) <= taken.keys()
        assert ("detail" in taken) is not tool.writes
        # What is said is what is taken (arguments.py).
        assert taken.keys() - tool.input_schema["properties"].keys() <= {"detail", "time_zone"}
        assert all(each.keys() <= {*SAID, "enum", "items"} for each in taken.values())
        assert told["inputSchema"].get("required", []) == tool.input_schema["required"]
    assert "time_zone" in definitions.definition(TOOLS["list_incidents"])["inputSchema"]["properties"]
    assert {tool.name for tool in TOOLS.values() if not tool.writes} >= definitions.TIMELESS


SAID = {"type", "format", "description", "minimum", "maximum", "pattern", "minItems", "maxItems"}


def test_the_hints_of_a_write_say_whether_it_destroys_and_may_be_done_again() -> None:
    writes = {tool.name for tool in TOOLS.values() if tool.writes}
    assert writes >= definitions.DESTROYS | definitions.REPEATABLE
    for name in writes:
        hints = definitions.hints(TOOLS[name])
        assert hints["readOnlyHint"] is False
        overwrites = name.startswith(
            ("update_", "delete_", "remove_", "merge_", "resolve_", "set_", "cancel_", "disassociate_")
        )
        # A role is overwritten, and nobody knows what a script or a workflow does.
        runs = name in ("add_team_member", "start_incident_workflow", "invoke_automation_action")
        assert hints["destructiveHint"] is (overwrites or runs), name
        if name.startswith(("create_", "start_", "invoke_", "merge_", "snooze_")) or name == "update_incident":
            assert not hints["idempotentHint"], name  # an escalation notifies anew
        if name.startswith(("delete_", "remove_")):
            assert hints["idempotentHint"], name
    assert definitions.hints(TOOLS["generate_report"]) == {"readOnlyHint": True}


def test_the_instructions_are_short_and_say_what_binds() -> None:
    assert len(definitions.INSTRUCTIONS.encode()) < 1_200
    for word in (
        "recorded",
        "denied",
        '{"outside": ...}',
        "exact name",
        "detail=full",
        "left_out",
        "more",
        "UTC",
        "time_zone",
    ):
        assert word in definitions.INSTRUCTIONS


@pytest.mark.parametrize(
    ("name", "warned_of"),
    [
        ("merge_incidents", "for good"),
        ("create_maintenance_window", "silences paging"),
        ("update_maintenance_window", "silences paging"),
        ("create_incident_status_update", "subscribers"),
        ("add_responders", "pages them at once"),
        ("associate_service_dependencies", "what impact PagerDuty shows"),
        ("get_past_incidents", "402"),
        ("get_related_incidents", "402"),
        ("update_incident", "any acknowledge of a resolved incident reopens it"),
        ("list_incidents", "at most six months"),
        ("update_service", "pages nobody"),
        ("add_team_member", "gives access"),
        ("who_is_paged", "as of as_of"),
        ("coverage_gaps", "as of as_of"),
        ("schedule_quality", "as of as_of"),
    ],
)
def test_a_description_says_what_to_beware_of(name: str, warned_of: str) -> None:
    assert warned_of in TOOLS[name].description


def test_every_tool_says_all_of_itself() -> None:
    for tool in TOOLS.values():
        assert re.fullmatch(r"[a-z][a-z0-9_]{2,63}", tool.name)
        assert tool.category in CATEGORIES
        assert tool.description.endswith(".")
        assert len(tool.description) > 60
        assert tool.input_schema["additionalProperties"] is False
        for name, parameter in tool.input_schema["properties"].items():
            assert re.fullmatch(r"[a-z][a-z_]*", name)
            assert parameter["description"]
            assert parameter["type"] in ("string", "integer", "boolean", "array")  # flat
            if parameter["type"] == "array":
                assert parameter["items"]["type"] in ("string", "integer")
            assert "$ref" not in str(parameter)
        assert set(tool.input_schema["required"]) <= set(tool.input_schema["properties"])


def test_reads_are_on_writes_are_off_and_high_risk_reads_too() -> None:
    for tool in TOOLS.values():
        if tool.writes:
            assert tool.default is State.OFF
            assert tool.risk is not Risk.LOW
        elif tool.risk is Risk.LOW:
            assert tool.default is State.ON
    contact_methods = TOOLS["list_user_contact_methods"]
    assert (contact_methods.risk, contact_methods.default) == (Risk.MEDIUM, State.ON)


def test_neither_method_nor_scope_tells_whether_a_tool_reads() -> None:
    report = TOOLS["generate_report"]
    assert not report.writes
    assert {OPERATIONS[name].method for name in report.operations} == {"POST"}
    for tool in TOOLS.values():
        # Of one without an operation nothing is sent, so that it cannot write.
        assert {OPERATIONS[name].reads for name in tool.operations} <= {not tool.writes}
        assert tool.operations or not tool.writes


def test_presets_grow_with_the_role_and_core_is_small() -> None:
    writes = {name for name, tool in TOOLS.items() if tool.writes}
    assert not PRESETS["observer"] & writes
    assert PRESETS["observer"] < PRESETS["responder"] < PRESETS["manager"] == set(TOOLS)
    assert {"update_incident", "resolve_incident"} <= PRESETS["responder"]
    assert "create_escalation_policy" not in PRESETS["responder"]
    assert 10 <= len(PRESETS["core"]) <= 20
    assert set(TOOLS) - writes == JOB_READS
    on = {name for name, tool in TOOLS.items() if tool.default is State.ON}
    assert PRESETS["observer"] == on - writes
    assert not PRESETS["core"] - PRESETS["responder"]
    assert {"snooze_incident", "add_responders", "create_incident_status_update"} <= PRESETS["responder"]
    assert not {"merge_incidents", "create_maintenance_window", "list_audit_records"} & PRESETS["responder"]


def test_a_tool_sits_where_what_it_is_about_does() -> None:
    by_category = {
        category: {name for name, tool in TOOLS.items() if tool.category == category} for category in CATEGORIES
    }
    assert all(by_category.values())
    assert by_category["users"] == {
        "list_users",
        "get_user_data",
        "list_user_contact_methods",
        "list_user_notification_rules",
        "list_notifications",
        "get_user_oncall_status",
    }
    assert by_category["account"] == {"list_abilities", "list_audit_records"}
    for name, tool in TOOLS.items():
        assert ("team" in name) == (tool.category == "teams"), name
        assert ("change_event" in name) == (tool.category == "change events"), name
        assert ("status_page" in name) == (tool.category == "status pages"), name
        assert ("orchestration" in name) == (tool.category == "event orchestrations"), name


def test_no_tool_may_include_what_gives_secrets_away() -> None:
    for tool, allowed in INCLUDES.items():
        assert not allowed & {"calendar_urls", "notification_rules", "contact_methods"}, tool


@pytest.mark.parametrize(
    "operation", ["deleteUser", "createUser", "deleteTeam", "deleteScheduleV3", "updateWebhookSubscription"]
)
def test_operations_without_a_tool_have_none(operation: str) -> None:
    assert operation in OPERATIONS
    assert tools_for(operation) == ()


# What an entry keeps


def test_every_enumeration_that_a_tool_can_be_asked_with_is_kept(schema_dir: Path) -> None:
    for tool in TOOLS.values():
        for operation_id in tool.operations:
            for name, parameter in queried(schema_dir, operation_id).items():
                words = parameter.get("enum") or followed(schema_dir, parameter.get("items", {})).get("enum", ())
                if parameter.get("type") == "boolean":
                    words = ("true", "false")
                elif parameter.get("type") == "integer":
                    words = ("#number",)
                elif name == "time_zone":
                    words = ("#zone",)
                assert set(words) <= tool.keep.get(name, frozenset()), (operation_id, name)
            for path, field in written(schema_dir, operation_id).items():
                # Where a field elsewhere holds what people type, no word is kept. One list is a single text: "all, any".
                if "enum" in field and path[-1] not in FREE_TEXT:
                    listed = {part for word in field["enum"] if isinstance(word, str) for part in word.split(", ")}
                    assert listed <= tool.keep.get(path[-1], frozenset()), (operation_id, path)


def test_an_enumeration_of_a_tools_own_input_is_kept_by_that_tool() -> None:
    for tool in TOOLS.values():
        for name, parameter in tool.input_schema["properties"].items():
            words = parameter.get("enum") or parameter.get("items", {}).get("enum", ())
            assert set(words) <= tool.keep.get(name, frozenset()), (tool.name, name)
    assert "business" in TOOLS["list_service_dependencies"].keep["type"]
    assert "business" not in TOOLS["list_incidents"].keep["type"]


def test_nothing_is_kept_that_is_not_a_word_of_pagerdutys_or_the_tools_own(schema_dir: Path) -> None:
    published = (schema_dir / "openapi.json").read_text()
    # One list is not an enumeration but told in words: "incident_number/created_at/resolved_at/urgency"; one is a single text.
    published += '"incident_number" "urgency" "true" "false" "all" "any"'
    for tool in TOOLS.values():
        own = {word for each in tool.input_schema["properties"].values() for word in each.get("enum", ())}
        for name, words in tool.keep.items():
            assert name.removesuffix("[]") not in FREE_TEXT
            assert tool.keep[f"{name.removesuffix('[]')}[]"] == words
            for word in words - {"#number", "#zone"} - own:
                assert f'"{word.removesuffix(":asc").removesuffix(":desc")}"' in published, (name, word)
            assert "#number" not in words or name.removesuffix("[]") in ("limit", "offset")
            assert "#zone" not in words or name.removesuffix("[]") == "time_zone"


def test_whatever_is_asked_to_be_included_is_on_record_even_if_it_is_refused(schema_dir: Path) -> None:
    asked: set[str] = set()
    for operation_id in OPERATIONS:
        for name, parameter in queried(schema_dir, operation_id).items():
            if name == "include[]":
                asked |= set(parameter.get("enum") or followed(schema_dir, parameter.get("items", {})).get("enum", ()))
    assert TOOLS["list_incidents"].keep["include"] == asked
    assert "calendar_urls" in asked - set().union(*INCLUDES.values())


# Bounds


def test_every_operation_of_a_tool_has_one_word_for_how_it_is_held_in_bounds() -> None:
    assert set(BOUNDS_OF) == {operation for tool in TOOLS.values() for operation in tool.operations}
    assert set(BOUNDS_OF.values()) <= set(BOUNDS) - {"mirror"}  # nothing of it is an operation's
    for tool in TOOLS.values():
        words = {BOUNDS_OF[operation] for operation in tool.operations} or {"mirror"}
        assert tool.bounds == max(words, key=BOUNDS.index)  # the strictest
    assert TOOLS["get_incident"].bounds == "owner"
    assert TOOLS["list_log_entries"].bounds == "answer_owner"


@pytest.mark.parametrize("operation_id", sorted(BOUNDS_OF))
def test_an_operation_can_be_held_as_the_catalogue_says(operation_id: str, schema_dir: Path) -> None:
    word, operation = BOUNDS_OF[operation_id], OPERATIONS[operation_id]
    body = written(schema_dir, operation_id)
    if word in ("team_ids", "service_ids"):
        taken = queried(schema_dir, operation_id)
        assert f"{word}[]" in taken or ("filters", word) in body
    elif word == "owner":
        # Something is named that can be looked up before: in the path, or of a write, in the body.
        named = {"service", "services", "teams", "incidents", "supporting_service", "filter", "schedule_layers"}
        assert "{" in operation.path or named & {path[-1] for path in body if path}
    elif word == "answer_owner":
        assert operation.reads
        answers = schema(schema_dir)["paths"][operation.path][operation.method.lower()]["responses"]
        answer = next(answers[status] for status in sorted(answers) if status.startswith("2"))
        shown = next(iter(followed(schema_dir, answer)["content"].values()))["schema"]
        owners = {"team", "teams", "team_id", "escalation_policy", "service", "services", "service_id", "filter"}
        assert owners & {path[-1] for path, _ in everything(schema_dir, shown) if path}
    else:
        # Nothing that could be forced into the request: it is the whole account's, or reaches beyond what it names.
        assert not {"team_ids[]", "service_ids[]"} & set(queried(schema_dir, operation_id))
        assert not {("filters", "team_ids"), ("filters", "service_ids")} & set(body)


def everything(folder: Path, node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every field of an answer, three levels deep."""
    node = followed(folder, node)
    yield path, node
    for part in [*node.get("allOf", ()), *node.get("anyOf", ()), *node.get("oneOf", ())]:
        yield from everything(folder, part, path)
    if len(path) < 2:
        for name, each in node.get("properties", {}).items():
            yield from everything(folder, each, (*path, name))
    if "items" in node:
        yield from everything(folder, node["items"], path)


@pytest.mark.parametrize(
    "bounds",
    [
        {"getIncident": "owner"},
        {"listAbilities": "somehow"},
        {},
        "everything",
        {"listAbilities": "owner", "x": "owner"},
        "mirror",
    ],
)
def test_bounds_that_miss_an_operation_or_mean_nothing_fail_the_import(bounds: Any) -> None:
    with pytest.raises(ValueError, match="one known word for each of its operations"):
        catalog._bounds({"name": "list_abilities", "operations": ["listAbilities"], "bounds": bounds})


@pytest.mark.parametrize("bounds", ["owner", "unbounded", {}])
def test_a_tool_without_an_operation_says_that_the_mirror_holds_it_or_the_import_fails(bounds: Any) -> None:
    with pytest.raises(ValueError, match="one known word for each of its operations"):
        catalog._bounds({"name": "who_is_paged", "operations": [], "bounds": bounds})
    assert catalog._bounds({"name": "who_is_paged", "operations": [], "bounds": "mirror"}) == {}


# Input


def parameters() -> Iterator[tuple[Tool, str, dict[str, Any]]]:
    for tool in TOOLS.values():
        for name, parameter in tool.input_schema["properties"].items():
            yield tool, name, parameter


def test_every_input_schema_is_one_and_its_defaults_and_examples_fit_it() -> None:
    for tool, _, parameter in parameters():
        Draft202012Validator.check_schema(dict(tool.input_schema))
        fits = Draft202012Validator(parameter)
        for value in [*parameter.get("examples", ()), *([parameter["default"]] if "default" in parameter else ())]:
            fits.validate(value)


def test_every_number_says_its_least_and_most_and_every_page_its_size_and_start() -> None:
    for tool, name, parameter in parameters():
        number = parameter.get("items", parameter)
        if number["type"] == "integer":
            assert {"minimum", "maximum"} <= number.keys(), (tool.name, name)
            most = 10_000 if name == "offset" else number["maximum"]
            assert f"{most:,}" in parameter["description"], (tool.name, name)
        if name == "limit":
            assert (parameter["minimum"], parameter["default"]) in ((1, 5), (1, 25), (1, 100)), tool.name
            assert f"1 to {parameter['maximum']:,}. If not given, {parameter['default']}." in parameter["description"]
        if name == "offset":
            assert (parameter["minimum"], parameter["maximum"], parameter["default"]) == (0, 9999, 0)


def test_every_text_that_is_closed_says_its_words(schema_dir: Path) -> None:
    """What a read may be asked with and what is closed in PagerDuty's schema is closed in the tool's."""
    for tool, name, parameter in parameters():
        if tool.writes:
            continue
        for operation_id in tool.operations:
            asked = queried(schema_dir, operation_id)
            found = asked.get(name) or asked.get(f"{name}[]") or {}
            words = found.get("enum") or followed(schema_dir, found.get("items", {})).get("enum")
            if words:
                own = parameter.get("enum") or parameter.get("items", {}).get("enum", ())
                assert own, (tool.name, name)
                assert set(own) <= set(words), (tool.name, name)


TIMES = {
    *("since", "until", "start", "end", "start_time", "end_time", "starts_at", "ends_at"),
    *("effective_since", "effective_until", "at"),
}


def test_every_window_says_its_form_and_what_holds_without_it() -> None:
    for _, name, parameter in parameters():
        assert (name in TIMES) is (parameter.get("format") == "date-time"), name
        if name in ("since", "until"):
            assert re.search(r"If not given, .|has no default", parameter["description"])
        if name == "time_zone":
            assert "IANA name such as Europe/London" in parameter["description"]
            assert "If not given, " in parameter["description"]
    assert "times in the answer" not in TOOLS["update_schedule"].input_schema["properties"]["time_zone"]["description"]


def test_me_is_offered_where_an_operation_serves_it_and_nowhere_else() -> None:
    for tool, name, parameter in parameters():
        if name == "user_id":
            assert ("; or me," in parameter["description"]) == ("getCurrentUser" in tool.operations), tool.name


CHOOSING = {
    ("list_service_dependencies", "type"),
    ("generate_report", "subject"),
    ("get_incident_metrics_by_service", "subject"),
    ("get_incident_analytics", "subject"),
}
"""Parameters that choose one of a tool's operations, and reach none."""


def test_every_parameter_of_a_read_reaches_one_of_its_operations(schema_dir: Path) -> None:
    called = {"since": {"created_at_start", "date_range_start"}, "until": {"created_at_end", "date_range_end"}}
    for tool, name, _ in parameters():
        if tool.writes or (tool.name, name) in CHOOSING or not tool.operations:
            continue  # a write's are tested one by one, and so are those of what is answered from the mirror
        taken: set[str] = set()
        for operation_id in tool.operations:
            taken |= {each.removesuffix("[]") for each in queried(schema_dir, operation_id)}
            taken |= {path[-1] for path in written(schema_dir, operation_id) if path}
            taken |= {"{id}"} if "{id}" in OPERATIONS[operation_id].path else set()
            taken |= set(re.findall(r"\{(\w+)\}", OPERATIONS[operation_id].path))
        if name.endswith("_id") and name not in taken:
            assert "{id}" in taken, (tool.name, name)
        else:
            assert ({name} | called.get(name, set())) & taken, (tool.name, name)


def test_what_a_description_promises_has_its_parameter() -> None:
    given = {tool.name: set(tool.input_schema["properties"]) for tool in TOOLS.values()}
    assert {"priority_id", "assignee_ids", "escalation_level", "status", "title"} <= given["update_incident"]
    assert "log_entry_id" in given["list_log_entries"]
    assert "alert_id" in given["get_incident"]
    order = TOOLS["list_incidents"].input_schema["properties"]["sort_by"]
    assert "created_at:desc" in order["items"]["enum"]
    assert not any("newest first where" in tool.description for tool in TOOLS.values())


@pytest.mark.parametrize("name", ["create_escalation_policy", "update_escalation_policy"])
def test_the_levels_of_an_escalation_policy_fit_into_flat_parameters(name: str, schema_dir: Path) -> None:
    given = TOOLS[name].input_schema["properties"]
    [targets], [delays] = given["level_targets"]["examples"], given["level_delays"]["examples"]
    policy = {
        "type": "escalation_policy",
        "name": "Payments",
        "num_loops": given["repeats"].get("default", 0),
        "teams": [{"id": "PTEAM01", "type": "team_reference"}],
        "escalation_rules": [
            {
                "escalation_delay_in_minutes": delay,
                "targets": [
                    {"id": each.partition(":")[2], "type": f"{each.partition(':')[0]}_reference"}
                    for each in level.split(",")
                ],
            }
            for level, delay in zip(targets, delays, strict=True)
        ],
    }
    operation = OPERATIONS[TOOLS[name].operations[0]]
    assert refused(schema_dir, operation.method, operation.path, {"escalation_policy": policy}) == []
    # Every kind of target that PagerDuty takes can be said, and nothing that is no target.
    fits = Draft202012Validator(given["level_targets"])
    known = written(schema_dir, TOOLS[name].operations[0])[("escalation_policy", "escalation_rules", "targets", "type")]
    for kind in {each.removesuffix("_reference") for each in known["enum"]}:
        assert fits.is_valid([f"{kind}:PABC123, user:PDEF456"])
    for wrong in ("PABC123", "user:", "team:PABC123", "user:PABC123;user:PDEF456", "user:PABC123,", ""):
        assert not fits.is_valid([wrong])
    assert not fits.is_valid([])


def test_the_layers_of_a_schedule_fit_into_one_text(schema_dir: Path) -> None:
    given = TOOLS["update_schedule"].input_schema["properties"]
    assert given["layers"]["type"] == "string"
    layers = json.loads(given["layers"]["examples"][0])
    schedule = {"type": "schedule", "name": "Payments", "time_zone": "Europe/London", "schedule_layers": layers}
    path = "/schedules/{id}"
    assert refused(schema_dir, "PUT", path, {"schedule": schedule}) == []
    assert refused(schema_dir, "PUT", path, {"schedule": {**schedule, "schedule_layers": [{"name": "Weekly"}]}})
    for field in ("start", "users", "rotation_virtual_start", "rotation_turn_length_seconds"):
        assert field in given["layers"]["description"]


def test_a_parameter_that_says_what_means_nothing_fails_the_import() -> None:
    with pytest.raises(ValueError, match="says maximal"):
        catalog._schema({"limit": {"type": "integer", "description": "d", "maximal": 3}})


def test_a_shared_parameter_can_be_said_otherwise_in_a_tool() -> None:
    shared = {"limit": {"type": "integer", "description": "How many.", "minimum": 1}}
    [found] = catalog._parameters({"limit": {"like": "limit", "description": "Few."}}, shared).values()
    assert found == {"type": "integer", "description": "Few.", "minimum": 1}
