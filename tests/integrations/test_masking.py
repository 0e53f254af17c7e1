"""Addresses and secrets are masked by field, wherever they appear in an answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.gateway.integration import Request
from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.masking import (
    ENDPOINTS,
    FIELDS,
    INPUTS,
    REVEALABLE,
    mask,
    mask_error,
    masks,
)
from tests.published_schema import nodes, published


def masked(document: Any) -> Any:
    return json.loads(mask(json.dumps(document).encode())[0])


def test_contact_methods_keep_two_characters() -> None:
    method = {"type": "phone_contact_method", "summary": "415 555 0100", "label": "Mobile", "address": "4155550100"}
    assert masked({"contact_methods": [method]}) == {
        "contact_methods": [{**method, "summary": "•••00", "address": "•••00"}]
    }


def test_a_log_entrys_notification_address_is_masked_too() -> None:
    entry = {"channel": {"notification": {"type": "sms_notification", "address": "4155550100"}}}
    assert masked(entry)["channel"]["notification"]["address"] == "•••00"


@pytest.mark.parametrize(
    "field", ["http_cal_url", "web_cal_url", "routing_key", "integration_key", "integration_email", "secret"]
)
def test_secrets_are_masked_whole_even_in_lists_and_objects(field: str) -> None:
    assert masked({"a": [{field: "https://x/y"}]}) == {"a": [{field: "[masked]"}]}
    assert masked({field: ["one", "two"]}) == {field: "[masked]"}
    assert masked({field: None}) == {field: None}


def test_an_audit_records_old_and_new_address_are_masked_and_its_other_fields_are_not() -> None:
    address = {"name": "address", "before_value": "4155550100", "value": "4155550199", "description": "Contact method"}
    role = {"name": "role", "before_value": "observer", "value": "manager"}
    assert masked({"details": {"fields": [address, role]}}) == {
        "details": {"fields": [{**address, "before_value": "[masked]", "value": "[masked]"}, role]}
    }
    none = {"name": "routing_key", "before_value": None, "value": None}
    assert masked([none]) == [none]


@pytest.mark.parametrize("field", ["custom_headers", "headers"], ids=["webhook", "orchestration"])
def test_headers_that_are_sent_along_keep_their_names_and_nothing_of_what_they_say(field: str) -> None:
    method = {"url": "https://example.com/hook", field: [{"name": "Authorization", "value": "Basic abc"}]}
    assert masked({"of": [method]}) == {"of": [{**method, field: [{"name": "Authorization", "value": "[masked]"}]}]}


def test_the_values_of_headers_that_are_an_object_are_masked() -> None:
    assert masked({"headers": {"Authorization": "Basic abc"}}) == {"headers": {"Authorization": "[masked]"}}


def test_what_somebody_typed_into_a_step_or_an_action_is_masked_and_its_names_are_not() -> None:
    step = {"action_configuration": {"inputs": [{"name": "Token", "parameter_type": "password", "value": "hunter2"}]}}
    assert masked({"steps": [step]})["steps"][0]["action_configuration"]["inputs"] == [
        {"name": "Token", "parameter_type": "password", "value": "[masked]"}
    ]
    action = {"name": "Post", "url": "https://hooks.example.com/T0/B0/abc", "parameters": [{"key": "k", "value": "v"}]}
    assert masked({"actions": {"automation_actions": [action]}})["actions"]["automation_actions"] == [
        {"name": "Post", "url": "https://hooks.example.com/[masked]", "parameters": [{"key": "k", "value": "[masked]"}]}
    ]


def test_of_the_address_of_a_hook_or_a_conference_the_host_alone_is_shown() -> None:
    assert masked({"delivery_method": {"url": "https://hooks.example.com/services/x?k=1"}}) == {
        "delivery_method": {"url": "https://hooks.example.com/[masked]"}
    }
    assert masked({"delivery_method": {"url": "hooks.example.com"}}) == {"delivery_method": {"url": "[masked]"}}
    assert masked({"url": "https://example.com/schema"}) == {"url": "https://example.com/schema"}
    bridge = {"conference_number": "+1 415-555-1212,,,,1234#", "conference_url": "https://meet.example.com/1?pwd=2"}
    assert masked({"conference_bridge": bridge})["conference_bridge"] == {
        "conference_number": "•••4#",
        "conference_url": "https://meet.example.com/[masked]",
    }


def test_who_wrote_to_an_email_integration_is_masked_and_other_ends_are_not() -> None:
    channel = {"type": "email", "from": "ann@example.com", "to": "alerts@acme.example", "subject": "Down"}
    assert masked({"channel": channel}) == {"channel": {**channel, "from": "•••om", "to": "•••le"}}
    assert masked({"changed_actions": [{"type": "unacknowledge", "to": "triggered"}]}) == {
        "changed_actions": [{"type": "unacknowledge", "to": "triggered"}]
    }


@pytest.mark.parametrize("name", ["email", "Routing Key", "api_key", "Phone Number"])
def test_an_audit_records_field_is_known_however_its_name_is_spelled(name: str) -> None:
    assert masked([{"name": name, "before_value": "a@x.example", "value": "b"}]) == [
        {"name": name, "before_value": "[masked]", "value": "[masked]"}
    ]


def test_several_addresses_are_masked_one_by_one() -> None:
    assert masked({"address": ["+14155550100", "a@example.com"]}) == {"address": ["•••00", "•••om"]}


@pytest.mark.parametrize("odd", [None, [], "x", [1, None, [], {"name": "A"}]])
def test_headers_that_are_none_are_left_as_they_are(odd: Any) -> None:
    assert masked({"custom_headers": odd}) == {"custom_headers": odd}


def test_what_holds_nothing_to_mask_comes_back_byte_for_byte() -> None:
    body = b'{ "user" : {"id":"PUSR001", "address": null} }'
    assert mask(body)[0] is body


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
    assert SECRET not in mask(json.dumps({"x": tree}).encode())[0].decode()


def request(operation_id: str, query: str = "") -> Request:
    operation = OPERATIONS[operation_id]
    return Request(operation.method, operation.path, query, None, operation.reads)


SERVED = sorted({operation for tool in TOOLS.values() for operation in tool.operations})
BY_INCLUDE = frozenset({"listIncidents", "getIncident", "listIncidentAlerts", "getIncidentAlert"})
"""Their answers hold references to people and entries, and whole ones only where ``include[]`` asks for them. (The schema
says ``User`` in such places, for it does not tell the two apart.)"""


def secret_fields(folder: Path, operation_id: str) -> set[str]:
    """Fields to be masked that the published schema has somewhere in a good answer of the operation, and those under which
    some may stand."""
    operation = OPERATIONS[operation_id]
    answers = published(folder, operation.method, operation.path)["responses"]
    good = [answer for status, answer in answers.items() if status.startswith("2")]
    found: set[str] = set()
    for node in nodes(folder, *good):
        if isinstance(properties := node.get("properties"), dict):
            found |= (FIELDS.keys() | INPUTS | ENDPOINTS | {"conference_url"}) & properties.keys()
    return found


def test_every_answer_that_the_schema_lets_hold_an_address_or_a_secret_is_looked_through(schema_dir: Path) -> None:
    assert secret_fields(schema_dir, "getUser") >= {"http_cal_url", "web_cal_url"}
    for operation in SERVED:
        if found := secret_fields(schema_dir, operation):
            asked = "include%5B%5D=users" if operation in BY_INCLUDE else ""
            assert masks(operation, request(operation, asked)), (operation, found)


@pytest.mark.parametrize("operation", ["updateScheduleV3", "updateIncident", "createIncident", "createIncidentNote"])
def test_a_writes_answer_is_looked_through(operation: str) -> None:
    assert masks(operation, request(operation))


def test_a_plain_list_of_incidents_is_passed_as_bytes_and_one_with_people_in_it_is_not() -> None:
    assert not masks("listIncidents", request("listIncidents", "limit=25"))
    assert masks("listIncidents", request("listIncidents", "include%5B%5D=assignees"))


def test_an_incident_that_tells_its_conference_is_looked_through_whatever_was_asked(fixtures_dir: Path) -> None:
    """PagerDuty documents it "only if include[]=conference_bridge"; the example in the same place was not asked for it."""
    body = (fixtures_dir / "incidents_02_docs_list.json").read_bytes()
    assert masks("listIncidents", request("listIncidents", "limit=25"), body)
    bridge = json.loads(mask(body)[0])["incidents"][0]["conference_bridge"]
    assert bridge["conference_number"].startswith("•••")


def test_recorded_incidents_hold_nothing_else_to_mask_where_they_pass_as_bytes(fixtures_dir: Path) -> None:
    found = 0
    for path in fixtures_dir.glob("incidents_*.json"):
        body = path.read_bytes()
        if not masks("listIncidents", request("listIncidents"), body):
            assert mask(body)[0] is body, path.name
            found += 1
    assert found


# Reveals

PERSON = {
    "address": "4155550100",
    "of": [{"address": ["a@example.com", "b@example.com"]}, {"type": "email", "from": "c@example.com"}],
    "http_cal_url": "https://acme.pagerduty.com/private/x/feed",
    "routing_key": "R0ABC",
    "conference_url": "https://meet.example.com/1",
    "token": "s1",
    "custom_headers": [{"name": "Authorization", "value": "s2"}],
    "delivery_method": {"url": "https://hooks.example.com/s3", "secret": "s4"},
    "steps": {"inputs": [{"name": "Token", "value": "s5"}], "script": "s6"},
}
SECRET_WORDS = ("s1", "s2", "s3", "s4", "s5", "s6")


@pytest.mark.parametrize(
    ("kind", "count"), [("addresses", 5), ("calendars", 1), ("keys", 1), ("secrets", 0), ("everything", 0)]
)
def test_a_kind_that_is_revealed_is_shown_and_counted_and_no_other_is(kind: str, count: int) -> None:
    body, revealed = mask(json.dumps(PERSON).encode(), frozenset({kind}))
    assert revealed == ({kind: count} if count else {})
    found = body.decode()
    kinds = {
        "addresses": ("4155550100", "a@example.com", "b@example.com", "c@example.com", "meet.example.com/1"),
        "calendars": ("private/x",),
        "keys": ("R0ABC",),
        "secrets": SECRET_WORDS,
    }
    for other, words in kinds.items():
        for word in words:
            assert (word in found) is (other == kind and count > 0), (other, word)


def test_all_that_can_be_revealed_leaves_the_secrets() -> None:
    body, revealed = mask(json.dumps(PERSON).encode(), frozenset({*REVEALABLE, "secrets"}))
    assert revealed == {"addresses": 5, "calendars": 1, "keys": 1}
    assert not [word for word in SECRET_WORDS if word in body.decode()]
    assert set(FIELDS.values()) == {*REVEALABLE, "secrets"}


def test_an_audit_records_values_are_of_the_kind_that_their_field_is_of() -> None:
    record = {"fields": [{"name": "Phone Number", "value": "+1"}, {"name": "secret", "value": "s"}]}
    body, revealed = mask(json.dumps(record).encode(), frozenset(REVEALABLE))
    assert json.loads(body)["fields"] == [
        {"name": "Phone Number", "value": "+1"},
        {"name": "secret", "value": "[masked]"},
    ]
    assert revealed == {"addresses": 1}


def test_what_is_empty_is_not_counted() -> None:
    assert mask(b'{"address": null, "routing_key": "", "http_cal_url": []}', frozenset(REVEALABLE))[1] == {}


def test_a_list_of_texts_and_numbers_is_masked_whole() -> None:
    assert masked({"phone_number": ["+14155550100", 14155550100, None, {"address": "x@example.com"}]}) == {
        "phone_number": ["•••00", "•••00", None, {"address": "•••om"}]
    }


# Errors


def masked_error(document: Any) -> Any:
    return json.loads(mask_error(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Phone number +14155550123 is taken", "Phone number •••23 is taken"),
        ("+1 (415) 555-0123, +44 20 7946 0958", "•••23, •••58"),
        ("415-555-0123 or (415) 555-0123 or 415.555.0123", "•••23 or •••23 or •••23"),
        ("4155550123", "•••23"),
        ("ann.b+x@mail.example.co.uk exists", "•••uk exists"),
        ("key e93facc04764012d7bfb002500d5d1a6", "key [masked]"),
        ("token y_NbAkKc66ryYTWUXYEu", "token [masked]"),
        ("routing_key: 'R0ABC' is no key", "routing_key: [masked] is no key"),
        ("https://acme.pagerduty.com/private/abc/feed?x", "[masked]"),
        ("webcal://acme.pagerduty.com/x", "[masked]"),
    ],
)
def test_what_an_error_repeats_is_masked_by_its_form(said: str, shown: str) -> None:
    assert masked_error({"error": {"message": said, "errors": [said]}}) == {
        "error": {"message": shown, "errors": [shown]}
    }
    assert masked_error([said]) == [shown]
    assert masked_error(said) == shown


@pytest.mark.parametrize(
    "said",
    [
        "Incident 12345 of PT4KHLK since 2026-11-24T10:00:00Z is resolved; 3 of 25 left",
        "Please use a user token: account-level access token",
        "Incident Not Found",
        "Requires users:contact_methods.read on 10.20.30.40, decision 01a20b8fe9c8ff7c348099ac5130",
        "https://api.pagerduty.com/users/PUSR001/contact_methods",
    ],
)
def test_what_else_an_error_says_stays_byte_for_byte(said: str) -> None:
    body = json.dumps({"error": {"message": said, "code": 2100, "errors": [said]}}).encode()
    assert mask_error(body) is body
    assert mask_error(b"") == b""


def test_fields_of_an_error_are_masked_as_in_an_answer() -> None:
    assert masked_error(
        {"error": {"errors": {"address": ["bad"]}}, "secret": "s", "n": {"phone_number": 4155550100}}
    ) == {
        "error": {"errors": {"address": ["•••ad"]}},
        "secret": "[masked]",
        "n": {"phone_number": "•••00"},
    }
    with pytest.raises(ValueError):
        mask_error(b"<html>+14155550100")


@given(st.text(st.characters(codec="utf-8"), max_size=20), st.sampled_from(["+14155550123", "ann@secret.example"]))
def test_no_address_is_left_in_an_error_that_says_it_among_other_words(text: str, address: str) -> None:
    assert address not in json.dumps(masked_error({"error": f"{text} {address} {text}"}))
