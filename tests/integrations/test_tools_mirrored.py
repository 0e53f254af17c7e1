"""Tools that are answered from the mirror: whom they name, what they say of gaps and of what is intended, what they refuse, and
how large an answer gets."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from integrations.gateway.integration import Own, Unanswered
from integrations.history import History
from integrations.models import Connection
from integrations.pagerduty.analysis.incidents import log_of
from integrations.pagerduty.analysis.intended import Mark
from integrations.pagerduty.analysis.model import (
    Account,
    Contact,
    Layer,
    Level,
    Override,
    Person,
    Policy,
    Problem,
    Restriction,
    Rung,
    Schedule,
    Service,
    Span,
    Target,
)
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.tools import mirrored
from integrations.pagerduty.tools.arguments import given
from integrations.pagerduty.tools.telling import Mirror
from integrations.sweep import sweep
from policies.core.call import Target as About

NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)  # a Monday
AT = int(NOW.timestamp())
DAY = 86_400
READ = NOW - dt.timedelta(minutes=3)
NOTHING = History(log_of(()), None, None, "", False)
"""No incident is read."""


def layer(name: str, *users: str, restrictions: tuple[Restriction, ...] = (), turn: int = 7 * DAY) -> Layer:
    start = AT - AT % DAY - 7 * DAY
    return Layer(f"L{name}", name, start, None, start, turn, users, restrictions)


def schedule(id: str, name: str, *layers: Layer, **more: Any) -> Schedule:
    return Schedule(id, name, "v2", "UTC", layers, **more)


def level(delay: int, *targets: str) -> Level:
    """Of users (``U…``) and schedules."""
    return Level(delay, tuple(Target("user" if id.startswith("U") else "schedule", id) for id in targets))


WEEKDAYS = tuple(Restriction(day, 0, DAY) for day in range(1, 6))
SUNDAY_MORNING = (Restriction(7, 2 * 3600, 2 * 3600),)
NOT_SUNDAY_MORNING = (Restriction(7, 4 * 3600, 7 * DAY - 2 * 3600),)
ADDRESSES = (Contact("C1", "push", "Phone of Ann", "•••ne"), Contact("C2", "email", "Work", "a•••@example.com"))
RULES = (Rung(0, "high", "C1", "push"), Rung(5, "high", "C2", "email"), Rung(0, "low", "C2", "email"))
PEOPLE = {
    "UANN": Person("UANN", "Ann", contacts=ADDRESSES, ladder=RULES),
    "UBEN": Person("UBEN", "Ben", contacts=ADDRESSES, ladder=RULES),
    "UCLEO": Person("UCLEO", "Cleo"),
}
SCHEDULES = {
    one.id: one
    for one in (
        schedule("PALWAYS", "Always", layer("Weekly", "UANN", "UBEN")),
        schedule("PWEEK", "Weekdays", layer("Weekdays", "UANN", restrictions=WEEKDAYS)),
        schedule("PHOLE", "Almost always", layer("Night", "UBEN", restrictions=NOT_SUNDAY_MORNING)),
        schedule("PEMPTY", "Empty", problems=(Problem("no_layers", "It has no layer.", "Empty"),)),
    )
}
POLICIES = {
    one.id: one
    for one in (
        Policy("PCLEAN", "Clean", (level(30, "PALWAYS"), level(30, "UCLEO")), 1, team_ids=("TPAY",)),
        Policy("PLOWER", "Covered below", (level(30, "PWEEK"), level(30, "PALWAYS")), 0, team_ids=("TPAY",)),
        Policy("PGAPS", "Holes", (level(15, "PHOLE"), level(15, "PEMPTY")), 2, team_ids=("TSEA",)),
        Policy("PTWO1", "Standard", (level(30, "UANN"),), 0),
        Policy("PTWO2", "standard", (level(30, "UBEN"),), 0),
        Policy("PLOST", "Lost", (level(30, "PGONE"),), 0),
    )
}
SERVICES = {
    one.id: one
    for one in (
        Service("SPAY", "Checkout", "active", "PCLEAN", ("TPAY",)),
        Service("SLOW", "Batch", "active", "PLOWER", ("TPAY",), urgency="low"),
        Service("SSEA", "Search", "active", "PGAPS", ("TSEA",)),
        Service("SOFF", "Old search", "disabled", "PGAPS", ("TSEA",)),
        Service("SNONE", "Alone", "active", "", ()),
    )
}
ACCOUNT = Account(SCHEDULES, POLICIES, SERVICES, PEOPLE, {"TPAY": "Payments", "TSEA": "Search"})


def of(
    account: Account = ACCOUNT,
    marks: Mapping[str, Sequence[tuple[Mark, str]]] | None = None,
    rates: Mapping[str, tuple[float, ...]] | None = None,
    unread: Mapping[str, str] | None = None,
) -> Mirror:
    start = AT - AT % DAY
    found = replace(sweep(account, Span(start, start + 85 * DAY)), rates=rates or {})
    connection = Connection(name="Main")
    return Mirror(account, READ, unread or {}, lambda: found, lambda: marks or {}, connection, lambda: NOTHING)


def ask(tool: str, mirror: Mirror | None = None, /, **arguments: Any) -> Own:
    return mirrored.answer(tool, given(TOOLS[tool], arguments, NOW), mirror or of())


def told(tool: str, mirror: Mirror | None = None, /, **arguments: Any) -> Any:
    document = ask(tool, mirror, **arguments).document
    assert json.loads(json.dumps(document)) == document
    return document


def refused(tool: str, /, **arguments: Any) -> Unanswered:
    with pytest.raises(Unanswered) as refusal:
        ask(tool, **arguments)
    assert refusal.value.remedy
    return refusal.value


# Who is paged


def test_who_is_paged_for_a_service_now_is_told_level_by_level_with_why_and_how() -> None:
    found = ask("who_is_paged", service_id="checkout")
    document = found.document
    assert document["as_of"] == found.as_of == "2026-11-23T11:57:00Z"
    assert document["at"] == "2026-11-23T12:00:00Z"
    assert document["service"] == {"id": "SPAY", "name": "Checkout"}
    assert document["escalation_policy"] == {"id": "PCLEAN", "name": "Clean"}
    first, second = document["levels"]
    assert (first["level"], first["after_minutes"], first["for_minutes"]) == (1, 0, 30)
    [ben] = first["pages"]
    assert (ben["id"], ben["name"]) == ("UBEN", "Ben")
    assert ben["by"] == {"source": "a layer", "name": "Weekly", "schedule": {"id": "PALWAYS", "name": "Always"}}
    assert ben["told"] == [
        {"after_minutes": 0, "by": "push", "to": "•••ne"},
        {"after_minutes": 5, "by": "email", "to": "a•••@example.com"},
    ]
    [cleo] = second["pages"]
    assert cleo["by"] == {"source": "the escalation policy itself"}
    assert cleo["told"] == "not known"
    assert document["repeats"].startswith("From 60 minutes on, all levels once more")
    assert document["ends_at"] == "2026-11-23T14:00:00Z"
    assert found.targets == (About("service", "SPAY"), About("escalation_policy", "PCLEAN"))


def test_an_override_is_told_as_what_puts_somebody_on_call() -> None:
    over = Override("O1", AT, AT + 3600, "UANN")
    always = replace(SCHEDULES["PALWAYS"], overrides=(over,))
    account = replace(ACCOUNT, schedules={**SCHEDULES, "PALWAYS": always})
    found = told("who_is_paged", of(account), escalation_policy_id="PCLEAN")
    [ann] = found["levels"][0]["pages"]
    assert (ann["name"], ann["by"]["source"]) == ("Ann", "an override")
    later = told("who_is_paged", of(account), escalation_policy_id="PCLEAN", at="2026-11-23T13:00:00Z")
    assert later["levels"][0]["pages"][0]["name"] == "Ben"


def test_low_urgency_stays_where_it_is_and_the_service_says_its_own() -> None:
    found = told("who_is_paged", service_id="SLOW")
    assert found["urgency"] == "low"
    assert len(found["levels"]) == 1
    assert "for_minutes" not in found["levels"][0]
    assert found["ends_at"] == "It stays with whom it is assigned to."
    asked = told("who_is_paged", service_id="SLOW", urgency="high")
    assert (asked["urgency"], len(asked["levels"])) == ("high", 2)
    assert asked["service"]["id"] == "SLOW"


def test_an_urgency_that_was_asked_for_hangs_on_nothing_more() -> None:
    varies = replace(SERVICES["SPAY"], urgency="severity_based")
    account = replace(ACCOUNT, services={**SERVICES, "SPAY": varies})
    assert "hangs on each alert's severity" in told("who_is_paged", of(account), service_id="SPAY")["problems"][0]
    assert "problems" not in told("who_is_paged", of(account), service_id="SPAY", urgency="high")
    paused = replace(varies, status="maintenance")
    account = replace(ACCOUNT, services={**SERVICES, "SPAY": paused})
    [said] = told("who_is_paged", of(account), service_id="SPAY", urgency="low")["problems"]
    assert "maintenance" in said


def test_a_level_that_is_skipped_says_why_and_nobody_at_all_is_said_first() -> None:
    found = told("who_is_paged", service_id="SSEA", at="2026-11-29T03:00:00Z")
    assert "nobody is told" in found["nobody"]
    assert [level["skipped"] for level in found["levels"]] == [
        "Level 1 is skipped at once: nobody is on call on Almost always.",
        "Level 2 is skipped at once: nobody is on call on Empty.",
    ]
    assert told("who_is_paged", service_id="SOFF")["nobody"].startswith("The service is disabled")
    assert ask("who_is_paged", service_id="SNONE").targets == (About("service", "SNONE"),)


def test_loops_are_told_once_and_in_full_one_by_one() -> None:
    slim = told("who_is_paged", escalation_policy_id="PGAPS")
    assert {level.get("loop", 1) for level in slim["levels"]} == {1}
    assert "2 times more" in slim["repeats"]
    full = told("who_is_paged", escalation_policy_id="PGAPS", detail="full")
    assert {level.get("loop", 1) for level in full["levels"]} == {1, 2, 3}
    assert full["levels"][0]["pages"][0]["told"][0]["label"] == "Phone of Ann"


def test_a_loop_that_reaches_others_is_told_with_its_number() -> None:
    found = told("who_is_paged", escalation_policy_id="PCLEAN", at="2026-11-29T23:30:00Z")
    again = [level for level in found["levels"] if level.get("loop") == 2]
    assert found["levels"][0]["pages"][0]["name"] == "Ben"
    assert [level["pages"][0]["name"] for level in again] == ["Ann"]


def test_times_are_told_in_the_asked_zone_too() -> None:
    found = told("who_is_paged", service_id="SPAY", time_zone="Europe/Berlin")
    assert found["at"] == "2026-11-23T12:00:00Z = 2026-11-23T13:00+01:00"
    assert found["as_of"].endswith("+01:00")


@pytest.mark.parametrize("arguments", [{}, {"service_id": "SPAY", "escalation_policy_id": "PCLEAN"}])
def test_a_service_or_a_policy_must_be_named_and_not_both(arguments: dict[str, str]) -> None:
    refusal = refused("who_is_paged", **arguments)
    assert refusal.about == "service_id"
    assert "either service_id or escalation_policy_id" in str(refusal)


def test_a_time_that_is_past_or_too_far_is_refused_with_what_to_do() -> None:
    past = refused("who_is_paged", service_id="SPAY", at="2026-11-23T11:00:00Z")
    assert (past.about, "get_incident_timeline" in past.remedy) == ("at", True)
    far = refused("who_is_paged", service_id="SPAY", at="2027-03-01T00:00:00Z")
    assert far.remedy == "Pass 2027-02-15T12:00:00Z at the latest."
    # The caller's clock need not be ours.
    assert told("who_is_paged", service_id="SPAY", at="2026-11-23T11:58:00Z")["at"] == "2026-11-23T12:00:00Z"


# Names


def test_a_name_that_several_have_is_answered_with_the_candidates() -> None:
    refusal = refused("who_is_paged", escalation_policy_id="Standard")
    assert refusal.about == "escalation_policy_id"
    assert str(refusal) == "2 escalation policies are named 'Standard'."
    assert refusal.candidates == ({"id": "PTWO1", "name": "Standard"}, {"id": "PTWO2", "name": "standard"})


def test_a_name_that_comes_near_is_answered_with_what_it_comes_near() -> None:
    refusal = refused("who_is_paged", service_id="search engine")
    assert refusal.candidates == ()
    refusal = refused("coverage_gaps", service_id="sear")
    assert [row["id"] for row in refusal.candidates] == ["SSEA", "SOFF"]


@pytest.mark.parametrize(
    ("tool", "parameter", "tool_to_look_with"),
    [
        ("who_is_paged", "service_id", "list_services"),
        ("who_is_paged", "escalation_policy_id", "list_escalation_policies"),
        ("coverage_gaps", "team_id", "list_teams"),
        ("schedule_quality", "schedule_id", "list_schedules"),
    ],
)
def test_what_is_not_in_the_mirror_is_refused_with_where_to_look(
    tool: str, parameter: str, tool_to_look_with: str
) -> None:
    refusal = refused(tool, **{parameter: "PABC123"})
    assert refusal.about == parameter
    assert "in the portal's mirror has the id 'PABC123'" in str(refusal)
    assert tool_to_look_with in refusal.remedy
    assert tool_to_look_with in TOOLS


# Coverage


def test_gaps_are_told_apart_from_what_a_lower_level_covers_and_what_lacks_nothing_is_counted() -> None:
    found = told("coverage_gaps")
    assert found["window"] == {"since": "2026-11-23T12:00:00Z", "until": "2026-12-21T12:00:00Z"}
    rows = {row["id"]: row for row in found["escalation_policies"]}
    assert set(rows) == {"PGAPS", "PLOWER", "PLOST"}
    assert (found["count"], found["total"], found["without_gaps"]) == (3, 3, 3)
    holes = rows["PGAPS"]
    assert holes["unreachable_minutes"] == 4 * 120
    assert holes["next_gap"] == {"start": "2026-11-29T02:00:00Z", "end": "2026-11-29T04:00:00Z", "minutes": 120}
    assert len(holes["gaps"]) == 3
    assert holes["gaps_not_shown"] == 1
    assert [one["id"] for one in holes["services"]] == ["SSEA", "SOFF"]
    assert holes["reached_percent"] == 98.8  # 8 of 672 hours are missing; never rounded up
    lower = rows["PLOWER"]
    assert (lower["unreachable_minutes"], "gaps" in lower) == (0, False)
    assert lower["covered_by_lower_minutes"] == 4 * 2 * 1440
    assert lower["covered_by_lower"][0]["reached_level"] == 2
    # A schedule that is not mirrored may well reach somebody.
    lost = rows["PLOST"]
    assert (lost["unreachable_minutes"], lost["not_known_minutes"], len(lost["not_known"])) == (0, 4 * 7 * 1440, 1)


def test_what_is_intended_is_no_gap_and_stands_with_its_reason_marked() -> None:
    start = int(dt.datetime(2026, 11, 29, 2, tzinfo=dt.UTC).timestamp())
    weekly = Mark(start, start + 3600, AT + 12 * DAY, weekly=True)
    found = told(
        "coverage_gaps", of(marks={"PGAPS": [(weekly, "Closed \x1b[2Jat night")]}), escalation_policy_id="PGAPS"
    )
    [row] = found["escalation_policies"]
    # Until the mark ends the first hour of two is meant.
    assert row["unreachable_minutes"] == 4 * 120 - 60
    assert row["next_gap"]["start"] == "2026-11-29T03:00:00Z"
    assert row["intended_minutes"] == 60
    [meant] = row["intended"]
    assert meant["minutes"] == 60
    assert set(meant["reason"]) == {"outside"}
    assert "\x1b" not in json.dumps(meant, ensure_ascii=False)


def test_the_worst_comes_first_by_the_incidents_that_are_to_be_expected() -> None:
    quiet = told("coverage_gaps")["escalation_policies"]
    assert [row["id"] for row in quiet] == ["PGAPS", "PLOST", "PLOWER"]
    busy = told("coverage_gaps", of(rates={"SSEA": (0.5,) * 168}))["escalation_policies"]
    assert busy[0]["id"] == "PGAPS"
    assert busy[0]["expected_incidents"] == 0.5 * 8
    assert "expected_incidents" not in busy[1]


def test_gaps_are_narrowed_to_a_service_a_policy_or_a_team() -> None:
    assert [row["id"] for row in told("coverage_gaps", service_id="Search")["escalation_policies"]] == ["PGAPS"]
    assert [row["id"] for row in told("coverage_gaps", team_id="payments")["escalation_policies"]] == ["PLOWER"]
    one = told("coverage_gaps", escalation_policy_id="PCLEAN")
    assert one["escalation_policies"][0]["unreachable_minutes"] == 0
    assert told("coverage_gaps", service_id="SOFF")["service"]["standing"].startswith("It is disabled")
    alone = told("coverage_gaps", service_id="SNONE")
    assert (alone["escalation_policies"], "never reaches anybody" in alone["service"]["standing"]) == ([], True)
    assert ask("coverage_gaps", team_id="TSEA", service_id="SSEA").targets == (
        About("service", "SSEA"),
        About("team", "TSEA"),
    )


def test_a_window_begins_now_and_reaches_12_weeks_at_most() -> None:
    found = told("coverage_gaps", since="2026-11-01T00:00:00Z", until="2026-11-30T00:00:00Z")
    assert found["window"] == {"since": "2026-11-23T12:00:00Z", "until": "2026-11-30T00:00:00Z"}
    later = told("coverage_gaps", since="2026-12-01T00:00:00Z", escalation_policy_id="PGAPS")
    assert later["escalation_policies"][0]["next_gap"]["start"] == "2026-12-06T02:00:00Z"
    assert refused("coverage_gaps", until="2026-11-23T11:00:00Z").about == "until"
    assert refused("coverage_gaps", until="2027-02-20T00:00:00Z").about == "until"
    assert refused("coverage_gaps", since="2027-02-20T00:00:00Z").about == "since"
    assert refused("coverage_gaps", since="2027-02-15T12:00:00Z").about == "since"
    whole = told("coverage_gaps", until="2027-02-15T12:00:00Z", escalation_policy_id="PGAPS")
    assert whole["escalation_policies"][0]["unreachable_minutes"] == 12 * 120


def test_a_gap_that_has_begun_begins_now() -> None:
    in_it = dt.datetime(2026, 11, 29, 3, tzinfo=dt.UTC)
    found = mirrored.answer("coverage_gaps", given(TOOLS["coverage_gaps"], {"service_id": "SSEA"}, in_it), of())
    [row] = found.document["escalation_policies"]
    assert row["next_gap"] == {"start": "2026-11-29T03:00:00Z", "end": "2026-11-29T04:00:00Z", "minutes": 60}


def test_pages_are_turned_by_limit_and_offset() -> None:
    first = told("coverage_gaps", limit=2)
    assert (first["count"], first["total"], first["more"]) == (2, 3, {"offset": 2})
    second = told("coverage_gaps", limit=2, offset=2)
    assert (second["count"], "more" in second) == (1, False)
    ids = [row["id"] for found in (first, second) for row in found["escalation_policies"]]
    assert sorted(ids) == ["PGAPS", "PLOST", "PLOWER"]
    assert told("coverage_gaps", offset=50)["escalation_policies"] == []


# Quality


def test_a_schedule_that_cannot_be_rendered_has_no_score() -> None:
    bare = schedule("PBARE", "Bare", problems=(Problem("no_definition", "It holds no layers."),))
    account = replace(ACCOUNT, schedules={**SCHEDULES, "PBARE": bare})
    found = told("schedule_quality", of(account), schedule_id="PBARE")
    assert found["schedules"] == []
    assert found["not_known"] == [{"id": "PBARE", "name": "Bare", "problems": ["It holds no layers."]}]
    assert "PBARE" not in [row["id"] for row in told("schedule_quality", of(account))["schedules"]]


def test_schedules_are_rated_the_worst_first_with_the_parts_of_their_score() -> None:
    found = told("schedule_quality")
    rows = found["schedules"]
    assert [row["id"] for row in rows] == ["PEMPTY", "PWEEK", "PHOLE", "PALWAYS"]
    empty, week, hole, always = rows
    assert (empty["score"], empty["band"], empty["parts"]["coverage_percent"]) == (0, "bad", 0.0)
    assert empty["problems"] == ["Empty: It has no layer."]
    assert len(empty["gaps"]) == 1
    assert (always["score"], always["uncovered_minutes"], "gaps" in always) == (100, 0, False)
    assert week["used_by"] == [{"id": "PLOWER", "name": "Covered below"}]
    assert hole["gaps_not_shown"] == 12 - 3
    assert found["window"]["until"] == "2027-02-15T12:00:00Z"


def test_one_schedule_is_told_with_more_and_who_has_more_than_others() -> None:
    uneven = schedule("PUNEV", "Uneven", layer("Week", "UANN"), layer("Sunday", "UBEN", restrictions=SUNDAY_MORNING))
    account = replace(ACCOUNT, schedules={**SCHEDULES, "PUNEV": uneven})
    found = ask("schedule_quality", of(account), schedule_id="uneven", detail="full")
    [row] = found.document["schedules"]
    assert found.targets == (About("schedule", "PUNEV"),)
    [over] = row["parts"]["overloaded"]
    assert (over["name"], over["above_average_percent"] > 50) == ("Ann", True)
    assert [one["name"] for one in row["hours"]] == ["Ann", "Ben"]
    assert len(told("schedule_quality", schedule_id="PHOLE")["schedules"][0]["gaps"]) == 12


# All of them


@pytest.mark.parametrize("tool", ["who_is_paged", "coverage_gaps", "schedule_quality"])
def test_what_could_not_be_read_is_told_beside_what_was(tool: str) -> None:
    arguments = {"service_id": "SPAY"} if tool == "who_is_paged" else {}
    found = told(tool, of(unread={"overrides": "PagerDuty refused them: 403."}), **arguments)
    assert found["not_read"] == {"overrides": "PagerDuty refused them: 403."}
    assert "not_read" not in told(tool, **arguments)


def test_no_name_of_the_account_hides_or_acts() -> None:
    bad = "Pay\u202ements\x00\n<script>"
    account = Account(
        {
            id: replace(one, name=bad + id, problems=(Problem("x", f"{bad} is odd", bad),))
            for id, one in SCHEDULES.items()
        },
        {id: replace(one, name=bad + id) for id, one in POLICIES.items()},
        {id: replace(one, name=bad + id) for id, one in SERVICES.items()},
        {id: replace(one, name=bad) for id, one in PEOPLE.items()},
        {"TPAY": bad, "TSEA": bad},
    )
    everything = [
        told("who_is_paged", of(account), service_id="SPAY", detail="full"),
        told("who_is_paged", of(account), service_id="SSEA", at="2026-11-29T03:00:00Z"),
        told("coverage_gaps", of(account), detail="full"),
        told("coverage_gaps", of(account), team_id="TSEA"),
        told("schedule_quality", of(account), detail="full"),
    ]
    written = json.dumps(everything, ensure_ascii=False)
    assert not set("\u202e\x00") & set(written)
    with pytest.raises(Unanswered) as refusal:
        ask("who_is_paged", of(account), service_id="ments")
    assert len(refusal.value.candidates) == len(SERVICES)
    assert not set("\u202e\x00\n") & set(json.dumps(refusal.value.candidates, ensure_ascii=False))


def test_the_slim_form_stays_small_on_a_large_account() -> None:
    schedules = {f"P{n}": replace(SCHEDULES["PHOLE"], id=f"P{n}", name=f"Schedule {n}") for n in range(200)}
    policies = {f"E{n}": Policy(f"E{n}", f"Policy {n}", (level(15, f"P{n % 200}"),), 0) for n in range(250)}
    services = {f"S{n}": Service(f"S{n}", f"Service {n}", "active", f"E{n % 5}") for n in range(500)}
    large = of(Account(schedules, policies, services, PEOPLE, {}))
    for tool, arguments in (
        ("coverage_gaps", {}),
        ("schedule_quality", {}),
        ("who_is_paged", {"service_id": "S1"}),
        ("coverage_gaps", {"escalation_policy_id": "E1"}),
    ):
        assert len(json.dumps(told(tool, large, **arguments), separators=(",", ":"))) < 20_000, tool
    full = told("coverage_gaps", large, limit=100, detail="full")
    assert len(json.dumps(full, separators=(",", ":"))) < 400_000
