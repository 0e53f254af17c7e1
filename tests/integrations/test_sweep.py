"""The coming weeks of all that is mirrored: worked out once, and of what changed alone anew, with the same outcome."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from integrations import sweep as sweeping
from integrations.models import Connection
from integrations.pagerduty.analysis import coverage, reading, rotation
from integrations.pagerduty.analysis.model import Account, Span
from integrations.sweep import DAY, WEEKS, Sweep, sweep, swept
from tests.kept import policy, schedule, service

NOW = dt.datetime(2026, 12, 1, 13, 30, tzinfo=dt.UTC)
START = int(NOW.timestamp()) // DAY * DAY
WINDOW = Span(START, START + 60 * DAY)


def account_of(*rows: dict[str, Any]) -> Account:
    read: dict[str, Callable[[dict[str, Any]], Any]] = {
        "schedule": reading.schedule,
        "escalation_policy": reading.policy,
        "service": reading.service,
    }
    found: dict[str, dict[str, Any]] = {kind: {} for kind in read}
    for row in rows:
        found[row["type"]][row["id"]] = read[row["type"]](row)
    return Account(found["schedule"], found["escalation_policy"], found["service"])


FIRST = (
    schedule("PSCH1", users=["PUSRA", "PUSRB"], days=6),
    schedule("PSCH2", users=["PUSRC"], days=5),
    policy("PPOL1", "", "PSCH1", "PSCH2"),
    policy("PPOL2", "", "PSCH2"),
    policy("PPOL3", "", "PSCHX"),
    service("PSVC1", "PPOL1"),
    service("PSVC2", "PPOL1"),
    service("PSVC3", ""),
)


@pytest.mark.parametrize(
    "changed",
    [
        [schedule("PSCH2", users=["PUSRC"], days=6)],
        [schedule("PSCHX", users=["PUSRC"])],
        [policy("PPOL2", "", "PSCH1")],
        [policy("PPOL9", "", "PSCH1"), schedule("PSCH1", users=["PUSRA"])],
        [],
    ],
    ids=["a schedule", "one that was not known", "a policy", "both", "nothing"],
)
def test_what_is_worked_out_of_a_change_is_what_is_worked_out_of_all(changed: list[dict[str, Any]]) -> None:
    before = sweep(account_of(*FIRST), WINDOW)
    after = account_of(*FIRST, *changed)
    assert sweep(after, WINDOW, before) == sweep(after, WINDOW)
    fewer = account_of(*FIRST[1:])
    assert sweep(fewer, WINDOW, before) == sweep(fewer, WINDOW)


def test_only_what_changed_is_rendered_again(monkeypatch: pytest.MonkeyPatch) -> None:
    rendered: list[str] = []
    render = rotation.render

    def watched(each: Any, *given: Any, **more: Any) -> Any:
        rendered.append(each.id)
        return render(each, *given, **more)

    monkeypatch.setattr(coverage, "render", watched)
    before = sweep(account_of(*FIRST), WINDOW)
    assert rendered == ["PSCH1", "PSCH2"]
    sweep(account_of(*FIRST, schedule("PSCH2", days=3)), WINDOW, before)
    assert rendered[2:] == ["PSCH2"]
    # Of another day all of it is other.
    sweep(account_of(*FIRST), Span(WINDOW.start + DAY, WINDOW.end + DAY), before)
    assert rendered[3:] == ["PSCH1", "PSCH2"]


def test_load_and_services_are_told_of_the_whole_account() -> None:
    found = sweep(account_of(*FIRST), WINDOW)
    # 1 December 2026 is a Tuesday: of four weeks 24 days of six a week, 20 of five.
    assert sum(found.load.values()) == (24 + 20) * 24
    assert found.load["PUSRC"] == 20 * 24
    assert dict(found.services_of) == {"PPOL1": ("PSVC1", "PSVC2")}


@pytest.mark.django_db
def test_a_process_sweeps_once_until_the_mirror_or_the_day_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Sweep | None] = []

    def watched(account: Account, window: Span, last: Sweep | None = None) -> Sweep:
        made.append(last)
        return sweep(account, window, last)

    monkeypatch.setattr(sweeping, "sweep", watched)
    row, account = Connection(pk=uuid4()), account_of(*FIRST)
    first = swept(row, account, NOW)
    assert first.window == Span(START, START + (7 * WEEKS + 1) * DAY)
    assert swept(row, account, NOW + dt.timedelta(hours=10)) is first
    assert len(made) == 1
    assert swept(row, account, NOW + dt.timedelta(hours=11)) is not first
    moved = dataclasses.replace(account)
    assert swept(row, moved, NOW + dt.timedelta(hours=11)).account is moved
    assert len(made) == 3
    # Another connection's is its own.
    assert swept(Connection(pk=uuid4()), account, NOW).account is account
    assert made[3] is None


@pytest.mark.django_db
def test_only_the_sweeps_that_were_used_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "KEPT", 2)
    monkeypatch.setattr(sweeping, "_swept", type(sweeping._swept)())
    rows, account = [Connection(pk=uuid4()) for _ in range(3)], account_of(*FIRST)
    for row in (*rows[:2], rows[0], rows[2]):
        swept(row, account, NOW)
    assert list(sweeping._swept) == [rows[0].pk, rows[2].pk]
