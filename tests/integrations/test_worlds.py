"""The generated worlds: what is planted is there, read from the sandbox's own answers, and is nowhere else."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final
from urllib.parse import quote
from zoneinfo import ZoneInfo

import httpx
import pytest

from integrations.pagerduty.resolve import match
from integrations.pagerduty.sandbox import hostile
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.ask import GATED, ROUTES
from integrations.pagerduty.sandbox.truth import truth
from integrations.pagerduty.sandbox.world import KINDS, SIZES, demo_from_email, demo_tokens, iso, parse_time
from tests.calls import calls as all_calls
from tests.published_schema import problems

ROOT = Path(__file__).resolve().parents[2]
NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
DAY, HOUR = 86_400, 3600
YEAR_AGO = NOW.timestamp() - 365 * DAY
Span = tuple[float, float]
Row = dict[str, Any]


class Account:
    """A world, and what its answers say."""

    def __init__(self, kind: str, seed: int = 7, size: str = "demo") -> None:
        self.sandbox = Sandbox(seed, NOW, kind=kind, size=size)
        self.truth: Row = truth(self.sandbox.world)["planted"]
        self._tokens = demo_tokens(seed)

    def call(self, method: str, path: str, body: Any = None, sender: str = "account") -> httpx.Response:
        async def ask() -> httpx.Response:
            headers = {"Authorization": f"Token token={self._tokens[sender].value}", "From": demo_from_email(7)}
            transport = httpx.ASGITransport(self.sandbox)
            async with httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=headers) as client:
                return await client.request(method, path, json=body)

        return asyncio.run(ask())

    def get(self, path: str) -> Any:
        answer = self.call("GET", path)
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def all(self, path: str, name: str) -> list[Row]:
        rows: list[Row] = []
        more = True
        while more:
            page = self.get(f"{path}{'&' if '?' in path else '?'}limit=100&offset={len(rows)}")
            rows += page[name]
            more = page["more"]
        return rows


@cache
def account(kind: str) -> Account:
    return Account(kind)


@cache
def incidents(kind: str) -> list[Row]:
    return account(kind).all("/incidents?date_range=all", "incidents")


@cache
def incident(kind: str, identifier: str) -> Row:
    return next(row for row in incidents(kind) if row["id"] == identifier)


@cache
def entries(kind: str) -> dict[str, list[Row]]:
    """Log entries of the year by incident, the oldest first."""
    found: dict[str, list[Row]] = defaultdict(list)
    step = 4 * DAY
    for number in range(92):
        since, until = YEAR_AGO - DAY + number * step, YEAR_AGO - DAY + (number + 1) * step - 1
        for row in account(kind).all(f"/log_entries?since={iso(since)}&until={iso(until)}", "log_entries"):
            found[row["incident"]["id"]].append(row)
    return {identifier: rows[::-1] for identifier, rows in found.items()}


def created(row: Row) -> float:
    return parse_time(row["created_at"])


# Kinds, sizes, bytes


@pytest.mark.parametrize(
    ("kind", "size"),
    [*((kind, "demo") for kind in KINDS if kind != "demo"), ("demo", "stress"), ("null", "stress")],
)
def test_every_operation_answers_by_the_schema_in_every_world(kind: str, size: str, schema_dir: Path) -> None:
    asked = Account(kind, size=size)
    wrong, refused = {}, set()
    for name, (method, path, body) in all_calls(asked.sandbox.world).items():
        answer = asked.call(method, path, body, "user_manager" if path == "/users/me" else "account")
        found = match(method, path.partition("?")[0])
        assert found is not None
        if answer.status_code == 402:
            refused.add((method, found[0].path))
            continue
        assert answer.is_success, (name, answer.text)
        shown = answer.json() if answer.content else None
        if faults := problems(schema_dir, method, found[0].path, answer.status_code, shown):
            wrong[name] = faults[:3]
    assert wrong == {}
    assert refused == (GATED if kind == "plan_gated" else set())


@pytest.mark.parametrize("kind", KINDS)
def test_every_world_has_the_size_that_it_promises(kind: str) -> None:
    world, size = account(kind).sandbox.world, SIZES["demo"]
    extra = 0 if kind in ("clean", "null") else 1
    assert (len(world.teams), len(world.services), len(world.business)) == (size.teams, size.services, size.business)
    assert (len(world.incidents), len(world.changes), len(world.edges)) == (4800, 1500, 75)
    # v3 schedules bring a policy each, and defects bring people, schedules and policies of their own.
    counts = (len(world.users) - size.users, len(world.schedules) - size.schedules, len(world.policies) - size.policies)
    assert counts == ((0, 0, 4) if not extra else (8, 14, 25))
    assert len(set(world.edges)) == len(world.edges)
    total = sum(len(row.happenings()) for row in world.incidents)
    assert 12 < total / len(world.incidents) < 13.2
    statuses = Counter(row.status for row in world.incidents)
    assert (statuses["triggered"], statuses["acknowledged"]) == (25, 25)


DIGEST = """
import datetime as dt, hashlib, sys
from integrations.pagerduty.sandbox.world import generate
for kind in sys.argv[2:]:
    world = generate(int(sys.argv[1]), dt.datetime(2026, 11, 23, 12, 40, tzinfo=dt.UTC), kind=kind)
    print(hashlib.sha256(repr(world).encode()).hexdigest())
"""


def digests(seed: int, hashing: str, kinds: Iterable[str]) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hashing, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", DIGEST, str(seed), *kinds]
    return subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


def test_the_same_seed_gives_the_same_bytes_in_every_process_and_another_seed_does_not() -> None:
    found = digests(7, "1", KINDS)
    assert found == digests(7, "2", KINDS)
    assert len(set(found)) == len(KINDS)
    assert digests(8, "1", ["demo"])[0] not in found


def test_log_entries_are_found_by_their_id_alone() -> None:
    demo = account("demo")
    for place in (0, 777, 4799):
        row = demo.sandbox.world.incidents[place]
        listed = demo.all(f"/incidents/{row.id}/log_entries", "log_entries")
        assert len(listed) == len(row.happenings()) == len({entry["id"] for entry in listed})
        for entry in listed:
            assert demo.get(f"/log_entries/{entry['id']}")["log_entry"] == entry


def test_the_newest_log_entries_come_first_with_a_total_or_without() -> None:
    demo = account("demo")
    whole = demo.get("/log_entries?limit=100&offset=300&total=true")
    assert whole["total"] > 4000
    assert demo.get("/log_entries?limit=100&offset=300")["log_entries"] == whole["log_entries"]
    times = [created(row) for row in whole["log_entries"]]
    assert times == sorted(times, reverse=True)


# Configuration


def covered(spans: Iterable[Span], since: float, until: float) -> list[Span]:
    """What is missing of a window."""
    missing, at = [], since
    for low, high in sorted(spans):
        if low > at:
            missing.append((at, low))
        at = max(at, high)
    return [*missing, (at, until)] if at < until else missing


class Lint:
    """Findings on the answers alone. The second way to what ``truth.json`` says."""

    SINCE, UNTIL = NOW.timestamp() + DAY, NOW.timestamp() + 375 * DAY

    def __init__(self, asked: Account) -> None:
        self.asked = asked
        self.users = {
            row["id"]: row
            for row in asked.all("/users?include[]=contact_methods&include[]=notification_rules", "users")
        }
        self.services = asked.all("/services", "services")
        self.policies = asked.all("/escalation_policies", "escalation_policies")
        self.schedules = {row["id"]: row for row in asked.all("/schedules", "schedules")}
        self.v3 = {row["id"]: row for row in asked.all("/v3/schedules", "schedules")}
        self.found: set[tuple[str, str]] = set()

    @cache  # noqa: B019  (an account's, and it lives as long)
    def shifts(self, target: str) -> list[tuple[float, float, str]]:
        """Start, end, user; a person is always on call, and one who left never."""
        if target in self.users:
            return [(self.SINCE, self.UNTIL, target)]
        window = f"since={iso(self.SINCE)}&until={iso(self.UNTIL)}"
        if target in self.v3:
            shown = self.asked.get(f"/v3/schedules/{target}?include[]=final_schedule&{window}")["schedule"]
            return [
                (parse_time(row["start_time"]), parse_time(row["end_time"]), row["member"]["user_id"])
                for row in shown["final_schedule"]["computed_shift_assignments"]
                if row["member"]["type"] == "user_member"
            ]
        if target not in self.schedules:
            return []
        shown = self.asked.get(f"/schedules/{target}?{window}")["schedule"]
        return [
            (parse_time(row["start"]), parse_time(row["end"]), row["user"]["id"])
            for row in shown["final_schedule"]["rendered_schedule_entries"]
        ]

    def level(self, rule: Row) -> list[tuple[float, float, str]]:
        return [shift for target in rule["targets"] for shift in self.shifts(target["id"])]

    def gaps(self, shifts: Iterable[tuple[float, float, str]]) -> list[Span]:
        return covered([(low, high) for low, high, _ in shifts], self.SINCE, self.UNTIL)

    def run(self) -> set[tuple[str, str]]:
        used = {target["id"] for row in self.policies for rule in row["escalation_rules"] for target in rule["targets"]}
        for policy in self.policies:
            self._policy(policy)
        for identifier in used & set(self.users):
            self._user(self.users[identifier])
        for service in self.services:
            if service["status"] == "disabled":
                self.found.add(("service_disabled", service["id"]))
            policy = next(row for row in self.policies if row["id"] == service["escalation_policy"]["id"])
            if service["incident_urgency_rule"]["urgency"] == "low" and len(policy["escalation_rules"]) > 1:
                self.found.add(("low_urgency_levels", service["id"]))
        for identifier in set(self.schedules) | set(self.v3):
            if identifier not in used:
                self.found.add(("schedule_without_policy", identifier))
        for identifier in self.v3:
            if "empty_member" in json.dumps(self.asked.get(f"/v3/schedules/{identifier}")):
                self.found.add(("empty_slot", identifier))
        return self.found

    def _policy(self, policy: Row) -> None:
        rules = policy["escalation_rules"]
        levels = [self.level(rule) for rule in rules]

        def add(rule: str, what: str = policy["id"]) -> None:
            self.found.add((rule, what))

        if self.gaps(shift for level in levels for shift in level):
            add("nobody_on_call")
        if any(self.gaps(level) for level in levels):
            add("level_gap")
        for name, wrong in {
            "single_level": len(rules) < 2,
            "no_repeat": policy["num_loops"] == 0,
            "long_delay": any(rule["escalation_delay_in_minutes"] > 30 for rule in rules),
            "short_delay": any(rule["escalation_delay_in_minutes"] < 5 for rule in rules),
            "user_at_first_level": any(target["id"] in self.users for target in rules[0]["targets"]),
            "too_many_levels": len(rules) > 20,
            "team_count": len(policy["teams"]) != 1,
            "policy_without_service": not policy["services"],
            "handoff_notifications_unused": not policy["services"]
            and policy["on_call_handoff_notifications"] == "if_has_services",
            "empty_last_level": policy["num_loops"] == 0 and bool(self.gaps(levels[-1])),
            "default_delay": all(rule["escalation_delay_in_minutes"] == 30 for rule in rules),
            "ladder_beyond_delay": any(
                self._last(user) >= rule["escalation_delay_in_minutes"]
                for rule, level in zip(rules, levels, strict=True)
                for _, _, user in level
            ),
            "one_person": len(rules) > 1 and len({user for level in levels for _, _, user in level}) == 1,
            "same_person": any(self._together(one, other) for one, other in pairwise(levels)),
        }.items():
            if wrong:
                add(name)
        for rule in rules:
            targets = [target["id"] for target in rule["targets"]]
            for target in targets:
                if target not in self.users and target not in self.schedules and target not in self.v3:
                    add("deleted_target", target)
                if rule["escalation_rule_assignment_strategy"] == "round_robin" and self.gaps(self.shifts(target)):
                    add("round_robin_gap", target)

    @staticmethod
    def _together(one: list[tuple[float, float, str]], other: list[tuple[float, float, str]]) -> bool:
        by_user: dict[str, list[Span]] = defaultdict(list)
        for low, high, user in other:
            by_user[user].append((low, high))
        return any(low < b and a < high for low, high, user in one for a, b in by_user[user])

    def _last(self, user: str) -> int:
        """Minutes until the last notification for high urgency."""
        rules = self.users[user]["notification_rules"] if user in self.users else []
        return max((rule["start_delay_in_minutes"] for rule in rules if rule["urgency"] == "high"), default=-1)

    def _user(self, user: Row) -> None:
        kinds = {method["type"].split("_")[0] for method in user["contact_methods"]}
        high = [rule for rule in user["notification_rules"] if rule["urgency"] == "high"]
        for name, wrong in {
            "no_contact_method": not kinds,
            "invitation_pending": user["invitation_sent"],
            "email_only": kinds == {"email"},
            "no_phone": "phone" not in kinds,
            "no_high_urgency_rule": not high,
            "one_notification_rule": len(high) < 2,
            "no_notification_delay": all(rule["start_delay_in_minutes"] == 0 for rule in high),
        }.items():
            if wrong:
                self.found.add((name, user["id"]))


ABOUT: Final = {
    "schedule_without_policy": "schedule_id",
    "empty_slot": "schedule_id",
    "round_robin_gap": "schedule_id",
    "service_disabled": "service_id",
    "low_urgency_levels": "service_id",
}
OF_USERS: Final = ("deleted_target", "no_contact_method", "email_only", "no_phone", "no_high_urgency_rule")
OF_USERS_TOO: Final = ("one_notification_rule", "no_notification_delay", "invitation_pending")


def told(planted: Row, policies: dict[str, str]) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """What was planted, and with what follows from it. ``policies``: by the v3 schedule that they page."""
    own, implied = set(), set()
    for row in planted["policy_defects"]:
        rule = row["rule"]
        field = "user_id" if rule in (*OF_USERS, *OF_USERS_TOO) else ABOUT.get(rule, "escalation_policy_id")
        own.add((rule, row[field]))
        for other in row.get("implies", ()):
            what = row[field] if other in (*OF_USERS, *OF_USERS_TOO) else row.get("escalation_policy_id")
            implied.add((other, what or policies[row["schedule_id"]]))
    return own, implied


def test_the_defects_of_the_demo_world_are_those_of_the_truth_and_no_others() -> None:
    lint = Lint(account("demo"))
    found = lint.run()
    pages = {
        target["id"]: policy["id"]
        for policy in lint.policies
        for rule in policy["escalation_rules"]
        for target in rule["targets"]
        if target["id"] in lint.v3
    }
    own, implied = told(account("demo").truth, pages)
    assert own <= found
    assert found <= own | implied
    rules = Counter(rule for rule, _ in own)
    assert rules.pop("nobody_on_call") == 2
    assert set(rules.values()) == {1}


@pytest.mark.parametrize("kind", ["clean", "null"])
def test_nothing_is_wrong_in_a_world_without_defects(kind: str) -> None:
    assert Lint(account(kind)).run() == set()
    assert account(kind).truth == {}


def test_the_gaps_are_when_the_truth_says() -> None:
    demo = account("demo")
    lint = Lint(demo)
    effective = []
    for gap in demo.truth["coverage_gaps"]:
        policy = demo.get(f"/escalation_policies/{gap['escalation_policy_id']}")["escalation_policy"]
        levels = [lint.level(rule) for rule in policy["escalation_rules"]]
        together = lint.gaps(shift for level in levels for shift in level)
        seen = together if gap["effective"] else lint.gaps(levels[0])
        assert gap["effective"] or not together
        wanted = [(parse_time(row["start"]), parse_time(row["end"])) for row in gap["times"]]
        assert seen == [span for span in wanted if span[1] > lint.SINCE and span[0] < lint.UNTIL]
        effective.append(gap["effective"])
        if gap["what"] == "sunday":
            for low, high in seen:
                local = dt.datetime.fromtimestamp(low, ZoneInfo("Europe/London"))
                assert (local.isoweekday(), local.hour) == (7, 2)
                assert dt.datetime.fromtimestamp(high, ZoneInfo("Europe/London")).hour == 6
        if gap["what"] == "clock_change":
            assert {high - low for low, high in seen} == {HOUR}
            assert {dt.datetime.fromtimestamp(low, dt.UTC).month for low, _ in seen} <= {3, 10, 11}
            assert 20 < len(seen) < 32
    assert sorted(effective) == [False, True, True]


# Dependencies


def graph(kind: str) -> dict[str, set[str]]:
    """What each service depends on, asked of each service in turn."""
    asked = account(kind)
    found: dict[str, set[str]] = defaultdict(set)
    for plural, path in (("services", "technical"), ("business_services", "business")):
        for service in asked.all(f"/{plural}", plural):
            for row in asked.get(f"/service_dependencies/{path}_services/{service['id']}")["relationships"]:
                found[row["dependent_service"]["id"]].add(row["supporting_service"]["id"])
    return found


def below(edges: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    left = [start]
    while left:
        fresh = edges.get(left.pop(), set()) - seen
        seen |= fresh
        left += fresh
    return seen


def cut_off(edges: dict[str, set[str]], without: str) -> set[str]:
    """What is no longer linked with most of the account once a service is gone; links are walked both ways."""
    links: dict[str, set[str]] = defaultdict(set)
    for upper, lowers in edges.items():
        for lower in lowers:
            if without not in (upper, lower):
                links[upper].add(lower)
                links[lower].add(upper)
    parts, seen = [], {without}
    for start in links:
        if start not in seen:
            parts.append(below(links, start) | {start})
            seen |= parts[-1]
    everything = set(edges) | {lower for lowers in edges.values() for lower in lowers}
    return everything - {without} - max(parts, key=len)


def test_the_graph_has_one_circle_and_one_service_that_cuts_others_off() -> None:
    edges, planted = graph("demo"), account("demo").truth["dependencies"]
    assert {node for node in edges if node in below(edges, node)} == set(planted["cycle"])
    cuts = {node: cut for node in list(edges) if (cut := cut_off(edges, node))}
    single = planted["single_point_of_failure"]
    assert cuts == {single["service_id"]: set(single["cuts_off"])} or single["service_id"] not in edges
    assert cut_off(edges, single["service_id"]) == set(single["cuts_off"])


@pytest.mark.parametrize("kind", ["clean", "null"])
def test_no_circle_and_no_single_point_of_failure_without_defects(kind: str) -> None:
    edges = graph(kind)
    nodes = set(edges) | {lower for lowers in edges.values() for lower in lowers}
    assert sum(map(len, edges.values())) == 75
    assert not any(node in below(edges, node) for node in nodes)
    assert not any(cut_off(edges, node) for node in nodes)


def near(kind: str, one: str, other: str, seconds: float) -> int:
    """How often an incident of one service follows, or goes before, one of another so closely."""
    times = defaultdict(list)
    for row in incidents(kind):
        times[row["service"]["id"]].append(created(row))
    return sum(any(abs(at - to) <= seconds for to in times[other]) for at in times[one])


def test_two_services_fail_together_that_nothing_links() -> None:
    planted = account("demo").truth["dependencies"]["undocumented"]
    upper, lower = planted["dependent_service_id"], planted["supporting_service_id"]
    edges = graph("demo")
    assert lower not in below(edges, upper)
    assert upper not in below(edges, lower)
    for first, second in planted["incident_ids"]:
        a, b = incident("demo", first), incident("demo", second)
        assert (a["service"]["id"], b["service"]["id"]) == (lower, upper)
        assert 0 < created(b) - created(a) < 300
    assert near("demo", upper, lower, 300) >= len(planted["incident_ids"]) == 12
    assert near("clean", upper, lower, 300) < 4


# Patterns of the year


def episodes(rows: Iterable[Row]) -> list[list[Row]]:
    """Runs of four or more trigger-to-resolve cycles of one key within an hour."""
    runs: list[list[Row]] = []
    by_key: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["status"] == "resolved":
            by_key[f"{row['service']['id']} {row['incident_key']}"].append(row)
    for group in by_key.values():
        run: list[Row] = []
        for row in group:
            if run and created(row) - created(run[0]) > HOUR:
                runs.append(run)
                run = []
            run.append(row)
        runs.append(run)
    return [run for run in runs if len(run) > 3]


def test_the_disk_alert_flaps_in_nine_episodes() -> None:
    found = episodes(incidents("demo"))
    wanted = account("demo").truth["flapping"]["episodes"]
    assert [[row["id"] for row in run] for run in found] == [episode["incident_ids"] for episode in wanted]
    assert len(found) == 9
    assert all(6 <= len(run) <= 12 for run in found)
    assert all(parse_time(row["resolved_at"]) - created(row) < 180 for run in found for row in run)
    assert not episodes(incidents("clean"))
    assert not episodes(incidents("null"))


def test_the_cascade_runs_up_seven_times_and_its_root_is_silent_twice() -> None:
    planted = account("demo").truth["cascade"]
    base, api, top = planted["service_ids"]
    edges = graph("demo")
    assert api in edges[top]
    assert base in edges[api]
    assert len(planted["times"]) == 7
    assert sum(row["root_silent"] for row in planted["times"]) == 2
    for fall in planted["times"]:
        rows = [incident("demo", identifier) for identifier in fall["incident_ids"]]
        assert [row["service"]["id"] for row in rows] == ([api, top] if fall["root_silent"] else [base, api, top])
        assert [created(row) for row in rows] == sorted(created(row) for row in rows)
        assert created(rows[-1]) - created(rows[0]) < 300
        if fall["root_silent"]:
            around = [row for row in incidents("demo") if row["service"]["id"] == base]
            assert not any(abs(created(row) - created(rows[0])) < 300 for row in around)
    assert near("demo", api, base, 300) >= 5
    assert near("clean", api, base, 300) < 4


def after_changes(kind: str, service: str, times: list[float]) -> tuple[int, float]:
    """Incidents in the hour after each change, and how many the same hours of the other weeks let expect."""
    mine = [created(row) for row in incidents(kind) if row["service"]["id"] == service]
    seen = sum(0 <= at - to < HOUR for at in mine for to in times)
    slots = {
        (dt.datetime.fromtimestamp(at, dt.UTC).weekday(), dt.datetime.fromtimestamp(at, dt.UTC).hour) for at in times
    }
    others = [
        at
        for at in mine
        if (moment := dt.datetime.fromtimestamp(at, dt.UTC)).weekday() < 5
        and 8 <= moment.hour < 18
        and (moment.weekday(), moment.hour) not in slots
    ]
    hours = (50 - len(slots)) * 52
    return seen, len(others) / hours * len(times)


def changes_of(kind: str, service: str) -> list[Row]:
    asked = account(kind)
    found = []
    for number in range(5):
        since, until = YEAR_AGO + number * 80 * DAY, min(NOW.timestamp(), YEAR_AGO + (number + 1) * 80 * DAY) - 1
        window = f"since={iso(since)}&until={iso(until)}"
        found += asked.all(f"/services/{service}/change_events?{window}", "change_events")
    return sorted(found, key=lambda row: str(row["timestamp"]))


def test_deploys_on_tuesdays_are_followed_by_four_times_as_much_and_those_of_the_quiet_service_by_nothing() -> None:
    planted = account("demo").truth
    for name, count, weekday, hour in (("deploy_spike", 40, 1, 15), ("deploy_decoy", 52, 3, 10)):
        service = planted[name]["service_id"]
        listed = changes_of("demo", service)
        assert [row["id"] for row in listed] == [row["id"] for row in planted[name]["changes"]]
        times = [parse_time(row["timestamp"]) for row in listed]
        moments = [dt.datetime.fromtimestamp(at, dt.UTC) for at in times]
        assert len(times) == count
        assert {(moment.weekday(), moment.hour) for moment in moments} == {(weekday, hour)}
        seen, expected = after_changes("demo", service, times)
        # Three standard deviations of what four times (and once) as much would be.
        most = 4 if name == "deploy_spike" else 1
        assert abs(seen - most * expected) < 3 * (most * expected) ** 0.5 + 1
        if name == "deploy_spike":
            assert seen > 2 * expected
            assert set(planted[name]["incident_ids"]) <= {row["id"] for row in incidents("demo")}


def test_volume_rises_in_the_eighth_month() -> None:
    planted = account("demo").truth["volume_step"]
    step = parse_time(planted["at"])
    assert abs((step - YEAR_AGO) / DAY - 365 * 7 / 12) < 1

    def ratio(kind: str) -> float:
        times = [created(row) for row in incidents(kind)]
        day = 28 * DAY
        before, after = (sum(low <= at < low + 4 * day for at in times) for low in (step - 4 * day, step))
        return after / before

    assert 1.45 < ratio("demo") < 1.75
    assert 0.9 < ratio("clean") < 1.1
    assert 0.9 < ratio("null") < 1.1


SEEDS: Final = (1, 2, 3, 101, 102, 103)


@cache
def seeded(kind: str, seed: int) -> Account:
    return Account(kind, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_day_after_the_step_has_the_planted_times_as_much_as_a_day_before(seed: int) -> None:
    """Of everything in the account: what else is planted, and what is open."""
    asked = seeded("demo", seed)
    step, ratio = parse_time(asked.truth["volume_step"]["at"]), asked.truth["volume_step"]["ratio"]
    times = [row.created for row in asked.sandbox.world.incidents]
    before, after = (sum((at >= step) is late for at in times) for late in (False, True))
    means = before / (step - YEAR_AGO), after / (NOW.timestamp() - step)
    assert ratio == 1.6
    assert abs(means[1] / means[0] - ratio) < 0.01


def answers(kind: str) -> dict[int, list[float]]:
    """By level: minutes from the assignment to whoever acknowledged until they did."""
    found: dict[int, list[float]] = defaultdict(list)
    for identifier, rows in entries(kind).items():
        if incident(kind, identifier)["urgency"] != "high":
            continue
        assigned = [row for row in rows if row["type"] == "assign_log_entry"]
        acknowledged = [row for row in rows if row["type"] == "acknowledge_log_entry"]
        if assigned and acknowledged:
            minutes = (created(acknowledged[0]) - created(assigned[-1])) / 60
            found[len(assigned)].append(minutes)
    return found


def test_the_second_level_takes_eighteen_minutes_all_year() -> None:
    slow, usual = answers("demo"), answers("clean")
    assert abs(median(slow[2]) - 18) < 1
    assert len(slow[2]) > 200
    assert max(median(slow[1]), median(usual[1]), median(usual[2])) < 6
    quarters = defaultdict(list)
    for identifier, rows in entries("demo").items():
        assigned = [row for row in rows if row["type"] == "assign_log_entry"]
        acknowledged = [row for row in rows if row["type"] == "acknowledge_log_entry"]
        if len(assigned) == 2 and acknowledged and incident("demo", identifier)["urgency"] == "high":
            quarter = int((created(rows[0]) - YEAR_AGO) // (92 * DAY))
            quarters[quarter].append((created(acknowledged[0]) - created(assigned[1])) / 60)
    assert all(abs(median(minutes) - 18) < 2 for minutes in quarters.values())
    assert len(quarters) == 4


def sleep_pages(kind: str) -> Counter[tuple[str, int]]:
    """By user and month: who was notified otherwise than by e-mail in their own sleep hours; once for an incident."""
    zones = {row["id"]: ZoneInfo(row["time_zone"]) for row in account(kind).all("/users", "users")}
    pages: Counter[tuple[str, int]] = Counter()
    for rows in entries(kind).values():
        woken = set()
        for row in rows:
            if row["type"] != "notify_log_entry" or "email" in row["channel"]["notification"]["type"]:
                continue
            user, at = row["user"]["id"], created(row)
            hour = dt.datetime.fromtimestamp(at, zones[user]).hour
            if (hour >= 22 or hour < 8) and user not in woken:
                woken.add(user)
                pages[user, int((at - YEAR_AGO) // (365 / 12 * DAY))] += 1
    return pages


def test_priya_takes_forty_six_per_cent_of_the_pages_in_sleep_hours() -> None:
    pages = sleep_pages("demo")
    priya = account("demo").truth["sleep_pages"]["user_id"]
    share = sum(count for (user, _), count in pages.items() if user == priya) / pages.total()
    assert abs(share - 0.46) < 0.005
    told = account("demo").truth["sleep_pages"]
    assert (told["pages"], told["of"]) == (
        sum(count for (user, _), count in pages.items() if user == priya),
        pages.total(),
    )
    monthly = [
        pages[priya, month] / sum(count for (_, other), count in pages.items() if other == month) for month in range(12)
    ]
    assert all(0.25 < part < 0.65 for part in monthly)


def paged(asked: Account) -> tuple[Counter[int], Counter[int]]:
    """By user: incidents that they were notified of otherwise than by e-mail, and of which in their own sleep hours."""
    world = asked.sandbox.world
    zones = [ZoneInfo(user["time_zone"]) for user in world.users]
    all_day: Counter[int] = Counter()
    asleep: Counter[int] = Counter()
    for row in world.incidents:
        told, woken = set(), set()
        for entry in row.happenings():
            if entry.type != "notify" or entry.agent is None or "email" in entry.channel["notification"]["type"]:
                continue
            told.add(entry.agent)
            if not 8 <= dt.datetime.fromtimestamp(entry.at, zones[entry.agent]).hour < 22:
                woken.add(entry.agent)
        all_day.update(told)
        asleep.update(woken)
    return all_day, asleep


@pytest.mark.parametrize("seed", SEEDS)
def test_the_share_of_the_nights_is_the_planted_one_with_any_seed(seed: int) -> None:
    _, asleep = paged(seeded("demo", seed))
    assert abs(asleep[0] / asleep.total() - 0.46) < 0.005


@pytest.mark.parametrize("seed", SEEDS)
def test_nobody_leads_the_nights_of_the_clean_world(seed: int) -> None:
    _, asleep = paged(seeded("clean", seed))
    (_, most), (_, second), *_ = asleep.most_common()
    assert most / asleep.total() < 0.2
    assert most < 2 * second


@pytest.mark.parametrize("seed", [1, 2, 3, 101])
def test_nobody_of_the_null_world_stands_out_by_day_or_night_beyond_chance(seed: int) -> None:
    """Chi-square over the users: of a team all are paged as often, and by night as often as their zone is."""
    asked = seeded("null", seed)
    world = asked.sandbox.world
    all_day, asleep = paged(asked)
    able = {
        user: team
        for team, members in enumerate(world.members)
        for user in members
        if world.users[user]["role"] != "read_only_user"
    }
    assert set(all_day) == set(able)
    sizes, services = Counter(able.values()), Counter(row["teams"][0]["id"] for row in world.services)
    weight = {user: services[world.teams[team]["id"]] / sizes[team] for user, team in able.items()}
    zones = {user: world.users[user]["time_zone"] for user in able}
    groups: tuple[tuple[Counter[int], dict[int, str]], ...] = ((all_day, dict.fromkeys(able, "all")), (asleep, zones))
    for seen, group_of in groups:
        square = 0.0
        for group in set(group_of.values()):
            mine = [user for user in able if group_of[user] == group]
            mean = sum(seen[user] for user in mine) / sum(weight[user] for user in mine)
            for user in mine:
                expected = mean * weight[user]
                assert abs(seen[user] - expected) < 4 * expected**0.5, (user, seen[user], expected)
                square += (seen[user] - expected) ** 2 / expected
        free = len(able) - len(set(group_of.values()))
        assert square < free + 3 * (2 * free) ** 0.5
    assert max(all_day.values()) < 2 * min(all_day.values())


def test_near_twins_differ_in_a_word_and_are_of_one_service() -> None:
    planted = account("demo").truth["near_twins"]
    assert len(planted) == 6
    for pair in planted:
        titles = []
        for ids in pair["incident_ids"]:
            rows = [incident("demo", identifier) for identifier in ids]
            assert len(rows) > 5
            assert {row["service"]["id"] for row in rows} == {pair["service_id"]}
            [title] = {row["title"] for row in rows}
            titles.append(title)
        assert titles == pair["titles"]
        assert 0 < len(set(titles[0].split()) ^ set(titles[1].split())) < 8


# Plans and hostile text


def test_what_needs_a_larger_plan_is_refused_in_the_plan_gated_world_alone(schema_dir: Path) -> None:
    gated, demo = account("plan_gated"), Account("demo")
    refused = set()
    for method, path, body in all_calls(gated.sandbox.world).values():
        found = match(method, path.partition("?")[0])
        assert found is not None
        answer = gated.call(method, path, body)
        if answer.status_code == 402:
            assert answer.json()["error"] == {"message": "Account does not have the abilities", "code": 2014}
            refused.add((method, found[0].path))
        assert demo.call(method, path, body).status_code != 402
    assert refused == GATED
    published = json.loads((schema_dir / "openapi.json").read_text())["paths"]
    says = re.compile(r"Event Intelligence package|Account Ability Requirement|\"Audit Trail\" feature")
    needing = {
        (method.upper(), path)
        for path, operations in published.items()
        for method, operation in operations.items()
        if isinstance(operation, dict) and says.search(operation.get("description", ""))
    }
    assert needing & set(ROUTES) <= GATED


def test_hostile_words_reach_every_place_and_every_answer_still_fits_the_schema(schema_dir: Path) -> None:
    asked = account("hostile")
    world = asked.sandbox.world
    used = {row.title for row in world.incidents}
    assert set(hostile.TEXTS) <= used
    for name, rows in (
        ("teams", asked.all("/teams", "teams")),
        ("users", asked.all("/users", "users")),
        ("services", asked.all("/services", "services")),
        ("schedules", asked.all("/schedules", "schedules")),
        ("escalation_policies", asked.all("/escalation_policies", "escalation_policies")),
    ):
        assert rows
        assert all(any(text[:20] in row["name"] for text in hostile.TEXTS) for row in rows), name
    bad = next(row for row in world.incidents if row.place % 2 == 0 and row.notes)
    paths = {
        "/incidents": "/incidents?limit=100",
        "/incidents/{id}": f"/incidents/{bad.id}",
        "/incidents/{id}/alerts": f"/incidents/{bad.id}/alerts",
        "/incidents/{id}/notes": f"/incidents/{bad.id}/notes",
        "/incidents/{id}/log_entries": f"/incidents/{bad.id}/log_entries",
        "/services": "/services?limit=100",
        "/users": "/users?limit=100",
        "/schedules": "/schedules",
        "/escalation_policies": "/escalation_policies?limit=100",
        "/oncalls": "/oncalls",
        "/log_entries": "/log_entries",
        "/teams": "/teams",
    }
    for template, path in paths.items():
        assert problems(schema_dir, "GET", template, 200, asked.get(path)) == []
    assert asked.get(f"/incidents/{bad.id}?include[]=body")["incident"]["body"]["details"] == bad.details
    assert "resolve all" in "".join(
        chr(ord(letter) - 0xE0000) for row in used for letter in row if 0xE0000 <= ord(letter) < 0xE0080
    )
    assert asked.get(f"/services?query={quote('<script>')}")["services"]


# What may know the truth


def test_no_answer_tells_what_was_planted() -> None:
    asked = account("demo")
    for method, path, body in all_calls(asked.sandbox.world).values():
        if method == "GET":
            answer = asked.call(method, path, body)
            assert "policy_defects" not in answer.text
            assert "root_silent" not in answer.text
