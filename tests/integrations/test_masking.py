"""Addresses and secrets are masked by field, wherever they appear in an answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.masking import mask, masks


def masked(document: Any) -> Any:
    return json.loads(mask(json.dumps(document).encode()))


def test_contact_methods_keep_two_characters() -> None:
    method = {"type": "phone_contact_method", "summary": "415 555 0100", "label": "Mobile", "address": "4155550100"}
    assert masked({"contact_methods": [method]}) == {
        "contact_methods": [{**method, "summary": "•••00", "address": "•••00"}]
    }


def test_a_log_entrys_notification_address_is_masked_too() -> None:
    entry = {"channel": {"notification": {"type": "sms_notification", "address": "4155550100"}}}
    assert masked(entry)["channel"]["notification"]["address"] == "•••00"


@pytest.mark.parametrize("field", ["http_cal_url", "web_cal_url", "routing_key", "integration_key", "secret"])
def test_secrets_are_masked_whole_even_in_lists_and_objects(field: str) -> None:
    assert masked({"a": [{field: "https://x/y"}]}) == {"a": [{field: "[masked]"}]}
    assert masked({field: ["one", "two"]}) == {field: "[masked]"}
    assert masked({field: None}) == {field: None}


def test_what_holds_nothing_to_mask_comes_back_byte_for_byte() -> None:
    body = b'{ "user" : {"id":"PUSR001", "address": null} }'
    assert mask(body) is body


@pytest.mark.parametrize("body", [b"<html>", b"{", b"\xff", b"[" * 100_000])
def test_what_cannot_be_read_is_not_shown(body: bytes) -> None:
    with pytest.raises(ValueError):
        mask(body)


SECRET = "4155550100"
leaves = st.none() | st.integers(-5, 5) | st.text(max_size=3)
trees = st.recursive(
    leaves
    | st.builds(lambda key: {key: SECRET}, st.sampled_from(["address", "phone_number", "secret", "http_cal_url"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "user"]), inner, max_size=3),
    max_leaves=15,
)


@given(trees)
def test_no_address_is_left_however_deep(tree: Any) -> None:
    assert SECRET not in mask(json.dumps({"x": tree}).encode()).decode()


@pytest.mark.parametrize(
    "operation",
    [
        "getUser",
        "getCurrentUser",
        "getUserContactMethods",
        "listUsers",
        "listLogEntries",
        "getLogEntry",
        "listIncidentLogEntries",
        "getScheduleV3",
        "getService",
        "listServices",
        "listOnCalls",
    ],
)
def test_operations_that_can_show_addresses_or_secrets_are_looked_through(operation: str) -> None:
    assert masks(operation)


def test_a_plain_list_is_passed_as_bytes() -> None:
    assert not masks("listIncidents")
