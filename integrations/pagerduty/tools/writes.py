"""Writes: a tool's arguments as the body that PagerDuty takes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from integrations.pagerduty.tools.asking import Given, Run

TOOLS: Final[Mapping[str, Callable[[Given, Run], Awaitable[Any]]]] = {}
