"""What is planted into the demo world is found from PagerDuty's answers alone, and nothing is found where nothing is planted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Final

import pytest

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.coverage import Hole, gaps, holes, render_all, service_holes, standing
from integrations.pagerduty.analysis.model import Account, Layer, Schedule, Span
from integrations.pagerduty.analysis.paging import who_is_paged
from integrations.pagerduty.analysis.relief import candidates, duties
from integrations.pagerduty.sandbox.world import iso, parse_time
from tests.integrations.test_worlds import DAY, NOW, account
from tests.integrations.test_worlds import Account as World

SINCE: Final = int(NOW.timestamp())
WINDOW: Final = Span(SINCE, SINCE + 400 * DAY)
"""What the truth tells of, from now on."""


@cache
def known(kind: str) -> Account:
    return account_of(account(kind))


def account_of(world: World) -> Account:
    """An account as it is read of the REST API's answers, in the parts that on-call hangs on."""
    window = f"since={iso(WINDOW.start - 14 * DAY)}&until={iso(WINDOW.end)}"
    schedules = []
    for row in world.all("/schedules?include[]=schedule_layers", "schedules"):
        document = world.get(f"/schedules/{row['id']}?time_zone={row['time_zone']}")
        overrides = world.get(f"/schedules/{row['id']}/overrides?{window}")["overrides"]
        schedules.append(reading.schedule(document, overrides))
    for row in world.all("/v3/schedules", "schedules"):
        path = f"/v3/schedules/{row['id']}"
        document = world.get(path)["schedule"]
        parts = {name: world.all(f"{path}/{name}?{window}", name) for name in ("custom_shifts", "overrides")}
        schedules.append(reading.schedule({**document, **parts}))
    policies = [reading.policy(row) for row in world.all("/escalation_policies", "escalation_policies")]
    services = [reading.service(row) for row in world.all("/services", "services")]
    whole = "/users?include[]=contact_methods&include[]=notification_rules"
    people = [reading.person(row) for row in world.all(whole, "users")]
    return Account(
        {each.id: each for each in schedules},
        {each.id: each for each in policies},
        {each.id: each for each in services},
        {each.id: each for each in people},
        {row["id"]: row["name"] for row in world.all("/teams", "teams")},
    )


@cache
def found(kind: str) -> Mapping[str, tuple[Hole, ...]]:
    """By escalation policy, where there are any."""
    rendered = render_all(known(kind), WINDOW)
    assert rendered.keys() == known(kind).schedules.keys()
    every = {policy.id: holes(policy, rendered, WINDOW) for policy in known(kind).policies.values()}
    return {id: each for id, each in every.items() if each}


def test_the_planted_gaps_are_found_to_the_second_and_told_apart_and_there_are_no_others() -> None:
    planted = {}
    for gap in account("demo").truth["coverage_gaps"]:
        spans = [Span(int(parse_time(row["start"])), int(parse_time(row["end"]))) for row in gap["times"]]
        ahead = tuple(Span(max(span.start, SINCE), span.end) for span in spans if span.end > SINCE)
        planted[gap["escalation_policy_id"]] = (gap["effective"], ahead)
    told = {}
    for id, every in found("demo").items():
        assert {hole.kind for hole in every} in ({"nobody"}, {"lower"})
        told[id] = (every[0].kind == "nobody", tuple(hole.span for hole in every))
    # An empty slot of a rotation is planted, too, as a defect of its own. Level 2 has somebody in it.
    (slot,) = (row for row in account("demo").truth["policy_defects"] if row["rule"] == "empty_slot")
    (with_slot,) = known("demo").schedules[slot["schedule_id"]].policy_ids
    effective, empty = told.pop(with_slot)
    assert not effective
    assert empty == gaps(render_all(known("demo"), WINDOW)[slot["schedule_id"]], WINDOW)
    assert told == planted
    assert sorted(effective for effective, _ in told.values()) == [False, True, True]
    lower = [hole for every in found("demo").values() for hole in every if hole.kind == "lower"]
    assert {(hole.levels, hole.reached) for hole in lower} == {((1,), 2)}
    assert not any(hole.unknown for every in found("demo").values() for hole in every)


@pytest.mark.parametrize("kind", ["clean", "null"])
def test_where_nothing_is_planted_there_is_no_hole(kind: str) -> None:
    assert len(known(kind).policies) > 10
    assert found(kind) == {}


def test_services_have_the_holes_of_their_policies_and_a_disabled_one_has_none() -> None:
    demo = known("demo")
    told = service_holes(demo, render_all(demo, WINDOW), WINDOW)
    assert told.keys() == demo.services.keys()
    for service in demo.services.values():
        wanted = () if service.status == "disabled" else found("demo").get(service.policy_id, ())
        assert told[service.id] == wanted
    assert sorted({standing(demo, service) for service in demo.services.values()}) == ["disabled", "watched"]


def test_at_a_planted_gap_nobody_is_paged_and_a_minute_before_somebody_is() -> None:
    demo = known("demo")
    for id, every in found("demo").items():
        hole = every[0]
        before, inside = (who_is_paged(demo, id, at) for at in (hole.span.start - 60, hole.span.start))
        assert before.steps[0].reached
        assert not inside.steps[0].reached
        assert bool(inside.nobody) == (hole.kind == "nobody")
        assert bool(inside.told_within(0)) == (hole.kind == "lower")


def test_for_a_planted_gap_there_is_somebody_who_could_take_it() -> None:
    demo = known("demo")
    rendered = render_all(demo, WINDOW)
    busy = duties(rendered)
    for id, every in found("demo").items():
        schedule = demo.policies[id].levels[0].targets[0].id
        for hole in every[1:5]:
            best = candidates(demo, schedule, hole.span, rendered, load={}, busy=busy)[0]
            assert best.free
            assert not any(
                one.user == best.user and one.start < hole.span.end and one.end > hole.span.start
                for slices in rendered.values()
                for one in slices
            )


def test_who_is_paged_is_who_pagerduty_says_is_on_call() -> None:
    """Level by level, for every policy, at moments over a fortnight: what ``/oncalls`` answers."""
    world, demo = account("demo"), known("demo")
    for hours in (0, 31, 102, 250):
        at = SINCE + hours * 3600
        oncalls = world.all(f"/oncalls?since={iso(at)}&until={iso(at + 1)}", "oncalls")
        theirs: dict[tuple[str, int], set[str]] = {}
        for row in oncalls:
            level = row["escalation_policy"]["id"], row["escalation_level"]
            theirs.setdefault(level, set()).add(row["user"]["id"])
        for policy in demo.policies.values():
            # Without delays all levels are come to at once.
            hurried = dataclasses.replace(
                policy, loops=0, levels=tuple(dataclasses.replace(level, delay=0) for level in policy.levels)
            )
            paged = who_is_paged(dataclasses.replace(demo, policies={policy.id: hurried}), policy.id, at)
            for step in paged.steps:
                ours = {one.user for one in step.reached} & demo.people.keys()
                assert ours == theirs.get((policy.id, step.level), set()), (policy.name, step.level, iso(at))


def test_one_schedule_of_bad_data_breaks_no_other() -> None:
    demo = known("demo")
    id = next(iter(demo.schedules))
    worst = (
        Layer("", "", 10**18, -(10**18), 0, 0, ("",)),
        Layer("", "", 0, None, 10**15, 3600, ("PA",)),
    )
    broken = Schedule(id, "\x00", "v2", "Nowhere/At_All", worst)
    spoilt = dataclasses.replace(demo, schedules={**demo.schedules, id: broken})
    good, bad = render_all(demo, WINDOW), render_all(spoilt, WINDOW)
    assert {other: slices for other, slices in bad.items() if other != id} == {
        other: slices for other, slices in good.items() if other != id
    }
    for policy in demo.policies.values():
        names_it = any(target.id == id for level in policy.levels for target in level.targets)
        told = holes(policy, bad, WINDOW)
        assert names_it or told == holes(policy, good, WINDOW)


def test_a_schedule_of_which_nothing_is_known_is_unknown_and_not_empty() -> None:
    listed = reading.schedule({"id": "PSX", "type": "schedule", "name": "Listed", "time_zone": "UTC"})
    empty = reading.schedule(
        {"id": "PSY", "type": "schedule", "name": "Empty", "time_zone": "UTC", "schedule_layers": []}
    )
    assert render_all(Account({"PSX": listed, "PSY": empty}), WINDOW) == {"PSY": ()}
