"""The big account as a process of its own: memory, time to start, and PagerDuty's own client walking all of it."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.sandbox.world import SIZES, World, generate, iso, parse_time
from tests.benchmarks.sandbox import MOST, of_group, stress, walked

NOW = "2026-11-23T12:00:00+00:00"
END = parse_time(NOW)
DAY = 86_400
SIZE = SIZES["stress"]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, float, int, Path]]:
    """The client, seconds until the account answered it, the process, the file of its truth."""
    with stress(tmp_path_factory.mktemp("stress"), NOW) as made:
        yield made


def test_it_answers_within_a_minute_and_keeps_to_its_memory(account: tuple[Any, float, int, Path]) -> None:
    _, ready, process, _ = account
    assert ready < 60
    assert of_group(process) < 400


@pytest.fixture(scope="module")
def world() -> World:
    """The same account, to count in."""
    return generate(7, dt.datetime.fromisoformat(NOW), size="stress")


def ids(rows: Iterable[dict[str, Any]]) -> list[str]:
    found = [str(row["id"]) for row in rows]
    assert len(found) == len(set(found))
    return found


def test_the_client_reads_every_list_to_its_end_without_a_duplicate_or_a_miss(
    account: tuple[Any, float, int, Path], world: World
) -> None:
    client = account[0]
    team = max(range(len(world.teams)), key=lambda place: len(world.members[place]))
    service = world.services[max(change.service for change in world.changes)]["id"]
    incident = max(world.incidents[:500], key=lambda row: len(row.happenings()))
    lists: dict[str, Iterable[str]] = {
        "services": (row["id"] for row in world.services),
        "users": (row["id"] for row in world.users),
        "teams": (row["id"] for row in world.teams),
        "schedules": (row["id"] for row in world.schedules),
        "v3/schedules": (row["id"] for row in world.v3),
        "escalation_policies": (row["id"] for row in world.policies),
        "business_services": (row["id"] for row in world.business),
        "priorities": (row["id"] for row in world.priorities),
        "maintenance_windows": (row["id"] for row in world.windows),
        "event_orchestrations": (row["id"] for row in world.orchestrations),
        "incident_workflows": (row["id"] for row in world.workflows),
        "extension_schemas": (row["id"] for row in world.extension_schemas),
        "webhook_subscriptions": (row["id"] for row in world.webhooks),
        f"incidents/{incident.id}/log_entries": (row.id for row in incident.happenings()),
    }
    for path, expected in lists.items():
        assert sorted(ids(client.iter_all(path, page_size=100))) == sorted(expected), path
    members = [row["user"]["id"] for row in client.iter_all(f"teams/{world.teams[team]['id']}/members", page_size=7)]
    assert sorted(members) == sorted(world.users[place]["id"] for place in world.members[team])
    assert ids(client.iter_all(f"services/{service}/change_events", page_size=3))
    several = max(world.incidents[:500], key=lambda row: len(row.alert_list()))
    assert len(ids(client.iter_all(f"incidents/{several.id}/alerts", page_size=2))) == len(several.alert_list()) > 2
    rota = max(world.v3, key=lambda row: len(row["custom_shifts"]) + len(row["overrides"]))
    year = {"since": iso(END - 180 * DAY), "until": iso(END + 180 * DAY)}
    for path, expected in (
        ("rotations", rota["rotations"]),
        (f"rotations/{rota['rotations'][0]['id']}/events", rota["rotations"][0]["events"]),
        ("custom_shifts", rota["custom_shifts"]),
        ("overrides", rota["overrides"]),
    ):
        read = ids(client.iter_all(f"v3/schedules/{rota['id']}/{path}", params=dict(year), page_size=1))
        assert sorted(read) == sorted(row["id"] for row in expected), path


def test_the_client_reads_who_is_on_call_at_every_level_of_every_policy(
    account: tuple[Any, float, int, Path], world: World
) -> None:
    client = account[0]
    rows = list(client.iter_all("oncalls", page_size=100))
    assert len({json.dumps(row, sort_keys=True) for row in rows}) == len(rows)
    found: dict[tuple[str, int, str], set[str]] = {}
    for row in rows:
        target = row["schedule"]["id"] if row["schedule"] else row["user"]["id"]
        key = (row["escalation_policy"]["id"], row["escalation_level"], target)
        found.setdefault(key, set()).add(row["user"]["id"])
    people = {row["id"] for row in world.users}
    at = {"since": iso(END), "until": iso(END + 1)}
    covered: dict[str, set[str]] = {}
    for policy in world.policies:
        for level, rule in enumerate(policy["escalation_rules"], start=1):
            for target in rule["targets"]:
                key = (policy["id"], level, target["id"])
                if target["id"] in people:
                    assert found.pop(key) == {target["id"]}, key
                elif target["type"] == "schedule_reference":
                    if target["id"] not in covered:
                        users = client.rget(f"schedules/{target['id']}/users", params=at)
                        covered[target["id"]] = {user["id"] for user in users}
                    assert found.pop(key, set()) == covered[target["id"]], key
    # What is left is of v3 schedules.
    assert {key[2] for key in found} <= {row["id"] for row in world.v3}
    assert len(covered) > SIZE.schedules / 2


def test_the_client_reads_what_is_paged_by_a_cursor(account: tuple[Any, float, int, Path], world: World) -> None:
    client = account[0]
    grouping = ids(client.iter_alert_grouping_settings(limit=100))
    assert sorted(grouping) == sorted(row["id"] for row in world.grouping)
    window = {"since": iso(END - 30 * DAY), "until": iso(END)}
    records = ids(client.iter_cursor("audit/records", params={**window, "limit": 2}))
    assert len(records) == sum(END - 30 * DAY <= row.at <= END for row in world.audit) > 2
    month = {"created_at_start": iso(END - 30 * DAY), "created_at_end": iso(END)}
    raw = ids(client.iter_analytics_raw_incidents(month, limit=1000))
    assert sorted(raw) == sorted(row.id for row in world.incidents if END - 30 * DAY <= row.created < END)


def test_the_client_reads_eighty_thousand_incidents_by_halved_windows(account: tuple[Any, float, int, Path]) -> None:
    client, _, _, _ = account
    rows = walked(client, "incidents", END - 366 * DAY, END + DAY)
    assert sorted(row["incident_number"] for row in rows) == list(range(1, SIZE.incidents + 1))


def test_the_client_reads_the_changes_of_the_year(account: tuple[Any, float, int, Path]) -> None:
    client, _, _, _ = account
    rows = walked(client, "change_events", END - 366 * DAY, END + DAY)
    assert len({row["id"] for row in rows}) == len(rows) == SIZE.changes


def test_a_month_of_log_entries_and_of_notifications_is_read_to_its_end(
    account: tuple[Any, float, int, Path], world: World
) -> None:
    """A year of them is read by ``python -m tests.benchmarks.sandbox --walk``: a million take two minutes."""
    client = account[0]
    since, until = END - 75 * DAY, END - 50 * DAY
    happened = [row for incident in world.incidents for row in incident.happenings() if since <= row.at <= until]
    rows = walked(client, "log_entries", since, until)
    assert sorted(ids(rows)) == sorted(row.id for row in happened)
    for row in rows[:3]:
        assert client.rget(f"log_entries/{row['id']}")["created_at"] == row["created_at"]
    told = ids(walked(client, "notifications", since, until))
    assert len(told) == sum(row.type == "notify" and "notification" in row.channel for row in happened) > MOST
