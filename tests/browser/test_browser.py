"""The main job in a real browser: what pages become as one works on them passes axe in both themes, and works without a mouse.
Every page as it is opened is looked at in ``test_every_page.py``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser, Page

from integrations.pagerduty.catalog import PRESETS
from tests.conftest import PASSWORD
from tests.gateway.mcp import Mcp
from tests.gateway.processes import Portal
from tests.screenshots import axe, settle, wrong_layout

pytestmark = pytest.mark.browser


@contextmanager
def browsing(chromium: Browser, portal: Portal, *, expected: str = "") -> Iterator[Page]:
    """A page of Mina's; whatever the browser complains of fails the test, but for what it was expected to."""
    context = chromium.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    sign_in(page, portal)
    yield page
    context.close()
    assert [said for said in complaints if not expected or not re.search(expected, said)] == []


def sign_in(page: Page, portal: Portal, who: str = "mina") -> None:
    page.goto(f"{portal.url}/sign-in/")
    page.fill("[name=username]", f"{who}@example.com")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{portal.url}/")


def faults(page: Page) -> list[str]:
    """What axe finds, in the theme that the page has, and of colours in the other one, too."""
    theme = "document.documentElement.dataset.bsTheme"
    found = axe(page)
    page.evaluate(f"{theme} = {theme} === 'dark' ? 'light' : 'dark'")
    settle(page)
    found += axe(page, "color-contrast")
    page.evaluate(f"{theme} = {theme} === 'dark' ? 'light' : 'dark'")
    return found


def test_what_is_wrong_is_readable_in_both_themes(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/teams/payments/connections/")
    name = f"Bounded {page.evaluate('document.documentElement.dataset.bsTheme')}"
    page.get_by_label("Name").fill(name)
    page.get_by_label("Region").select_option("sandbox")
    page.get_by_label("Token", exact=False).and_(page.locator("[type=password]")).fill(f"not-a-token-{name[8:]}")
    page.get_by_label("PagerDuty teams").fill("PTEAM01")
    page.get_by_role("button", name="Seal and register").click()
    page.get_by_role("heading", name="What works inside the bounds").wait_for()
    assert faults(page) == []
    page.get_by_role("button", name="Test the connection").click()
    page.locator("#said .alert-danger").first.wait_for()
    assert faults(page) == []
    page.get_by_role("link", name="Delete the connection …").click()
    assert faults(page) == []
    page.get_by_role("button", name=f"Delete {name}").click()
    page.locator("#said .alert-success").wait_for()
    assert faults(page) == []


def test_an_administrator_chooses_that_reads_go_on(page: Page, portal: Portal) -> None:
    page.context.clear_cookies()
    sign_in(page, portal, "ada")
    for width in (1200, 380):
        page.set_viewport_size({"width": width, "height": 900})
        page.get_by_label("Why").fill("people on call need to see")
        page.get_by_role("button", name="Let reads go on").click()
        page.get_by_text("Reads go on", exact=True).wait_for()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("Why").fill("over")
        page.get_by_role("button", name="Stop everything instead").click()
        page.get_by_text("Everything stops", exact=True).wait_for()
        assert faults(page) == []


def test_an_agent_is_rehearsed_stopped_and_set_going_again(page: Page, portal: Portal) -> None:
    """At the door too: the next write is refused at once."""
    portal.shell(
        "from integrations.pagerduty.catalog import TOOLS\nfrom policies.actions import do_set_tools\n"
        "from policies.core.call import State\nfrom policies.models import Team\n"
        "do_set_tools(Team.objects.get(slug='payments'), states={'add_note_to_incident': State.ON}, tools=TOOLS, by='x')"
    )
    page.wait_for_timeout(1100)
    incident = portal.call("GET", "/incidents?limit=1").json()["incidents"][0]["id"]
    note = {"note": {"content": "Looked at it."}}
    assert portal.call("POST", f"/incidents/{incident}/notes", note).status == 200
    page.goto(f"{portal.url}/teams/payments/agents/")
    page.get_by_role("link", name="Stop … assistant").click()
    page.get_by_role("button", name="Rehearse it").click()
    page.get_by_text("Nothing was stopped").wait_for()
    assert faults(page) == []
    assert portal.call("POST", f"/incidents/{incident}/notes", note).status == 200
    page.get_by_label("Why").fill("it pages people " + "W" * 200)
    page.get_by_role("button", name="Stop assistant").click()
    page.get_by_text("You have stopped assistant").wait_for()
    refused = portal.call("POST", f"/incidents/{incident}/notes", note)
    assert refused.status == 403
    assert "has been stopped: it pages people" in refused.body.decode()
    for width in (380, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        for path in (
            "/",
            "/audit/",
            "/teams/payments/agents/",
            f"/teams/payments/agents/{portal.seeded['key_id']}/stop/",
        ):
            page.goto(portal.url + path)
            page.get_by_role("link", name="Lift the stop …").wait_for()
            assert faults(page) == [], path
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
    page.get_by_role("link", name="Lift the stop …").click()
    assert faults(page) == []
    page.get_by_label("Why").fill("mended")
    page.get_by_role("button", name="Lift the stop").press("Enter")
    page.get_by_text("The stop is lifted").wait_for()
    page.wait_for_timeout(1100)  # a second is what a widening may take to be seen
    assert portal.call("POST", f"/incidents/{incident}/notes", note).status == 200
    page.goto(portal.url)
    assert page.get_by_text("has been stopped").count() == 0


def test_a_table_of_tools_keeps_its_columns_and_on_a_narrow_screen_says_what_each_cell_is(
    page: Page, portal: Portal
) -> None:
    page.goto(f"{portal.url}/teams/payments/tools/")
    page.set_viewport_size({"width": 380, "height": 800})
    label = "getComputedStyle(document.querySelector('#tool-create_incident td:last-child'), '::before').content"
    assert page.evaluate(label) == '"State"'
    columns = (
        "[...document.querySelectorAll('.tools thead tr')].map((row) => row.cells[4].getBoundingClientRect().left)"
    )
    for width in (700, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        before = page.evaluate(columns)
        page.evaluate("document.querySelectorAll('details.why').forEach((folded) => { folded.open = true; })")
        assert len(set(before)) == 1
        assert page.evaluate(columns) == before
        assert wrong_layout(page, width) == []


def test_a_manager_allows_a_write_with_the_keyboard_and_the_door_lets_it_through(page: Page, portal: Portal) -> None:
    incident = portal.call("GET", "/incidents?limit=1").json()["incidents"][0]["id"]
    note = {"note": {"content": "Looked at it."}}
    page.goto(f"{portal.url}/teams/payments/tools/")
    row = page.locator("#tool-add_note_to_incident")
    row.get_by_role("button", name="Off", exact=True).press("Enter")
    page.get_by_text("Add incident note is off for Payments").wait_for()
    assert portal.call("POST", f"/incidents/{incident}/notes", note).status == 403
    row.get_by_role("button", name="On", exact=True).press("Enter")
    page.get_by_text("Add incident note is on for Payments.").wait_for()
    page.wait_for_timeout(1100)  # a second is what a widening may take to be seen
    made = portal.call("POST", f"/incidents/{incident}/notes", note)
    assert made.status == 200
    page.goto(f"{portal.url}/audit/?decision_id={made.headers['x-pagewarden-decision']}")
    assert page.locator("tbody tr").count() == 2  # its intent and its result


def test_a_connection_is_tested_and_a_key_issued_and_revoked(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/teams/payments/connections/{portal.seeded['connection']}/")
    page.get_by_role("button", name="Test the connection").click()
    page.get_by_text("PagerDuty accepts the token").first.wait_for()
    assert faults(page) == []
    page.goto(f"{portal.url}/teams/payments/agents/")
    page.get_by_label("Name").fill("browser")
    page.get_by_role("button", name="Issue the key").click()
    secret = page.locator("code.secret").inner_text()
    page.wait_for_timeout(1100)  # other processes learn of a key within a second
    assert portal.call("GET", "/incidents?limit=1", key=secret).status == 200
    page.goto(f"{portal.url}/teams/payments/agents/")
    assert secret not in page.content()
    page.get_by_text("Revoke … browser").first.click()
    page.get_by_label("Why browser is revoked").first.fill("the test is over")
    page.get_by_role("button", name="Revoke browser").first.click()
    page.get_by_text("browser is revoked").wait_for()
    page.wait_for_timeout(1100)
    assert portal.call("GET", "/incidents?limit=1", key=secret).status == 401


def test_the_configuration_of_a_client_is_copied_with_the_key_that_was_just_issued(page: Page, portal: Portal) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=portal.url)
    theme = page.evaluate("document.documentElement.dataset.bsTheme")
    for width in (380, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{portal.url}/teams/payments/agents/")
        page.get_by_label("Name").fill(f"copied {theme} {width}")
        page.get_by_role("button", name="Issue the key").click()
        secret = page.locator("code.secret").inner_text()
        page.locator("#cursor summary").press("Enter")
        page.get_by_role("button", name="Copy the configuration for Cursor").press("Enter")
        page.locator("#cursor [role=status]").get_by_text("Copied.").wait_for()
        copied = json.loads(page.evaluate("navigator.clipboard.readText()"))["mcpServers"]["pagewarden"]
        assert copied == {"url": f"{portal.url}/mcp", "headers": {"Authorization": f"Bearer {secret}"}}
        page.wait_for_timeout(1100)  # other processes learn of a key within a second
        door = Mcp(copied["url"].removesuffix("/mcp"), copied["headers"]["Authorization"].removeprefix("Bearer "))
        assert set(door.listed()) <= PRESETS["core"]
        assert not door.use("list_incidents", limit=1).is_error
        page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        # Over plain http to another machine a browser has no clipboard for pages.
        page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        page.get_by_role("button", name="Copy the configuration for Claude Code").press("Enter")
        page.locator("#claude-code [role=status]").get_by_text("Selected").wait_for()
        assert page.evaluate("getSelection().toString()").startswith("claude mcp add --transport http pagewarden")


def test_an_administrator_switches_somebody_off_and_hands_over_what_they_held(page: Page, portal: Portal) -> None:
    theme = page.evaluate("document.documentElement.dataset.bsTheme")
    portal.shell(
        "from integrations.actions import do_issue_agent_key\nfrom integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\nfrom policies.actions import do_set_membership\n"
        f"from policies.models import Team, User\nlea = User.objects.create_user('lea-{theme}@example.com', name='Lea {theme}')\n"
        "do_set_membership(Team.objects.get(slug='payments'), user=lea, role='manager', by='x')\n"
        "do_issue_agent_key(Connection.objects.filter(team__slug='payments')[0], name='lea bot', by=lea, tools=TOOLS)"
    )
    page.context.clear_cookies()
    sign_in(page, portal, "ada")
    for width in (380, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{portal.url}/people/")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name=f"Lea {theme}").click()
        page.get_by_role("heading", name=f"Lea {theme} leaves").wait_for()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_label("The agent key lea bot").select_option(label="Hand over to Ada (ada@example.com)")
    page.get_by_role("button", name=f"Switch Lea {theme} off").click()
    page.get_by_text("1 agent key kept by Ada").wait_for()
    assert faults(page) == []


def test_an_administrator_locks_a_tool_and_sets_several_teams_on_the_grid(page: Page, portal: Portal) -> None:
    page.context.clear_cookies()
    sign_in(page, portal, "ada")
    for width in (380, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for path in ("", "policies/entry/", "policies/team/", "integrations/connection/add/"):
            page.goto(f"{portal.url}/admin/{path}")
            assert faults(page) == [], path
        page.goto(f"{portal.url}/grid/?category=incidents")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name="Snooze incident").click()
        assert faults(page) == []
        page.get_by_label("Why").fill("the grid is tried")
        page.get_by_role("button", name="Lock snooze incident").press("Enter")
        page.get_by_text("Snooze incident is locked off for all teams.").wait_for()
        assert faults(page) == []
        page.goto(f"{portal.url}/teams/payments/tools/?state=locked")
        page.get_by_text("locked off for all teams by ada@example.com: the grid is tried").wait_for()
        assert faults(page) == []
        page.goto(f"{portal.url}/grid/tools/snooze_incident/")
        page.get_by_label("Why").fill("tried")
        page.get_by_role("button", name="Unlock snooze incident").press("Enter")
        page.get_by_text("Snooze incident is unlocked").wait_for()
        page.get_by_role("link", name="Set a category in one stroke").click()
        page.get_by_label("Category").select_option("webhooks and extensions")
        page.get_by_label("Set to").select_option("needs approval" if width == 380 else "off")
        page.get_by_role("button", name="Preview").press("Enter")
        page.get_by_text("Nothing is changed yet").wait_for()
        page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_label("Why").fill("the grid is tried")
        page.get_by_role("button", name=re.compile(r"Change \d+ settings")).press("Enter")
        page.get_by_text("settings changed.").wait_for()
        page.goto(f"{portal.url}/grid/clone/?source=payments&target=search")
        page.get_by_text("Nothing is changed yet").wait_for()
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_alarm_is_read_on_a_phone_and_answered_with_a_click(page: Page, portal: Portal) -> None:
    portal.shell(
        "import time\nfrom policies.alarms import Kind, Sign, note\n"
        "for kind in ['first_write', *['new_network'] * 3, 'denials']:\n"
        f"    note(Sign(Kind(kind), {portal.seeded['key_id']!r}, time.time(), f'203.0.{{time.time_ns() % 251}}.9', "
        "'add_note_to_incident', 'd1', 20))"
    )
    for width in (380, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        for path in ("/", "/teams/payments/agents/"):
            page.goto(portal.url + path)
            page.evaluate("document.querySelectorAll('details.why').forEach((folded) => { folded.open = true; })")
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path
            assert faults(page) == [], path
    page.goto(portal.url)
    page.get_by_role("link", name="Was that you?").first.click()
    for _ in range(page.get_by_role("button", name="That was us").count()):
        page.get_by_role("button", name="That was us").first.press("Enter")
        page.get_by_text("it is known of assistant from now on").wait_for()
    assert page.get_by_role("heading", name="Was that you?").count() == 0


def test_a_tool_of_high_risk_asks_why_and_the_count_follows(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/teams/payments/tools/")
    counted = page.locator("#count")
    row = page.locator("#tool-create_incident")
    row.get_by_role("button", name="Off", exact=True).press("Enter")
    page.get_by_text("Create incident is off for Payments").wait_for()
    before = int(counted.inner_text().split()[0])
    row.get_by_role("button", name="On", exact=True).press("Enter")
    why = row.get_by_label("Create incident is of high risk: say why it is switched on.")
    why.wait_for()
    assert faults(page) == []
    page.keyboard.type("trial in the browser")  # it has the focus
    page.keyboard.press("Enter")
    page.get_by_text("Create incident is on for Payments.").wait_for()
    assert faults(page) == []
    assert int(counted.inner_text().split()[0]) == before + 1
    assert page.locator("#count").count() == 1
    page.reload()
    assert int(counted.inner_text().split()[0]) == before + 1
    page.get_by_text("(trial in the browser)").first.wait_for()
    row.get_by_role("link", name="History of Create incident").click()
    page.get_by_text("trial in the browser").first.wait_for()


def test_a_toggle_keeps_the_filters_and_the_focus_and_is_undone(page: Page, portal: Portal) -> None:
    for width in (380, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{portal.url}/teams/payments/tools/")
        page.get_by_label("Name, path or word").press_sequentially("snooze")
        page.get_by_role("status").get_by_text("1 of ").wait_for()
        assert "text=snooze" in page.url
        row = page.locator("#tool-snooze_incident")
        row.get_by_role("button", name="Needs approval").press("Enter")
        row.get_by_text("Snooze incident needs approval for Payments.").wait_for()
        assert page.evaluate("document.activeElement.id") == "needs_approval-snooze_incident"
        assert "text=snooze" in page.url
        assert page.locator("#found tbody tr").count() == 1
        assert faults(page) == []
        row.get_by_role("button", name="Undo").press("Enter")
        row.get_by_text("Undone: Snooze incident is as it was").wait_for()
        page.reload()
        assert page.locator("#found tbody tr").count() == 1


def test_the_page_of_the_tools_works_without_javascript(chromium: Browser, portal: Portal) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    sign_in(page, portal)
    page.goto(f"{portal.url}/teams/payments/tools/")
    page.get_by_label("Name, path or word").fill("snooze")
    page.get_by_role("button", name="Filter").click()
    row = page.locator("#tool-snooze_incident")
    row.get_by_role("button", name="Needs approval").click()
    page.get_by_text("Snooze incident needs approval for Payments.").wait_for()
    assert "text=snooze" in page.url
    row.get_by_role("button", name="Undo").click()
    page.get_by_text("Undone: Snooze incident is as it was").wait_for()
    assert page.locator("#found tbody tr").count() == 1


def test_a_failed_request_of_htmx_is_said_in_the_live_region(chromium: Browser, portal: Portal) -> None:
    expected = "Failed to load resource|Response Status Error Code|htmx:sendError|htmx:afterRequest"
    with browsing(chromium, portal, expected=expected) as page:
        page.goto(f"{portal.url}/teams/payments/tools/")
        said = page.locator("#said [role=alert]")
        button = page.locator("#tool-create_incident").get_by_role("button", name="Needs approval")
        rows = page.locator("tbody tr").count()
        page.evaluate("document.querySelector('#tool-create_incident [name=tool]').value = 'nonsense'")
        button.click()
        page.get_by_text("Nothing is here").wait_for()
        assert "It may have been removed" in said.inner_text()
        assert faults(page) == []
        page.route(
            "**/tools/", lambda route: route.fulfill(status=502, body="<p>upstream</p>", content_type="text/html")
        )
        button.click()
        page.get_by_text("Something went wrong").wait_for()
        assert "upstream" not in said.inner_text()
        page.unroute("**/tools/")
        page.route("**/tools/", lambda route: route.abort())
        button.click()
        page.get_by_text("The portal was not reached").wait_for()
        page.unroute("**/tools/")
        assert page.locator("tbody tr").count() == rows  # nothing was swapped
        # The session ends: the whole page goes to the sign-in and comes back to where it was.
        page.context.clear_cookies(name="sessionid")
        button.click()
        page.wait_for_url(f"{portal.url}/sign-in/?next=/teams/payments/tools/")
        page.fill("[name=username]", "mina@example.com")
        page.fill("[name=password]", PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url(f"{portal.url}/teams/payments/tools/")


def test_a_preset_is_looked_at_and_confirmed(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/teams/payments/tools/")
    page.get_by_role("link", name="observer").click()
    page.get_by_text("Nothing is changed yet").wait_for()
    page.get_by_label("Why").fill("the browser looks only")
    page.get_by_role("button", name="Change").click()
    page.get_by_text("The preset observer is set").wait_for()
    page.goto(f"{portal.url}/teams/payments/tools/preset/core/")
    page.get_by_label("Why").fill("as it was")
    page.get_by_role("button", name="Change").click()
    page.get_by_text("The preset core is set").wait_for()


def test_the_catalogue_narrows_as_one_types_and_the_address_follows(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/catalogue/")
    everything = page.locator("#found tbody tr").count()
    page.get_by_label("Name, path or reason").press_sequentially("snooze")
    page.get_by_role("status").get_by_text("Found: 1 tool,").wait_for()
    assert page.locator("#found tbody tr").count() < everything
    assert page.get_by_label("Name, path or reason").input_value() == "snooze"
    assert "text=snooze" in page.url
    page.reload()
    page.get_by_text("Found: 1 tool,").wait_for()
    page.get_by_label("Show").select_option("refused")
    page.get_by_text("Nothing here fits").wait_for()
    page.get_by_role("link", name="Show everything").click()
    page.wait_for_url(f"{portal.url}/catalogue/")
    page.get_by_role("link", name="Personal data").click()
    assert page.url.endswith("#personal_data")


def test_the_theme_is_chosen_and_kept(page: Page, portal: Portal) -> None:
    theme = "document.documentElement.dataset.bsTheme"
    system = page.evaluate(theme)
    other = "Light" if system == "dark" else "Dark"
    menu = page.locator("#you")
    menu.locator("summary").press("Enter")
    assert menu.get_by_role("button", name="Auto").get_attribute("aria-pressed") == "true"
    menu.get_by_role("button", name=other).press("Enter")
    page.goto(f"{portal.url}/teams/")
    assert page.evaluate(theme) == other.lower()
    page.goto(f"{portal.url}/sign-in/")
    page.locator("#you summary").press("Enter")
    page.get_by_role("button", name="Auto").press("Enter")
    assert page.evaluate(theme) == system
    # As the system goes from day to night, so does the page.
    page.emulate_media(color_scheme="light" if system == "dark" else "dark")
    page.locator(f"html[data-bs-theme={other.lower()}]").wait_for()


def test_one_searches_and_moves_about_by_keyboard_alone(page: Page, portal: Portal) -> None:
    for width in (380, 1200):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{portal.url}/teams/payments/agents/")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        assert faults(page) == []
        page.keyboard.press("/")
        page.keyboard.type("paym")
        page.locator("#search-found a").first.wait_for()
        assert page.locator("#search-said").inner_text() == "1 found"
        assert faults(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.keyboard.press("ArrowDown")
        assert page.evaluate("document.activeElement.textContent") == "Payments"
        page.keyboard.press("Escape")
        assert page.evaluate("document.activeElement.id") == "search"
        assert page.locator("#search-found a").count() == 0
        page.locator("#you summary").press("Enter")
        page.get_by_role("link", name="Your account").wait_for()
        assert faults(page) == []
        page.keyboard.press("Escape")
        assert not page.get_by_role("link", name="Your account").is_visible()
        # Where one types, a stroke is a stroke.
        page.get_by_label("Name").fill("")
        page.get_by_label("Name").press("/")
        assert page.get_by_label("Name").input_value() == "/"
        # The whole answer is a page, and one thing's name leads straight to it.
        page.locator("#search").fill("paym")
        page.keyboard.press("Enter")
        page.get_by_role("heading", name="Found for “paym”").wait_for()
        assert faults(page) == []
        page.locator("#search").fill(f"pwk_{portal.seeded['key'][4:12]}")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{portal.url}/teams/payments/agents/#key-{portal.seeded['key_id']}")


def test_times_are_told_in_the_browsers_zone(chromium: Browser, portal: Portal) -> None:
    page = chromium.new_context(timezone_id="Asia/Tokyo").new_page()
    sign_in(page, portal)
    page.goto(f"{portal.url}/audit/")
    page.get_by_text("Times are in Asia/Tokyo").wait_for()
    told = page.locator("tbody time").first
    moment = "Intl.DateTimeFormat('sv', {dateStyle: 'short', timeStyle: 'medium', timeZone: 'Asia/Tokyo'})"
    assert told.inner_text() == told.evaluate(f"(at) => {moment}.format(new Date(at.dateTime))")
    assert (told.get_attribute("title") or "").endswith(" UTC")
