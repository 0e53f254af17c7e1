"""Whoever was planted to be woken most is found, with their share, and nobody where nothing is planted; and PagerDuty's own
counting of the same comes to the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest

from integrations.pagerduty.analysis import log_reading, reading
from integrations.pagerduty.analysis.incidents import Chosen, Incident, Log, log_of
from integrations.pagerduty.analysis.load import Duty, Load, PersonLoad, load
from integrations.pagerduty.analysis.model import Account, Span
from integrations.pagerduty.sandbox import documents, render_v3
from integrations.pagerduty.sandbox.render import final_shifts
from integrations.pagerduty.sandbox.world import World, generate, iso
from tests.integrations.conftest import NOW, Ask

Row = dict[str, Any]
DAY: Final = 86_400
END: Final = int(NOW.timestamp())
YEAR: Final = Span(END - 365 * DAY, END)
PLANTED: Final = (("demo", 7), ("demo", 3))
NOTHING: Final = (("clean", 7), ("null", 3))
"""Kinds and seeds."""
METRICS: Final = {
    "total_interruptions": "interruptions",
    "total_business_hour_interruptions": "business",
    "total_off_hour_interruptions": "off",
    "total_sleep_hour_interruptions": "sleep",
    "total_seconds_on_call_level_1": "level_1",
}
"""What PagerDuty's analytics call what is counted here alike."""


@cache
def world(kind: str, seed: int) -> World:
    return generate(seed, NOW, kind=kind)


@cache
def log(kind: str, seed: int) -> Log:
    """Read from documents: of the first world from those of all incidents and log entries, of the others, which are as many
    again, from those of the notifications."""
    of, every = world(kind, seed), (kind, seed) == PLANTED[0]

    def rows() -> Iterator[Incident]:
        for one in of.incidents:
            steps = [
                step
                for happening in one.happenings()
                if every or happening.type == "notify"
                for step in log_reading.steps(documents.entry_document(of, one, happening))
            ]
            document = documents.incident_document(of, one) if every else {"id": one.id, "created_at": iso(one.created)}
            yield log_reading.with_steps(log_reading.incident(document), steps)

    return log_of(rows())


@cache
def account(kind: str, seed: int) -> Account:
    of = world(kind, seed)
    schedules = [reading.schedule(row) for row in of.schedules]
    policies = [reading.policy(row) for row in of.policies]
    people = [reading.person(documents.user_document(of, place)) for place in range(len(of.users))]
    services = [reading.service(row) for row in of.services]
    return Account(
        {each.id: each for each in schedules},
        {each.id: each for each in policies},
        {each.id: each for each in services},
        {each.id: each for each in people},
    )


@cache
def duties(kind: str, seed: int, window: Span = YEAR) -> tuple[Duty, ...]:
    """Who was on call, as the schedules are rendered by code that the analysis does not know."""
    of = world(kind, seed)
    schedules = {row["id"]: row for row in (*of.schedules, *of.v3)}
    shifts: dict[str, list[tuple[float, float, str]]] = {}
    for id, row in schedules.items():
        render = render_v3.on_call if row["type"] == "schedule_v3" else final_shifts
        shifts[id] = [(start, end, user) for start, end, user in render(row, *window)]
    found = []
    for policy in of.policies:
        for level, rule in enumerate(policy["escalation_rules"], 1):
            for target in rule["targets"]:
                id = target["id"]
                if id in schedules:
                    found += [
                        Duty(int(start), int(end), user, level, id, policy["id"]) for start, end, user in shifts[id]
                    ]
                else:
                    found.append(Duty(window.start, window.end, id, level, "", policy["id"]))
    return tuple(found)


def told(kind: str, seed: int, window: Span = YEAR) -> Load:
    return load(account(kind, seed), log(kind, seed), duties(kind, seed), window, known=YEAR)


@pytest.mark.parametrize(("kind", "seed"), PLANTED)
def test_the_planted_share_of_sleep_pages_is_found(kind: str, seed: int) -> None:
    truth = world(kind, seed).planted["sleep_pages"]
    found = told(kind, seed)
    fairness = found.fairness["sleep_pages"]
    assert fairness.most is not None
    user, share = fairness.most
    assert user == truth["user_id"]
    assert abs(share - truth["share"]) < 0.01
    assert fairness.stands_out
    # Indeed they are the same pages.
    [hers] = [one for one in found.people if one.user == user]
    assert (hers.sleep_pages, sum(one.sleep_pages for one in found.people)) == (truth["pages"], truth["of"])
    assert found.people[0].user == user
    # Of a quarter of a year too; and of a month, in which her team has not been round twice, but she has every night.
    for days in (28, 90):
        recent = told(kind, seed, Span(END - days * DAY, END)).fairness["sleep_pages"]
        assert (recent.most or ("",))[0] == user
        assert recent.stands_out


@pytest.mark.parametrize(("kind", "seed"), NOTHING)
@pytest.mark.parametrize("days", [28, 90, 365])
def test_where_nothing_is_planted_nobody_stands_out(kind: str, seed: int, days: int) -> None:
    found = told(kind, seed, Span(END - days * DAY, END)).fairness
    assert not any(each.stands_out for each in found.values())
    if days == 365:
        assert found["sleep_pages"].untold == ""
        assert (found["sleep_pages"].most or ("", 1.0))[1] < 0.2


def test_pagerduty_counts_the_same(ask: Ask) -> None:
    window = Span(END - 30 * DAY, END)
    of, kind, seed = world(*PLANTED[0]), *PLANTED[0]
    for urgency in ("", "high", "low"):
        chosen = Chosen(urgency=urgency)
        mine = {
            one.user: one
            for one in load(
                account(kind, seed), log(kind, seed), duties(kind, seed), window, known=YEAR, chosen=chosen
            ).people
        }
        compared = 0
        # Those who were woken most, and some others.
        for user in [*list(mine)[:6], *list(mine)[6::5]]:
            filters: Row = {
                "date_range_start": iso(window.start),
                "date_range_end": iso(window.end),
                "responder_ids": [user],
                **({"urgency": urgency} if urgency else {}),
            }
            [row] = ask("POST", "/analytics/metrics/responders/all", {"filters": filters}).json()["data"]
            one = mine[user]
            assert {name: row[name] for name in METRICS} == {name: getattr(one, here) for name, here in METRICS.items()}
            compared += row["total_interruptions"]
            # Documented: PagerDuty's later levels include what is on the first as well, here they do not.
            both = row["total_seconds_on_call_level_1"] + row["total_seconds_on_call_level_2_plus"]
            assert one.level_2_plus == row["total_seconds_on_call_level_2_plus"] - (both - row["total_seconds_on_call"])
            # Documented: here schedules that no policy pages count, too; the world's duties hold none.
            assert one.seconds == row["total_seconds_on_call"]
            # Documented: PagerDuty's incidents are those that were somebody's, by e-mail alone and without any notice, too.
            assert one.pages <= row["total_incident_count"]
        assert (compared > 50) == (urgency != "low")
    assert of.planted["sleep_pages"]["user_id"] in mine


def test_the_recorded_metrics_are_called_the_same_and_contradict_themselves(fixtures_dir: Path) -> None:
    """PagerDuty's example of such an answer: its numbers are made up, so that nothing can be worked out again."""
    [row] = json.loads((fixtures_dir / "analytics_03_responders.json").read_text())["data"]
    assert row.keys() >= {*METRICS, "total_seconds_on_call", "total_seconds_on_call_level_2_plus"}
    assert set(METRICS.values()) <= set(PersonLoad.__dataclass_fields__)
    parts = ("business", "off", "sleep")
    assert row["total_interruptions"] != sum(row[f"total_{part}_hour_interruptions"] for part in parts)
    assert row["total_seconds_on_call"] > 2 * 2 * DAY, "of two people in two days"
