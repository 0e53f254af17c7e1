"""Every tool and every known operation, from ``catalog.toml``, ``operations.toml``, ``parameters.toml`` and ``refusals.toml``.
Inconsistent data fails the import."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from policies.core.call import Operation, Risk, State, Tool

_HERE = Path(__file__).parent
Parameter = Mapping[str, Any]
"""One parameter of a tool, as ``catalog.toml`` has it."""

CATEGORIES: Final = (
    "incidents",
    "services",
    "escalation policies",
    "on-call scheduling",
    "users",
    "analytics and reporting",
    "change events",
    "teams",
    "event orchestrations",
    "workflows and automation",
    "status pages",
    "webhooks and extensions",
    "account",
)
PRESET_NAMES: Final = ("observer", "responder", "manager", "core")
MIRROR: Final = "mirror"
BOUNDS: Final = (MIRROR, "team_ids", "service_ids", "answer_owner", "owner", "unbounded")
"""How an operation is held inside a connection's bounds (``catalog.toml`` says what each means), the strictest last; the first
is said of tools without one."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why no tool serves an operation. ``because`` is a sentence; ``instead`` goes after "Instead: "."""

    reason: str
    because: str
    instead: str


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


_PASSED: Final = frozenset(
    {"type", "format", "description", "default", "minimum", "maximum", "pattern", "examples", "minItems", "maxItems"}
)
_OURS: Final = frozenset({"enum", "items", "required"})


def _parameters(given: Mapping[str, Parameter], shared: Mapping[str, Parameter]) -> Mapping[str, Parameter]:
    """A tool's parameters, each with what the shared one that it is ``like`` says beside its own words."""
    return {
        name: {**shared[parameter["like"]], **{key: value for key, value in parameter.items() if key != "like"}}
        if "like" in parameter
        else parameter
        for name, parameter in given.items()
    }


def _schema(parameters: Mapping[str, Parameter]) -> Mapping[str, Any]:
    """Flat: texts, numbers, yes or no, and lists of these, with their bounds and defaults. A list's ``enum`` is its items'."""
    properties: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if unknown := parameter.keys() - _PASSED - _OURS:
            raise ValueError(f"catalog.toml: the parameter {name} says {min(unknown)}, which means nothing")
        schema: dict[str, Any] = {key: value for key, value in parameter.items() if key in _PASSED}
        choices = {"enum": parameter["enum"]} if "enum" in parameter else {}
        if parameter["type"] == "array":
            schema["items"] = {"type": "string", **choices, **parameter.get("items", {})}
        else:
            schema |= choices
        properties[name] = schema
    required = [name for name, parameter in parameters.items() if parameter.get("required")]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _bounds(data: Mapping[str, Any]) -> Mapping[str, str]:
    """Operation → word, of one tool."""
    told = data["bounds"]
    words: Mapping[str, str] = dict.fromkeys(data["operations"], told) if isinstance(told, str) else told
    known = set(BOUNDS) - {MIRROR}
    if set(words) != set(data["operations"]) or not set(words.values()) <= known or (not words and told != MIRROR):
        raise ValueError(f"catalog.toml: {data['name']}: bounds needs one known word for each of its operations")
    return words


def _keep(common: Mapping[str, Sequence[str]], parameters: Mapping[str, Parameter]) -> Mapping[str, frozenset[str]]:
    """Field → the words that an entry keeps: PagerDuty's, and the enumerations of the tool's own input."""
    words = {name: frozenset(known) for name, known in common.items()}
    for name, parameter in parameters.items():
        if "enum" in parameter:
            words[name] = words.get(name, frozenset()) | frozenset(parameter["enum"])
    return MappingProxyType(words | {f"{name}[]": known for name, known in words.items()})


def _tool(data: Mapping[str, Any], shared: Mapping[str, Parameter], keep: Mapping[str, Sequence[str]]) -> Tool:
    parameters = _parameters(data.get("input", {}), shared)
    return Tool(
        name=data["name"],
        title=data["title"],
        category=data["category"],
        risk=Risk(data["risk"]),
        writes=data["writes"],
        default=State(data["default"]),
        operations=tuple(data["operations"]),
        description=data["description"],
        input_schema=_schema(parameters),
        scopes=tuple(data["scopes"]),
        bounds=max(_bounds(data).values(), key=BOUNDS.index, default=MIRROR),
        presets=frozenset(data["presets"]),
        keep=_keep(keep, parameters),
    )


def _aliases(tools: Sequence[Mapping[str, Any]]) -> Mapping[str, tuple[str, ...]]:
    """Alias → the tools that name it, in the catalogue's order."""
    named = {data["name"] for data in tools}
    found: dict[str, tuple[str, ...]] = {}
    for data in tools:
        for alias in data.get("aliases", ()):
            if alias in named:
                raise ValueError(f"catalog.toml: {data['name']}: the alias {alias} is the name of a tool")
            if data["name"] in found.get(alias, ()):
                raise ValueError(f"catalog.toml: {data['name']}: the alias {alias} occurs twice")
            found[alias] = (*found.get(alias, ()), data["name"])
    return MappingProxyType(found)


def _refusals(data: Mapping[str, Any]) -> Mapping[str, Refusal]:
    """Operation → why it is refused, from ``refusals.toml``."""
    found: dict[str, Refusal] = {}
    for block in data["refused"]:
        if block["reason"] not in data["reasons"]:
            raise ValueError(f"refusals.toml: there is no reason {block['reason']}")
        refusal = Refusal(block["reason"], data["reasons"][block["reason"]], block["instead"])
        for operation_id in block["operations"]:
            if operation_id in found:
                raise ValueError(f"refusals.toml: {operation_id} is refused twice")
            found[operation_id] = refusal
    return MappingProxyType(found)


def _overridden(listed: Mapping[str, Refusal], served: Collection[str]) -> tuple[Mapping[str, Refusal], frozenset[str]]:
    """The refusals of what no tool serves, and the operations whose refusal a tool has overridden."""
    stale = frozenset(listed) & frozenset(served)
    return MappingProxyType({name: refusal for name, refusal in listed.items() if name not in stale}), stale


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads((_HERE / name).read_text("utf-8"))


_catalog = _read("catalog.toml")
_tools = _catalog["tool"]
OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {operation_id: _operation(operation_id, data) for operation_id, data in _read("operations.toml").items()}
)
TOOLS: Final[Mapping[str, Tool]] = MappingProxyType(
    {data["name"]: _tool(data, _catalog["parameters"], _catalog["keep"]) for data in _tools}
)
BOUNDS_OF: Final[Mapping[str, str]] = MappingProxyType(
    {operation: word for data in _tools for operation, word in _bounds(data).items()}
)
"""Operation → how it is held inside bounds. ``Tool.bounds`` is the strictest of its operations' words, for pages."""
PARAMETERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {operation_id: frozenset(names) for operation_id, names in _read("parameters.toml").items()}
)
"""Operation → what it takes, as it was published when it was last looked at (``parameters.toml`` says the form)."""
INCLUDES: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {data["name"]: frozenset(data.get("include", ())) for data in _tools}
)
"""Tool name → what it may ask for with ``include[]``: anything else could widen a read into another tool's data."""
INCLUDED_BY_JOBS: Final[Mapping[str, Mapping[str, str]]] = MappingProxyType(
    {data["name"]: MappingProxyType(data.get("include_by_jobs", {})) for data in _tools}
)
"""Tool name → what the portal's own jobs may ask for besides with ``include[]``, and the tool whose data that is: such a call
needs that tool, too. It spares the mirror two calls for each person."""
MASKED: Final[frozenset[str]] = frozenset(
    operation for data in _tools if data.get("masked") for operation in data["operations"]
)
"""Operations whose answers may hold addresses or secrets."""
ALIASES: Final[Mapping[str, tuple[str, ...]]] = _aliases(_tools)
"""A name of PagerDuty's own MCP server that is no tool here → the tools that cover it, in the catalogue's order."""
_refused = _read("refusals.toml")
REASONS: Final[Mapping[str, str]] = MappingProxyType(_refused["reasons"])
"""Why operations are refused: a word → a sentence."""
_standing, _stale = _overridden(_refusals(_refused), BOUNDS_OF)
REFUSALS: Final[Mapping[str, Refusal]] = _standing
"""Operation → why no tool serves it. Every operation is either here or in a tool."""
OVERRIDDEN: Final[frozenset[str]] = _stale
"""What refusals.toml still refuses and a tool serves: the tool counts, and ``manage.py catalogue`` takes the refusal out."""
PRESETS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {preset: frozenset(name for name, tool in TOOLS.items() if preset in tool.presets) for preset in PRESET_NAMES}
)
JOB_READS: Final[frozenset[str]] = frozenset(name for name, tool in TOOLS.items() if not tool.writes)
"""What the portal's own jobs may use: every read of the catalogue, and no write."""

# What a call may hold (resolve.py): what PagerDuty publishes for the operation, and of reads what only cuts, orders or words a
# list. Clients page whatever they list, and PagerDuty ignores it where it does not page.
PAGING: Final = frozenset({"limit", "offset", "total"})
HARMLESS: Final = PAGING | {"more", "cursor", "query", "since", "until", "time_zone", "sort_by"}
"""Query parameters that PagerDuty's own clients send to lists that publish none of them (its Go client's ``APIListObject``,
its Python client's ``iter_all`` and ``find``): none can show more than the list itself."""
UNPUBLISHED: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {"createScheduleOverride": frozenset({"override"}), "createRotation": frozenset({"rotation"})}
)
"""Keys of a body that clients send and the schema does not have: one override of a v2 schedule (PagerDuty's Go client), and
an empty rotation under its own name."""


def _takes(operation: Operation) -> frozenset[str]:
    """Names of an operation's query parameters: ``include[]`` among them, whose values are judged by the tool."""
    named = frozenset(
        name.removesuffix("!") for name in PARAMETERS.get(operation.id, ()) if not name.startswith("body.")
    )
    return named | HARMLESS | {"include[]"} if operation.reads else named


def _holds(operation: Operation) -> frozenset[str]:
    """Names at the top of an operation's body."""
    parts = [name.removesuffix("!").split(".") for name in PARAMETERS.get(operation.id, ())]
    named = frozenset(part[1] for part in parts if part[0] == "body" and len(part) == 2)
    return named | UNPUBLISHED.get(operation.id, frozenset())


TAKES: Final[Mapping[str, frozenset[str]]] = MappingProxyType({id: _takes(one) for id, one in OPERATIONS.items()})
"""Operation → the query parameters that a call of it may have."""
HOLDS: Final[Mapping[str, frozenset[str]]] = MappingProxyType({id: _holds(one) for id, one in OPERATIONS.items()})
"""Operation → the keys that a body of it may have at its top."""

_by_operation: dict[str, list[Tool]] = {}
for _each in TOOLS.values():
    for _operation_id in _each.operations:
        _by_operation.setdefault(_operation_id, []).append(_each)
_BY_OPERATION: Final = {operation: tuple(tools) for operation, tools in _by_operation.items()}


def tools_for(operation_id: str) -> tuple[Tool, ...]:
    """Every tool that the operation serves; none: it is refused."""
    return _BY_OPERATION.get(operation_id, ())


def _accounted(known: Collection[str], served: Collection[str], refused: Collection[str]) -> None:
    """Every operation that is known is served or refused, and nothing else is."""
    if unknown := set(refused) - set(known):
        raise ValueError(f"refusals.toml: no operation {min(unknown)}")
    if neither := set(known) - set(served) - set(refused):
        raise ValueError(f"{min(neither)} is neither in a tool of catalog.toml nor in refusals.toml")


def _check() -> None:
    if len(TOOLS) != len(_tools):
        raise ValueError("catalog.toml: a tool's name occurs twice")
    for data in _tools:
        # What it is asked for cannot change where an operation may reach.
        for operation_id, word in _bounds(data).items():
            if BOUNDS_OF[operation_id] != word:
                raise ValueError(f"catalog.toml: {data['name']}: another tool says other bounds of {operation_id}")
    for tool in TOOLS.values():
        where = f"catalog.toml: {tool.name}"
        if not tool.operations and tool.writes:
            raise ValueError(f"{where}: it writes, and has no operation")
        for operation_id in tool.operations:
            operation = OPERATIONS.get(operation_id)
            if operation is None:
                raise ValueError(f"{where}: no operation {operation_id}")
            if operation.reads is tool.writes:
                raise ValueError(f"{where}: {operation_id} does not fit writes = {tool.writes}")
        if not set(INCLUDED_BY_JOBS[tool.name].values()) <= JOB_READS:
            raise ValueError(f"{where}: jobs may include what is no read of the catalogue")
        if tool.category not in CATEGORIES or not tool.presets <= set(PRESET_NAMES):
            raise ValueError(f"{where}: an unknown category or preset")
    _accounted(OPERATIONS, BOUNDS_OF, REFUSALS)


_check()
