"""Each rule of the review finds what is planted into the demo world, with what follows from it, and nothing else; in the worlds
with nothing planted it finds nothing."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any, Final

import pytest

from integrations.actions import do_register_token
from integrations.models import Connection
from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.coverage import render_all
from integrations.pagerduty.analysis.escalation import RULES, Finding, lint, review
from integrations.pagerduty.analysis.model import Account, Slice, Span
from integrations.pagerduty.sandbox.world import parse_time
from integrations.review import Reviewed, reviewed
from integrations.sweep import swept
from tests.conftest import Cast
from tests.integrations.test_coverage_worlds import WINDOW, account_of
from tests.integrations.test_worlds import DAY, NOW, account, seeded, told
from tests.integrations.test_worlds import Account as World
from tests.mirrored import mirrored

WEEKS: Final = Span(WINDOW.start, WINDOW.start + 84 * DAY)
"""What pages look at. No clock is changed in it."""
NOT_PLANTED: Final = {"service_without_policy", "too_many_targets"}
"""PagerDuty's schema has no such documents: these are tested by hand."""
SEEDS: Final = (7, 1, 2, 101)
Told = set[tuple[str, str]]


def world_of(kind: str, seed: int) -> World:
    return account(kind) if seed == 7 else seeded(kind, seed)


@cache
def known(kind: str, seed: int = 7) -> Account:
    """All people of the account are among its documents: whom a policy names besides was deleted."""
    found = account_of(world_of(kind, seed))
    policies = {id: reading.without_gone(policy, found.people.keys()) for id, policy in found.policies.items()}
    return replace(found, policies=policies)


@cache
def rendered(kind: str, seed: int = 7) -> Mapping[str, tuple[Slice, ...]]:
    return render_all(known(kind, seed), WINDOW)


@cache
def findings(kind: str, seed: int, window: Span) -> tuple[Finding, ...]:
    return lint(known(kind, seed), rendered(kind, seed), window)


def planted(world: World, policies_of: Mapping[str, str], window: Span) -> Told:
    """By rule and what it is about, with what follows; of gaps those in the window."""
    own, implied = told(world.truth, dict(policies_of))
    passed = {
        gap["escalation_policy_id"]
        for gap in world.truth["coverage_gaps"]
        if not any(
            parse_time(row["start"]) < window.end and parse_time(row["end"]) > window.start for row in gap["times"]
        )
    }
    return {(rule, what) for rule, what in own | implied if what not in passed}


def paged_by(known_account: Account) -> dict[str, str]:
    """The policy that pages a v3 schedule, by that."""
    return {
        target.id: policy.id
        for policy in known_account.policies.values()
        for level in policy.levels
        for target in level.targets
    }


def about(found: tuple[Finding, ...]) -> Told:
    return {(one.rule.name, one.subject[1]) for one in found}


@pytest.mark.parametrize("window", [WINDOW, WEEKS], ids=["400 days", "12 weeks"])
@pytest.mark.parametrize("seed", SEEDS)
def test_each_rule_finds_what_is_planted_and_nothing_else(seed: int, window: Span) -> None:
    wanted = planted(world_of("demo", seed), paged_by(known("demo", seed)), window)
    assert about(findings("demo", seed, window)) == wanted


def test_a_gap_when_clocks_are_changed_is_found_in_a_window_that_holds_it_and_in_no_other() -> None:
    (gap,) = (row for row in account("demo").truth["coverage_gaps"] if row["what"] == "clock_change")
    policy = gap["escalation_policy_id"]
    assert ("nobody_on_call", policy) in about(findings("demo", 7, WINDOW))
    assert policy not in {one.policy_id for one in findings("demo", 7, WEEKS)}


def test_every_rule_is_planted_but_those_that_the_schema_cannot_say() -> None:
    rules = {row["rule"] for row in account("demo").truth["policy_defects"]}
    assert rules == RULES.keys() - NOT_PLANTED


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ["clean", "null"])
def test_where_nothing_is_planted_nothing_is_found_and_everything_was_judged(kind: str, seed: int) -> None:
    for window in (WINDOW, WEEKS):
        found = review(known(kind, seed), rendered(kind, seed), window)
        assert len(known(kind, seed).policies) > 10
        assert found.findings == ()
        assert found.unjudged == ()


def test_the_worst_comes_first_and_everything_is_told_as_sentences() -> None:
    found = findings("demo", 7, WINDOW)
    order = [list(RULES).index(one.rule.name) for one in found]
    assert order == sorted(order)
    assert found[0].rule.severity == "critical"
    assert len({(one.policy_id, one.key) for one in found}) == len(found)
    for one in found:
        assert one.words.endswith(".")
        assert one.words[0].isupper() or one.words[0].isdigit()
        assert one.consequence.endswith(".")
        assert one.evidence
        assert all(not each.words.endswith(".") for each in one.evidence)
        assert all(change.words.endswith(".") for change in one.changes)
        assert "  " not in one.words


def test_evidence_of_a_gap_is_when_it_is() -> None:
    for gap in account("demo").truth["coverage_gaps"]:
        rule = "nobody_on_call" if gap["effective"] else "level_gap"
        (one,) = (
            one
            for one in findings("demo", 7, WINDOW)
            if (one.rule.name, one.policy_id) == (rule, gap["escalation_policy_id"])
        )
        spans = [Span(int(parse_time(row["start"])), int(parse_time(row["end"]))) for row in gap["times"]]
        ahead = [Span(max(span.start, WINDOW.start), span.end) for span in spans if span.end > WINDOW.start]
        *shown, rest = one.evidence
        assert [each.span for each in shown] == ahead[: len(shown)]
        assert rest.span is None
        assert f"{len(ahead) - len(shown)} more" in rest.words
        assert one.words.startswith(f"{len(ahead)} times, for ")


def test_what_follows_from_another_finding_says_so() -> None:
    found = findings("demo", 7, WINDOW)
    for one in found:
        if one.follows:
            causes = [
                each
                for each in found
                if each.rule.name == one.follows
                and each.policy_id == one.policy_id
                and (each.subject == one.subject or each.subject[0] != "user" or each.rule.name == "deleted_target")
            ]
            assert causes, one
    followers = {(one.rule.name, one.follows) for one in found if one.follows}
    assert {
        ("level_gap", "nobody_on_call"),
        ("level_gap", "deleted_target"),
        ("level_gap", "empty_slot"),
        ("same_person", "one_person"),
        ("no_phone", "email_only"),
        ("ladder_beyond_delay", "short_delay"),
        ("handoff_notifications_unused", "policy_without_service"),
    } <= followers


def changed(document: dict[str, Any], path: tuple[str | int, ...], before: Any, after: Any) -> dict[str, Any]:
    """The document with a value in another's place, which must be there."""
    document = copy.deepcopy(document)
    at: Any = document
    for part in path[:-1]:
        at = at[part]
    assert at[path[-1]] == before
    at[path[-1]] = after
    return document


def test_a_change_that_names_a_value_mends_what_it_is_proposed_for() -> None:
    """In PagerDuty's own document: what is proposed is put there, the document is read anew, and the finding is gone."""
    world, demo = account("demo"), known("demo")
    tried = set()
    for one in findings("demo", 7, WEEKS):
        for change in one.changes:
            if change.after is None or change.document[0] == "user":
                continue
            kind, id = change.document if change.document[0] else ("policy", one.policy_id)
            if kind == "policy":
                row = world.get(f"/escalation_policies/{id}")["escalation_policy"]
                policy = reading.policy(changed(row, change.path, change.before, change.after))
                policy = reading.without_gone(policy, demo.people.keys())
                mended = replace(demo, policies={**demo.policies, id: policy})
            else:
                assert kind == "service"
                row = world.get(f"/services/{id}")["service"]
                service = reading.service(changed(row, change.path, change.before, change.after))
                mended = replace(demo, services={**demo.services, id: service})
            after = lint(mended, rendered("demo"), WEEKS)
            assert (one.policy_id, one.key) not in {(each.policy_id, each.key) for each in after}, one.rule.name
            # Nothing is broken by it, either.
            assert about(after) < about(findings("demo", 7, WEEKS))
            tried.add(one.rule.name)
    assert tried == {
        "default_delay",
        "empty_last_level",
        "handoff_notifications_unused",
        "ladder_beyond_delay",
        "long_delay",
        "low_urgency_levels",
        "no_repeat",
        "round_robin_gap",
        "service_disabled",
        "short_delay",
    }


def test_a_review_of_some_policies_is_what_the_whole_says_of_them() -> None:
    every = findings("demo", 7, WEEKS)
    for id in known("demo").policies:
        own = lint(known("demo"), rendered("demo"), WEEKS, policy_ids=[id])
        assert own == tuple(one for one in every if one.policy_id == id)
    assert lint(known("demo"), rendered("demo"), WEEKS, policy_ids=["PNONE00"]) == ()


# Through the mirror


def connect(cast: Cast, **bounds: Any) -> Connection:
    return do_register_token(
        cast.payments, name="Main", token="y_NbAkKc66ryYTWUXYEu", kind="account", region="us", by=cast.ada, **bounds
    )


def of_mirror(connection: Connection, kind: str, now: dt.datetime = NOW) -> Reviewed:
    kept = mirrored(connection, kind, now=now)
    return reviewed(connection, swept(connection, kept.account, now), now)


def test_what_is_planted_is_found_by_the_mirror_which_knows_whom_nobody_is_any_more(cast: Cast) -> None:
    found = of_mirror(connect(cast, whole_account=True), "demo")
    assert found.window.end - found.window.start > 84 * DAY
    wanted = planted(account("demo"), paged_by(known("demo")), found.window)
    assert about(found.findings) == wanted
    assert found.muted == ()
    assert found.unjudged == ()


@pytest.mark.parametrize("kind", ["clean", "null"])
def test_nothing_is_found_by_the_mirror_of_a_world_with_nothing_planted(cast: Cast, kind: str) -> None:
    found = of_mirror(connect(cast, whole_account=True), kind)
    assert found.findings == ()
    assert found.unjudged == ()


def test_within_bounds_nothing_is_found_that_is_not_so_and_what_is_not_known_is_told(cast: Cast) -> None:
    whole = planted(account("demo"), paged_by(known("demo")), WEEKS)
    teams = [row["id"] for row in account("demo").all("/teams", "teams")]
    connection = connect(cast, whole_account=False, team_ids=teams[:2])
    found = of_mirror(connection, "demo")
    assert 5 < len(about(found.findings)) < len(whole)
    assert about(found.findings) <= whole
    # Of people outside of the bounds neither contact methods nor rules are known.
    assert any("not known" in each.words for each in found.unjudged)
    assert {each.subject[0] for each in found.unjudged} >= {"user"}
