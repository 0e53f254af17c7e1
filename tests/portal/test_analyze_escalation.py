"""``manage.py analyze escalation`` on saved answers of the REST API."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from integrations.pagerduty.analysis.escalation import SEVERITIES
from integrations.pagerduty.sandbox.world import iso
from tests.integrations.test_escalation_worlds import WEEKS, about, findings
from tests.integrations.test_worlds import account
from tests.portal.test_analyze_coverage import Row, policy, saved, schedule, service

DAY = ("--since", "2026-11-23T00:00Z", "--until", "2026-11-24T00:00Z")


def analyze(*files: Path, options: tuple[str, ...] = DAY) -> tuple[Any, str]:
    """What it prints, as JSON, and what it notes about its input."""
    out, notes = StringIO(), StringIO()
    call_command("analyze", "escalation", "--json", "--input", *map(str, files), *options, stdout=out, stderr=notes)
    return json.loads(out.getvalue()), notes.getvalue()


def text(*files: Path, options: tuple[str, ...] = DAY) -> str:
    out = StringIO()
    call_command("analyze", "escalation", "--input", *map(str, files), *options, stdout=out)
    return out.getvalue()


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """A policy whose one level reaches nobody in the second half of the day."""
    used = policy("PEP1", "PS1") | {"services": [{"id": "PSV1"}], "teams": []}
    person = {"id": "PUSER1", "type": "user", "name": "Ann", "time_zone": "UTC", "contact_methods": []}
    return [
        saved(tmp_path, "policies.json", {"escalation_policies": [used], "more": False}),
        saved(tmp_path, "schedules.json", {"schedules": [schedule("PS1", "00:00:00", 12)]}),
        saved(tmp_path, "users.json", {"users": [person]}),
        saved(tmp_path, "services.json", {"services": [service("PSV1", "PEP1"), service("PSV2", "PEP1", "disabled")]}),
    ]


def rules_of(document: Row) -> set[str]:
    return {one["rule"] for one in document["findings"]}


def test_findings_with_their_evidence_what_they_come_to_and_what_mends_them(files: list[Path]) -> None:
    document, notes = analyze(*files)
    assert notes == ""
    assert document["window"] == {"start": "2026-11-23T00:00:00+00:00", "end": "2026-11-24T00:00:00+00:00"}
    assert rules_of(document) == {
        *("nobody_on_call", "level_gap", "single_level", "no_contact_method", "no_phone", "service_disabled")
    }
    worst = document["findings"][0]
    assert {name: worst[name] for name in ("key", "severity", "policy_id", "policy_name", "level", "subject")} == {
        "key": "nobody_on_call:policy:PEP1:0",
        "severity": "critical",
        "policy_id": "PEP1",
        "policy_name": "Policy PEP1",
        "level": None,
        "subject": {"kind": "policy", "id": "PEP1"},
    }
    assert worst["evidence"] == [
        {
            "words": "Nobody is on call on any level",
            "start": "2026-11-23T12:00:00+00:00",
            "end": "2026-11-24T00:00:00+00:00",
        }
    ]
    assert worst["url"].startswith("https://support.pagerduty.com/")
    assert worst["changes"][0]["path"] == ["escalation_rules", 1]
    (disabled,) = (one for one in document["findings"] if one["rule"] == "service_disabled")
    assert disabled["changes"] == [
        {
            "words": "Enable it, or delete it.",
            "document": {"kind": "service", "id": "PSV2"},
            "path": ["status"],
            "before": "disabled",
            "after": "active",
        }
    ]
    assert document["counts"] == {"critical": 1, "high": 4, "medium": 1, "low": 0, "info": 0}
    assert list(document["counts"]) == list(SEVERITIES)


def test_what_is_not_known_is_told_and_is_no_finding(files: list[Path]) -> None:
    document, _ = analyze(files[0])
    assert rules_of(document) == {"single_level"}
    assert {one["words"] for one in document["unjudged"]} == {
        "Who is on call on PS1 is not known.",
        "Level 1: who is on call on PS1 is not known.",
    }
    assert "Not judged, as not enough is known: 2" in text(files[0])


def test_for_people_it_is_lines(files: list[Path]) -> None:
    lines = text(*files).splitlines()
    assert lines[0].endswith("1 escalation policies, 1 critical, 4 high, 1 medium")
    assert "CRITICAL nobody_on_call: Once, for 12 h, Policy PEP1 reaches nobody on any level." in lines
    assert "  2026-11-23T12:00:00+00:00  2026-11-24T00:00:00+00:00  Nobody is on call on any level" in lines
    assert "  Enable it, or delete it. (service PSV2, status: disabled becomes active)" in lines


def test_whom_a_policy_names_and_nobody_is_was_deleted_where_all_users_are_given(
    tmp_path: Path, files: list[Path]
) -> None:
    rule = {
        "escalation_delay_in_minutes": 10,
        "targets": [{"id": "PGONE", "type": "user_reference", "summary": "Gwen"}],
    }
    other = policy("PEP2") | {"escalation_rules": [rule]}
    more = saved(tmp_path, "more.json", {"escalation_policy": other})
    assert "deleted_target" not in rules_of(analyze(*files, more)[0])
    document, _ = analyze(*files, more, options=(*DAY, "--everybody"))
    (gone,) = (one for one in document["findings"] if one["rule"] == "deleted_target")
    assert (gone["policy_id"], gone["subject"]) == ("PEP2", {"kind": "user", "id": "PGONE"})
    with pytest.raises(CommandError, match="no users in it"):
        analyze(files[0], options=(*DAY, "--everybody"))


def test_what_is_no_such_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="neither an escalation policy nor a service"):
        analyze(saved(tmp_path, "other.json", {"users": []}))


def test_an_account_saved_from_the_api_is_judged_as_the_mirror_is(tmp_path: Path) -> None:
    world = account("demo")
    schedules = [
        world.get(
            f"/schedules/{row['id']}?time_zone={row['time_zone']}&since={iso(WEEKS.start)}&until={iso(WEEKS.end)}"
        )
        for row in world.all("/schedules", "schedules")
    ]
    window = f"since={iso(WEEKS.start)}&until={iso(WEEKS.end)}"
    for row in world.all("/v3/schedules", "schedules"):
        path = f"/v3/schedules/{row['id']}"
        parts = {name: world.all(f"{path}/{name}?{window}", name) for name in ("custom_shifts", "overrides")}
        schedules.append({"schedule": {**world.get(path)["schedule"], **parts}})
    users = world.all("/users?include[]=contact_methods&include[]=notification_rules", "users")
    documents = {
        "policies": {"escalation_policies": world.all("/escalation_policies", "escalation_policies")},
        "schedules": schedules,
        "users": {"users": users},
        "services": {"services": world.all("/services", "services")},
    }
    files = [saved(tmp_path, f"{name}.json", document) for name, document in documents.items()]
    options = ("--since", iso(WEEKS.start), "--until", iso(WEEKS.end), "--everybody")
    document, notes = analyze(*files, options=options)
    told = {(one["rule"], one["subject"]["id"]) for one in document["findings"]}
    assert told == about(findings("demo", 7, WEEKS))
    assert document["unjudged"] == []
    assert "Nobody" not in notes
