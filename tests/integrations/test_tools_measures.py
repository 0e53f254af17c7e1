"""Tools that look back on incidents and duties, or ahead on what would share them better: that they say what the analyses say,
what they say where something is not known, whom they name, and how large an answer gets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from integrations import history as histories
from integrations.gateway.integration import Own, Unanswered
from integrations.history import History
from integrations.measured import loaded, period, responded, responded_by
from integrations.models import Connection
from integrations.pagerduty.analysis.incidents import Incident, Log, Step, log_of
from integrations.pagerduty.analysis.load import Duty
from integrations.pagerduty.analysis.model import Account, Person, Policy, Service, Span
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.tools import mirrored
from integrations.pagerduty.tools.arguments import given
from integrations.pagerduty.tools.telling import Mirror
from integrations.proposals import proposed_swaps
from integrations.sweep import sweep
from policies.core.call import Target as About
from tests.integrations.test_tools_mirrored import ACCOUNT, AT, DAY, NOW, PEOPLE, READ, layer, schedule

HOUR = 3_600
START = AT - 20 * DAY
"""Of the incidents here, which are a day apart."""
YEAR = Span(AT - 400 * DAY, AT - 60)
"""Of which all is known."""


def incident(number: int, acknowledged: int | None = None, resolved: int | None = None, **more: Any) -> Incident:
    """Created ``number`` days after ``START``, Ann notified by push 10 s later; the rest in seconds after its creation."""
    created = START + number * DAY
    steps = [
        Step(f"R{number}A", created, "assign", "UANN"),
        Step(f"R{number}N", created + 10, "notify", "UANN", "push"),
    ]
    if acknowledged is not None:
        steps.append(Step(f"R{number}K", created + acknowledged, "acknowledge", "UANN", by="UANN"))
    values: dict[str, Any] = {"service_id": "SPAY", "policy_id": "PCLEAN", "team_ids": ("TPAY",), "priority": "P1"}
    return Incident(
        f"PI{number:04}",
        created,
        steps=tuple(steps),
        resolved=None if resolved is None else created + resolved,
        status="resolved" if resolved is not None else "triggered",
        **(values | more),
    )


THREE = (
    incident(0, 120, 3_600),
    incident(1, 240, 1_800, service_id="SSEA", policy_id="PGAPS", team_ids=("TSEA",), priority="P2", urgency="low"),
    incident(2),
)


def late(number: int) -> Incident:
    """One that level 1 leaves for 30 minutes, and level 2 for 18 more."""
    one = incident(number, 48 * 60, 2 * HOUR)
    to_cleo = Step(f"R{number}E", one.created + 30 * 60, "escalate", "UCLEO", "timeout")
    return replace(one, steps=tuple(sorted((*one.steps, to_cleo), key=lambda step: step.at)))


def look(incidents: Sequence[Incident] | Log = THREE, known: Span | None = YEAR, **more: Any) -> Mirror:
    log = incidents if isinstance(incidents, Log) else log_of(incidents)
    told = History(log, known, READ, more.pop("problem", ""), more.pop("running", False))
    account = more.pop("account", ACCOUNT)
    start = AT - AT % DAY
    found = sweep(account, Span(start, start + 85 * DAY))
    return Mirror(account, READ, {}, lambda: found, dict, Connection(name="Main"), lambda: told)


def ask(tool: str, mirror: Mirror | None = None, /, **arguments: Any) -> Own:
    return mirrored.answer(tool, given(TOOLS[tool], arguments, NOW), mirror or look())


def told(tool: str, mirror: Mirror | None = None, /, **arguments: Any) -> Any:
    document = ask(tool, mirror, **arguments).document
    assert json.loads(json.dumps(document)) == document
    return document


def refused(tool: str, mirror: Mirror | None = None, /, **arguments: Any) -> Unanswered:
    with pytest.raises(Unanswered) as refusal:
        ask(tool, mirror, **arguments)
    assert refusal.value.remedy
    return refusal.value


def size(document: Any) -> int:
    return len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode())


# Response times


def test_times_are_those_that_are_worked_out_by_hand() -> None:
    found = told("response_times")
    assert found["incidents"] == 3
    assert found["window"] == {"since": "2026-08-25T12:00:00Z", "until": "2026-11-23T11:59:00Z"}
    acknowledge = found["times"]["acknowledge"]
    # After 120 s one of three is acknowledged, two thirds wait; after 240 s one of two: a third waits, so half is within 4
    # minutes. The third waits still, so that when nine of ten are is not known.
    assert (acknowledge["count"], acknowledge["not_yet"]) == (3, 1)
    assert (acknowledge["median_minutes"], acknowledge["p90_minutes"]) == (4.0, None)
    assert "Longer than was waited" in found["null_means"]
    # The mean of the two alone would be (2 + 4) / 2: only in full, and named for what it is.
    assert "mean_minutes_of_those_that_did" not in acknowledge
    full = told("response_times", detail="full")["times"]["acknowledge"]
    assert full["mean_minutes_of_those_that_did"] == 3.0
    # One of three after 30 minutes, the next after 60.
    assert found["times"]["resolve"]["median_minutes"] == 60.0
    # Ten seconds are not rounded to none.
    assert found["times"]["notify"]["median_minutes"] == 0.17
    assert [stage["stage"] for stage in found["waterfall"]] == ["notify", "acknowledge", "mobilise", "resolve"]


@pytest.mark.parametrize("days", [28, 90, 365])
def test_the_figures_are_those_of_the_analysis(days: int) -> None:
    mirror = look([incident(n, 60 + 37 * n, 1_000 + 100 * n) for n in range(18)])
    looked_back = period(mirror.connection, mirror.history(), days, NOW)
    assert looked_back is not None
    measured = responded(looked_back)
    found = told("response_times", mirror, days=days, detail="full")
    assert found["incidents"] == measured.incidents == 18
    for name, times in measured.times.items():
        row = found["times"][name]
        assert (row["count"], row["count"] - row["not_yet"]) == (times.count, times.happened)
        for part, estimate in (("median", times.median), ("p90", times.p90)):
            pairs = zip((row[f"{part}_minutes"], *row[f"{part}_minutes_95_percent"]), estimate, strict=True)
            for said, seconds in pairs:
                assert (said is None) == (seconds is None)
                assert seconds is None or said == pytest.approx(seconds / 60, abs=0.05)
    rows = told("response_times", mirror, days=days, by="service")["rows"]
    assert [(row["id"], row["incidents"]) for row in rows] == [
        (group.key, group.incidents) for group in responded_by(looked_back, "service")
    ]


def test_the_slowest_level_is_named_with_its_evidence_or_why_none_is() -> None:
    none = told("response_times")["slowest_level"]
    assert none == {"not_told": "Incidents came to level 1 alone, so there is none to compare it with."}
    quick = [incident(n, 240, HOUR) for n in range(40)]
    slow = [late(n) for n in range(40, 80)]
    found = told("response_times", look(shifted((*quick, *slow))), by="level")
    slowest = found["slowest_level"]
    # All forty that came to level 2 were acknowledged 18 minutes after they did, not 48 after their creation.
    assert (slowest["level"], slowest["reached"], slowest["answered"], slowest["median_minutes"]) == (2, 40, 40, 18.0)
    assert [row["level"] for row in found["levels"]] == [1, 2]
    assert found["levels"][0]["reached"] == 80
    full = told("response_times", look(shifted((*quick, *slow))), by="level", detail="full")
    assert full["levels"][1]["mean_minutes_from_creation"] == 48.0


def shifted(incidents: Sequence[Incident]) -> list[Incident]:
    """The same, within the last 80 days."""
    found = []
    for one in incidents:
        back = 60 * DAY
        steps = tuple(step._replace(at=step.at - back) for step in one.steps)
        ended = None if one.resolved is None else one.resolved - back
        found.append(replace(one, created=one.created - back, steps=steps, resolved=ended))
    return found


@pytest.mark.parametrize(
    ("by", "keys"),
    [
        ("policy", [{"id": "PCLEAN", "name": "Clean"}, {"id": "PGAPS", "name": "Holes"}]),
        ("service", [{"id": "SPAY", "name": "Checkout"}, {"id": "SSEA", "name": "Search"}]),
        ("team", [{"id": "TPAY", "name": "Payments"}, {"id": "TSEA", "name": "Search"}]),
        ("urgency", [{"urgency": "high"}, {"urgency": "low"}]),
        ("priority", [{"priority": "P1"}, {"priority": "P2"}]),
        ("hour", [{"hour": 12}]),
    ],
)
def test_rows_are_by_one_thing_each_with_its_name(by: str, keys: list[dict[str, Any]]) -> None:
    found = told("response_times", by=by)
    assert (found["by"], found["count"], found["total"]) == (by, len(keys), len(keys))
    rows = found["rows"]
    for row, key in zip(rows, keys, strict=True):
        assert row.items() >= key.items()
    if by != "hour":
        assert [row["incidents"] for row in rows] == [2, 1]
        assert rows[0]["acknowledge"]["not_yet"] == 1
        assert rows[1]["acknowledge"]["median_minutes"] == 4.0
        assert rows[1]["resolve"] == {"median_minutes": 30.0}


def test_hours_are_told_in_the_asked_zone() -> None:
    found = told("response_times", by="hour", time_zone="Asia/Kolkata")
    # 12:00 UTC is 17:30 there.
    assert [row["hour"] for row in found["rows"]] == [17]
    assert found["window"]["since"] == "2026-08-25T12:00:00Z = 2026-08-25T17:30+05:30"


def test_what_is_gone_from_the_mirror_goes_by_its_id_and_what_has_none_by_none() -> None:
    mirror = look([incident(0, 60, 600, service_id="SGONE", policy_id="", team_ids=(), priority="")])
    assert told("response_times", mirror, by="service")["rows"][0]["id"] == "SGONE"
    assert "name" not in told("response_times", mirror, by="service")["rows"][0]
    assert told("response_times", mirror, by="policy")["rows"][0]["id"] is None
    assert told("response_times", mirror, by="priority")["rows"][0]["priority"] is None


def test_incidents_are_narrowed_and_what_was_named_is_what_the_call_was_about() -> None:
    asked = ask(
        "response_times", service_id="checkout", escalation_policy_id="PCLEAN", team_id="payments", urgency="high"
    )
    assert asked.targets == (About("escalation_policy", "PCLEAN"), About("service", "SPAY"), About("team", "TPAY"))
    found = asked.document
    assert (found["incidents"], found["urgency"], found["service"]["name"]) == (2, "high", "Checkout")
    assert told("response_times", urgency="low")["incidents"] == 1
    assert told("response_times", priority="p2")["incidents"] == 1
    assert told("response_times", team_id="TSEA", urgency="high")["incidents"] == 0
    assert ask("response_times").targets == ()


def test_wrong_arguments_are_refused_with_what_to_pass() -> None:
    bad = refused("response_times", days=30)
    assert (bad.about, str(bad), bad.remedy) == (
        "days",
        "days must be 28, 90 or 365, and is 30.",
        "Pass 28, 90 or 365.",
    )
    priority = refused("response_times", priority="Sev\u202e1")
    assert (priority.about, priority.remedy) == ("priority", "Pass one of: P1, P2.")
    assert "Leave priority out" in refused("response_times", look([]), priority="P1").remedy
    assert refused("response_times", service_id="PNONE01").about == "service_id"
    assert "list_escalation_policies" in refused("response_times", escalation_policy_id="PNONE01").remedy


def test_before_incidents_are_read_it_says_so_and_never_that_there_were_none() -> None:
    for tool in ("response_times", "oncall_load"):
        refusal = refused(tool, look([], known=None, problem="PagerDuty answered 403."))
        assert refusal.about == ""
        assert "has not read the incidents of Main yet" in str(refusal)
        assert "403" in str(refusal)
        assert "get_incident_metrics_all" in refusal.remedy
        assert "get_incident_metrics_all" in TOOLS
    # What is known ends before the window begins.
    assert "has not read" in str(refused("response_times", look(known=Span(AT - 400 * DAY, AT - 100 * DAY))))


def test_what_is_known_of_a_part_of_the_time_is_told_as_such() -> None:
    part = Span(AT - 19 * DAY, AT - 60)
    found = told("response_times", look(known=part, running=True, problem="Of one day more than can be listed."))
    assert found["incidents"] == 2
    assert found["window"]["since"] == "2026-11-04T12:00:00Z"
    assert found["window"]["asked_since"] == "2026-08-25T12:00:00Z"
    assert "still being read" in found["known_since"]
    assert found["incidents_problem"] == "Of one day more than can be listed."
    whole = told("response_times")
    assert not {"known_since", "incidents_problem"} & whole.keys()
    assert whole["incidents_as_of"] == "2026-11-23T11:57:00Z"


def test_answers_stay_small_and_pages_are_turned() -> None:
    services = {f"S{n}": Service(f"S{n}", f"Service number {n}", "active", "PCLEAN") for n in range(300)}
    mirror = look(
        [replace(incident(0, 60 + n, 600 + n, service_id=f"S{n}"), id=f"PI{n}") for n in range(300)],
        account=replace(ACCOUNT, services=services),
    )
    slim = told("response_times", mirror)
    assert size(slim) < 3_000
    first = told("response_times", mirror, by="service")
    assert (first["count"], first["total"], first["more"]) == (25, 300, {"offset": 25})
    assert size(first) < 9_000
    last = told("response_times", mirror, by="service", limit=100, offset=250)
    assert (last["count"], "more" in last) == (50, False)
    assert size(told("response_times", mirror, by="service", limit=100, detail="full")) < 120_000


# Load


def duty(user: str, start: int, hours: int, level: int = 1) -> Duty:
    return Duty(AT + start * HOUR, AT + (start + hours) * HOUR, user, level, "PALWAYS", "PCLEAN")


TURNS = (
    duty("UANN", -48, 24),
    duty("UBEN", -24, 24),
    # On call by two levels at once counts once, as level 1.
    duty("UANN", -48, 6, level=2),
    duty("UCLEO", -6, 6, level=2),
)


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was on call is known of all days that incidents are known of."""
    monkeypatch.setattr(histories, "duties", lambda connection, window: (TURNS, window))


def woken() -> Mirror:
    """Ann is paged at 23:00, 23:30 and 13:00 of the day that she is on call; Ben once, by e-mail alone."""
    rows = []
    for number, (user, at, way) in enumerate(
        (("UANN", -37, "push"), ("UANN", -36.5, "sms"), ("UANN", -47, "phone"), ("UBEN", -3, "email"))
    ):
        created = AT + int(at * HOUR)
        steps = (Step(f"W{number}", created, "notify", user, way),)
        rows.append(replace(incident(0), id=f"PW{number}", created=created, steps=steps))
    return look(rows)


def test_hours_and_interruptions_are_those_that_are_counted_by_hand(known: None) -> None:
    found = told("oncall_load", woken(), days=28)
    rows = {row["id"]: row for row in found["people"]}
    assert next(iter(rows)) == "UANN"
    ann, ben, cleo = rows["UANN"], rows["UBEN"], rows["UCLEO"]
    assert (ann["name"], ann["on_call_hours"], ann["level_1_hours"]) == ("Ann", 24.0, 24.0)
    # It is Saturday 12:00 that it begins: 13:00 is off hours, for weekends have no business hours; 23:00 and 23:30 are sleep.
    assert ann["interruptions"] == {"business": 0, "off": 1, "sleep": 2}
    assert (ann["pages"], ann["sleep_pages"], ann["nights_woken"]) == (3, 2, 1)
    assert ann["weekend_percent"] == 100.0
    # Of a mail nobody wakes.
    assert (ben["pages"], ben["interruptions"]["sleep"], ben["on_call_hours"]) == (0, 0, 24.0)
    assert (cleo["on_call_hours"], cleo["level_1_hours"]) == (6.0, 0.0)
    assert (found["count"], found["total"]) == (3, 3)


def test_the_load_is_that_of_the_analysis(known: None) -> None:
    mirror = woken()
    looked_back = period(mirror.connection, mirror.history(), 90, NOW)
    assert looked_back is not None
    measured = loaded(looked_back, mirror.account)
    assert measured is not None
    found = told("oncall_load", mirror, detail="full")
    assert [row["id"] for row in found["people"]] == [one.user for one in measured.people]
    for row, one in zip(found["people"], measured.people, strict=True):
        assert row["interruptions"] == {"business": one.business, "off": one.off, "sleep": one.sleep}
        assert row["on_call_hours"] == pytest.approx(one.seconds / HOUR, abs=0.05)
        assert row["level_2_plus_hours"] == pytest.approx(one.level_2_plus / HOUR, abs=0.05)
    assert set(found["fairness"]) == {"on_call_hours", "weighted_hours", "pages", "interruptions", "sleep_pages"}
    for what, fairness in measured.fairness.items():
        row = found["fairness"][{"seconds": "on_call_hours", "weighted": "weighted_hours"}.get(what, what)]
        assert row.get("not_told", "") == fairness.untold
        if not fairness.untold:
            assert row["gini"] == pytest.approx(fairness.gini, abs=0.001)


def test_nothing_is_claimed_of_fairness_where_too_little_is_known(known: None) -> None:
    for row in told("oncall_load", woken())["fairness"].values():
        assert set(row) == {"not_told"}
        assert row["not_told"].endswith(".")


def test_one_person_is_told_by_name_and_somebody_without_any_as_such(known: None) -> None:
    found = ask("oncall_load", woken(), user_id="ben")
    assert found.targets == (About("user", "UBEN"),)
    assert [row["id"] for row in found.document["people"]] == ["UBEN"]
    account = replace(ACCOUNT, people={**PEOPLE, "UDAN": Person("UDAN", "Dan")})
    mirror = woken()
    nothing = told("oncall_load", replace(mirror, account=account), user_id="Dan")
    assert (nothing["people"], nothing["user"]["said"]) == ([], "Was neither on call nor paged.")
    assert refused("oncall_load", woken(), user_id="Zoe").about == "user_id"
    team = ask("oncall_load", woken(), team_id="TSEA")
    assert team.targets == (About("team", "TSEA"),)
    # Neither the duties nor the pages are of that team's policies.
    assert team.document["people"] == []
    assert len(told("oncall_load", woken(), team_id="Payments")["people"]) == 3


def test_where_it_is_not_known_who_was_on_call_nobody_is_told_to_have_had_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(histories, "duties", lambda connection, window: ((), None))
    assert "does not know yet who was on call" in str(refused("oncall_load", woken()))
    half = Span(AT - 30 * HOUR, AT - 60)
    monkeypatch.setattr(histories, "duties", lambda connection, window: (TURNS, half))
    found = told("oncall_load", woken())
    assert found["on_call_known"] == {"since": "2026-11-22T06:00:00Z", "until": "2026-11-23T11:59:00Z"}


# Proposals


def uneven() -> Mirror:
    """Of Cleo's turns half is in her sleep; Ben lives where it is day then."""
    zones = {"UANN": "UTC", "UBEN": "Australia/Sydney", "UCLEO": "America/Los_Angeles", "UDAN": "UTC"}
    people = {id: Person(id, id[1:].title(), zone=zone, email="x@example.com") for id, zone in zones.items()}
    days = schedule("PDAYS", "Days", layer("Daily", "UANN", "UANN", "UBEN", "UANN", "UCLEO", "UDAN", turn=DAY // 2))
    policy = Policy("PDAY", "By day", (), 0)
    return look((), account=Account({"PDAYS": days}, {"PDAY": policy}, {}, people, {}))


def test_swaps_are_those_that_are_proposed_and_say_that_nothing_is_changed() -> None:
    mirror = uneven()
    proposed = proposed_swaps(mirror.connection, mirror.sweep(), "PDAYS", 2, NOW)
    assert proposed is not None
    assert proposed.swaps
    found = ask("suggest_overrides", mirror, schedule_id="days", weeks=2)
    assert found.targets == (About("schedule", "PDAYS"),)
    document = found.document
    assert [(row["instead_of"]["id"], row["takes_over"]["id"]) for row in document["swaps"]] == [
        (swap.was, swap.to) for swap in proposed.swaps
    ]
    before = {row["id"]: row["before"] for row in document["people"]}
    assert before["UCLEO"]["sleep_load"] == pytest.approx(
        {one.user: one.sleep for one in proposed.before}["UCLEO"], abs=0.01
    )
    after = {row["id"]: row["after"]["sleep_load"] for row in document["people"]}
    assert after["UCLEO"] < before["UCLEO"]["sleep_load"]
    assert "Nothing is changed yet" in document["how"]
    assert "create_schedule_override" in document["how"]
    assert document["sleep_load_is"] == "hours on call while they sleep"
    assert document["window"]["since"] == "2026-11-24T12:00:00Z"
    assert size(document) < 6_000


def test_where_nothing_is_better_it_says_why_and_not_how() -> None:
    found = told("suggest_overrides", schedule_id="PALWAYS")
    assert found["swaps"] == []
    assert found["said"]
    assert "how" not in found


def test_a_schedule_of_which_nobody_knows_who_is_on_call_gets_no_proposal() -> None:
    bare = schedule("PBARE", "Bare")
    account = replace(ACCOUNT, schedules={**ACCOUNT.schedules, "PBARE": replace(bare, kind="v3", layers=())})
    found = look(account=account)
    if "PBARE" in found.sweep().rendered:
        assert told("suggest_overrides", found, schedule_id="PBARE")["swaps"] == []
    assert refused("suggest_overrides", schedule_id="PNONE01").about == "schedule_id"


# Names


def test_no_name_of_the_account_hides_or_acts(known: None) -> None:
    bad = "Pay\u202ements\x00\n<script>"
    account = Account(
        {id: replace(one, name=bad) for id, one in ACCOUNT.schedules.items()},
        {id: replace(one, name=bad) for id, one in ACCOUNT.policies.items()},
        {id: replace(one, name=bad) for id, one in ACCOUNT.services.items()},
        {id: replace(one, name=bad) for id, one in PEOPLE.items()},
        {"TPAY": bad, "TSEA": bad},
    )
    worst = "Sev\u202e 1"
    hostile = look([replace(one, priority=worst) for one in THREE], account=account, problem=bad)
    everything = [
        *(told("response_times", hostile, by=by) for by in ("policy", "service", "team", "priority")),
        told("oncall_load", replace(woken(), account=account), detail="full"),
        told("suggest_overrides", hostile, schedule_id="PALWAYS"),
    ]
    assert not set("\u202e\x00") & set(json.dumps(everything, ensure_ascii=False))
    # It is found all the same by the name that PagerDuty has.
    assert told("response_times", hostile, priority=worst)["incidents"] == 3
    with pytest.raises(Unanswered) as refusal:
        ask("response_times", hostile, priority="P9")
    assert not set("\u202e\x00") & set(refusal.value.remedy)
