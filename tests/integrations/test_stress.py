"""The big account as a process of its own: memory, time to start, and PagerDuty's own client walking all of it."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pagerduty
import pytest
import trustme

from integrations.pagerduty.sandbox.world import SIZES, demo_from_email, demo_tokens, iso, parse_time
from tests.benchmarks.sandbox import of_group
from tests.gateway.processes import free_port, running

NOW = "2026-11-23T12:00:00+00:00"
END = parse_time(NOW)
DAY = 86_400
SIZE = SIZES["stress"]
MOST = 10_000
"""Rows that a list can be paged through."""
LONGEST = 180 * DAY
"""A window that no list refuses."""


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, float, int, Path]]:
    """The client, seconds until the account answered it, the process, the file of its truth."""
    folder = tmp_path_factory.mktemp("stress")
    # The client speaks to nobody without TLS.
    made = trustme.CA()
    made.cert_pem.write_to_path(str(folder / "ca.pem"))
    issued = made.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    (folder / "key.pem").write_bytes(issued.private_key_pem.bytes())
    port, truth = free_port(), folder / "truth.json"
    command = ("-m", "integrations.pagerduty.sandbox", "--port", str(port), "--size", "stress", "--now", NOW)
    tls = ("--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem"))
    started = time.monotonic()
    with running(*command, *tls, "--truth", str(truth), port=port) as process, pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        client = pagerduty.RestApiV2Client(
            demo_tokens(7)["account"].value, default_from=demo_from_email(7), base_url=f"https://127.0.0.1:{port}"
        )
        client.rget("/abilities")
        yield client, time.monotonic() - started, process.pid, truth


def test_it_answers_within_a_minute_and_keeps_to_its_memory(account: tuple[Any, float, int, Path]) -> None:
    _, ready, process, _ = account
    assert ready < 60
    assert of_group(process) < 400


def test_the_client_reads_every_list_to_its_end_without_a_duplicate_or_a_miss(
    account: tuple[Any, float, int, Path],
) -> None:
    client, _, _, truth = account
    planted = json.loads(truth.read_text())["planted"]["policy_defects"]
    assert planted
    found = {
        path: [row["id"] for row in client.iter_all(path, page_size=100)]
        for path in (
            "services",
            "users",
            "teams",
            "schedules",
            "escalation_policies",
            "business_services",
            "priorities",
        )
    }
    for path, ids in found.items():
        assert len(ids) == len(set(ids)), path
    assert len(found["services"]) == SIZE.services
    assert len(found["teams"]) == SIZE.teams
    assert len(found["business_services"]) == SIZE.business
    # Ids tell the place: none of those that the account began with is missing.
    for path, prefix in (("users", "PUSR"), ("schedules", "PSCH"), ("escalation_policies", "PESC")):
        places = sorted(int(identifier.removeprefix(prefix), 36) for identifier in found[path])
        assert places == list(range(len(places))), path
        assert len(places) >= {"users": SIZE.users, "schedules": SIZE.schedules}.get(path, SIZE.policies)
    for path in ("oncalls", "v3/schedules"):
        rows = [json.dumps(row, sort_keys=True) for row in client.iter_all(path, page_size=100)]
        assert rows
        assert len(rows) == len(set(rows)), path


def walked(client: Any, path: str, since: float, until: float) -> list[dict[str, Any]]:
    """All rows of a window, halved until each half can be paged through; windows end a second before the next begins."""
    window = {"since": iso(since), "until": iso(until)}
    count = (
        client.get(path, params={**window, "limit": 1, "total": "true"}).json().get("total")
        if until - since < LONGEST
        else None
    )
    if count is None or count > MOST:
        middle = (since + until) // 2
        return walked(client, path, since, middle) + walked(client, path, middle + 1, until)
    rows = list(client.iter_all(path, params=window, page_size=100))
    assert len(rows) == count
    return rows


def test_the_client_reads_eighty_thousand_incidents_by_halved_windows(account: tuple[Any, float, int, Path]) -> None:
    client, _, _, _ = account
    rows = walked(client, "incidents", END - 366 * DAY, END + DAY)
    assert sorted(row["incident_number"] for row in rows) == list(range(1, SIZE.incidents + 1))


def test_the_client_reads_the_changes_of_the_year(account: tuple[Any, float, int, Path]) -> None:
    client, _, _, _ = account
    rows = walked(client, "change_events", END - 366 * DAY, END + DAY)
    assert len({row["id"] for row in rows}) == len(rows) == SIZE.changes


def test_a_day_of_log_entries_is_read_to_its_end(account: tuple[Any, float, int, Path]) -> None:
    client, _, _, _ = account
    day = dt.datetime.fromisoformat("2026-10-06T00:00:00+00:00").timestamp()
    rows = walked(client, "log_entries", day, day + DAY - 1)
    assert len({row["id"] for row in rows}) == len(rows) > 2000
    for row in rows[:3]:
        assert client.rget(f"log_entries/{row['id']}")["created_at"] == row["created_at"]
