"""What assistants are told of the tools: MCP definitions, flat and small, and what they cost. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from integrations.gateway.integration import Bounds
from integrations.pagerduty.catalog import BOUNDS_OF, TOOLS
from integrations.pagerduty.tools.arguments import DETAIL
from policies.core.call import State, Tool

_SAID: Final = frozenset({"default", "examples"})
"""What the description of a parameter says already."""
BYTES_A_TOKEN: Final = 4
"""Of JSON and English, roughly: models differ."""
DESTROYS: Final = ("delete_", "remove_", "merge_", "resolve_", "disassociate_", "update_")
REPEATABLE: Final = ("update_", "set_", "delete_", "remove_", "resolve_")
"""Beginnings of names of writes that change nothing more when they are done again."""


def definition(tool: Tool, *, needs_approval: bool = False) -> dict[str, Any]:
    """A tool as MCP lists it: ``{"name", "title", "description", "inputSchema", "annotations"}``."""
    properties: dict[str, Any] = {
        name: {key: value for key, value in schema.items() if key not in _SAID}
        for name, schema in tool.input_schema["properties"].items()
    }
    if not tool.writes:
        properties["detail"] = DETAIL
    schema: dict[str, Any] = {"type": "object", "properties": properties}
    if tool.input_schema["required"]:
        schema["required"] = tool.input_schema["required"]
    says = "Needs a person's approval: a call is answered with how to get it. " if needs_approval else ""
    return {
        "name": tool.name,
        "title": tool.title,
        "description": f"{says}{tool.description}",
        "inputSchema": schema,
        "annotations": hints(tool),
    }


def hints(tool: Tool) -> dict[str, bool]:
    """MCP's hints. Of a read the first says all; MCP takes a write that says nothing for destructive and not repeatable."""
    if not tool.writes:
        return {"readOnlyHint": True}
    return {
        "readOnlyHint": False,
        "destructiveHint": tool.name.startswith(DESTROYS),
        "idempotentHint": tool.name.startswith(REPEATABLE),
    }


def size(tool: Tool) -> int:
    """Bytes of a tool's definition as it is sent."""
    return _SIZES[tool.name]


def _size(tool: Tool) -> int:
    return len(json.dumps(definition(tool), separators=(",", ":"), ensure_ascii=False).encode())


_SIZES: Final[Mapping[str, int]] = {name: _size(tool) for name, tool in TOOLS.items()}


def tokens(tools: Iterable[Tool]) -> int:
    """About how many tokens the definitions of tools take from an assistant, in every conversation."""
    return sum(map(size, tools)) // BYTES_A_TOKEN


DEFAULT_READS: Final = tuple(tool for tool in TOOLS.values() if not tool.writes and tool.default is State.ON)

INSTRUCTIONS: Final = "Pagewarden."


def is_reachable(tool: Tool, bounds: Bounds) -> bool:
    """Whether any of a tool's operations can be called inside a connection's bounds."""
    if bounds.whole_account or tool.name in bounds.account_wide:
        return True
    return any(BOUNDS_OF[operation] != "unbounded" for operation in tool.operations)
