"""Method, path, query and body to the operation, the tools that it needs, and the request that will be sent. Pure.

What is sent is rebuilt from what was judged: the path from the template and its captured values, the query and the body from
their parsed form. So nothing that PagerDuty could read differently passes by.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

from integrations.gateway.integration import Request, Resolution
from integrations.pagerduty.catalog import (
    HOLDS,
    INCLUDED_BY_JOBS,
    INCLUDES,
    OPERATIONS,
    PAGING,
    REFUSALS,
    TAKES,
    TOOLS,
    tools_for,
)
from policies.core.call import Call, JobCredential, Operation, Target, Tool

TERRAFORM: Final = " Terraform with a PagerDuty token of its own: through this door it would be refused, too."
MAXIMUM_PATH: Final = 2048
MAXIMUM_DEPTH: Final = 64
MAXIMUM_VALUES: Final = 20_000
MAXIMUM_PARAMETERS: Final = 200
MAXIMUM_TARGETS: Final = 300
BODY_OPTIONAL: Final = frozenset({"getAnalyticsIncidentResponsesById", "updateTeamUser"})
"""Operations whose body may be left out: PagerDuty's schema requires neither it nor anything in it, and clients send none.
(It marks most bodies so; but an update without one is a request that lost its body.)"""
ENTITY_TYPES: Final = ("users", "teams", "escalation_policies")
"""What ``/{entity_type}/…`` may be (PagerDuty's schema, "Tags"); anything else would shadow other paths."""
RESERVED: Final = ("/incidents/count",)
"""Paths that PagerDuty publishes without an operation: nobody's id spells them."""
STATUSES: Final = frozenset({"acknowledged", "triggered"})
REPEATED: Final[Mapping[str, frozenset[str]]] = {"listResourceStandardsManyServices": frozenset({"ids"})}
"""The one parameter that PagerDuty's schema lets repeat without ``[]`` in its name, by its operation."""
CREDENTIAL_PARAMETERS: Final = frozenset({"token", "access_token", "api_key", "auth_token"})

_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_PARAMETER: Final = re.compile(r"[a-z][a-z0-9_]{0,63}(?:\[\])?", re.ASCII)
_PLAIN_QUERY: Final = re.compile(
    r"[a-z][a-z0-9_]{0,63}=[A-Za-z0-9_.-]*(?:&[a-z][a-z0-9_]{0,63}=[A-Za-z0-9_.-]*)*", re.ASCII
)
_JSON_TYPES: Final = frozenset({"", "application/json", "application/vnd.pagerduty+json"})
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})


class Unreadable(Exception):
    """A body or a query that is not what it must be: in a word for the record, and in a sentence for the caller."""

    def __init__(self, fault: str, sentence: str) -> None:
        super().__init__(sentence)
        self.fault = fault


@dataclass(slots=True)
class _Node:
    literals: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    operations: dict[str, tuple[Operation, tuple[str, ...]]] = field(default_factory=dict)
    """Method → operation and the names of its parameters, in order."""


def _build(operations: Mapping[str, Operation]) -> _Node:
    root = _Node()
    for operation in operations.values():
        paths = [operation.path]
        if "{entity_type}" in operation.path:
            paths = [operation.path.replace("{entity_type}", entity) for entity in ENTITY_TYPES]
        for path in paths:
            node = root
            names = []
            for segment in path.strip("/").split("/"):
                if segment.startswith("{"):
                    names.append(segment[1:-1])
                    node.parameter = node.parameter or _Node()
                    node = node.parameter
                else:
                    node = node.literals.setdefault(segment, _Node())
            if operation.method in node.operations:
                raise ValueError(
                    f"operations.toml: {operation.id} and {node.operations[operation.method][0].id} overlap"
                )
            node.operations[operation.method] = (operation, tuple(names))
    for path in RESERVED:
        node = root
        for segment in path.strip("/").split("/"):
            node = node.literals.setdefault(segment, _Node())
    return root


_ROOT: Final = _build(OPERATIONS)


def match(method: str, path: str) -> tuple[Operation, dict[str, str], str] | None:
    """The operation, the captured values and the canonical path of a raw path; None where no operation has it.

    Literals win. One slash at the end is accepted (Go's client sends it); no percent-encoding is: no id needs any.
    """
    if len(path) > MAXIMUM_PATH or not path.startswith("/"):
        return None
    segments = path[1:].split("/")
    if len(segments) > 1 and segments[-1] == "":
        segments.pop()
    node = _ROOT
    captured = []
    for segment in segments:
        # A literal that matches binds: an id that spells a sibling's name would mean one thing here and another there.
        literal = node.literals.get(segment)
        if literal is not None:
            node = literal
        elif node.parameter is not None and _ID.fullmatch(segment):
            node = node.parameter
            captured.append(segment)
        else:
            return None
    found = node.operations.get(method)
    if found is None:
        return None
    operation, names = found
    return operation, dict(zip(names, captured, strict=True)), "/" + "/".join(segments)


def resolve(call: Call) -> Resolution:
    """What a call asks for. Never raises on bad input: what is wrong with it is its ``problem``."""
    if call.tool and not call.path:
        return _of_tool(call)
    found = match(call.method, call.path)
    if found is None:
        count = call.path.count("/") if len(call.path) <= MAXIMUM_PATH else 0
        return Resolution(
            None,
            (),
            shape=f"(unknown path of {count} segments)" if count else "(unknown path)",
            refusal="This method and path are no operation that the catalogue knows.",
        )
    operation, captured, path = found
    served = tools_for(operation.id)
    shape = operation.path
    if not served:
        refused = REFUSALS[operation.id]
        return Resolution(
            operation,
            (),
            path_targets(operation, captured),
            arguments={"path": captured},
            shape=shape,
            refusal=f"{operation.id} is refused. {refused.because}",
            remedy=f"Instead: {refused.instead}{TERRAFORM if 'pagerduty_' in refused.instead else ''}",
        )
    problem: Unreadable | None = None
    pairs: list[tuple[str, str]] = []
    query = ""
    body: Any = None
    sent: bytes | None = None
    try:
        pairs, query = _read_query(call.query, REPEATED.get(operation.id, frozenset()))
    except Unreadable as error:
        problem = error
    try:
        body, sent = _read_body(operation, call)
    except Unreadable as error:
        problem = problem or error
    tools = _select(operation, served, pairs, body)
    included = _included_by_jobs(call, tools, pairs)
    problem = problem or _disallowed(tools, pairs, included) or _ambiguous(operation, pairs, body)
    problem = problem or _unknown(operation, pairs, body)
    arguments = {"path": captured, "query": _grouped(pairs, REPEATED.get(operation.id, frozenset())), "body": body}
    targets = _targets(operation, captured, body)
    return Resolution(
        operation,
        (*tools, *(tool for tool in included.values() if tool not in tools)),
        targets,
        Request(operation.method, path, query, sent, operation.reads),
        arguments,
        str(problem or ""),
        problem.fault if problem else "",
        "",
        shape,
    )


def _of_tool(call: Call) -> Resolution:
    """A tool by its name, with nothing to send: the verdict on it is all that is asked for, or what the mirror has to say."""
    tool = TOOLS.get(call.tool)
    if tool is None:
        why, instead = "There is no tool of this name.", "Use a tool that tools/list names."
        return Resolution(None, (), shape="(unknown tool)", refusal=why, remedy=instead)
    arguments = {"arguments": call.arguments}
    if not tool.operations:
        return Resolution(None, (tool,), arguments=arguments, is_own=True)
    return Resolution(None, (tool,), arguments=arguments, problem="Nothing was asked of the tool.")


def _read_query(query: str, repeated: frozenset[str]) -> tuple[list[tuple[str, str]], str]:
    """The parameters, and the query as it is sent."""
    if not query:
        return [], ""
    if len(query) > 16_000:
        raise Unreadable("query_too_long", "The query is too long.")
    if ";" in query:
        # Some servers take it for another &: what is one value here would be two parameters there.
        raise Unreadable("query_separator", "The query has a bare semicolon: write it as %3B.")
    if _PLAIN_QUERY.fullmatch(query):
        pairs = [(name, value) for name, _, value in (pair.partition("=") for pair in query.split("&"))]
        canonical = query
    else:
        try:
            pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=MAXIMUM_PARAMETERS)
        except ValueError:
            raise Unreadable(
                "query_malformed", f"The query is not valid UTF-8, or has over {MAXIMUM_PARAMETERS} parameters."
            ) from None
        canonical = ""
    seen = set()
    for name, value in pairs:
        if not canonical and not _PARAMETER.fullmatch(name):
            raise Unreadable("query_unknown_name", "The query has a parameter whose name PagerDuty does not use.")
        if name in CREDENTIAL_PARAMETERS:
            raise Unreadable(
                "query_credential", "Credentials do not belong in the query: use the Authorization header."
            )
        if not name.endswith("[]") and name not in repeated:
            if name in seen:
                raise Unreadable("query_duplicate", f"The query has the parameter {name} twice.")
            seen.add(name)
        if "\0" in value:
            raise Unreadable("query_nul", f"The query's parameter {name} holds a NUL character.")
    return pairs, canonical or urlencode(pairs)


def _grouped(pairs: Sequence[tuple[str, str]], repeated: frozenset[str] = frozenset()) -> dict[str, Any]:
    grouped: dict[str, Any] = {}
    for name, value in pairs:
        if name.endswith("[]") or name in repeated:
            grouped.setdefault(name, []).append(value)
        else:
            grouped[name] = value
    return grouped


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise Unreadable("body_duplicate_key", "The body has the same key twice in one object.")
    return document


def _no_constant(name: str) -> Any:
    raise Unreadable("body_number", "The body holds a number that JSON does not have.")


def _read_body(operation: Operation, call: Call) -> tuple[Any, bytes | None]:
    """The parsed body, and the body as it is sent."""
    if not operation.has_body:
        if call.body:
            raise Unreadable("body_unexpected", f"{operation.id} takes no body.")
        return None, None
    if not call.body and operation.id in BODY_OPTIONAL:
        return None, None
    kind, _, rest = call.content_type.partition(";")
    if kind.strip().lower() not in _JSON_TYPES:
        raise Unreadable("body_content_type", "The body must be sent as Content-Type: application/json.")
    for parameter in rest.lower().split(";"):
        name, _, value = parameter.partition("=")
        if name.strip() == "charset" and value.strip().strip('"') not in _CHARSETS:
            raise Unreadable("body_charset", "The body must be UTF-8, which its Content-Type need not say.")
    if not call.body:
        raise Unreadable("body_missing", "The request needs a JSON body.")
    try:
        document = json.loads(call.body.decode("utf-8"), object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except UnicodeDecodeError:
        raise Unreadable("body_encoding", "The body is not valid UTF-8.") from None
    except RecursionError:
        raise Unreadable("body_depth", f"The body is nested deeper than {MAXIMUM_DEPTH} levels.") from None
    except ValueError:
        raise Unreadable("body_json", "The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise Unreadable("body_not_object", "The body must be a JSON object.")
    _inspect(document)
    try:
        return document, json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")
    except ValueError:
        raise Unreadable("body_number", "The body holds a number that JSON does not have.") from None


def _inspect(document: dict[str, Any]) -> None:
    """Refuse what some JSON readers take otherwise than others: depth, NUL, lone surrogates, absurd integers."""
    level: list[Any] = [document]
    depth = count = 0
    while level:
        depth += 1
        if depth > MAXIMUM_DEPTH:
            raise Unreadable("body_depth", f"The body is nested deeper than {MAXIMUM_DEPTH} levels.")
        below: list[Any] = []
        for node in level:
            values = [*node, *node.values()] if isinstance(node, dict) else node
            count += len(values)
            if count > MAXIMUM_VALUES:
                raise Unreadable("body_values", f"The body holds over {MAXIMUM_VALUES:,} values.")
            for value in values:
                if isinstance(value, str):
                    if "\0" in value or not (value.isascii() or _is_encodable(value)):
                        raise Unreadable("body_characters", "The body holds a NUL character or half a surrogate pair.")
                elif isinstance(value, dict | list):
                    below.append(value)
                elif isinstance(value, int) and not -(2**63) <= value < 2**63:
                    raise Unreadable("body_number", "The body holds a number of more than 64 bits.")
        level = below


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _select(
    operation: Operation, served: tuple[Tool, ...], pairs: Sequence[tuple[str, str]], body: Any
) -> tuple[Tool, ...]:
    """The tools that this very call needs, all of them: where it cannot be told, every tool of the operation."""
    if len(served) == 1:
        return served
    if operation.id == "listOnCalls":
        people = [value for name, value in pairs if name == "user_ids[]"]
        if not people:
            return (TOOLS["list_oncalls"],)
        # PagerDuty ignores a filter that it cannot read, and then lists everybody.
        return (TOOLS["get_user_oncall_status"],) if all(_ID.fullmatch(value) for value in people) else served
    if operation.id in ("updateIncidentAlert", "updateIncidentAlerts"):
        # An incident whose last alert is resolved is resolved itself.
        alerts = _elements(body, "alert" if operation.id == "updateIncidentAlert" else "alerts")
        plain = all(isinstance(alert, dict) and alert.get("status") in (None, "triggered") for alert in alerts)
        if alerts and plain and len(body) == 1:
            return (TOOLS["update_incident_alerts"],)
        return served
    if operation.id in ("updateIncident", "updateIncidents"):
        needed: set[str] = set()
        if not isinstance(body, dict) or len(body) != 1 or not PAGING.issuperset(name for name, _ in pairs):
            return served
        for element in _incidents(operation, body):
            names = _needed_by(element)
            if not names:
                return served
            needed |= names
        return tuple(tool for tool in served if tool.name in needed) or served
    return served


def _incidents(operation: Operation, body: Any) -> list[Any]:
    """The incidents of a body; empty where it has none, or has them in a form that this operation does not read."""
    return _elements(body, "incident" if operation.id == "updateIncident" else "incidents")


def _elements(body: Any, name: str) -> list[Any]:
    """What stands under ``name`` in a body: one object, or where the name is a plural a list of them."""
    if not isinstance(body, dict) or name not in body:
        return []
    if not name.endswith("s"):
        return [body[name]]
    return body[name] if isinstance(body[name], list) else []


def _needed_by(element: Any) -> set[str]:
    """The tools that one incident of an update needs; none: it cannot be told."""
    if not isinstance(element, dict):
        return set()
    changes = element.keys() - {"id", "type"}
    if any(name != "status" and name.lower() == "status" for name in changes):
        return set()  # not every reader of JSON tells capitals from small letters
    needed = set()
    if "status" in changes:
        if element["status"] == "resolved":
            needed.add("resolve_incident")
            changes = changes - {"resolution"}
        elif isinstance(element["status"], str) and element["status"] in STATUSES:
            needed.add("update_incident")
        else:
            return set()
        changes = changes - {"status"}
    if changes:
        needed.add("update_incident")
    return needed


def _ambiguous(operation: Operation, pairs: Sequence[tuple[str, str]], body: Any) -> Unreadable | None:
    """What an update of incidents holds beyond what was looked into, or lacks: PagerDuty could read it otherwise than we do."""
    if operation.id not in ("updateIncident", "updateIncidents") or not isinstance(body, dict):
        return None
    if not _incidents(operation, body):
        needed = "an incident" if operation.id == "updateIncident" else "a list of incidents"
        return Unreadable("body_no_incident", f"The body needs {needed}.")
    if len(body) > 1:
        return Unreadable(
            "body_stray_key",
            f"The body holds more than {'its incident' if operation.id == 'updateIncident' else 'its incidents'}.",
        )
    if not PAGING.issuperset(name for name, _ in pairs):
        return Unreadable(
            "query_unexpected", f"{operation.id} takes what it changes from the body, not from the query."
        )
    return None


def _included_by_jobs(call: Call, tools: tuple[Tool, ...], pairs: Sequence[tuple[str, str]]) -> dict[str, Tool]:
    """What one of the portal's own jobs includes of another tool's data: value → that tool, which the call then needs, too."""
    if not isinstance(call.credential, JobCredential) or len(tools) != 1:
        return {}
    offered = INCLUDED_BY_JOBS[tools[0].name]
    return {value: TOOLS[offered[value]] for name, value in pairs if name == "include[]" and value in offered}


def _disallowed(
    tools: tuple[Tool, ...], pairs: Sequence[tuple[str, str]], included: Mapping[str, Tool]
) -> Unreadable | None:
    for name, value in pairs:
        if name.removesuffix("[]") == "include" and value not in included:
            allowed = frozenset.intersection(*(INCLUDES[tool.name] for tool in tools))
            if value not in allowed:
                listed = ", ".join(sorted(allowed)) or "nothing"
                return Unreadable(
                    "include_not_allowed",
                    f"{tools[0].name} may not include that in its answer; it may include: {listed}.",
                )
    return None


def _unknown(operation: Operation, pairs: Sequence[tuple[str, str]], body: Any) -> Unreadable | None:
    """What the operation does not take: unpublished, it could widen an answer or override what was judged. A body's keys and
    the query's names are one to Rails: a key that belongs in neither is a parameter in both."""
    takes = TAKES[operation.id]
    if any(name not in takes for name, _ in pairs):
        known = ", ".join(sorted(takes)) or "no parameter"
        return Unreadable("query_unknown", f"{operation.id} does not take all of these parameters; it takes: {known}.")
    holds = HOLDS[operation.id]
    if isinstance(body, dict) and not holds.issuperset(body):
        known = ", ".join(sorted(holds)) or "nothing"
        return Unreadable("body_unknown", f"The body holds more than {operation.id} takes; it takes: {known}.")
    return None


_TYPES: Final = {"escalation_policies": "escalation_policy", "log_entries": "log_entry"}
REFERRED: Final = frozenset(
    {
        "business_service",
        "escalation_policy",
        "event_orchestration",
        "incident",
        "incident_workflow",
        "maintenance_window",
        "priority",
        "schedule",
        "schedule_v3",
        "service",
        "status_page",
        "status_page_post",
        "status_page_service",
        "team",
        "technical_service",
        "user",
        "webhook_subscription",
    }
)
"""Types of what a body can refer to, in PagerDuty's words."""
_ROLES: Final = {
    "assignee": "user",
    "created_by": "user",
    "dependent_service": "service",
    "source_incidents": "incident",
    "supporting_service": "service",
}
"""Keys that say what something is to the call; as what kind of thing it can be looked up."""


def is_id(text: str) -> bool:
    """Whether a text has the form of the ids that paths and references hold."""
    return _ID.fullmatch(text) is not None


def path_targets(operation: Operation, captured: Mapping[str, str]) -> tuple[Target, ...]:
    """What a path names, in order: the thing, then its parts. ``captured``: the values of the template's parameters."""
    if not captured:
        return ()
    targets = []
    previous = ""
    for segment in operation.path.split("/"):
        if segment.startswith("{"):
            name = segment[1:-1]
            kind = name.removesuffix("_id") if name != "id" else _TYPES.get(previous, previous.removesuffix("s"))
            if name in captured:
                targets.append(Target(kind, captured[name]))
        previous = segment
    return tuple(targets)


def _targets(operation: Operation, captured: Mapping[str, str], body: Any) -> tuple[Target, ...]:
    """What the call is about: what its path names, then every reference in its body; each once, and no more than fit."""
    found = dict.fromkeys(path_targets(operation, captured))
    left: list[tuple[str, Any]] = [("", body)]
    while left and len(found) < MAXIMUM_TARGETS:
        key, node = left.pop()
        if isinstance(node, list):
            left.extend((key, item) for item in reversed(node))
        elif isinstance(node, dict):
            found.update(dict.fromkeys(referred(key, node)))
            left.extend(reversed(node.items()))
    return tuple(found)[:MAXIMUM_TARGETS]


def referred(key: str, node: Mapping[str, Any]) -> list[Target]:
    """What an object names, by its type, or else by the key it stands under. Where the two are at odds, both: PagerDuty could
    go by either. No other words become a target's type: it stands in the record as it is."""
    if not isinstance(id := node.get("id"), str) or not _ID.fullmatch(id):
        return []
    by_key = _ROLES.get(key) or _TYPES.get(key, key.removesuffix("s"))
    told = node.get("type")
    by_type = told.removesuffix("_reference") if isinstance(told, str) else ""
    kinds = [kind for kind in (by_type, by_key) if kind in REFERRED]
    if len(kinds) == 2 and by_key in by_type:  # a schedule_v3 is a schedule, a business_service a service
        kinds.pop()
    return [Target(kind, id) for kind in kinds]
