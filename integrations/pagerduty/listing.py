"""The whole catalogue in order, for the page and for ``docs/catalogue.md``: tools by category, refused operations by reason."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from integrations.pagerduty.catalog import ALIASES, CATEGORIES, OPERATIONS, REASONS, REFUSALS, TOOLS
from policies.core.call import Operation, Tool

WIDTH: Final = 118
_BLOCK: Final = "\n[[refused]]\n"
MIRRORED: Final = "Answered from the portal's own mirror: nothing is sent to PagerDuty."
"""What is said of a tool without operations, wherever those would stand."""
BOUNDS_TOLD: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "mirror": (
            "the mirror holds no more",
            "nothing is sent: the portal answers from its own mirror of the connection, which holds what is inside alone",
        ),
        "team_ids": (
            "kept to its teams",
            "the connection's PagerDuty teams are forced into the request as a filter; where "
            "bounds name services too, and the filter is there, all of both as services",
        ),
        "service_ids": ("kept to its services", "the services inside are forced into the request as a filter"),
        "owner": (
            "owner looked up",
            "who owns what the call names, in its path and in its body, is looked up before it is sent",
        ),
        "answer_owner": ("answer checked", "who owns what was answered is looked at before it is released"),
        "unbounded": ("whole account only", "refused on a bounded connection, unless an administrator allows it"),
    }
)
"""How a tool is held inside a connection's bounds: a word of ``catalog.BOUNDS`` → in short, and in a sentence."""


@dataclass(frozen=True, slots=True)
class Served:
    """A tool with what it needs."""

    tool: Tool
    operations: tuple[Operation, ...]
    aliases: tuple[str, ...]
    """Names of PagerDuty's own MCP server that it covers, alone or with others."""

    @property
    def line(self) -> str:
        """What it does, in its first sentence."""
        return f"{self.tool.description.split('. ')[0].rstrip('.')}."

    @property
    def mirrored(self) -> str:
        """Of a tool without operations, what it is answered from."""
        return "" if self.operations else MIRRORED

    @property
    def bounds(self) -> str:
        return BOUNDS_TOLD[self.tool.bounds][0]


@dataclass(frozen=True, slots=True)
class Refused:
    operation: Operation
    reason: str
    instead: str

    @property
    def parts(self) -> list[tuple[str, bool]]:
        """``instead`` in pieces, each with whether it is the name of a tool."""
        return [(piece, piece in TOOLS) for piece in re.split(r"(\w+)", self.instead) if piece]


def served() -> dict[str, list[Served]]:
    """Category → its tools, in the catalogue's order."""
    found: dict[str, list[Served]] = {category: [] for category in CATEGORIES}
    for tool in TOOLS.values():
        aliases = tuple(alias for alias, names in ALIASES.items() if tool.name in names)
        found[tool.category].append(Served(tool, tuple(OPERATIONS[name] for name in tool.operations), aliases))
    return {category: tools for category, tools in found.items() if tools}


def refused() -> dict[str, list[Refused]]:
    """Reason → the operations that it refuses, in PagerDuty's order."""
    found: dict[str, list[Refused]] = {reason: [] for reason in REASONS}
    for name, operation in OPERATIONS.items():
        if refusal := REFUSALS.get(name):
            found[refusal.reason].append(Refused(operation, refusal.reason, refusal.instead))
    return {reason: rows for reason, rows in found.items() if rows}


def without(refusals: str, operations: Collection[str]) -> str:
    """The text of ``refusals.toml`` without some operations; a block that refuses nothing else goes whole."""
    head, *blocks = refusals.split(_BLOCK)
    kept = [head]
    for block in blocks:
        about, _, listed = block.partition("operations = [")
        names = re.findall(r'"([^"]+)"', listed)
        left = [f'"{name}"' for name in names if name not in operations]
        if len(left) == len(names):
            kept.append(block)
        elif left:
            line = f"operations = [{', '.join(left)}]"
            if len(line) > WIDTH:
                wrapped = textwrap.fill(f"{', '.join(left)},", WIDTH, initial_indent="  ", subsequent_indent="  ")
                line = f"operations = [\n{wrapped}\n]"
            kept.append(f"{about}{line}\n")
    return _BLOCK.join(kept)


def markdown() -> str:
    """``docs/catalogue.md``, whole."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    tools, refusals = served(), refused()
    count = len({name for tool in TOOLS.values() for name in tool.operations})
    writes = sum(tool.writes for tool in TOOLS.values())
    yield "# The catalogue"
    yield ""
    yield "Written by `manage.py catalogue` from `catalog.toml`, `operations.toml` and `refusals.toml`: change those, not this."
    yield ""
    yield f"PagerDuty publishes {len(OPERATIONS)} operations."
    serving = sum(bool(tool.operations) for tool in TOOLS.values())
    yield f"{count} of them are served by {serving} tools: {serving - writes} read and {writes} write."
    yield f"{len(TOOLS) - serving} more tools have no operation: the portal answers them from its own mirror of the account."
    yield f"{len(REFUSALS)} are refused, each with a reason and with what to use instead."
    yield ""
    yield "| Category | Tools | Operations |"
    yield "|---|---|---|"
    for category, rows in tools.items():
        operations = {operation.id for row in rows for operation in row.operations}
        yield f"| [{category.capitalize()}](#{anchor(category)}) | {len(rows)} | {len(operations)} |"
    yield ""
    yield "| Refused, for | Operations |"
    yield "|---|---|"
    for reason, found in refusals.items():
        yield f"| [{title(reason)}](#{anchor(title(reason))}) | {len(found)} |"
    yield ""
    yield (
        "**Default** is the state of a tool in a new team. "
        "**Bounds** is how a tool is held on a connection that is bounded to"
    )
    yield "some of an account's teams or services (`integrations/pagerduty/bounds.py`):"
    yield ""
    for short, sentence in BOUNDS_TOLD.values():
        yield f"- *{short}*: {sentence}."
    yield ""
    yield "# Tools"
    for category, rows in tools.items():
        yield ""
        yield f"## {category.capitalize()}"
        yield ""
        yield "| Tool | Risk | Does | Default | Bounds | Scopes | Operations | In one line |"
        yield "|---|---|---|---|---|---|---|---|"
        for row in rows:
            yield _cells(_tool(row))
    yield ""
    yield "# Refused operations"
    yield ""
    yield "Where Terraform is named it needs a PagerDuty token of its own: an agent key lets it do no more than an assistant."
    for reason, found in refusals.items():
        yield ""
        yield f"## {title(reason)}"
        yield ""
        yield REASONS[reason]
        yield ""
        yield "| Operation | Method and path | Instead |"
        yield "|---|---|---|"
        for each in found:
            instead = "".join(f"`{piece}`" if is_tool else piece for piece, is_tool in each.parts)
            yield _cells([f"`{each.operation.id}`", f"`{each.operation.method} {each.operation.path}`", instead])


def _tool(row: Served) -> list[str]:
    tool = row.tool
    also = f"<br>also: {', '.join(f'`{alias}`' for alias in row.aliases)}" if row.aliases else ""
    return [
        f"**{tool.title}**<br>`{tool.name}`{also}",
        tool.risk.value,
        "writes" if tool.writes else "reads",
        tool.default.value.replace("_", " "),
        row.bounds,
        "<br>".join(f"`{scope}`" for scope in tool.scopes) or ("none declared" if tool.operations else "none needed"),
        "<br>".join(f"`{each.method} {each.path}` ({each.id})" for each in row.operations) or row.mirrored,
        row.line,
    ]


def _cells(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def title(reason: str) -> str:
    """A reason's word as a heading: ``personal_data`` → Personal data."""
    return reason.replace("_", " ").capitalize()


def anchor(heading: str) -> str:
    """The fragment of a heading, as Markdown's readers make it: ``On-call scheduling`` → on-call-scheduling."""
    return heading.lower().replace(" ", "-")
