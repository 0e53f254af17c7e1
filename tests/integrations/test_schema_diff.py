"""``manage.py catalogue_diff``: what a newer schema of PagerDuty's says otherwise, what it means, and what to paste."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import json
import re
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.core.management import call_command

from integrations.pagerduty import catalog
from integrations.pagerduty.catalog import OPERATIONS, PARAMETERS
from integrations.pagerduty.schema_diff import (
    UnreadableSchema,
    compare,
    parameters_line,
    published,
    read,
    skeleton,
)

Change = Callable[[dict[str, Any]], None]
FILES = ("catalog.py", "catalog.toml", "operations.toml", "refusals.toml", "parameters.toml")


@lru_cache(maxsize=1)
def as_published(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "openapi.json").read_text())
    return document


def changed(folder: Path, change: Change) -> dict[str, Any]:
    document = copy.deepcopy(as_published(folder))
    change(document)
    return document


def told(folder: Path, change: Change) -> list[tuple[str, str, str, str, tuple[str, ...]]]:
    found = compare(published(changed(folder, change)))
    return [(each.kind, each.operation, each.what, each.means, each.tools) for each in found]


def pasted(folder: Path, change: Change) -> dict[str, str]:
    found = published(changed(folder, change))
    return skeleton(found, compare(found))


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        call_command("catalogue_diff", *arguments)
    said = capsys.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, said.out, said.err


# The schema that the catalogue was made from


def test_with_the_published_schema_there_is_no_difference(schema_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, str(schema_dir / "openapi.json"))
    assert (code, out, err) == (0, "No difference: 465 operations are published, 465 are known.\n", "")
    code, out, _ = run(capsys, str(schema_dir / "openapi.json"), "--json")
    assert code == 0
    assert json.loads(out) == {"published": 465, "known": 465, "differences": [], "skeleton": {}}


def test_what_each_operation_takes_is_known_as_it_is_published(schema_dir: Path) -> None:
    found = read(schema_dir / "openapi.json")
    assert {name: one.takes for name, one in found.items() if one.takes} == PARAMETERS
    written = (Path(catalog.__file__).parent / "parameters.toml").read_text()
    body = [line for line in written.splitlines() if line and not line.startswith("#")]
    assert "\n".join(body) == "\n".join(filter(None, (parameters_line(found[name]) for name in OPERATIONS)))


# Operations


def new_read(document: dict[str, Any]) -> None:
    document["paths"]["/incidents/{id}/mood"] = {
        "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
        "get": {
            "operationId": "getIncidentMood",
            "summary": "Get the mood\x1b[31m of an incident",
            "description": "Scoped OAuth requires: `incidents.read`",
            "x-pd-requires-scope": "incidents.read",
            "parameters": [
                {"name": "since", "in": "query", "required": True, "schema": {"type": "string"}},
                {"name": "team_ids[]", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
            ],
        },
    }


def new_delete(document: dict[str, Any]) -> None:
    document["paths"]["/incidents/{id}/mood"] = {"delete": {"operationId": "deleteIncidentMood"}}


def new_early(document: dict[str, Any]) -> None:
    document["paths"]["/moods"] = {
        "post": {
            "operationId": "createMood",
            "description": "> ### Early Access\n> It may change.",
            "requestBody": {"content": {"application/json": {"schema": {"type": "object"}}}},
        }
    }


def new_write(document: dict[str, Any]) -> None:
    body = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}
    document["paths"]["/moods"] = {
        "post": {
            "operationId": "createMood",
            "summary": 'Set the "mood"',
            "requestBody": {"content": {"application/json": {"schema": body}}},
        }
    }


def test_a_new_operation_is_refused_until_it_is_decided(schema_dir: Path) -> None:
    [(kind, operation, what, means, tools)] = told(schema_dir, new_read)
    assert (kind, operation, tools) == ("new", "getIncidentMood", ())
    assert what == "GET /incidents/{id}/mood is new: Get the mood\\x1b[31m of an incident."
    assert "refused as unknown until it is decided" in means


def test_an_operation_that_is_gone_breaks_its_tools(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        del document["paths"]["/incidents/{id}/snooze"]
        del document["paths"]["/rulesets"]["post"]

    assert told(schema_dir, change) == [
        (
            "gone",
            "createIncidentSnooze",
            "POST /incidents/{id}/snooze is no longer published.",
            "It would break the tool snooze_incident.",
            ("snooze_incident",),
        ),
        (
            "gone",
            "createRuleset",
            "POST /rulesets is no longer published.",
            "Nothing breaks: it goes from refusals.toml (deprecated).",
            (),
        ),
    ]
    text = pasted(schema_dir, change)
    assert text["operations.toml"] == "# remove createIncidentSnooze\n# remove createRuleset"
    assert text["catalog.toml"] == "# remove createIncidentSnooze from the tool snooze_incident"
    assert text["refusals.toml"] == "# remove createRuleset from refusals.toml (deprecated)"


def test_an_operation_by_another_name_is_the_same(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["paths"]["/analytics/metrics/incidents/all"]["post"]["operationId"] = "getIncidentMetrics"

    [(kind, operation, what, means, tools)] = told(schema_dir, change)
    assert (kind, operation) == ("renamed", "getAnalyticsMetricsIncidentsAll")
    assert "It is called getIncidentMetrics now" in what
    assert "Calls go on as before" in means
    assert tools
    line = pasted(schema_dir, change)["operations.toml"].splitlines()[1]
    # A POST that only reads goes on reading.
    assert tomllib.loads(line)["getIncidentMetrics"]["reads"] is True


@pytest.mark.parametrize(
    ("change", "what", "means"),
    [
        (
            lambda operation: operation.update({"x-pd-requires-scope": "snoozes.write", "description": ""}),
            "Its scopes were incidents.write and are snoozes.write.",
            "see to the scopes of snooze_incident",
        ),
        (
            lambda operation: operation.update({"x-pd-requires-scope": None, "description": ""}),
            "Its scopes were incidents.write and are none.",
            "see to the scopes of snooze_incident",
        ),
        (
            lambda operation: operation.update(
                description="Scoped OAuth requires: `incidents.write` and `pages.write`"
            ),
            "Its scopes were incidents.write and are incidents.write, pages.write.",
            "see to the scopes of snooze_incident",
        ),
        (
            lambda operation: operation.update(deprecated=True),
            "It is deprecated now.",
            "snooze_incident will need another operation.",
        ),
        (
            lambda operation: operation.update(
                description=f"<!-- theme: warning -->\n> ### End-of-life\n{operation['description']}"
            ),
            "It is deprecated now.",
            "snooze_incident will need another operation.",
        ),
    ],
)
def test_what_changed_of_an_operation_is_told_with_what_it_means(
    schema_dir: Path, change: Callable[[dict[str, Any]], None], what: str, means: str
) -> None:
    def applied(document: dict[str, Any]) -> None:
        change(document["paths"]["/incidents/{id}/snooze"]["post"])

    [(kind, operation, said, meant, tools)] = told(schema_dir, applied)
    assert (kind, operation, said, tools) == ("changed", "createIncidentSnooze", what, ("snooze_incident",))
    assert means in meant
    [line] = tomllib.loads(pasted(schema_dir, applied)["operations.toml"]).items()
    assert line[0] == "createIncidentSnooze"
    assert line[1]["path"] == "/incidents/{id}/snooze"


def test_a_body_that_is_no_longer_taken_and_a_path_that_moved_are_told(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        del document["paths"]["/incidents/{id}/snooze"]["post"]["requestBody"]
        document["paths"]["/v3/rulesets"] = document["paths"].pop("/rulesets")

    found = told(schema_dir, change)
    moved = [each for each in found if "/v3/rulesets" in each[2]]
    assert {each[1] for each in moved} == {"listRulesets", "createRuleset"}
    assert all(each[0] == "changed" and "refused as unknown" in each[3] for each in moved)
    assert ("changed", "createIncidentSnooze", "It takes no body any more.") in [each[:3] for each in found]
    assert ("parameter", "createIncidentSnooze", "body.duration is gone.") in [each[:3] for each in found]


# What operations of tools take


def snooze_body(document: dict[str, Any]) -> dict[str, Any]:
    content = document["paths"]["/incidents/{id}/snooze"]["post"]["requestBody"]["content"]["application/json"]
    schema: dict[str, Any] = content["schema"]
    return schema


def test_a_new_parameter_is_told_and_whether_it_is_required(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["paths"]["/incidents"]["get"]["parameters"] += [
            {"name": "mood", "in": "query", "schema": {"type": "string"}},
            {"name": "region", "in": "query", "required": True, "schema": {"type": "string"}},
        ]
        body = snooze_body(document)
        body["properties"]["reason"] = {"type": "string"}
        body["required"] = [*body.get("required", []), "reason"]

    found = told(schema_dir, change)
    assert [each[:3] for each in found] == [
        ("parameter", "listIncidents", "mood is new."),
        ("parameter", "listIncidents", "region is new, and required."),
        ("parameter", "createIncidentSnooze", "body.reason is new, and required."),
    ]
    assert "Clients of the REST door can send it" in found[0][3]
    assert found[1][3] == "Calls without it fail: list_incidents must give it."
    entries = tomllib.loads(pasted(schema_dir, change)["parameters.toml"])
    assert {"mood", "region!"} <= set(entries["listIncidents"])
    assert "body.reason!" in entries["createIncidentSnooze"]


def test_a_parameter_that_is_gone_breaks_the_tool_that_offers_it(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        listing = document["paths"]["/services"]["get"]
        listing["parameters"] = [each for each in listing["parameters"] if "query" not in str(each.get("$ref"))]

    [(kind, operation, what, means, tools)] = [each for each in told(schema_dir, change) if each[2].startswith("query")]
    assert (kind, operation, what) == ("parameter", "listServices", "query is gone.")
    assert "list_services" in means
    assert "list_services" in tools


def test_a_parameter_that_became_required_is_told(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["paths"]["/incidents"]["get"]["parameters"].append(
            {"name": "since", "in": "query", "required": True, "schema": {"type": "string"}}
        )
        parameters = document["paths"]["/incidents"]["get"]["parameters"]
        parameters[:] = [each for each in parameters if "since" not in str(each.get("$ref"))]

    assert ("parameter", "listIncidents", "since is required now.") in [each[:3] for each in told(schema_dir, change)]


def test_a_refused_operations_parameters_are_nobodys_concern(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        document["paths"]["/rulesets"]["get"]["parameters"] = [
            {"name": "mood", "in": "query", "schema": {"type": "string"}}
        ]

    assert told(schema_dir, change) == []


def test_a_new_word_and_one_that_is_gone_are_told(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        text = json.dumps(document["components"]["parameters"])
        for words in (["high", "low"], ["low", "high"]):
            text = text.replace(json.dumps(words), json.dumps(["high", "medium"]))
        document["components"]["parameters"] = json.loads(text)

    found = told(schema_dir, change)
    assert ("word", "listIncidents", "urgencies may be medium too.") in [each[:3] for each in found]
    [gone] = [each for each in found if each[2] == "urgencies may not be low any more." and "list_incidents" in each[4]]
    assert gone[3] == "It would break list_incidents, which offers it."


def test_something_to_include_that_nothing_takes_any_more_is_told(schema_dir: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        parameters = json.dumps(document["components"]["parameters"])
        document["components"]["parameters"] = json.loads(parameters.replace('"acknowledgers"', '"sleepers"'))

    found = told(schema_dir, change)
    assert ("word", "listIncidents", "include may not be acknowledgers any more.") in [each[:3] for each in found]
    assert ("word", "listIncidents", "include may be sleepers too.") in [each[:3] for each in found]


# What to paste


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """The catalogue's files, to paste into."""
    for name in FILES:
        shutil.copy(Path(catalog.__file__).parent / name, tmp_path)
    return tmp_path


def loaded(house: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("pasted_catalog", house / "catalog.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[spec.name]
    return module


def every_node(node: Any) -> Iterator[dict[str, Any]]:
    """Every object of the schema, examples left aside."""
    if isinstance(node, dict):
        yield node
        for name, value in node.items():
            if name not in ("example", "examples"):
                yield from every_node(value)
    elif isinstance(node, list):
        for value in node:
            yield from every_node(value)


def bounded_otherwise(node: dict[str, Any]) -> None:
    if node.get("type") in ("integer", "string", "boolean"):
        node |= {"type": "number", "minimum": 3, "maximum": 4, "default": 3, "pattern": "x", "maxLength": 2}
        node |= {"nullable": True, "format": "x"}


def answered_otherwise(node: dict[str, Any]) -> None:
    if "operationId" in node:
        node["responses"] = {"299": {"description": "Otherwise."}}


def told_otherwise(node: dict[str, Any]) -> None:
    if "operationId" in node:
        node["summary"] = "Otherwise"
        node["description"] = f"{node.get('description', '')}\n> ### Early Access\n"


def headed_otherwise(node: dict[str, Any]) -> None:
    if node.get("in") in ("header", "path") and isinstance(node.get("name"), str):
        node["name"] += "x"


@pytest.mark.parametrize("change", [bounded_otherwise, answered_otherwise, told_otherwise, headed_otherwise])
def test_what_is_not_compared_is_what_the_page_names(schema_dir: Path, change: Change) -> None:
    def everywhere(document: dict[str, Any]) -> None:
        for node in every_node(document):
            change(node)

    assert changed(schema_dir, everywhere) != as_published(schema_dir)
    assert told(schema_dir, everywhere) == []


@pytest.mark.parametrize(
    ("change", "operation", "where"),
    [
        (new_read, "getIncidentMood", "catalog.toml"),
        (new_write, "createMood", "catalog.toml"),
        (new_delete, "deleteIncidentMood", "refusals.toml"),
        (new_early, "createMood", "refusals.toml"),
    ],
)
def test_what_is_proposed_of_a_new_operation_can_be_pasted_as_it_is(
    schema_dir: Path, house: Path, change: Change, operation: str, where: str
) -> None:
    text = pasted(schema_dir, change)
    assert where in text
    for name, lines in text.items():
        with (house / name).open("a") as file:
            file.write(f"\n{lines}\n")
    module = loaded(house)
    assert operation in module.OPERATIONS
    if where == "refusals.toml":
        assert module.REFUSALS[operation].reason in ("deletes_for_good", "early_access")
    else:
        [tool] = module.tools_for(operation)
        assert tool.default.value == "off"
        assert tool.bounds == "unbounded"
    # Without the decision nothing can be imported.
    shutil.copy(Path(catalog.__file__).parent / where, house)
    with pytest.raises(ValueError, match="is neither in a tool"):
        loaded(house)


def test_a_new_reads_skeleton_takes_what_the_operation_does(schema_dir: Path) -> None:
    [tool] = tomllib.loads(pasted(schema_dir, new_read)["catalog.toml"])["tool"]
    assert (tool["name"], tool["category"], tool["writes"]) == ("get_incident_mood", "incidents", False)
    assert tool["scopes"] == ["incidents.read"]
    assert tool["input"]["id"]["required"] is True
    assert tool["input"]["since"]["required"] is True
    assert tool["input"]["team_ids"]["type"] == "array"


# The command


def test_the_command_tells_what_differs_what_it_means_and_what_to_paste(
    schema_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "newer.json"
    file.write_text(json.dumps(changed(schema_dir, new_read)))
    code, out, err = run(capsys, str(file))
    assert (code, err) == (1, "")
    assert out.startswith("1 difference: 466 operations are published, 465 are known.")
    assert "\x1b" not in out
    for part in ("New operations", "refused as unknown", "operations.toml; look at each", "[[tool]]"):
        assert part in out
    code, out, err = run(capsys, str(file), "--json")
    assert (code, err) == (1, "")
    document = json.loads(out)
    assert [each["operation"] for each in document["differences"]] == ["getIncidentMood"]
    assert set(document["skeleton"]) == {"operations.toml", "parameters.toml", "catalog.toml"}


def op(**more: Any) -> dict[str, Any]:
    return {"paths": {"/a": {"get": {"operationId": "listA", **more}}}}


def circle() -> dict[str, Any]:
    body = {"content": {"application/json": {"schema": {"$ref": "#/x/a"}}}}
    return {**op(requestBody=body), "x": {"a": {"$ref": "#/x/b"}, "b": {"$ref": "#/x/a"}}}


def endless() -> dict[str, Any]:
    body = {"content": {"application/json": {"schema": {"$ref": "#/x"}}}}
    return {**op(requestBody=body), "x": {"anyOf": [{"$ref": "#/x"}, {"$ref": "#/x"}]}}


def query(**more: Any) -> dict[str, Any]:
    return op(parameters=[{"in": "query", **more}])


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is not JSON"),
    "no JSON": (b"openapi: 3.0.2", "is not JSON"),
    "no UTF-8": (b"\xff\xfe{}", "is not JSON"),
    "too deep": (b"[" * 200_000, "is not JSON"),
    **{
        name: (json.dumps(document).encode(), said)
        for name, document, said in [
            ("a list", [], "no OpenAPI schema"),
            ("a text", "paths", "no OpenAPI schema"),
            ("no paths", {"openapi": "3.0.2"}, "no OpenAPI schema"),
            ("empty paths", {"paths": {}}, "no OpenAPI schema"),
            ("paths in a list", {"paths": [1]}, "no OpenAPI schema"),
            ("no operation", {"paths": {"/a": {"summary": "x"}}}, "hold no operation"),
            ("a path that is a text", {"paths": {"/a": "x"}}, "/a is not an object"),
            ("an operation that is a list", {"paths": {"/a": {"get": []}}}, "no operationId"),
            ("no operationId", {"paths": {"/a": {"get": {}}}}, "no operationId"),
            (
                "an operationId that breaks out",
                {"paths": {"/a": {"get": {"operationId": 'x = 1\n[[tool]]\nname = "y"'}}}},
                "no operationId",
            ),
            (
                "a path that breaks out",
                {"paths": {'/a" }\nx = {': {"get": {"operationId": "listA"}}}},
                "is no path",
            ),
            (
                "one operation twice",
                {"paths": {"/a": {"get": {"operationId": "x"}, "put": {"operationId": "x"}}}},
                "occurs twice",
            ),
            ("parameters that are a text", op(parameters="since"), "parameters is not a list"),
            ("a parameter that is a text", op(parameters=["since"]), "not an object"),
            ("a parameter without a name", query(), "without a name"),
            ("a parameter with a strange name", query(name="a\nb"), "without a name"),
            ("a parameter with a strange schema", query(name="a", schema=[]), "not an object"),
            ("a reference into nothing", op(parameters=[{"$ref": "#/components/x"}]), "not there"),
            ("a reference to elsewhere", op(parameters=[{"$ref": "file:///etc/passwd"}]), "outside of the file"),
            ("a reference that is a number", op(parameters=[{"$ref": 7}]), "outside of the file"),
            ("scopes that are a number", op(**{"x-pd-requires-scope": 7}), "is not a list"),
            ("a scope that breaks out", op(**{"x-pd-requires-scope": ["a\nb"]}), "no name"),
            ("references in a circle", circle(), "in a circle"),
            ("a body that never ends", endless(), "never ends"),
            ("a body of a strange kind", op(requestBody=[1]), "not an object"),
            (
                "fields in a list",
                op(requestBody={"content": {"a": {"schema": {"properties": [1]}}}}),
                "fields without names",
            ),
            (
                "branches in an object",
                op(requestBody={"content": {"a": {"schema": {"allOf": {}}}}}),
                "allOf is not a list",
            ),
        ]
    },
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_no_schema_ends_with_2_and_a_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, said = HOSTILE[name]
    file = tmp_path / "schema.json"
    file.write_bytes(content)
    code, out, err = run(capsys, str(file))
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    code, out, err = run(capsys, str(file), "--json")
    assert (code, err) == (2, "")
    assert said in json.loads(out)["error"]


def test_a_file_that_is_not_there_or_too_large_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(capsys, str(tmp_path / "none.json"))[0] == 2
    code, _, err = run(capsys, str(tmp_path))
    assert code == 2
    assert "cannot be read" in err
    file = tmp_path / "large.json"
    file.write_text(json.dumps(op()))
    monkeypatch.setattr("integrations.pagerduty.schema_diff.MAXIMUM_BYTES", 10)
    code, _, err = run(capsys, str(file))
    assert code == 2
    assert "over 10 bytes" in err


def mutilated(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Ways to every part of a document."""
    yield path
    steps = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in steps:
        yield from mutilated(value, (*path, key))


@pytest.mark.parametrize("wrong", [None, 7, "x", [], {}, [None], {"$ref": "#/"}, {"x": None}, True])
def test_whatever_stands_anywhere_it_is_read_or_refused_and_never_breaks(schema_dir: Path, wrong: Any) -> None:
    whole = as_published(schema_dir)
    small = {
        "paths": {path: whole["paths"][path] for path in ("/incidents/{id}/snooze", "/teams/{id}")},
        "components": {
            "parameters": whole["components"]["parameters"],
            "schemas": {"Team": whole["components"]["schemas"]["Team"]},
        },
    }
    small = json.loads(
        re.sub(r'\{"\$ref": "#/components/(?:schemas/(?!Team")|responses/)[^"]*"\}', "{}", json.dumps(small))
    )
    # Its answers are not read.
    for item in small["paths"].values():
        for operation in item.values():
            if isinstance(operation, dict):
                operation.pop("responses", None)
    published(small)
    for path in [*mutilated(small["paths"])]:
        document = copy.deepcopy(small)
        parent: Any = document
        for step in ("paths", *path)[:-1]:
            parent = parent[step]
        parent[("paths", *path)[-1]] = wrong
        with contextlib.suppress(UnreadableSchema):
            found = published(document)
            skeleton(found, compare(found))
