"""Incidents and log entries, read into rows."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.pagerduty.analysis import log_reading
from integrations.pagerduty.analysis.incidents import KINDS, STATUSES, URGENCIES, WAYS, Step
from integrations.pagerduty.analysis.model import Problem
from integrations.pagerduty.sandbox.documents import entry_document, incident_document
from integrations.pagerduty.sandbox.world import generate

Document = dict[str, Any]


def at(text: str) -> int:
    return int(dt.datetime.fromisoformat(text).timestamp())


def user(id: str) -> Document:
    return {"id": id, "type": "user_reference", "summary": f"Name of {id}"}


SERVICE: Document = {"id": "PSVC", "type": "service_reference", "summary": "checkout"}


def entry(type: str, **more: Any) -> Document:
    return {
        "id": "R1",
        "type": f"{type}_log_entry",
        "created_at": "2026-03-01T10:00:05Z",
        "agent": SERVICE,
        "channel": {"type": "auto"},
        "incident": {"id": "Q1", "type": "incident_reference"},
        **more,
    }


NOW = at("2026-03-01T10:00:05Z")


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (entry("trigger"), [("trigger", "", "", "")]),
        (entry("trigger", agent=user("U1"), channel={"type": "web_trigger"}), [("trigger", "", "", "U1")]),
        # Two people at once, one of them told twice.
        (
            entry("assign", assignees=[user("U1"), user("U2"), user("U1")]),
            [("assign", "U1", "", ""), ("assign", "U2", "", "")],
        ),
        (entry("reassign", assignees=[user("U2")], agent=user("U1")), [("assign", "U2", "", "U1")]),
        (
            entry("notify", user=user("U1"), channel={"type": "auto", "notification": {"type": "phone_notification"}}),
            [("notify", "U1", "phone", "")],
        ),
        # Only the notification says whom.
        (
            entry(
                "notify", channel={"type": "auto", "notification": {"type": "push_notification", "user": user("U3")}}
            ),
            [("notify", "U3", "push", "")],
        ),
        # Nobody answered: by the service, as PagerDuty writes it; or naming as agent the one whom it went to.
        (
            entry("escalate", assignees=[user("U2")], channel={"type": "timeout"}),
            [("escalate", "U2", "timeout", "")],
        ),
        (entry("escalate", agent=user("U2"), channel={"type": "timeout"}), [("escalate", "U2", "timeout", "")]),
        (
            entry("escalate", agent=user("U1"), assignees=[user("U2")], channel={"type": "website"}),
            [("escalate", "U2", "manual", "U1")],
        ),
        (
            entry("escalate", agent=user("U1"), assigned_user=user("U2"), channel={"type": "mobile"}),
            [("escalate", "U2", "manual", "U1")],
        ),
        (entry("acknowledge", agent=user("U1"), channel={"type": "mobile"}), [("acknowledge", "U1", "", "U1")]),
        (entry("unacknowledge", channel={"type": "timeout"}), [("unacknowledge", "", "", "")]),
        (entry("resolve", agent=user("U1")), [("resolve", "U1", "", "U1")]),
        (entry("resolve"), [("resolve", "", "auto", "")]),
        (entry("snooze", agent=user("U1")), [("snooze", "", "", "U1")]),
        (entry("urgency_change", agent=user("U1")), [("urgency_change", "", "", "U1")]),
        (entry("annotate", agent=user("U1"), note="Looking."), [("other", "", "", "U1")]),
        (entry("repeat_escalation_path"), [("restart", "", "", "")]),
        (entry("delegate", assignees=[user("U4")], agent=user("U1")), [("restart", "U4", "", "U1")]),
        (entry("exhaust_escalation_path"), [("other", "", "", "")]),
        (entry("responder_request", agent=user("U1"), user=user("U2")), [("request", "U2", "", "U1")]),
        (entry("accept_responder_request", agent=user("U2")), [("respond", "U2", "", "U2")]),
        (entry("decline_responder_request", agent=user("U2")), [("other", "", "", "U2")]),
        (entry("of_a_type_that_is_new"), [("other", "", "", "")]),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_log_entry_says_who_did_what(document: Document, expected: list[tuple[str, ...]]) -> None:
    problems: list[Problem] = []
    assert log_reading.steps(document, problems) == [
        Step("R1", NOW, kind, user, way, by) for kind, user, way, by in expected
    ]
    assert problems == []
    assert log_reading.incident_id(document) == "Q1"
    assert log_reading.steps({"log_entry": document}) == log_reading.steps(document)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        (entry("notify", channel={"type": "auto", "notification": {"type": "sms_notification"}}), "null_user"),
        (entry("notify", user=user("U1")), "unknown_way"),
        (entry("notify", user=user("U1"), channel={"notification": {"type": "pigeon_notification"}}), "unknown_way"),
        (entry("assign", assignees=[None, {"id": 5}]), "null_user"),
    ],
)
def test_what_a_log_entry_lacks_is_named(document: Document, code: str) -> None:
    problems: list[Problem] = []
    assert len(log_reading.steps(document, problems)) == 1
    assert [(problem.code, problem.where) for problem in problems] == [(code, "log entry R1")]


def test_what_is_no_log_entry_or_at_no_time_is_refused() -> None:
    documents: tuple[Any, ...] = (
        None,
        [],
        "R1",
        {},
        {"id": "R1"},
        {"id": "Q1", "type": "incident"},
        entry("trigger", id=7),
    )
    for bad in documents:
        with pytest.raises(ValueError, match="no document of a log entry"):
            log_reading.steps(bad)
    for time in (None, "", "yesterday", 1_700_000_000, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(ValueError, match="R1 has no created_at"):
            log_reading.steps(entry("trigger", created_at=time))
    with pytest.raises(ValueError, match="R1 does not say of which incident"):
        log_reading.incident_id(entry("trigger", incident=None))


INCIDENT: Document = {
    "id": "Q1",
    "type": "incident",
    "incident_number": 12,
    "title": "disk / at 93%",
    "created_at": "2026-03-01T11:00:05.999+01:00",
    "status": "resolved",
    "resolved_at": "2026-03-01T10:30:00Z",
    "urgency": "low",
    "priority": {"id": "PP1", "type": "priority", "summary": "P1", "name": "P1"},
    "service": SERVICE,
    "escalation_policy": {"id": "PEP1", "type": "escalation_policy_reference"},
    "teams": [{"id": "T1"}, {"id": "T2"}, {"id": "T1"}],
}


def test_an_incident_is_read() -> None:
    problems: list[Problem] = []
    one = log_reading.incident({"incident": INCIDENT}, problems)
    assert one == log_reading.incident(INCIDENT)
    assert problems == []
    assert (one.id, one.created, one.number, one.title) == ("Q1", NOW, 12, "disk / at 93%")
    assert (one.service_id, one.policy_id, one.team_ids) == ("PSVC", "PEP1", ("T1", "T2"))
    assert (one.urgency, one.priority, one.status) == ("low", "P1", "resolved")
    assert one.resolved == at("2026-03-01T10:30:00Z")
    assert one.steps == ()


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({"urgency": "severe"}, "unknown_urgency", {"urgency": "high"}),
        ({"status": "paused"}, "unknown_status", {"status": "triggered", "resolved": None}),
        ({"resolved_at": None}, "unreadable_time", {"status": "resolved", "resolved": None}),
        ({"resolved_at": "2026-03-01T09:00:00Z"}, "ends_before_start", {"resolved": NOW}),
        ({"teams": {"id": "T1"}}, "wrong_type", {"team_ids": ()}),
    ],
)
def test_what_an_incident_has_wrong_is_named(change: Document, code: str, told: Document) -> None:
    problems: list[Problem] = []
    one = log_reading.incident({**INCIDENT, **change}, problems)
    assert {name: getattr(one, name) for name in told} == told
    assert [(problem.code, problem.where) for problem in problems] == [(code, "incident Q1")]


def test_the_end_of_a_resolved_incident_that_does_not_say_it_is_its_last_change() -> None:
    older = {name: value for name, value in INCIDENT.items() if name != "resolved_at"}
    one = log_reading.incident({**older, "last_status_change_at": "2026-03-01T10:45:00Z"})
    assert one.resolved == at("2026-03-01T10:45:00Z")
    # An open one has no end, whatever changed last.
    one = log_reading.incident({**older, "status": "acknowledged", "last_status_change_at": "2026-03-01T10:45:00Z"})
    assert one.resolved is None


def test_responders_are_read_of_the_incident() -> None:
    row = {"user": user("U2"), "requester": user("U1"), "requested_at": "2026-03-01T10:05:00Z"}
    document = {
        **INCIDENT,
        "incidents_responders": [
            {**row, "state": "joined", "updated_at": "2026-03-01T10:07:00Z"},
            {**row, "user": user("U3"), "state": "declined", "updated_at": "2026-03-01T10:08:00Z"},
            {**row, "user": None, "state": "joined", "updated_at": "2026-03-01T10:08:00Z"},
        ],
    }
    assert log_reading.responders(document) == [
        Step("Q1/asked/U2", at("2026-03-01T10:05:00Z"), "request", "U2", "", "U1"),
        Step("Q1/joined/U2", at("2026-03-01T10:07:00Z"), "respond", "U2", "", "U2"),
        Step("Q1/asked/U3", at("2026-03-01T10:05:00Z"), "request", "U3", "", "U1"),
    ]
    assert log_reading.responders(INCIDENT) == []


def test_the_same_entry_twice_is_one_step() -> None:
    both = log_reading.steps(entry("assign", assignees=[user("U2"), user("U1")]))
    first = log_reading.steps(entry("trigger", id="R0", created_at="2026-03-01T10:00:04Z"))
    one = log_reading.with_steps(log_reading.incident(INCIDENT), [*both, *first, *both])
    assert [(step.id, step.user) for step in one.steps] == [("R0", ""), ("R1", "U1"), ("R1", "U2")]


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["2026-03-01T10:00:05Z"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["id", "type", "user", "notification", "state", "name"]), inner, max_size=4)
    ),
    max_leaves=8,
)
ENTRIES = [
    entry(name, assignees=[user("U1")], user=user("U2"))
    for name in ("trigger", "assign", "notify", "escalate", "acknowledge", "resolve", "responder_request", "new")
]


@given(
    st.sampled_from(ENTRIES), st.dictionaries(st.sampled_from([*ENTRIES[0], "assignees", "user"]), anything, max_size=4)
)
def test_whatever_a_log_entry_holds_it_is_read_or_refused(document: Document, change: Document) -> None:
    try:
        found = log_reading.steps({**document, **change}, [])
        assert log_reading.incident_id({**document, **change})
    except ValueError:
        return
    assert found
    for step in found:
        assert step.id
        assert step.kind in KINDS
        assert step.way in WAYS
        assert isinstance(step.user, str)
        assert isinstance(step.by, str)
        assert step.at >= 0


@given(
    st.dictionaries(st.sampled_from([*INCIDENT, "incidents_responders", "last_status_change_at"]), anything, max_size=5)
)
def test_whatever_an_incident_holds_it_is_read_or_refused(change: Document) -> None:
    try:
        one = log_reading.incident({**INCIDENT, **change}, [])
        steps = log_reading.responders({**INCIDENT, **change})
    except ValueError:
        return
    assert one.urgency in URGENCIES
    assert one.status in STATUSES
    assert one.created >= 0
    assert one.resolved is None or one.resolved >= one.created
    assert all(step.kind in ("request", "respond") and step.user for step in steps)


@given(anything)
def test_anything_at_all_is_read_or_refused(document: Any) -> None:
    for read in (log_reading.steps, log_reading.incident, log_reading.incident_id, log_reading.responders):
        try:
            read(document)
        except ValueError:
            continue


def test_recorded_documents_are_read(fixtures_dir: Path) -> None:
    problems: list[Problem] = []
    rows = {}
    for path in sorted(fixtures_dir.glob("incidents_*.json")):
        document = json.loads(path.read_bytes())
        for each in document.get("incidents") or [document]:
            one = log_reading.incident(each, problems)
            rows[path.name, one.id] = log_reading.with_steps(one, log_reading.responders(each))
    assert problems == []
    documented = rows["incidents_02_docs_list.json", "PT4KHLK"]
    assert (documented.number, documented.priority, documented.urgency) == (1234, "P2", "high")
    assert documented.resolved is not None
    assert documented.resolved - documented.created == 461
    # Its recorded responder has not answered.
    asked = rows["incidents_06_faros.json", "Q27MXNAJQ834PC"]
    assert [(step.kind, step.user) for step in asked.steps] == [("request", "PFYTIXD")]
    # Without an end, and open.
    assert {one.resolved for (name, _), one in rows.items() if "port" in name and one.status != "resolved"} == {None}
    entries = [
        each
        for path in sorted(fixtures_dir.glob("log_entries_*.json"))
        for each in json.loads(path.read_bytes())["log_entries"]
    ]
    steps = {log_reading.incident_id(each): log_reading.steps(each, problems) for each in entries}
    assert problems == []
    assert steps["Q1LAD3450AG7V9"] == [
        Step("R38IMK6FP5WR0DXUJJF1XX5XYI", at("2021-10-29T05:52:30Z"), "trigger", "", "", "PFYTIXD")
    ]
    assert steps["PT4KHLK"] == [Step("Q02JTSNZWHSEKV", at("2015-11-07T00:14:20Z"), "trigger", "", "", "")]


def test_the_sandbox_says_of_each_step_what_happened() -> None:
    world = generate(7, dt.datetime(2026, 11, 15, 12, tzinfo=dt.UTC))
    problems: list[Problem] = []
    kinds = set()
    for incident in world.incidents[::4]:
        document = incident_document(world, incident)
        one = log_reading.incident(document, problems)
        assert (one.created, one.urgency) == (int(incident.created), incident.urgency)
        assert (one.resolved is None) == (incident.resolved is None)
        for happening in incident.happenings():
            entry = entry_document(world, incident, happening)
            assert log_reading.incident_id(entry) == one.id
            (step,) = log_reading.steps(entry, problems)
            kinds.add(step.kind)
            # Who it was, where it is one of these.
            if step.kind in ("assign", "notify", "escalate", "acknowledge"):
                assert happening.agent is not None
                assert step.user == world.users[happening.agent]["id"]
            if step.kind == "escalate":
                assert step.way == "timeout"
    assert problems == []
    assert kinds >= {"trigger", "assign", "notify", "escalate", "acknowledge", "resolve", "other"}
