"""Which of the published schema's own examples do not validate against it, and why; and which answers of the sandbox do.

``python -m tests.schema_examples FOLDER`` writes ``docs/schema-examples.md`` from the ``openapi.json`` in FOLDER. A document that
contradicts itself cannot be followed to the letter: where the sandbox must choose, ``tests/published_schema.py`` says what is
loosened, and this list shows that PagerDuty's own examples need the same.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from jsonschema.exceptions import ValidationError
from openapi_schema_validator import OAS30ReadValidator
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from integrations.pagerduty.catalog import OPERATIONS, tools_for
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.calls import calls
from tests.published_schema import BASE, as_published, errors_in, load

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "schema-examples.md"
WHY = {
    "required": "the example lacks a field that is required",
    "null": "the example has a null where none is allowed",
    "enum": "the example has a word that the enumeration lacks",
    "type": "the example has a value of another type",
    "several": "the example fits several branches of which one must hold",
    "none": "the example fits none of the branches that there are",
    "reference": "the schema refers to a place of itself that is not there",
    "other": "the example breaks another rule of the schema",
}
"""Kind of the first fault → in words. Of an answer of the sandbox the word "answer" stands for "example"."""
SEED, NOW = 7, dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)


@dataclass(frozen=True)
class Fault:
    operation: str
    status: str
    example: str
    why: str
    where: str


def _kind(error: ValidationError) -> str:
    if error.validator in ("nullable", "type") and error.instance is None:
        return "null"
    if error.validator == "oneOf" and "is valid under each of" in error.message:
        return "several"
    if error.validator in ("oneOf", "anyOf"):
        return "none"
    return str(error.validator) if error.validator in WHY else "other"


def _examples(content: dict[str, Any], examples: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, each in content.get("examples", {}).items():
        if "$ref" in each:
            each = examples[each["$ref"].rsplit("/", 1)[1]]
        if "value" in each:
            yield name, each["value"]
    if "example" in content:
        yield "example", content["example"]


def faults(folder: Path) -> tuple[list[Fault], int]:
    """Every example of an answer that does not validate, in the schema's order, and how many examples there are."""
    base = "urn:published"
    document: Any = _absolute(as_published(folder), base)
    registry: Registry[Any] = Registry().with_resource(base, Resource.from_contents(document, DRAFT202012))
    found: list[Fault] = []
    count = 0
    for operation in OPERATIONS.values():
        responses = document["paths"][operation.path][operation.method.lower()]["responses"]
        for status, response in responses.items():
            if "$ref" in response:
                response = registry.resolver(base).lookup(response["$ref"]).contents
            for content in response.get("content", {}).values():
                for name, example in _examples(content, document["components"].get("examples", {})):
                    count += 1
                    try:
                        error = next(
                            OAS30ReadValidator(content["schema"], registry=registry).iter_errors(example), None
                        )
                    except Unresolvable:
                        found.append(Fault(operation.id, status, name, "reference", ""))
                        continue
                    if error is not None:
                        where = "/".join(str(part) for part in error.absolute_path)
                        found.append(Fault(operation.id, status, name, _kind(error), where))
    return found, count


def _absolute(node: Any, base: str) -> Any:
    if isinstance(node, list):
        return [_absolute(item, base) for item in node]
    if isinstance(node, dict):
        return {
            key: f"{base}{value}" if key == "$ref" and isinstance(value, str) else _absolute(value, base)
            for key, value in node.items()
        }
    return node


@dataclass(frozen=True)
class Answered:
    """How one call of ``tests/calls.py`` is answered, against the schema: the kind of the first fault; empty: it validates."""

    operation: str
    exactly: str
    """Against the file as it is published."""
    corrected: str


def answered(folder: Path) -> list[Answered]:
    exact, corrected = _absolute(as_published(folder), BASE), load(folder)
    found = []
    for name, response in asyncio.run(_answers()).items():
        operation = OPERATIONS[name.partition(" ")[0]]
        document = json.loads(response.content) if response.content else None
        kinds = []
        for schema in (exact, corrected):
            try:
                errors = errors_in(schema, operation.method, operation.path, response.status_code, document)
                error = next(errors, None)
                kinds.append("" if error is None else _kind(error))
            except Unresolvable:
                kinds.append("reference")
        found.append(Answered(operation.id, *kinds))
    return found


async def _answers() -> dict[str, httpx.Response]:
    """Of an account of its own, in the order of the table."""
    sandbox, tokens, found = Sandbox(SEED, NOW), demo_tokens(SEED), {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox") as client:
        for name, (method, path, body) in calls(sandbox.world).items():
            token = tokens["user_manager" if path.startswith("/users/me") else "account"].value
            headers = {"Authorization": f"Token token={token}", "From": demo_from_email(SEED)}
            found[name] = await client.request(method, path, json=body, headers=headers)
            found[name].raise_for_status()
    return found


def _of_the_sandbox(folder: Path) -> Iterator[str]:
    found = answered(folder)
    exactly = sum(not each.exactly for each in found)
    corrected = sum(not each.corrected for each in found)
    yield "## Answers of the sandbox"
    yield ""
    yield "Where the tests say that an answer validates against the published schema, that is the schema loosened and corrected"
    yield f"as `tests/published_schema.py` says. Of the {len(found)} calls of `tests/calls.py`, as the sandbox answers them,"
    yield f"{exactly} validate against the file exactly as it is published, and {corrected} against the corrected one."
    yield f"For these reasons {corrected - exactly} validate only against the corrected one (of each the first fault):"
    yield ""
    yield "| Why not against the file as it is published | Answers | Operations |"
    yield "|---|---|---|"
    counted = Counter(each.exactly for each in found if each.exactly and not each.corrected)
    for why, count in sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])):
        named = dict.fromkeys(each.operation for each in found if each.exactly == why and not each.corrected)
        yield f"| {WHY[why].replace('example', 'answer')} | {count} | {', '.join(named)} |"
    yield ""


def text(folder: Path) -> str:
    found, count = faults(folder)
    served = [fault for fault in found if tools_for(fault.operation)]
    lines = [
        "# Examples of PagerDuty's schema that do not validate against it",
        "",
        "Written by `python -m tests.schema_examples` from the published schema: change nothing here.",
        "",
        f"Of the {count} examples of answers in the published schema {len(found)} do not validate against the schema itself, "
        f"{len(served)} of them",
        "of operations that a tool serves. The sandbox answers as the schema says; where an example and the schema's own",
        "description agree against the schema, `tests/published_schema.py` says what is taken from them, and why.",
        "",
        *_of_the_sandbox(folder),
    ]
    for title, rows in (
        ("Operations that a tool serves", served),
        ("Operations that are refused", [fault for fault in found if not tools_for(fault.operation)]),
    ):
        lines += [f"## {title}", "", "| Operation | Answer | Example | Why | First at |", "|---|---|---|---|---|"]
        lines += [
            f"| {row.operation} | {row.status} | {row.example} | {WHY[row.why]} | {f'`{row.where}`' if row.where else ''} |"
            for row in rows
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    DOCUMENT.write_text(text(Path(sys.argv[1])))
