"""Incident types, and the custom fields of incidents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from integrations.pagerduty.sandbox import documents as docs
from integrations.pagerduty.sandbox.ask import (
    Ask,
    Result,
    find_incident,
    invalid,
    route,
)
from integrations.pagerduty.sandbox.shapes import (
    Fault,
    Path,
    Shape,
    boolean,
    list_of,
    moment,
    number,
    one_of,
    string,
    web_address,
    whole,
)
from integrations.pagerduty.sandbox.world import World

MOST_VALUES: Final = 10
LONGEST_VALUE: Final = 200
_DATA: Final[Mapping[str, Shape]] = {
    "boolean": boolean,
    "integer": whole(-(2**53), 2**53),
    "float": number,
    "string": string(longest=LONGEST_VALUE),
    "datetime": moment,
    "url": web_address(longest=LONGEST_VALUE),
}


@route("GET", "/incidents/types", "incident_types.read", plan=True)
def list_incident_types(ask: Ask) -> Result:
    wanted = ask.one("filter", "enabled")
    if wanted not in ("enabled", "disabled", "all"):
        raise invalid("Filter must be enabled, disabled or all.")
    rows = [row for row in ask.world.incident_types if wanted == "all" or row["enabled"] == (wanted == "enabled")]
    return 200, {"incident_types": rows}


@route("GET", "/incidents/{id}/custom_fields/values", "incidents.read")
def list_field_values(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    return 200, {"custom_fields": docs.custom_field_values(ask.world, incident)}


def _value(field: Mapping[str, Any]) -> Shape:
    shape = one_of(*field["options"]) if field["options"] else _DATA[field["data_type"]]
    if not field["field_type"].startswith("multi_value"):
        return shape
    several = list_of(shape, 0, MOST_VALUES)

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        found = several(value, path, faults)
        if not faults and len(set(found)) < len(found):
            faults.append((path, "must not hold a value twice"))
        return found

    return read


def _assignment(world: World) -> Shape:
    """A field, by its id or its name, and its value: it reads as the field's id and the value; null clears it."""
    fields = {row[key]: row for row in world.custom_fields for key in ("name", "id")}

    def read(value: Any, path: Path, faults: list[Fault]) -> Any:
        if not isinstance(value, dict):
            faults.append((path, "must be an object"))
            return None
        key = value.get("id", value.get("name"))
        if not isinstance(key, str) or key not in fields:
            faults.append((path, "is not a custom field of the account"))
            return None
        if "value" not in value:
            faults.append(((*path, "value"), "is missing"))
            return None
        field, asked = fields[key], value["value"]
        return field["id"], None if asked is None else _value(field)(asked, (*path, "value"), faults)

    return read


@route("PUT", "/incidents/{id}/custom_fields/values", "incidents.write")
def set_field_values(ask: Ask) -> Result:
    incident = find_incident(ask.world, ask.path["id"])
    asked = ask.read("custom_fields", list_of(_assignment(ask.world), 1))
    before = {row["id"]: row["value"] for row in docs.custom_field_values(ask.world, incident)}
    incident.extras().fields = {**incident.extras().fields, **dict(asked)}
    changes = [
        {
            "id": row["id"],
            "name": row["name"],
            "value": row["value"],
            "namespace": "incidents",
            "old_value": None if before[row["id"]] is None else str(before[row["id"]]),
        }
        for row in docs.custom_field_values(ask.world, incident)
        if row["value"] != before[row["id"]]
    ]
    if changes:
        channel = {"type": "api", "changeset": {"customer_fields": changes, "application_fields": []}}
        incident.happens("custom_field_value_change", ask.now, ask.sender, channel)
        told = {"custom_fields": docs.custom_field_values(ask.world, incident), "type": "incident_field_values"}
        ask.tell("incident.custom_field_values.updated", incident, told)
    return 201, {"custom_fields": docs.custom_field_values(ask.world, incident)}
