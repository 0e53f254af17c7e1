"""From a request to its operation, its tools and what will be sent."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrations.gateway.integration import Resolution
from integrations.pagerduty.catalog import OPERATIONS, TOOLS
from integrations.pagerduty.resolve import ENTITY_TYPES, MAXIMUM_DEPTH, MAXIMUM_PATH, match, resolve
from policies.core.call import Call, Door, KeyCredential, Target


def call(
    method: str, path: str, body: Any = None, *, query: str = "", raw: bytes | None = None, kind: str = ""
) -> Resolution:
    sent = raw if raw is not None else b"" if body is None else json.dumps(body).encode()
    content_type = kind or ("application/json" if sent else "")
    return resolve(Call(Door.REST, KeyCredential("x"), method, path, query, sent, content_type))


def names(resolution: Resolution) -> list[str]:
    return [tool.name for tool in resolution.tools]


def concrete(path: str) -> list[str]:
    """URLs of a path template, with ids that no literal spells."""
    found = []
    for entity in ENTITY_TYPES if "{entity_type}" in path else ("",):
        url = path.replace("{entity_type}", entity)
        for number in range(url.count("{")):
            url = re.sub(r"\{\w+\}", f"PX{number:05d}", url, count=1)
        found.append(url)
    return found


@pytest.mark.parametrize("operation_id", sorted(OPERATIONS))
def test_every_operation_resolves_to_itself_and_to_nothing_else(operation_id: str) -> None:
    operation = OPERATIONS[operation_id]
    for url in concrete(operation.path):
        found = match(operation.method, url)
        assert found is not None
        assert found[0].id == operation_id
        assert found[2] == url
        assert list(found[1].values()) == re.findall(r"PX\d{5}", url)
        assert match(operation.method, url + "/") == found  # Go's client asks with a slash at the end
        for other in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", operation.method.lower()):
            different = match(other, url)
            assert different is None or other == operation.method or different[0].method == other


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("GET", "/users/me", "getCurrentUser"),
        ("GET", "/users/PME0000", "getUser"),
        ("GET", "/incidents/count", None),
        ("GET", "/schedules/preview", None),
        ("POST", "/schedules/preview", "createSchedulePreview"),
        ("GET", "/event_orchestrations/services/PSVC001", "getOrchPathService"),
        ("GET", "/users/PUSR001/change_tags", None),
        ("POST", "/users/PUSR001/change_tags", "createEntityTypeByIdChangeTags"),
        ("POST", "/incidents/PUSR001/change_tags", None),
        ("GET", "/v3/schedules/PX00001", "getScheduleV3"),
        ("GET", "/schedules/v3", "getSchedule"),
    ],
)
def test_the_overlap_traps(method: str, path: str, operation: str | None) -> None:
    found = match(method, path)
    assert (found[0].id if found else None) == operation


@pytest.mark.parametrize(
    "path",
    [
        "/incidents%2FPT4KHLK",
        "/incidents/PT4KHLK%2fnotes",
        "/incidents/..%2Fusers",
        "/incidents/../users",
        "/incidents/./PT4KHLK",
        "//incidents",
        "/incidents//PT4KHLK",
        "/incidents//",
        "/Incidents",
        "/INCIDENTS/PT4KHLK",
        "/incidents/PT4KHLK;a=b",
        "/incidents/PT4KHLK%00",
        "/incidents/PT4KHLK\n",
        "/incidents/PT4 KHLK",
        "/incidents/ＰＴ４",
        "/incidents/" + "A" * 65,
        "incidents",
        "",
        "/",
        "/" * 500,
        "/incidents/" * 1000,
        "/" + "a" * (MAXIMUM_PATH + 10),
    ],
)
def test_crooked_paths_reach_no_operation(path: str) -> None:
    assert match("GET", path) is None
    resolution = call("GET", path)
    assert (resolution.operation, resolution.tools, resolution.request) == (None, (), None)
    assert resolution.refusal
    assert "PT4KHLK" not in resolution.shape


SEGMENTS = sorted({segment for operation in OPERATIONS.values() for segment in operation.path.split("/") if segment})
crooked = st.lists(
    st.sampled_from([*SEGMENTS, "..", ".", "", "%2e%2e", "%2F", "PT4KHLK", "me", "count", "\\", "%00"])
    | st.text(max_size=6),
    max_size=7,
).map(lambda parts: "/" + "/".join(parts))


@given(st.sampled_from(["GET", "PUT", "POST", "DELETE"]), crooked)
@example("GET", "/users/me/")
@example("PUT", "/incidents/%2e%2e/incidents")
def test_whatever_matches_is_sent_as_it_was_judged(method: str, path: str) -> None:
    """A path either reaches no operation, or is that operation's template with plain ids in it, and is sent as such."""
    found = match(method, path)
    if found is None:
        return
    operation, captured, canonical = found
    assert canonical == (path[:-1] if path.endswith("/") and path != "/" else path)
    assert quote(canonical) == canonical
    template = [segment for segment in operation.path.split("/") if segment]
    sent = [segment for segment in canonical.split("/") if segment]
    assert len(template) == len(sent) == canonical.count("/")
    for expected, segment in zip(template, sent, strict=True):
        if expected.startswith("{"):
            assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", segment)
            assert expected != "{entity_type}" or segment in ENTITY_TYPES
        else:
            assert expected == segment
    assert set(captured.values()) <= set(sent)
    # Literals win: nobody's id spells what another operation has in that place.
    for other in OPERATIONS.values():
        if other.method == method and other.path.replace("{entity_type}", sent[0]) == canonical:
            assert other.id == operation.id


@given(
    st.text(alphabet=st.characters(max_codepoint=255), max_size=40),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=60),
)
def test_no_path_and_no_query_breaks_the_resolver(path: str, query: str) -> None:
    resolve(Call(Door.REST, KeyCredential("x"), "GET", "/" + path, query))
    found = resolve(Call(Door.REST, KeyCredential("x"), "GET", "/incidents", query))
    assert names(found) == ["list_incidents"]
    if not found.problem and found.request is not None:
        assert re.fullmatch(r"[\x21-\x7e]*", found.request.query)


# Resolve and update are the same two operations: the body tells


def incident(**changes: Any) -> dict[str, Any]:
    return {"incident": {"type": "incident_reference", **changes}}


def bulk(*changes: dict[str, Any]) -> dict[str, Any]:
    return {
        "incidents": [{"id": f"P{number}", "type": "incident_reference", **row} for number, row in enumerate(changes)]
    }


BOTH = ["update_incident", "resolve_incident"]
ONE, ALL = "/incidents/PT4KHLK", "/incidents"


@pytest.mark.parametrize(
    ("path", "body", "tools"),
    [
        (ONE, incident(status="resolved"), ["resolve_incident"]),
        (ONE, incident(status="resolved", resolution="Fixed."), ["resolve_incident"]),
        (ONE, incident(status="acknowledged"), ["update_incident"]),
        (ONE, incident(status="triggered"), ["update_incident"]),  # reopens
        (ONE, incident(title="x"), ["update_incident"]),
        (ONE, incident(status="resolved", title="x"), BOTH),
        (ONE, incident(status="resolved", unheard_of=1), BOTH),
        (ONE, incident(status="Resolved"), BOTH),
        (ONE, incident(status=["resolved"]), BOTH),
        (ONE, incident(status=None), BOTH),
        (ONE, incident(), BOTH),
        (ONE, {}, BOTH),
        (ONE, {"incident": []}, BOTH),
        (ONE, {"incident": {"status": "acknowledged"}, "incidents": [{"status": "resolved"}]}, BOTH),
        (ONE, bulk({"status": "resolved"}), BOTH),
        (ALL, bulk({"status": "acknowledged"}), ["update_incident"]),
        (ALL, bulk({"status": "acknowledged"}, {"status": "resolved"}), BOTH),
        (ALL, bulk({"status": "resolved"}, {"status": "resolved"}), ["resolve_incident"]),
        (ALL, bulk({"status": "resolved"}, {}), BOTH),
        (ALL, {"incidents": []}, BOTH),
        (ALL, {"incidents": {"status": "resolved"}}, BOTH),
        (ALL, {"incidents": ["resolved"]}, BOTH),
        (ALL, incident(status="acknowledged"), BOTH),
        (ALL, {}, BOTH),
    ],
)
def test_an_update_needs_every_tool_that_its_body_needs(path: str, body: Any, tools: list[str]) -> None:
    assert sorted(names(call("PUT", path, body))) == sorted(tools)


changes = st.dictionaries(
    st.sampled_from(["status", "title", "urgency", "resolution", "id", "type", "x"]),
    st.sampled_from(["resolved", "acknowledged", "triggered", "RESOLVED", "", None, 1, ["resolved"]]),
    max_size=4,
)


@given(st.lists(changes, max_size=4))
def test_a_body_that_resolves_anything_needs_the_tool_that_resolves(rows: list[dict[str, Any]]) -> None:
    needed = names(call("PUT", "/incidents", {"incidents": rows}))
    assert needed
    for row in rows:
        if row.get("status") == "resolved":
            assert "resolve_incident" in needed
        if row.get("status") in ("acknowledged", "triggered") or row.get("title"):
            assert "update_incident" in needed
    if not rows:
        assert sorted(needed) == sorted(BOTH)


def test_parameters_select_the_tool_of_on_calls() -> None:
    assert names(call("GET", "/oncalls")) == ["list_oncalls"]
    assert names(call("GET", "/oncalls", query="user_ids[]=PUSR001")) == ["get_user_oncall_status"]
    assert names(call("GET", "/oncalls", query="user_ids%5B%5D=PUSR001")) == ["get_user_oncall_status"]
    assert sorted(names(call("GET", "/oncalls", query="user_ids[]="))) == ["get_user_oncall_status", "list_oncalls"]
    assert names(call("GET", "/oncalls", query="user_ids=PUSR001")) == ["list_oncalls"]


# What is sent is rebuilt from what was judged


def test_the_body_is_sent_as_it_was_read() -> None:
    found = call("PUT", ONE, raw=b'{ "incident": {"type":"incident_reference",\r\n "status":"\\u0072esolved"} }')
    assert names(found) == ["resolve_incident"]
    assert found.request is not None
    assert found.request.body == b'{"incident":{"type":"incident_reference","status":"resolved"}}'
    assert found.targets == (Target("incident", "PT4KHLK"),)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (b"", "needs a JSON body"),
        (b"{", "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b'{"incident": {"status": "resolved", "status": "acknowledged"}}', "same key twice"),
        (b'{"incident": {"status": NaN}}', "number that JSON does not have"),
        (b'{"incident": {"n": 1e999}}', "number that JSON does not have"),
        (b'{"incident": {"n": 99999999999999999999}}', "64 bits"),
        (b'{"incident": {"title": "\\ud800"}}', "surrogate"),
        (b'{"incident": {"title": "a\\u0000b"}}', "NUL"),
        (b'{"incident": {"\\u0000": "b"}}', "NUL"),
        ('{"incident": {"title": "é"}}'.encode("latin-1"), "UTF-8"),
        (b'\xef\xbb\xbf{"incident": {}}', "JSON"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, f"deeper than {MAXIMUM_DEPTH}"),
        (b"[" * 100_000, "JSON"),
        (b'{"a": [' + b"1," * 30_000 + b"1]}", "values"),
    ],
    ids=lambda value: repr(value[:24]) if isinstance(value, bytes) else None,
)
def test_a_body_that_two_readers_could_take_differently_is_refused(raw: bytes, word: str) -> None:
    found = call("PUT", ONE, raw=raw)
    assert word in found.problem or "nested" in found.problem
    assert found.tools  # judged all the same: authorisation comes first


def test_a_body_where_none_belongs_and_other_types_are_refused() -> None:
    assert "takes no body" in call("GET", "/incidents", {"a": 1}).problem
    assert "Content-Type" in call("PUT", ONE, raw=b"incident=1", kind="application/x-www-form-urlencoded").problem
    assert not call(
        "PUT",
        ONE,
        incident(status="resolved"),
    ).problem
    assert not call("PUT", ONE, raw=b'{"incident": {"title": "x"}}', kind="application/json; charset=utf-8").problem


@pytest.mark.parametrize(
    ("query", "word"),
    [
        ("limit=1&limit=2", "twice"),
        ("token=x", "Credentials"),
        ("access_token=x", "Credentials"),
        ("a=%ff", "UTF-8"),
        ("A=1", "name"),
        ("a%00=1", "name"),
        ("query=%00", "NUL"),
        ("&".join(f"a{n}=%20" for n in range(300)), "200"),
        ("a=" + "x" * 20_000, "too long"),
        ("include[]=calendar_urls", "may not include"),
        ("include=calendar_urls", "may not include"),
        ("include%5B%5D=first_trigger_log_entries", "may not include"),
    ],
)
def test_a_query_that_widens_or_misleads_is_refused(query: str, word: str) -> None:
    assert word in call("GET", "/incidents", query=query).problem


def test_a_plain_query_is_sent_as_it_came_and_another_is_rebuilt() -> None:
    plain = call("GET", "/incidents", query="limit=25&offset=50&total=true").request
    assert plain is not None
    assert plain.query == "limit=25&offset=50&total=true"
    query = "statuses[]=triggered&statuses%5b%5d=acknowledged&since=2026-11-01T00:00:00%2B01:00"
    rebuilt = call("GET", "/incidents", query=query).request
    assert rebuilt is not None
    assert (
        rebuilt.query == "statuses%5B%5D=triggered&statuses%5B%5D=acknowledged&since=2026-11-01T00%3A00%3A00%2B01%3A00"
    )


def test_targets_are_named_in_pagerdutys_words() -> None:
    assert call("GET", "/escalation_policies/PESC001").targets == (Target("escalation_policy", "PESC001"),)
    assert call("GET", "/incidents/PT4KHLK/alerts/PALERT1").targets == (
        Target("incident", "PT4KHLK"),
        Target("alert", "PALERT1"),
    )
    assert [target.id for target in call("PUT", "/incidents", bulk({"status": "resolved"}, {})).targets] == ["P0", "P1"]
    made = {"incident": {"title": "x", "service": {"id": "PSVC001"}}}
    assert call("POST", "/incidents", made).targets == (Target("service", "PSVC001"),)


def test_an_operation_without_a_tool_is_refused_by_its_name() -> None:
    found = call("DELETE", "/users/PUSR001")
    assert found.operation is not None
    assert (found.operation.id, found.tools, found.request) == ("deleteUser", (), None)
    assert "no tool of the catalogue covers it" in found.refusal
    assert all(tool in TOOLS for tool in names(found))
