"""PagerDuty's published schema, to hold documents against."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import ValidationError
from openapi_schema_validator import OAS30ReadValidator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

BASE = "urn:pagerduty"


def _loosened(node: Any, name: str = "") -> Any:
    """As published, but for what no true answer can satisfy; PagerDuty's own examples cannot either.

    - ``oneOf`` becomes ``anyOf``: its branches overlap (each channel with a type is five kinds of channel at once).
    - a field for references takes whole objects too: ``include[]`` puts them there, which the schema does not say.
    - an acknowledgement's entry is called ``acknowledge_log_entry`` by one half of its schema, and otherwise by the other.
    """
    if name == "$ref" and isinstance(node, str):
        return f"{BASE}{node}".replace("/oneOf/", "/anyOf/")
    if isinstance(node, list):
        if name == "enum" and node and all(isinstance(value, str) for value in node):
            if all(value.endswith("_reference") for value in node):
                return [*node, *(value.removesuffix("_reference") for value in node)]
            if "acknowledgement_log_entry" in node:
                return [*node, "acknowledge_log_entry"]
        return [_loosened(value) for value in node]
    if isinstance(node, dict):
        return {("anyOf" if key == "oneOf" else key): _loosened(value, key) for key, value in node.items()}
    return node


def _corrected(document: dict[str, Any]) -> dict[str, Any]:
    """Where the schema contradicts its own descriptions, or what PagerDuty is known to answer."""
    schemas = document["components"]["schemas"]
    # A user named in a policy is on call always and on no schedule: all three are null.
    for field in ("start", "end"):
        schemas["Oncall"]["properties"][field]["nullable"] = True
    schemas["Oncall"]["properties"]["schedule"] = {}
    # "If null, the layer does not end."
    schemas["ScheduleLayer"]["properties"]["end"]["nullable"] = True
    # "Returns null unless since or until are set."
    for name in ("ScheduleLayer", "SubSchedule"):
        schemas[name]["properties"]["rendered_coverage_percentage"]["nullable"] = True
    # "If null": what has not happened has no time, and what one person did has no time until the last one.
    raw = schemas["AnalyticsRawIncident"]["properties"]
    for field in ("resolved_at", "resolved_by_user_id", "resolved_by_user_name"):
        raw[field]["nullable"] = True
    for field in ("engage", "first_ack", "mobilize", "resolve"):
        raw[f"seconds_to_{field}"]["nullable"] = True
    schemas["AnalyticsRawResponderIncidents"]["properties"]["mean_time_to_acknowledge_seconds"]["nullable"] = True
    for field in ("responded_at", "time_to_respond_seconds"):
        schemas["AnalyticsRawIncidentResponses"]["properties"][field]["nullable"] = True
    # Its own examples are numbers.
    schemas["AnalyticsRawResponderIncidents"]["properties"]["total_off_hour_interruptions"]["type"] = "integer"
    # Its own example is an id.
    schemas["AnalyticsResponderMetrics"]["properties"]["responder_id"]["type"] = "string"
    # "By default the `total` field in the response body is set to `null`."
    past = document["paths"]["/incidents/{id}/past_incidents"]["get"]["responses"]["200"]
    past["content"]["application/json"]["schema"]["properties"]["total"]["nullable"] = True
    # Its own example has null for both: the base type is nobody's child.
    for field in ("parent", "description"):
        schemas["IncidentType"]["properties"][field]["nullable"] = True
    # "Value is null if the feature is disabled"; recorded answers have null for the other two as well.
    service = schemas["Service"]["allOf"][1]["properties"]
    for field in ("auto_resolve_timeout", "acknowledgement_timeout", "last_incident_timestamp"):
        service[field]["nullable"] = True
    schemas["SupportHours"]["nullable"] = True
    # Its own examples have the value itself, not an object around it; a change of a text is told like that of a number.
    # (Each alternative by itself: a request refers to them one by one.)
    value = schemas["CustomFieldsFieldValue"]["properties"]["value"]
    value["anyOf"] = [{} for _ in value["anyOf"]]
    # The example of a new incident's body is a text.
    schemas["IncidentBody"]["properties"]["details"] = {}
    # An incident's entries can be changes of fields; the account's are the same entries.
    change = {"$ref": f"{BASE}#/components/schemas/CustomFieldValueChangeLogEntry"}
    for path, name in (("/log_entries", "log_entries"), ("/log_entries/{id}", "log_entry")):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        found = schema.get("allOf", [schema])[-1]["properties"][name]
        found.get("items", found)["anyOf"].append(change)
    changeset = schemas["Channel"]["properties"]["changeset"]["properties"]
    changeset["customer_fields"]["items"]["properties"]["value"] = {}
    return document


@lru_cache(maxsize=1)
def load(folder: Path) -> dict[str, Any]:
    return _corrected(_loosened(as_published(folder)))


@lru_cache(maxsize=1)
def as_published(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "openapi.json").read_text())
    return document


def problems(folder: Path, method: str, template: str, status: int, answer: Any) -> list[str]:
    """What is wrong with an answer of an operation; empty: it validates."""
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:300]}"
        for error in errors(folder, method, template, status, answer)
    ]


def errors(folder: Path, method: str, template: str, status: int, answer: Any) -> Iterator[ValidationError]:
    """The same as the validator tells it."""
    yield from errors_in(load(folder), method, template, status, answer)


def errors_in(
    document: dict[str, Any], method: str, template: str, status: int, answer: Any
) -> Iterator[ValidationError]:
    """The same of a schema whose references begin with ``BASE``."""
    responses = document["paths"][template][method.lower()]["responses"]
    # PagerDuty documents 201 for one list (GET /schedules/{id}/overrides), and 200 or 201 for some creations.
    response = responses.get(str(status)) or next(responses[code] for code in sorted(responses) if code[0] == "2")
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
    if "content" not in response:
        return
    schema = next(iter(response["content"].values()))["schema"]
    registry: Registry[Any] = Registry().with_resource(BASE, Resource.from_contents(document, DRAFT202012))
    validator = OAS30ReadValidator(schema, registry=registry)
    yield from validator.iter_errors(answer)


def refused(folder: Path, method: str, template: str, body: Any) -> list[str]:
    """What PagerDuty's published schema has against a body of an operation; empty: nothing."""
    document = load(folder)
    content = document["paths"][template][method.lower()]["requestBody"]["content"]
    registry: Registry[Any] = Registry().with_resource(BASE, Resource.from_contents(document, DRAFT202012))
    # As for answers: the schema calls each type read-only and requires it in what is written.
    validator = OAS30ReadValidator(content["application/json"]["schema"], registry=registry)
    return [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message[:200]}" for error in validator.iter_errors(body)
    ]


def nodes(folder: Path, *roots: Any) -> Iterator[dict[str, Any]]:
    """Every object of the schema that can be reached from ``roots``, references followed, examples left aside."""
    stack, seen = list(roots), set[str]()
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            yield node
            if isinstance(reference := node.get("$ref"), str) and reference not in seen:
                seen.add(reference)
                stack.append(_target(folder, reference))
            stack += [value for key, value in node.items() if key not in ("example", "examples")]


def resolved(folder: Path, node: Any) -> Any:
    """An object of the schema, or what it refers to."""
    while "$ref" in node:
        node = _target(folder, node["$ref"])
    return node


def _target(folder: Path, reference: str) -> Any:
    target: Any = as_published(folder)
    for part in unquote(reference).removeprefix("#/").split("/"):
        part = part.replace("~1", "/").replace("~0", "~")
        target = target[int(part)] if isinstance(target, list) else target[part]
    return target


def published(folder: Path, method: str, template: str) -> dict[str, Any]:
    """An operation as it is published, the parameters of its path with its own."""
    path = as_published(folder)["paths"][template]
    operation: dict[str, Any] = path[method.lower()]
    return {**operation, "parameters": [*path.get("parameters", []), *operation.get("parameters", [])]}
