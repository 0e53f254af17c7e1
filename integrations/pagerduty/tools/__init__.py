"""What a tool does beyond one operation: arguments into operations, answers into the form that an assistant acts on.

``serve`` is all that a door needs. A tool receives ``run``, by which it asks for operations as whoever called: each is decided
and recorded by itself.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from integrations.pagerduty.catalog import ALIASES, TOOLS
from integrations.pagerduty.tools import composites, reads, writes
from integrations.pagerduty.tools.arguments import given
from integrations.pagerduty.tools.asking import Ask, Failed, Given, Run, Told, Wrong, need
from integrations.pagerduty.tools.names import identified
from integrations.pagerduty.tools.slim import rendered
from policies.core.call import Tool

__all__ = ["TOOLS", "Ask", "Failed", "Given", "Run", "Told", "Wrong", "serve", "told_apart", "valid"]

Serve = Callable[[Given, Run], Awaitable[Any]]
"""What a tool does, where it is more than one operation whose answer is rendered: arguments to the answer."""
_OWN: Final[Mapping[str, Serve]] = {**composites.TOOLS, **writes.TOOLS}


def told_apart(name: str, arguments: Mapping[str, Any]) -> tuple[Tool | None, Mapping[str, Any]]:
    """The tool that a name means, with what its alias says of the arguments; None: there is no such tool."""
    if name in TOOLS:
        return TOOLS[name], arguments
    if name in ALIASES:
        tool, arguments = composites.of_alias(name, arguments)
        return TOOLS[tool], arguments
    return None, arguments


async def serve(tool: Tool, arguments: Given, run: Run) -> Any:
    """What a tool answers, JSON-able. ``arguments`` as ``given`` made them.

    Raises:
        Wrong: the arguments cannot be sent.
        Failed: an operation without which there is no answer came to nothing.
    """
    if not tool.operations:
        return await need(run, Ask("", "", own=arguments.as_asked))
    arguments = await identified(tool.name, arguments, run)
    if (own := _OWN.get(tool.name)) is not None:
        return await own(arguments, run)
    return rendered(await need(run, reads.of_window(tool.operations[0], arguments)), arguments)


def valid(tool: Tool, arguments: Mapping[str, Any]) -> Given:
    """A tool's arguments, judged and with their defaults. Raises ``Wrong``."""
    return given(tool, arguments, dt.datetime.now(dt.UTC))
