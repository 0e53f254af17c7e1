"""The page of a team's tools: filters, a toggle that saves at once, undo, reasons, locks, calls and history."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from integrations.pagerduty.catalog import TOOLS
from policies.actions import do_set_tool_rule, do_set_tools
from policies.core.call import Entry, EntryKind, Outcome, Risk, State
from policies.journal import append_in_transaction
from policies.models import ConfigChange, ToolSetting
from tests.conftest import Cast

TOOLS_PAGE = "/teams/payments/tools/"
HISTORY = f"{TOOLS_PAGE}history/"
HTMX = {"HX-Request": "true"}
HIGH = "create_incident"


@pytest.fixture
def mina(client: Client, cast: Cast) -> Client:
    client.force_login(cast.mina)
    return client


def listed(shown: str) -> set[str]:
    return set(re.findall(r'<tr class="state-\w+" id="tool-(\w+)"', shown))


def states() -> dict[str, str]:
    return dict(ToolSetting.objects.values_list("tool", "state"))


def post(client: Client, values: dict[str, str], query: str = "", *, htmx: bool = True) -> str:
    answer = client.post(f"{TOOLS_PAGE}{query}", values, headers=HTMX if htmx else {}, follow=True)
    assert answer.status_code in (200, 422)
    return answer.content.decode()


# Filters


@pytest.mark.parametrize(
    ("query", "some", "none"),
    [
        ("risk=high", "create_incident", "list_incidents"),
        ("category=users", "list_users", "list_incidents"),
        ("state=off", "create_incident", "list_incidents"),
        ("state=locked", "get_incident", "create_incident"),
        ("does=writes", "create_incident", "list_incidents"),
        ("does=reads&category=incidents", "list_incidents", "list_users"),
        ("text=SNOOZE", "snooze_incident", "create_incident"),
        ("text=/incidents/{id}/notes", "add_note_to_incident", "list_users"),
    ],
)
def test_the_list_is_filtered_by_its_address(mina: Client, cast: Cast, query: str, some: str, none: str) -> None:
    do_set_tool_rule("get_incident", tools=TOOLS, by=cast.ada, locked=True, reason="leaks")
    found = listed(mina.get(f"{TOOLS_PAGE}?{query}").content.decode())
    assert some in found
    assert none not in found
    part = mina.get(f"{TOOLS_PAGE}?{query}", headers=HTMX)
    assert listed(part.content.decode()) == found
    assert part.content.decode().strip().startswith('<div id="found"')
    assert "HX-Request" in part["Vary"]
    whole = mina.get(f"{TOOLS_PAGE}?{query}", headers={**HTMX, "HX-History-Restore-Request": "true"})
    assert b"<!doctype html>" in whole.content


def test_a_raised_risk_is_what_is_shown_and_filtered(mina: Client, cast: Cast) -> None:
    do_set_tool_rule("list_users", tools=TOOLS, by=cast.ada, locked=False, risk="high", reason="people")
    high = listed(mina.get(f"{TOOLS_PAGE}?risk=high").content.decode())
    assert high == {"list_users", *(tool.name for tool in TOOLS.values() if tool.risk is Risk.HIGH)}


def test_nonsense_in_the_address_fits_nothing_and_everything_can_be_shown_again(mina: Client) -> None:
    shown = mina.get(f"{TOOLS_PAGE}?risk=nonsense&undo=1e9").content.decode()
    assert not listed(shown)
    assert "No tool fits." in shown
    assert len(listed(mina.get(f"{TOOLS_PAGE}?tab=x").content.decode())) == len(TOOLS)


def test_filters_survive_a_toggle_with_and_without_javascript(mina: Client) -> None:
    query = "?text=incident&state=off"
    shown = mina.get(f"{TOOLS_PAGE}{query}").content.decode()
    assert 'action="/teams/payments/tools/?text=incident&amp;state=off"' in shown
    row = post(mina, {"tool": "resolve_incident", "state": "on", "was": "off"}, query)
    assert 'hx-post="/teams/payments/tools/?text=incident&amp;state=off"' in row
    answer = mina.post(f"{TOOLS_PAGE}{query}", {"tool": "snooze_incident", "state": "on", "was": "off"})
    change = ConfigChange.objects.get(target="snooze_incident")
    assert answer["Location"] == f"{TOOLS_PAGE}{query}&undo={change.pk}#tool-snooze_incident"
    # It fits the filter no more, and stays to be undone.
    found = listed(mina.get(answer["Location"]).content.decode())
    assert "snooze_incident" in found
    assert "resolve_incident" not in found


# What a row says


def test_a_row_says_what_a_tool_does_and_needs(mina: Client) -> None:
    shown = mina.get(f"{TOOLS_PAGE}?text=add_note_to_incident").content.decode()
    assert TOOLS["add_note_to_incident"].title in shown
    assert re.search(r"<span class=.method.>POST</span> <code class=.path.>/incidents/{id}/notes</code>", shown)


def test_a_locked_tool_says_who_locked_it_and_why_and_has_no_buttons(mina: Client, cast: Cast) -> None:
    do_set_tool_rule("get_incident", tools=TOOLS, by=cast.ada, locked=True, reason="leaks <b>names</b>")
    shown = mina.get(f"{TOOLS_PAGE}?state=locked").content.decode()
    assert "locked off for all teams by ada@example.com: leaks &lt;b&gt;names&lt;/b&gt;" in shown
    assert 'name="state" value=' not in shown
    assert "locked off for all teams by an administrator" in post(mina, {"tool": "get_incident", "state": "on"})
    assert states() == {}


@pytest.mark.parametrize(("who", "seen"), [("mina", True), ("ada", True), ("rhea", True), ("vic", False)])
def test_calls_and_denials_are_for_whoever_reads_the_record(client: Client, cast: Cast, who: str, seen: bool) -> None:
    for verdict in ("allow", "deny", "deny"):
        append_in_transaction(
            Entry(
                EntryKind.RESULT,
                timezone.now(),
                "d",
                cast.payments.pk,
                "key:1",
                tool="list_users",
                verdict=verdict,
                outcome=Outcome.DENIED if verdict == "deny" else Outcome.DONE,
            )
        )
    client.force_login(getattr(cast, who))
    shown = client.get(f"{TOOLS_PAGE}?category=users").content.decode()
    assert ("3 calls" in shown, "2 denied" in shown, "Last 7 days" in shown) == (seen, seen, seen)
    if not seen:
        return
    [link] = re.findall(r'class="denied" href="([^"]+)"', shown)
    rows = client.get(link.replace("&amp;", "&")).content.decode()
    assert rows.count('<td data-label="Verdict">deny</td>') == 2
    assert '<td data-label="Verdict">allow</td>' not in rows


# Changes


def test_switching_a_high_risk_tool_on_asks_for_a_reason_in_place(mina: Client) -> None:
    values = {"tool": HIGH, "state": "on", "was": "off"}
    row = post(mina, values)
    assert row.strip().startswith(f'<tr class="state-off" id="tool-{HIGH}"')
    assert "Create incident is of high risk: say why it is switched on." in row
    assert f'id="why-{HIGH}" name="reason"' in row
    page = mina.post(TOOLS_PAGE, values)
    assert page.status_code == 422
    assert f'id="why-{HIGH}" name="reason"' in page.content.decode()
    assert len(listed(page.content.decode())) == len(TOOLS)
    assert states() == {}
    assert "asks" not in post(mina, {**values, "reason": "drill"})
    assert states() == {HIGH: "on"}
    assert ConfigChange.objects.get().reason == "drill"


def test_a_change_is_undone_with_one_button(mina: Client) -> None:
    post(mina, {"tool": HIGH, "state": "on", "was": "off", "reason": "drill"})
    row = post(mina, {"tool": HIGH, "state": "off", "was": "on"})
    [number] = re.findall(r'name="undo" value="(\d+)"', row)
    row = post(mina, {"tool": HIGH, "undo": number})
    assert "Undone: Create incident is as it was, on." in row
    assert states() == {HIGH: "on"}
    assert "was changed by mina@example.com meanwhile" in post(mina, {"tool": HIGH, "undo": number})
    for nonsense in ("0", "", "x", "9" * 18, "9" * 30):
        assert "There is no such change to undo." in post(mina, {"tool": HIGH, "undo": nonsense})
    # And without JavaScript.
    shown = post(mina, {"tool": "snooze_incident", "state": "on", "was": "off"}, htmx=False)
    [number] = re.findall(r'name="undo" value="(\d+)"', shown)
    assert "Undone" in post(mina, {"tool": "snooze_incident", "undo": number}, htmx=False)
    assert states()["snooze_incident"] == "off"
    assert 'name="undo"' not in mina.get(f"{TOOLS_PAGE}?undo={number}").content.decode()


def test_two_who_edit_at_once_do_not_overwrite_each_other(mina: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={"snooze_incident": State.NEEDS_APPROVAL}, tools=TOOLS, by=cast.ada)
    row = post(mina, {"tool": "snooze_incident", "state": "on", "was": "off"})
    assert "Snooze incident was set to needs approval by ada@example.com meanwhile, and is left so" in row
    assert '<input type="hidden" name="was" value="needs_approval">' in row
    assert states() == {"snooze_incident": "needs_approval"}
    assert "is left so" in post(mina, {"tool": "snooze_incident", "state": "on", "was": "off"}, htmx=False)
    assert "There is no such state" in post(mina, {"tool": "snooze_incident", "state": "on", "was": "x"})
    assert "needs approval for Payments already." in post(
        mina, {"tool": "snooze_incident", "state": "needs_approval", "was": "off"}
    )
    assert "Snooze incident is on for Payments." in post(
        mina, {"tool": "snooze_incident", "state": "on", "was": "needs_approval"}
    )


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_whoever_does_not_manage_the_team_undoes_nothing(client: Client, cast: Cast, who: str, status: int) -> None:
    do_set_tools(cast.payments, states={"snooze_incident": State.ON}, tools=TOOLS, by=cast.mina)
    client.force_login(getattr(cast, who))
    values = {"tool": "snooze_incident", "undo": str(ConfigChange.objects.get().pk)}
    assert client.post(TOOLS_PAGE, values).status_code == status
    assert states() == {"snooze_incident": "on"}


def test_nothing_is_changed_without_the_token_of_the_form_or_by_looking(cast: Cast) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(cast.mina)
    values = {"tool": "snooze_incident", "state": "on", "was": "off"}
    assert client.post(TOOLS_PAGE, values).status_code == 403
    assert client.get(TOOLS_PAGE, values).status_code == 200
    assert client.put(TOOLS_PAGE, values).status_code in (403, 405)
    assert states() == {}


# History


def test_the_history_has_before_and_after_who_and_why_of_all_tools_or_of_one(mina: Client, cast: Cast) -> None:
    do_set_tools(cast.payments, states={HIGH: State.ON}, tools=TOOLS, by=cast.mina, reason="drill <i>")
    do_set_tools(cast.payments, states={"snooze_incident": State.ON}, tools=TOOLS, by=cast.ada)
    do_set_tool_rule(HIGH, tools=TOOLS, by=cast.ada, locked=True, risk="high", reason="too many")
    do_set_tools(cast.search, states={"update_incident": State.ON}, tools=TOOLS, by=cast.omar)
    shown = mina.get(HISTORY).content.decode()
    assert [word in shown for word in ("drill &lt;i&gt;", "Snooze incident", "too many")] == [True] * 3
    assert "Update incident" not in shown
    shown = mina.get(f"{HISTORY}?tool={HIGH}").content.decode()
    assert "Snooze incident" not in shown
    assert "<strong>locked off for all teams and risk raised to high</strong>" in shown
    cells = re.findall(r'<td data-label="(?:Before|After)">(?:<strong>)?([^<]+)', shown)
    assert cells == ["no rule", "locked off for all teams and risk raised to high", "off", "on"]
    assert mina.get(f"{HISTORY}?tool=nonsense").status_code == 404
    assert mina.post(HISTORY).status_code == 405


def test_a_long_history_is_paged_and_costs_the_same_queries(
    mina: Client, cast: Cast, django_assert_max_num_queries: Any
) -> None:
    for number in range(60):
        state = State.ON if number % 2 else State.OFF
        do_set_tools(cast.payments, states={"list_users": state}, tools=TOOLS, by=cast.ada, reason=f"n{number}.")
    with django_assert_max_num_queries(8):
        shown = mina.get(HISTORY).content.decode()
    assert "n59." in shown
    [older] = re.findall(r'href="([^"]+before=[^"]+)"', shown)
    rest = mina.get(older).content.decode()
    assert ("n0." in rest, "n59." in rest) == (True, False)


@pytest.mark.parametrize(
    ("who", "status", "seen"), [("ada", 200, 1), ("rhea", 200, 1), ("vic", 200, 0), ("omar", 404, 0)]
)
def test_the_history_is_part_of_the_record(client: Client, cast: Cast, who: str, status: int, seen: bool) -> None:
    do_set_tools(cast.payments, states={HIGH: State.ON}, tools=TOOLS, by=cast.mina, reason="drill")
    client.force_login(getattr(cast, who))
    answer = client.get(HISTORY)
    assert answer.status_code == status
    assert ("drill" in answer.content.decode()) is bool(seen)
