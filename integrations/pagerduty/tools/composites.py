"""Reads that take more than one operation, or choose one of several: each asked for by itself, at once where they do not need
each other. A part that comes to nothing is told as such: no error ever looks like an empty list."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from integrations.pagerduty.catalog import ALIASES
from integrations.pagerduty.tools.asking import Given, Run

TOOLS: Final[Mapping[str, Callable[[Given, Run], Awaitable[Any]]]] = {}


def of_alias(name: str, arguments: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The tool that one of PagerDuty's own names means, by the arguments it came with."""
    if name == "manage_incidents":
        return ("resolve_incident" if arguments.get("status") == "resolved" else "update_incident"), arguments
    return ALIASES[name][0], arguments
