"""The operations that no tool serves: each has a reason, and what to use instead."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty import catalog
from integrations.pagerduty.catalog import OPERATIONS, OVERRIDDEN, REASONS, REFUSALS, TOOLS, tools_for
from integrations.pagerduty.listing import without
from integrations.pagerduty.resolve import resolve
from policies.core.call import Call, Door, KeyCredential

TERRAFORM = "pagerduty_"


def called(method: str, path: str) -> Any:
    return resolve(Call(Door.REST, KeyCredential("x"), method, path))


def test_every_operation_is_either_served_or_refused() -> None:
    served = {name for tool in TOOLS.values() for name in tool.operations}
    assert served | set(REFUSALS) == set(OPERATIONS)
    assert not served & set(REFUSALS)
    assert len(OPERATIONS) == 465


@pytest.mark.parametrize(
    ("known", "served", "refused", "said"),
    [
        ("ab", "a", "", "b is neither in a tool of catalog.toml nor in refusals.toml"),
        ("a", "a", "z", "no operation z"),
    ],
)
def test_an_operation_in_neither_fails_the_import(known: str, served: str, refused: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        catalog._accounted(known, served, refused)


def test_a_tool_overrides_a_refusal_which_does_not_stay_unnoticed() -> None:
    refused = catalog._refusals(
        {"reasons": {"whim": "So."}, "refused": [{"reason": "whim", "instead": "x", "operations": ["a", "b"]}]}
    )
    standing, stale = catalog._overridden(refused, {"b": "owner", "c": "owner"})
    assert (set(standing), set(stale)) == ({"a"}, {"b"})
    assert not OVERRIDDEN, f"refusals.toml refuses what a tool serves: {sorted(OVERRIDDEN)}. Run make catalogue."


@pytest.mark.parametrize(
    ("operations", "left"),
    [
        (["one"], ["two"]),
        (["two", "one"], []),
        ([], ["one", "two"]),
    ],
)
def test_what_a_tool_serves_is_taken_out_of_the_refusals_and_nothing_else(
    operations: list[str], left: list[str]
) -> None:
    text = (Path(catalog.__file__).parent / "refusals.toml").read_text()
    before, _, after = text.partition("\n[[refused]]\n")
    made = '\n[[refused]]\nreason = "access"\ninstead = "x."\noperations = ["one", "two"]\n'
    found = without(f"{before}{made}\n[[refused]]\n{after}", operations)
    blocks = tomllib.loads(found)["refused"]
    rest = tomllib.loads(text)["refused"]
    assert blocks == [{"reason": "access", "instead": "x.", "operations": left}] * bool(left) + rest
    # Of the file itself: the first and the last of every block that refuses several.
    for place in (0, -1):
        chosen = [block["operations"][place] for block in rest if len(block["operations"]) > 1]
        kept = tomllib.loads(without(text, chosen))["refused"]
        assert [block["operations"] for block in kept] == [
            [name for name in block["operations"] if name not in chosen] for block in rest
        ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (
            {"reasons": {}, "refused": [{"reason": "whim", "instead": "nothing", "operations": ["a"]}]},
            "there is no reason whim",
        ),
        (
            {
                "reasons": {"access": "It is so."},
                "refused": [{"reason": "access", "instead": "nothing", "operations": ["a", "a"]}],
            },
            "a is refused twice",
        ),
    ],
)
def test_a_refusal_without_a_reason_or_said_twice_fails_the_import(data: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        catalog._refusals(data)


def test_every_reason_is_a_sentence_and_refuses_something() -> None:
    assert {refusal.reason for refusal in REFUSALS.values()} == set(REASONS)
    for name, sentence in REASONS.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert re.fullmatch(r"[A-Z].{20,}\.", sentence)
    for refusal in REFUSALS.values():
        assert refusal.because == REASONS[refusal.reason]
        assert refusal.instead.endswith(".")


def test_whatever_is_named_instead_is_a_tool_or_a_resource_of_terraforms() -> None:
    for name, refusal in REFUSALS.items():
        for word in re.findall(r"\b[a-z0-9]+(?:_[a-z0-9]+)+\b", refusal.instead):
            assert word in TOOLS or word.startswith(TERRAFORM), (name, word)
        if refusal.reason == "covered_by_another_tool":
            assert set(re.findall(r"\w+", refusal.instead)) & set(TOOLS), name


def test_a_reason_is_true_of_what_it_refuses(schema_dir: Path) -> None:
    published = {row["operation_id"]: row for row in json.loads((schema_dir / "operations.json").read_text())}
    for name, operation in OPERATIONS.items():
        reason = REFUSALS[name].reason if name in REFUSALS else ""
        row = published[name]
        assert operation.deprecated == (reason == "deprecated"), name
        # Two kinds of what is in early access are refused for what they are: they stay so when it ends.
        if row["early_access"]:
            assert reason in ("early_access", "credentials", "access"), name
        else:
            assert reason != "early_access", name
        if reason == "deletes_for_good":
            assert operation.method == "DELETE", name
        if reason in ("not_called_for", "personal_data"):
            assert operation.reads, name
        if reason in ("accounts_of_people", "who_is_notified", "told_in_public", "rewrites_the_record"):
            assert not operation.reads, name
        if reason == "configuration":
            assert not operation.reads, name


@pytest.mark.parametrize(
    ("method", "path", "operation", "reason", "instead"),
    [
        ("DELETE", "/users/PDEF456", "deleteUser", "accounts_of_people", "pagerduty_user"),
        ("GET", "/rulesets", "listRulesets", "deprecated", "list_event_orchestrations"),
        ("GET", "/abilities/teams", "getAbility", "covered_by_another_tool", "list_abilities"),
        ("DELETE", "/services/PIJ90N7", "deleteService", "deletes_for_good", "create_maintenance_window"),
    ],
)
def test_a_refused_call_says_which_operation_why_and_what_instead(
    method: str, path: str, operation: str, reason: str, instead: str
) -> None:
    resolution = called(method, path)
    assert resolution.tools == ()
    assert resolution.operation.id == operation
    assert resolution.refusal == f"{operation} is refused. {REASONS[reason]}"
    assert resolution.remedy.startswith("Instead: ")
    assert instead in resolution.remedy
    assert resolution.request is None


def test_an_unknown_path_has_no_reason_to_give() -> None:
    resolution = called("GET", "/no/such/path")
    assert resolution.operation is None
    assert resolution.remedy == ""


def test_every_refused_operation_can_be_asked_for_and_is_told_of() -> None:
    for name, operation in OPERATIONS.items():
        if tools_for(name):
            continue
        path = operation.path.replace("{entity_type}", "users")
        resolution = called(operation.method, re.sub(r"\{\w+\}", "PABC123", path))
        assert resolution.operation.id == name
        assert name in resolution.refusal
