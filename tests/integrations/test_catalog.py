"""The catalogue: the tools that must exist, with everything a tool says of itself, and every operation that is published."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from integrations.pagerduty.catalog import CATEGORIES, INCLUDES, JOB_READS, OPERATIONS, PRESETS, TOOLS, tools_for
from policies.core.call import Risk, State


def test_all_published_operations_are_known_as_they_are_published(schema_dir: Path) -> None:
    published = json.loads((schema_dir / "operations.json").read_text())
    assert len(published) == len(OPERATIONS) == 465
    for row in published:
        operation = OPERATIONS[row["operation_id"]]
        assert (operation.method, operation.path) == (row["method"], row["path"])
        assert set(operation.scopes) == set(row["scopes"])
        assert operation.has_body == row["has_request_body"]
        assert operation.deprecated == (row["deprecated"] or row["deprecated_in_text"] or row["end_of_life"])
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


def test_every_tool_says_all_of_itself() -> None:
    for tool in TOOLS.values():
        assert re.fullmatch(r"[a-z][a-z_]{2,63}", tool.name)
        assert tool.category in CATEGORIES
        assert tool.description.endswith(".")
        assert len(tool.description) > 30
        assert tool.input_schema["additionalProperties"] is False
        for name, parameter in tool.input_schema["properties"].items():
            assert re.fullmatch(r"[a-z][a-z_]*", name)
            assert parameter["description"]
            assert parameter["type"] in ("string", "integer", "boolean", "array")  # flat
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
        assert {OPERATIONS[name].reads for name in tool.operations} == {not tool.writes}


def test_presets_grow_with_the_role_and_core_is_small() -> None:
    writes = {name for name, tool in TOOLS.items() if tool.writes}
    assert not PRESETS["observer"] & writes
    assert PRESETS["observer"] < PRESETS["responder"] < PRESETS["manager"] == set(TOOLS)
    assert {"update_incident", "resolve_incident"} <= PRESETS["responder"]
    assert "create_escalation_policy" not in PRESETS["responder"]
    assert 10 <= len(PRESETS["core"]) <= 20
    assert set(TOOLS) - writes == JOB_READS


def test_no_tool_may_include_what_gives_secrets_away() -> None:
    for tool, allowed in INCLUDES.items():
        assert not allowed & {"calendar_urls", "notification_rules", "contact_methods"}, tool


@pytest.mark.parametrize("operation", ["deleteUser", "listWebhookSubscriptions", "createUser"])
def test_operations_without_a_tool_have_none(operation: str) -> None:
    assert operation in OPERATIONS
    assert tools_for(operation) == ()
