"""The grid: who sees it, locks across all teams, one team's policy for another, a category in one stroke."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client

from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_tool_rule, do_set_tools
from policies.core.call import State
from policies.models import ConfigChange, Team, ToolRule, ToolSetting
from tests.conftest import Cast

LOCK = "/grid/tools/snooze_incident/"
CLONE = "/grid/clone/?source=payments&target=search"
CATEGORY = "/grid/category/?category=incidents&does=writes&state=needs_approval&team="
CHANGING = (LOCK, CLONE, CATEGORY)


@pytest.fixture
def ada(client: Client, cast: Cast) -> Client:
    client.force_login(cast.ada)
    return client


def row_of(shown: str, tool: str) -> str:
    [row] = re.findall(rf'<tr id="tool-{tool}">(.*?)</tr>', shown, re.DOTALL)
    return str(row)


def seen(client: Client, path: str) -> dict[str, str]:
    [value] = re.findall(r'name="seen" value="([^"]+)"', client.get(path).content.decode())
    return {"seen": value, "reason": "the audit"}


# Who


@pytest.mark.parametrize(("who", "status"), [("ada", 200), ("rhea", 200), ("mina", 403), ("vic", 403), ("zed", 403)])
def test_the_grid_is_for_administrators_and_auditors(client: Client, cast: Cast, who: str, status: int) -> None:
    client.force_login(getattr(cast, who))
    answer = client.get("/grid/")
    assert answer.status_code == status
    assert ("/grid/tools/" in answer.content.decode()) is (who == "ada")
    assert ('href="/grid/"' in client.get("/").content.decode()) is (status == 200)


@pytest.mark.parametrize("path", CHANGING)
@pytest.mark.parametrize("who", ["rhea", "mina", "vic", "zed"])
def test_only_administrators_change_several_teams(client: Client, cast: Cast, path: str, who: str) -> None:
    do_set_tools(cast.payments, states={"list_users": State.OFF}, tools=TOOLS, by=cast.mina)
    client.force_login(cast.ada)
    values = {**seen(client, path), "action": "lock"}
    before = ConfigChange.objects.count()
    client.force_login(getattr(cast, who))
    assert client.get(path).status_code == 403
    assert client.post(path, values).status_code == 403
    assert ConfigChange.objects.count() == before


@pytest.mark.parametrize("path", CHANGING)
def test_nothing_is_changed_by_looking_without_a_token_or_a_reason(cast: Cast, path: str) -> None:
    do_set_tools(cast.payments, states={"list_users": State.OFF}, tools=TOOLS, by=cast.mina)
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.ada)
    values = {**seen(client, path), "action": "lock"}
    before = ConfigChange.objects.count()
    assert client.post(path, values).status_code == 403
    assert client.get(path, values).status_code in (200, 422)
    client = Client()
    client.force_login(cast.ada)
    assert client.post(path, {**values, "reason": " "}).status_code == 422
    assert client.post(path, {**values, "seen": "x" * 64}).status_code == 422
    assert client.delete(path).status_code == 405
    assert client.post("/grid/").status_code == 405
    assert ConfigChange.objects.count() == before


# The grid


def test_the_grid_says_of_each_team_how_each_tool_stands(ada: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={"snooze_incident": State.ON}, tools=TOOLS, by=cast.mina)
    do_set_tools(cast.search, states={"list_users": State.NEEDS_APPROVAL}, tools=TOOLS, by=cast.omar)
    do_set_tool_rule("get_incident", tools=TOOLS, by=cast.ada, locked=True, reason="leaks <b>")
    shown = ada.get("/grid/").content.decode()
    assert re.findall(r'<a href="/teams/(\w+)/tools/">', shown) == ["payments", "search"]

    def cells(tool: str) -> list[str]:
        return re.findall(r'<td class="g-\w+">(\w+)</td>', row_of(shown, tool))

    assert cells("snooze_incident") == ["on", "off"]
    assert cells("list_users") == ["on", "approval"]
    assert cells("get_incident") == ["locked", "locked"]
    assert "locked off by ada@example.com: leaks &lt;b&gt;" in row_of(shown, "get_incident")
    numbers = {name: re.findall(r"<td>(\d+)</td>", row_of(shown, name)) for name in ("snooze_incident", "list_users")}
    assert numbers == {"snooze_incident": ["1"], "list_users": ["1"]}


@pytest.mark.parametrize(
    ("query", "some", "none"),
    [
        ("category=users", "list_users", "list_incidents"),
        ("risk=high", "create_incident", "list_incidents"),
        ("text=snooze", "snooze_incident", "list_users"),
        ("locked=on", "get_incident", "list_users"),
    ],
)
def test_the_grid_is_filtered_by_its_address(ada: Client, cast: Cast, query: str, some: str, none: str) -> None:
    do_set_tool_rule("get_incident", tools=TOOLS, by=cast.ada, locked=True, reason="leaks")
    shown = ada.get(f"/grid/?{query}").content.decode()
    assert f'<tr id="tool-{some}">' in shown
    assert f'<tr id="tool-{none}">' not in shown


def test_teams_are_paged_and_found_and_the_filters_stay(
    ada: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    Team.objects.bulk_create(Team(name=f"Team {n:03}", slug=f"team-{n}") for n in range(45))
    ToolSetting.objects.bulk_create(
        ToolSetting(team=team, tool=name, state="on") for team in Team.objects.all() for name in list(TOOLS)[:20]
    )
    with django_assert_max_num_queries(10):
        shown = ada.get("/grid/?category=users&page=2").content.decode()
    assert "teams 21 to 40 of 47" in shown
    assert "?category=users&amp;page=3" in shown
    assert "teams 1 to 1 of 1" in ada.get("/grid/?team=EARCH").content.decode()
    assert "No team&#x27;s name" in ada.get("/grid/?team=none").content.decode().replace("'", "&#x27;")
    assert "No tool fits" in ada.get("/grid/?risk=nonsense").content.decode()
    assert "teams 41 to 47" in ada.get("/grid/?page=99").content.decode()


# Locks


def test_a_tool_is_locked_for_all_teams_with_a_reason_and_unlocked(ada: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={"snooze_incident": State.ON}, tools=TOOLS, by=cast.mina)
    do_set_tool_rule("snooze_incident", tools=TOOLS, by=cast.ada, locked=False, risk="high", reason="care")
    assert "It is on in 1 of 2 teams." in ada.get(LOCK).content.decode()
    values = seen(ada, LOCK)
    answer = ada.post(LOCK, {**values, "action": "lock"}, follow=True)
    assert "Snooze incident is locked off for all teams." in answer.content.decode()
    rule = ToolRule.objects.get()
    assert (rule.locked, rule.risk, rule.reason, rule.actor) == (True, "high", "the audit", "ada@example.com")
    assert ConfigChange.objects.order_by("-id")[0].reason == "the audit"
    # Somebody who still sees it open is told, and not believed.
    answer = ada.post(LOCK, {**values, "action": "lock", "reason": "another"})
    assert answer.status_code == 422
    assert "Snooze incident was locked meanwhile: look again." in answer.content.decode()
    assert 'name="seen" value="locked"' in answer.content.decode()
    assert "it is on again in 1 of 2 teams" in ada.get(LOCK).content.decode()
    ada.post(LOCK, {**seen(ada, LOCK), "action": "unlock"})
    rule = ToolRule.objects.get()
    assert (rule.locked, rule.risk) == (False, "high")
    assert ada.get("/grid/tools/nonsense/").status_code == 404


# One team as another


def test_a_policy_is_cloned_after_a_look_at_exactly_what_changes(ada: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={"create_incident": State.ON}, tools=TOOLS, by=cast.mina, reason="r")
    do_set_tools(cast.payments, states={"get_incident": State.OFF}, tools=TOOLS, by=cast.mina)
    do_set_tool_rule("snooze_incident", tools=TOOLS, by=cast.ada, locked=True, reason="r")
    shown = ada.get(CLONE).content.decode()
    assert "this changes 2 settings of 1 team, and nothing else" in shown
    assert "Locked off for all teams, and left so: Snooze incident." in shown
    assert not ToolSetting.objects.filter(team=cast.search).exists()
    values = seen(ada, CLONE)
    do_set_tools(cast.search, states={"list_users": State.OFF}, tools=TOOLS, by=cast.omar)
    answer = ada.post(CLONE, values)
    assert answer.status_code == 422
    assert "Tools were changed meanwhile: look again at what this would do." in answer.content.decode()
    answer = ada.post(CLONE, seen(ada, CLONE), follow=True)
    assert "Search is set as Payments is: 3 tools changed." in answer.content.decode()
    assert dict(ToolSetting.objects.filter(team=cast.search).values_list("tool", "state")) == {
        "create_incident": "on",
        "get_incident": "off",
        "list_users": "on",
    }
    assert "It would change nothing" in ada.get(CLONE).content.decode()
    assert "Choose two different teams." in ada.get("/grid/clone/?source=search&target=search").content.decode()
    assert "Nothing is changed yet" not in ada.get("/grid/clone/?source=nonsense&target=search").content.decode()
    assert ada.get("/grid/clone/").status_code == 200


# A category


def test_a_category_is_set_in_one_stroke_for_all_teams_or_one(ada: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={"snooze_incident": State.ON}, tools=TOOLS, by=cast.mina)
    shown = ada.get(CATEGORY).content.decode()
    writes = [tool.name for tool in TOOLS.values() if tool.category == "incidents" and tool.writes]
    assert f"this changes {2 * len(writes)} settings of 2 teams" in shown
    assert not ToolSetting.objects.filter(state="needs_approval").exists()
    answer = ada.post(CATEGORY, seen(ada, CATEGORY), follow=True)
    assert f"Incidents: {2 * len(writes)} settings changed." in answer.content.decode()
    assert ToolSetting.objects.filter(state="needs_approval").count() == 2 * len(writes)
    assert set(ConfigChange.objects.exclude(actor="mina@example.com").values_list("action", "reason")) == {
        ("set_tool", "the audit")
    }
    one = "/grid/category/?category=incidents&does=&state=off&team=search"
    ada.post(one, seen(ada, one))
    assert ToolSetting.objects.filter(state="needs_approval").count() == len(writes)
    assert set(ToolSetting.objects.filter(team=cast.search).values_list("state", flat=True)) == {"off"}
    assert ada.get("/grid/category/?category=nonsense&state=on").status_code == 200


def test_the_previews_cost_a_fixed_number_of_queries(
    ada: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    Team.objects.bulk_create(Team(name=f"Team {n:03}", slug=f"team-{n}") for n in range(45))
    for path in (CLONE, CATEGORY):
        with django_assert_max_num_queries(13):
            assert ada.get(path).status_code == 200
    values = seen(ada, CATEGORY)
    with django_assert_max_num_queries(30):
        assert ada.post(CATEGORY, values).status_code == 302
