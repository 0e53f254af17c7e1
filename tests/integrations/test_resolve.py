"""From a request to its operation, its tools and what will be sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from integrations.gateway.integration import Resolution
from integrations.pagerduty.catalog import OPERATIONS, REFUSALS
from integrations.pagerduty.resolve import (
    BODY_OPTIONAL,
    ENTITY_TYPES,
    MAXIMUM_DEPTH,
    MAXIMUM_PATH,
    MAXIMUM_TARGETS,
    REFERRED,
    match,
    resolve,
)
from policies.core.call import Call, Door, KeyCredential, Target
from tests.published_schema import published


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
        (ONE, incident(Status="resolved"), BOTH),
        (ONE, incident(status="acknowledged", STATUS="resolved"), BOTH),
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


def reference(id: str, type: str) -> dict[str, str]:
    return {"id": id, "type": f"{type}_reference"}


DEPENDENCY = {"supporting_service": {"id": "PSVC001", "type": "service"}, "dependent_service": {"id": "PSVC002"}}


@pytest.mark.parametrize(
    ("method", "path", "body", "targets"),
    [
        (
            "PUT",
            "/incidents/PINC001/merge",
            {"source_incidents": [reference("PINC002", "incident"), {"id": "PINC003"}]},
            [("incident", "PINC001"), ("incident", "PINC002"), ("incident", "PINC003")],
        ),
        (
            "POST",
            "/maintenance_windows",
            {"maintenance_window": {"services": [reference("PSVC001", "service"), {"id": "PSVC002"}]}},
            [("service", "PSVC001"), ("service", "PSVC002")],
        ),
        (
            "POST",
            "/service_dependencies/associate",
            {"relationships": [DEPENDENCY]},
            [("service", "PSVC001"), ("service", "PSVC002")],
        ),
        (
            "POST",
            "/service_dependencies/disassociate",
            {"relationships": [{"supporting_service": {"id": "PBUS001", "type": "business_service"}}]},
            [("business_service", "PBUS001")],
        ),
        (
            "POST",
            "/incidents/PINC001/responder_requests",
            {
                "requester_id": "PUSR001",
                "responder_request_targets": [reference("PUSR002", "user"), reference("PESC001", "escalation_policy")],
            },
            [("incident", "PINC001"), ("user", "PUSR002"), ("escalation_policy", "PESC001")],
        ),
        (
            "PUT",
            "/incidents/PINC001/alerts",
            {"alerts": [{"id": "PALERT1", "status": "resolved", "incident": reference("PINC002", "incident")}]},
            [("incident", "PINC001"), ("incident", "PINC002")],
        ),
        (
            "PUT",
            "/incidents/PINC001",
            incident(
                id="PINC001", assignments=[{"assignee": {"id": "PUSR001"}}], priority=reference("PPRI001", "priority")
            ),
            [("incident", "PINC001"), ("user", "PUSR001"), ("priority", "PPRI001")],
        ),
        (
            "PUT",
            "/services/PSVC001",
            {"service": {"id": "PSVC009", "type": "service", "escalation_policy": {"id": "PESC001"}}},
            [("service", "PSVC001"), ("service", "PSVC009"), ("escalation_policy", "PESC001")],
        ),
        (
            "POST",
            "/incident_workflows/PWFL001/instances",
            {"incident_workflow_instance": {"id": "my-own-name", "incident": reference("PINC001", "incident")}},
            [("incident_workflow", "PWFL001"), ("incident", "PINC001")],
        ),
    ],
)
def test_whatever_a_body_refers_to_is_a_target_after_what_the_path_names(
    method: str, path: str, body: Any, targets: list[tuple[str, str]]
) -> None:
    assert [(target.type, target.id) for target in call(method, path, body).targets] == targets


def test_a_reference_whose_type_and_place_disagree_is_a_target_as_both() -> None:
    body = {"maintenance_window": {"services": [reference("PSVC001", "user")]}}
    assert call("POST", "/maintenance_windows", body).targets == (
        Target("user", "PSVC001"),
        Target("service", "PSVC001"),
    )


@pytest.mark.parametrize(
    "stray",
    [
        {"id": "PSVC001"},
        {"id": "PSVC001", "type": "somebody@example.com"},
        {"id": "PSVC001", "type": ["service"]},
        {"id": "a person's name", "type": "user_reference"},
        {"id": 4155550100, "type": "user_reference"},
        {"type": "user_reference"},
    ],
)
def test_what_is_no_reference_is_no_target(stray: Any) -> None:
    assert call("POST", "/maintenance_windows", {"details": stray}).targets == ()


def test_a_call_has_so_many_targets_and_none_twice() -> None:
    rows = [{"status": "acknowledged"}] * (MAXIMUM_TARGETS + 50)
    found = call("PUT", "/incidents", bulk(*rows))
    assert [target.id for target in found.targets] == [f"P{number}" for number in range(MAXIMUM_TARGETS)]
    same = call("PUT", "/incidents", {"incidents": [reference("PINC001", "incident")] * 3})
    assert same.targets == (Target("incident", "PINC001"),)


anything = st.recursive(
    st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["PSVC001", "service_reference", "user"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["id", "type", "service", "services", "assignee", "x"]), inner, max_size=4)
    ),
    max_leaves=30,
)


@given(st.dictionaries(st.sampled_from(["incident", "service", "id", "type"]), anything, max_size=4))
def test_no_body_makes_a_target_of_words_that_are_not_pagerdutys(body: dict[str, Any]) -> None:
    targets = call("PUT", ONE, body).targets
    assert targets[0] == Target("incident", "PT4KHLK")
    assert len(targets) == len(set(targets)) <= MAXIMUM_TARGETS
    for target in targets:
        assert target.type in REFERRED
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,64}", target.id)


def test_a_body_that_pagerduty_does_not_require_may_be_left_out() -> None:
    for method, path in (
        ("GET", "/analytics/raw/incidents/PINC001/responses"),
        ("PUT", "/teams/PTEAM01/users/PUSR001"),
    ):
        left_out = call(method, path)
        assert (left_out.problem, len(left_out.tools)) == ("", 1)
        assert left_out.request is not None
        assert left_out.request.body is None
        empty = call(method, path, {}).request
        assert empty is not None
        assert empty.body == b"{}"
        assert "JSON object" in call(method, path, []).problem
    assert "needs a JSON body" in call("PUT", "/services/PSVC001").problem
    assert "needs a JSON body" in call("POST", "/automation_actions/actions/PACT001/invocations").problem


def test_no_body_may_be_left_out_that_the_schema_requires_or_anything_in_it(schema_dir: Path) -> None:
    for operation_id in BODY_OPTIONAL:
        operation = OPERATIONS[operation_id]
        assert operation.has_body
        body = published(schema_dir, operation.method, operation.path)["requestBody"]
        assert not body.get("required")
        assert not body["content"]["application/json"]["schema"].get("required")


def test_an_operation_without_a_tool_is_refused_by_its_name_with_the_reason_and_what_to_use() -> None:
    found = call("DELETE", "/users/PUSR001")
    assert found.operation is not None
    assert (found.operation.id, found.tools, found.request) == ("deleteUser", (), None)
    assert found.targets == (Target("user", "PUSR001"),)
    assert REFUSALS["deleteUser"].because in found.refusal
    assert found.refusal.startswith("deleteUser is refused.")
    assert REFUSALS["deleteUser"].instead in found.remedy


def test_the_one_parameter_that_pagerduty_repeats_without_brackets_may_be() -> None:
    asked = call("GET", "/standards/scores/technical_services", query="ids=PSVC000&ids=PSVC001")
    assert asked.problem == ""
    assert asked.arguments["query"] == {"ids": ["PSVC000", "PSVC001"]}
    assert asked.request is not None
    assert asked.request.query == "ids=PSVC000&ids=PSVC001"
    assert call("GET", "/incidents", query="limit=1&limit=2").fault == "query_duplicate"


@pytest.mark.parametrize("operation", ["updateIncidentAlerts", "updateIncidentAlert"])
def test_resolving_alerts_needs_the_tool_that_resolves_incidents_too(operation: str) -> None:
    both = {"update_incident_alerts", "resolve_incident"}

    def needed(*alerts: Any, **more: Any) -> set[str]:
        if operation == "updateIncidentAlerts":
            return set(names(call("PUT", "/incidents/PT4KHLK/alerts", {"alerts": list(alerts), **more})))
        return set(names(call("PUT", "/incidents/PT4KHLK/alerts/PALERT1", {"alert": alerts[0], **more})))

    moved = {"id": "PALERT1", "type": "alert", "incident": {"id": "PT4KHLL", "type": "incident_reference"}}
    assert needed(moved) == needed({"id": "PALERT1", "status": "triggered"}) == {"update_incident_alerts"}
    assert needed({"id": "PALERT1", "status": "resolved"}) == both
    odds: tuple[Any, ...] = ({"status": "Resolved"}, {"status": ["resolved"]}, {"status": 1}, "resolved", [], 1)
    for odd in odds:
        assert needed(odd) == both, odd
    assert needed(moved, incident={"status": "resolved"}) == both
    if operation == "updateIncidentAlerts":
        assert needed(moved, {"id": "PALERT2", "status": "resolved"}) == both
