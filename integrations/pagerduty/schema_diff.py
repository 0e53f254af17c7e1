"""What a newer published OpenAPI schema of PagerDuty's says otherwise than the catalogue does. Pure, but for reading the file.

Known are each operation's method, path, scopes and body (``operations.toml``), what it takes (``parameters.toml``), and the
words that tools offer and entries keep (``catalog.toml``). What is not known, such as the shape of an answer, the type of a
parameter and its bounds, is not compared: ``docs/adding-a-tool.md`` names all of it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from integrations.pagerduty.catalog import INCLUDES, OPERATIONS, PARAMETERS, REFUSALS, TOOLS, tools_for
from policies.core.call import Operation, Tool
from policies.core.text import shown

MAXIMUM_BYTES: Final = 50_000_000
MAXIMUM_NODES: Final = 200_000
"""Of one operation's body: a schema whose parts refer to each other could be walked for ever."""
MAXIMUM_DEPTH: Final = 8
DEPTH: Final = 2
"""How deep the fields of a body are named in ``parameters.toml``: ``body.incident.title``."""
METHODS: Final = ("get", "put", "post", "delete", "patch", "head", "options", "trace")

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_PATH: Final = re.compile(r"(?:/[A-Za-z0-9_.{}-]{1,100}){1,20}", re.ASCII)
_NAME: Final = re.compile(r"[ -~]{1,128}", re.ASCII)
_SCOPES_TOLD: Final = re.compile(r"Scoped OAuth requires:([^\n]*)")
_NOTICE: Final = re.compile(r"^[ >]*#+ *(?:Deprecated|End-of-life)\b", re.IGNORECASE | re.MULTILINE)
_EARLY: Final = re.compile(r"^[ >]*#+ *Early Access\b", re.IGNORECASE | re.MULTILINE)


class UnreadableSchema(Exception):
    """The file is not a published schema, in a sentence that says where."""


@dataclass(frozen=True, slots=True)
class Published:
    """One operation as a schema publishes it."""

    operation: Operation
    summary: str
    early_access: bool
    takes: frozenset[str]
    words: Mapping[str, frozenset[str]]
    """Parameter → its enumeration; and of operations that a tool serves, field of the body → its enumeration."""


@dataclass(frozen=True, slots=True)
class Difference:
    """``what`` differs, in words, and what that ``means`` here. ``kind`` is new, gone, renamed, changed, parameter or word."""

    kind: str
    operation: str
    what: str
    means: str
    tools: tuple[str, ...] = ()
    """The tools that the operation serves."""


# Reading a schema


def read(path: Path) -> Mapping[str, Published]:
    """A file's operations, by operationId. Raises ``UnreadableSchema``, whatever is wrong with it."""
    try:
        if path.stat().st_size > MAXIMUM_BYTES:
            raise UnreadableSchema(f"{path} is over {MAXIMUM_BYTES:,} bytes: it is no published schema.")
        document = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UnreadableSchema(f"{path} cannot be read: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise UnreadableSchema(f"{path} is not JSON: {error}.") from error
    try:
        return published(document)
    except UnreadableSchema as error:
        raise UnreadableSchema(f"{path}: {error}") from error


def published(document: Any) -> Mapping[str, Published]:
    """The operations of an OpenAPI document."""
    paths = document.get("paths") if isinstance(document, dict) else None
    if not isinstance(paths, dict) or not paths:
        raise UnreadableSchema("It has no paths: it is no OpenAPI schema.")
    found: dict[str, Published] = {}
    for template, item in paths.items():
        if not isinstance(item, dict):
            raise UnreadableSchema(f"{_shown(template)} is not an object.")
        for method in METHODS:
            if method not in item:
                continue
            one = _operation(document, template, method, item)
            if one.operation.id in found:
                raise UnreadableSchema(f"The operation {one.operation.id} occurs twice.")
            found[one.operation.id] = one
    if not found:
        raise UnreadableSchema("Its paths hold no operation.")
    return found


def _operation(document: Mapping[str, Any], template: str, method: str, item: Mapping[str, Any]) -> Published:
    where = f"{method.upper()} {_shown(template)}"
    data = item[method]
    operation_id = data.get("operationId") if isinstance(data, dict) else None
    if not isinstance(operation_id, str) or not _ID.fullmatch(operation_id):
        raise UnreadableSchema(f"{where} has no operationId that is a name.")
    if not _PATH.fullmatch(template):
        raise UnreadableSchema(f"{where} is no path.")
    told = data.get("description") or ""
    told = told if isinstance(told, str) else ""
    operation = Operation(
        id=operation_id,
        method=method.upper(),
        path=template,
        scopes=_scopes(data.get("x-pd-requires-scope"), told, where),
        reads=OPERATIONS[operation_id].reads if operation_id in OPERATIONS else method == "get",
        has_body="requestBody" in data,
        deprecated=bool(data.get("deprecated")) or bool(_NOTICE.search(told)),
    )
    parameters = [
        *_list(item.get("parameters", []), where, "parameters"),
        *_list(data.get("parameters", []), where, "parameters"),
    ]
    takes, words = _queried(document, parameters, where)
    for path, schema, required in _written(document, data.get("requestBody"), where):
        if len(path) <= DEPTH:
            takes.add(f"body.{'.'.join(path)}{'!' if required else ''}")
        if tools_for(operation_id):
            _add_words(words, path[-1], schema)
    # Of two forms of a body one may require what the other does not: it is required where all do.
    takes -= {f"{name}!" for name in takes if not name.endswith("!")}
    summary = data.get("summary")
    return Published(
        operation,
        _shown(summary) if isinstance(summary, str) else "",
        bool(_EARLY.search(told)),
        frozenset(takes),
        {name: frozenset(each) for name, each in words.items()},
    )


def _shown(text: str) -> str:
    """A text of the file's in one line, in which nothing can move a terminal's cursor or hide."""
    return " ".join(shown(text, 200).split())


def _scopes(given: Any, told: str, where: str) -> tuple[str, ...]:
    listed = [given] if isinstance(given, str) else given or []
    listed = [*_list(listed, where, "x-pd-requires-scope")]
    for line in _SCOPES_TOLD.findall(told):
        listed += re.findall(r"`([^`]+)`", line)
    if not all(isinstance(scope, str) and _NAME.fullmatch(scope) for scope in listed):
        raise UnreadableSchema(f"{where} has a scope that is no name.")
    return tuple(dict.fromkeys(listed))


def _list(value: Any, where: str, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise UnreadableSchema(f"{where}: {name} is not a list.")
    return value


def _followed(document: Mapping[str, Any], node: Any, where: str) -> dict[str, Any]:
    """The object itself, wherever references to it lead."""
    for _ in range(32):
        if not isinstance(node, dict):
            raise UnreadableSchema(f"{where} holds something that is not an object.")
        if "$ref" not in node:
            return node
        reference, found = node["$ref"], document
        if not isinstance(reference, str) or not reference.startswith("#/"):
            raise UnreadableSchema(f"{where} refers to something outside of the file.")
        for step in reference[2:].split("/"):
            step = step.replace("~1", "/").replace("~0", "~").replace("%7B", "{").replace("%7D", "}")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (KeyError, IndexError, ValueError, TypeError):
                raise UnreadableSchema(f"{where} refers to {_shown(reference)}, which is not there.") from None
        node = found
    raise UnreadableSchema(f"{where} refers in a circle.")


def _queried(
    document: Mapping[str, Any], parameters: Sequence[Any], where: str
) -> tuple[set[str], dict[str, set[str]]]:
    takes: set[str] = set()
    words: dict[str, set[str]] = {}
    for each in parameters:
        parameter = _followed(document, each, where)
        name = parameter.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise UnreadableSchema(f"{where} has a parameter without a name.")
        if parameter.get("in") == "query":
            takes.add(f"{name}{'!' if parameter.get('required') else ''}")
            _add_words(words, name.removesuffix("[]"), _followed(document, parameter.get("schema", {}), where))
            items = _followed(document, parameter.get("schema", {}), where).get("items", {})
            _add_words(words, name.removesuffix("[]"), _followed(document, items, where))
    return takes, words


def _add_words(words: dict[str, set[str]], name: str, schema: Mapping[str, Any]) -> None:
    if isinstance(listed := schema.get("enum"), list):
        # One enumeration is published as a single word: "all, any".
        parts = (part for word in listed if isinstance(word, str) for part in word.split(", "))
        words.setdefault(name, set()).update(parts)


def _written(
    document: Mapping[str, Any], body: Any, where: str
) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any], bool]]:
    """Every field that a body may hold: its path, its schema, and whether it is required beside its siblings."""
    if body is None:
        return
    content = _followed(document, body, where).get("content")
    if not isinstance(content, dict) or not content:
        return
    first = _followed(document, next(iter(content.values())), where)
    stack: list[tuple[Any, tuple[str, ...], bool]] = [(first.get("schema", {}), (), False)]
    for _ in range(MAXIMUM_NODES):
        if not stack:
            return
        each, path, required = stack.pop()
        node = _followed(document, each, where)
        if node.get("readOnly") or len(path) > MAXIMUM_DEPTH:
            continue
        if path:
            yield path, node, required
        for key in ("allOf", "anyOf", "oneOf"):
            stack += [(part, path, required) for part in _list(node.get(key, []), where, key)]
        properties, needed = node.get("properties", {}), node.get("required", [])
        if not isinstance(properties, dict) or not all(_NAME.fullmatch(name) for name in properties):
            raise UnreadableSchema(f"{where} has fields without names.")
        needed = needed if isinstance(needed, list) else []
        stack += [(field, (*path, name), name in needed) for name, field in properties.items()]
        if "items" in node:
            stack.append((node["items"], path, required))
    raise UnreadableSchema(f"{where}: its body never ends.")


# Comparing


def compare(found: Mapping[str, Published]) -> list[Difference]:
    """What differs, in the order new, renamed, gone, changed, and then what operations of tools take."""
    at = {(one.operation.method, one.operation.path): name for name, one in found.items()}
    fresh = [name for name in found if name not in OPERATIONS]
    lost = [name for name in OPERATIONS if name not in found]
    renamed = {}
    for name in lost:
        here = OPERATIONS[name]
        if (now := at.get((here.method, here.path))) in fresh:
            renamed[name] = now
    differences = [_new(found[name]) for name in fresh if name not in renamed.values()]
    differences += [_renamed(name, now) for name, now in renamed.items()]
    differences += [_gone(name) for name in lost if name not in renamed]
    shared = [name for name in OPERATIONS if name in found]
    for name in shared:
        differences += _changed(OPERATIONS[name], found[name].operation)
    for name in shared:
        if tools := tools_for(name):
            differences += _parameters(name, found[name], tools)
            differences += _added_words(name, found[name], tools)
    included = frozenset().union(*(one.words.get("include", frozenset()) for one in found.values()))
    for tool in TOOLS.values():
        differences += _lost_words(tool, found, included)
    return differences


def _names(tools: Sequence[Tool]) -> tuple[str, ...]:
    return tuple(tool.name for tool in tools)


def _stands(name: str) -> str:
    """Where the catalogue has an operation."""
    if tools := tools_for(name):
        return f"the tool {' and '.join(_names(tools))}"
    return f"refusals.toml ({REFUSALS[name].reason})"


def _new(one: Published) -> Difference:
    operation = one.operation
    what = f"{operation.method} {operation.path} is new{f': {one.summary}' if one.summary else ''}."
    return Difference("new", operation.id, what, "It is refused as unknown until it is decided.")


def _renamed(name: str, now: str | None) -> Difference:
    what = f"It is called {now} now; method and path are the same."
    means = f"Calls go on as before: {_stands(name)} and operations.toml should take the new name."
    return Difference("renamed", name, what, means, _names(tools_for(name)))


def _gone(name: str) -> Difference:
    operation, tools = OPERATIONS[name], tools_for(name)
    what = f"{operation.method} {operation.path} is no longer published."
    means = f"It would break {_stands(name)}." if tools else f"Nothing breaks: it goes from {_stands(name)}."
    return Difference("gone", name, what, means, _names(tools))


def _changed(ours: Operation, theirs: Operation) -> Iterator[Difference]:
    tools = tools_for(ours.id)
    names = " and ".join(_names(tools))

    def difference(what: str, served: str, refused: str) -> Difference:
        return Difference("changed", ours.id, what, served if tools else refused, _names(tools))

    if (ours.method, ours.path) != (theirs.method, theirs.path):
        yield difference(
            f"{ours.method} {ours.path} is {theirs.method} {theirs.path} now.",
            f"It would break {names}; by its new path it is refused as unknown.",
            "By its new path it is refused as unknown, without the reason.",
        )
    if set(ours.scopes) != set(theirs.scopes):
        yield difference(
            f"Its scopes were {_listed(ours.scopes)} and are {_listed(theirs.scopes)}.",
            f"Tokens of limited scopes may no longer suffice: see to the scopes of {names}.",
            "Nothing breaks: it is refused.",
        )
    if ours.has_body != theirs.has_body:
        yield difference(
            "It takes a body now." if theirs.has_body else "It takes no body any more.",
            f"It may break {names}: a body that is not expected is refused before it is sent.",
            "Nothing breaks: it is refused.",
        )
    if ours.deprecated != theirs.deprecated:
        yield difference(
            "It is deprecated now." if theirs.deprecated else "It is not deprecated any more.",
            f"{names} will need another operation." if theirs.deprecated else f"{names} may stay as it is.",
            f"Nothing breaks: see whether the reason still holds ({_stands(ours.id)}).",
        )


def _listed(names: Sequence[str]) -> str:
    return ", ".join(sorted(names)) or "none"


def _parameters(name: str, one: Published, tools: tuple[Tool, ...]) -> Iterator[Difference]:
    ours = {each.removesuffix("!"): each.endswith("!") for each in PARAMETERS.get(name, ())}
    theirs = {each.removesuffix("!"): each.endswith("!") for each in one.takes}
    told = " and ".join(_names(tools))
    for each in sorted(theirs.keys() - ours.keys()):
        means = (
            f"Calls without it fail: {told} must give it."
            if theirs[each]
            else f"{told} does not offer it. Clients of the REST door can send it: see that it shows nothing more."
        )
        what = f"{each} is new{', and required' if theirs[each] else ''}."
        yield Difference("parameter", name, what, means, _names(tools))
    for each in sorted(ours.keys() - theirs.keys()):
        offering = [tool.name for tool in tools if _last(each) in tool.input_schema["properties"]]
        means = (
            f"It would break {' and '.join(offering)}, which offers {_last(each)}."
            if offering
            else f"It would break {told} where the operation is called with it."
        )
        yield Difference("parameter", name, f"{each} is gone.", means, _names(tools))
    for each in sorted(ours.keys() & theirs.keys()):
        if ours[each] != theirs[each]:
            yield Difference(
                "parameter",
                name,
                f"{each} is required now." if theirs[each] else f"{each} is not required any more.",
                f"Calls without it fail: {told} must give it." if theirs[each] else "Nothing breaks.",
                _names(tools),
            )


def _last(parameter: str) -> str:
    """``body.incident.title`` → ``title``; ``team_ids[]`` → ``team_ids``."""
    return parameter.removesuffix("[]").rpartition(".")[2]


def _added_words(name: str, one: Published, tools: tuple[Tool, ...]) -> Iterator[Difference]:
    """Words of a field whose other words entries keep. Of a field that entries keep no word of, its words are not known."""
    for each, theirs in sorted(one.words.items()):
        for tool in tools:
            known = tool.keep.get(each)
            if known and (added := theirs - known):
                what = f"{each} may be {_listed([*added])} too."
                means = f"Of these an entry keeps a digest alone ([keep] in catalog.toml), and {tool.name} offers none of them."
                yield Difference("word", name, what, means, (tool.name,))


def _lost_words(tool: Tool, found: Mapping[str, Published], included: frozenset[str]) -> Iterator[Difference]:
    """Words that a tool offers, or may ask for with ``include[]``, and that nothing published takes any more."""
    here = [found[name] for name in tool.operations if name in found]
    offered = {
        name: frozenset(schema.get("enum", ())) | frozenset(schema.get("items", {}).get("enum", ()))
        for name, schema in tool.input_schema["properties"].items()
    }
    taken = {name: frozenset().union(*(one.words.get(name, frozenset()) for one in here)) for name in offered}
    # It may include what is published for another operation alone: PagerDuty does not list all that it takes.
    offered["include"], taken["include"] = INCLUDES[tool.name], included
    for name, words in offered.items():
        if taken[name] and (gone := words - taken[name]):
            what = f"{name} may not be {_listed([*gone])} any more."
            yield Difference(
                "word", tool.operations[0], what, f"It would break {tool.name}, which offers it.", (tool.name,)
            )


# What there is to decide, as text


def skeleton(found: Mapping[str, Published], differences: Sequence[Difference]) -> dict[str, str]:
    """File → what to paste there, or with what to replace the line of the same operation. A proposal: each is to be decided."""
    lines: dict[str, list[str]] = {}
    kinds = {(each.kind, each.operation): each for each in differences}
    for kind, name in kinds:
        if kind == "gone":
            lines.setdefault("operations.toml", []).append(f"# remove {name}")
            lines.setdefault("parameters.toml", []).append(f"# remove {name}")
            where = "catalog.toml" if tools_for(name) else "refusals.toml"
            lines.setdefault(where, []).append(f"# remove {name} from {_stands(name)}")
        elif kind == "renamed":
            here = OPERATIONS[name]
            now = next(
                each
                for each in found.values()
                if (each.operation.method, each.operation.path) == (here.method, here.path)
            )
            # Whether it reads is not published: it stays what it was.
            line = operation_line(replace(now.operation, reads=here.reads))
            lines.setdefault("operations.toml", []).append(f"# in place of {name}\n{line}")
            lines.setdefault("parameters.toml", []).append(f"# in place of {name}\n{parameters_line(now)}")
            where = "catalog.toml" if tools_for(name) else "refusals.toml"
            lines.setdefault(where, []).append(f"# {now.operation.id} in place of {name}, in {_stands(name)}")
        elif kind == "new":
            one = found[name]
            lines.setdefault("operations.toml", []).append(operation_line(one.operation))
            lines.setdefault("parameters.toml", []).append(parameters_line(one))
            reason = _reason(one)
            where, text = ("refusals.toml", _refusal(one, reason)) if reason else ("catalog.toml", _tool(one))
            lines.setdefault(where, []).append(text)
        elif kind == "changed":
            lines.setdefault("operations.toml", []).append(operation_line(found[name].operation))
        elif kind == "parameter":
            lines.setdefault("parameters.toml", []).append(parameters_line(found[name]))
    return {where: "\n".join(each) for where, each in lines.items() if any(each)}


def operation_line(operation: Operation) -> str:
    """An operation as a line of ``operations.toml``."""
    parts = [f'method = "{operation.method}"', f'path = "{operation.path}"']
    if operation.scopes:
        parts.append(f"scopes = {json.dumps(list(operation.scopes))}")
    parts += [
        f"{name} = true"
        for name, given in (
            ("reads", operation.reads),
            ("body", operation.has_body),
            ("deprecated", operation.deprecated),
        )
        if given
    ]
    return f"{operation.id} = {{ {', '.join(parts)} }}"


def parameters_line(one: Published) -> str:
    """What an operation takes as an entry of ``parameters.toml``; empty where it takes nothing."""
    if not one.takes:
        return ""
    entry, line = "", f"{one.operation.id} = ["
    for name in sorted(one.takes):
        word = f"{json.dumps(name)},"
        if len(line) + len(word) > 118:
            entry, line = f"{entry}{line.rstrip()}\n", "  "
        line += f"{word} "
    return f"{entry}{line.rstrip(', ')}]"


def _reason(one: Published) -> str:
    """The reason to refuse a new operation for, where the schema itself gives one; empty: a tool may serve it."""
    if one.operation.deprecated:
        return "deprecated"
    if one.early_access:
        return "early_access"
    return "deletes_for_good" if one.operation.method == "DELETE" else ""


def _refusal(one: Published, reason: str) -> str:
    return (
        f'\n[[refused]]\nreason = "{reason}"\ninstead = "PagerDuty\'s own pages."\noperations = ["{one.operation.id}"]'
    )


def _tool(one: Published) -> str:
    """A tool as strict as there is: its description, risk, bounds, default and presets are to be decided."""
    operation = one.operation
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation.id).replace("-", "_").lower()
    title = one.summary.replace("\\", "").replace('"', "'") or name.replace("_", " ").capitalize()
    described = f"{title.rstrip('.')}. Say what it does, what it touches and what to beware of."
    lines = [
        "\n[[tool]]",
        f'name = "{name}"',
        f'title = "{title}"',
        f'category = "{_category(operation)}"',
        f'risk = "{"medium" if operation.reads else "high"}"',
        f"writes = {'false' if operation.reads else 'true'}",
        'default = "off"',
        f'operations = ["{operation.id}"]',
        f"scopes = {json.dumps(list(operation.scopes))}",
        'bounds = "unbounded"',
        'presets = ["manager"]',
        f'description = "{described}"',
        "[tool.input]",
    ]
    for parameter in dict.fromkeys(re.findall(r"\{(\w+)\}", operation.path)):
        lines.append(f'{parameter} = {{ type = "string", description = "Say what it names.", required = true }}')
    for each in sorted(one.takes):
        given = _last(each.removesuffix("!"))
        if not each.startswith("body.") and re.fullmatch(r"[a-z][a-z_]*", given):
            kind = "array" if each.removesuffix("!").endswith("[]") else "string"
            required = ", required = true" if each.endswith("!") else ""
            lines.append(
                f'{given} = {{ type = "{kind}", description = "Say its meaning, unit and default."{required} }}'
            )
    return "\n".join(lines)


def _category(operation: Operation) -> str:
    """Where the tools of the operations beside it are, by the first part of the path."""
    beside = [
        tool.category
        for tool in TOOLS.values()
        for name in tool.operations
        if OPERATIONS[name].path.split("/")[1] == operation.path.split("/")[1]
    ]
    return Counter(beside).most_common(1)[0][0] if beside else "account"
