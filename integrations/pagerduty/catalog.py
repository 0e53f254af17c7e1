"""Every tool and every known operation, from ``catalog.toml`` and ``operations.toml``. Inconsistent data fails the import."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from policies.core.call import Operation, Risk, State, Tool

_HERE = Path(__file__).parent

CATEGORIES: Final = (
    "incidents",
    "services",
    "escalation policies",
    "on-call scheduling",
    "users",
    "analytics and reporting",
)
PRESET_NAMES: Final = ("observer", "responder", "manager", "core")
BOUNDS: Final = frozenset({"team_ids", "service_ids", "owner", "answer_owner", "unbounded"})


def _operation(operation_id: str, data: Mapping[str, Any]) -> Operation:
    return Operation(
        id=operation_id,
        method=data["method"],
        path=data["path"],
        scopes=tuple(data.get("scopes", ())),
        reads=data.get("reads", False),
        has_body=data.get("body", False),
        deprecated=data.get("deprecated", False),
    )


def _schema(parameters: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
    properties: dict[str, Any] = {}
    for name, parameter in parameters.items():
        kind = parameter["type"]
        schema: dict[str, Any] = {"type": kind, "description": parameter["description"]}
        choices = {"enum": parameter["enum"]} if "enum" in parameter else {}
        if kind == "array":
            schema["items"] = {"type": "string", **choices}
        else:
            schema |= choices
        properties[name] = schema
    required = [name for name, parameter in parameters.items() if parameter.get("required")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _tool(data: Mapping[str, Any]) -> Tool:
    names = frozenset(data.get("keep", ()))
    return Tool(
        name=data["name"],
        title=data["title"],
        category=data["category"],
        risk=Risk(data["risk"]),
        writes=data["writes"],
        default=State(data["default"]),
        operations=tuple(data["operations"]),
        description=data["description"],
        input_schema=_schema(data.get("input", {})),
        scopes=tuple(data["scopes"]),
        bounds=data["bounds"],
        presets=frozenset(data["presets"]),
        keep=names | {f"{name}[]" for name in names},
    )


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_HERE / name).read_text("utf-8"))


_tools = _read("catalog.toml")["tool"]
OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {operation_id: _operation(operation_id, data) for operation_id, data in _read("operations.toml").items()}
)
TOOLS: Final[Mapping[str, Tool]] = MappingProxyType({data["name"]: _tool(data) for data in _tools})
INCLUDES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {data["name"]: frozenset(data.get("include", ())) for data in _tools}
)
"""Tool name → what it may ask for with ``include[]``: anything else could widen a read into another tool's data."""
MASKED: Final[frozenset[str]] = frozenset(
    operation for data in _tools if data.get("masked") for operation in data["operations"]
)
"""Operations whose answers may hold addresses or secrets."""
PRESETS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {preset: frozenset(name for name, tool in TOOLS.items() if preset in tool.presets) for preset in PRESET_NAMES}
)
JOB_READS: Final[frozenset[str]] = frozenset(name for name, tool in TOOLS.items() if not tool.writes)
"""What the portal's own jobs may use: every read of the catalogue, and no write."""

_by_operation: dict[str, list[Tool]] = {}
for _each in TOOLS.values():
    for _operation_id in _each.operations:
        _by_operation.setdefault(_operation_id, []).append(_each)
_BY_OPERATION: Final = {operation: tuple(tools) for operation, tools in _by_operation.items()}


def tools_for(operation_id: str) -> tuple[Tool, ...]:
    """Every tool that the operation serves; none: it is refused."""
    return _BY_OPERATION.get(operation_id, ())


def _check() -> None:
    if len(TOOLS) != len(_tools):
        raise ValueError("catalog.toml: a tool's name occurs twice")
    for tool in TOOLS.values():
        where = f"catalog.toml: {tool.name}"
        for operation_id in tool.operations:
            operation = OPERATIONS.get(operation_id)
            if operation is None:
                raise ValueError(f"{where}: no operation {operation_id}")
            if operation.reads is tool.writes:
                raise ValueError(f"{where}: {operation_id} does not fit writes = {tool.writes}")
        if tool.category not in CATEGORIES or tool.bounds not in BOUNDS or not tool.presets <= set(PRESET_NAMES):
            raise ValueError(f"{where}: an unknown category, bounds or preset")


_check()
