"""The audit review in a real browser: a denied call is found, exported and marked, and what is new appears by itself."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import Page

from tests.browser.test_browser import faults, pytestmark, sign_in
from tests.gateway.processes import Portal

__all__ = ["pytestmark"]


def well(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.evaluate("document.querySelectorAll('details').forEach((folded) => { folded.open = true; })")
    assert faults(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_a_denied_call_is_found_looked_at_exported_and_marked(page: Page, portal: Portal, tmp_path: Path) -> None:
    denied = portal.call("PUT", "/services/PI000000", {"service": {"type": "service", "name": "Renamed"}})
    assert denied.status == 403
    decision = denied.headers["x-pagewarden-decision"]
    page.goto(f"{portal.url}/audit/")
    page.locator("#q").fill(f"verdict:deny decision:{decision}")
    page.locator("#q").press("Enter")
    assert page.locator("tbody tr").count() == 1
    for width in (380, 1280):
        well(page, width)
    page.get_by_label("Words").fill("PI000000")
    page.get_by_role("button", name="Filter").press("Enter")
    page.wait_for_url("**/audit/?q=verdict*PI000000")
    assert page.locator("#q").input_value() == f"verdict:deny decision:{decision} PI000000"
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as JSON Lines").click()
    download.value.save_as(tmp_path / "taken.jsonl")
    [line] = (tmp_path / "taken.jsonl").read_text().splitlines()
    assert json.loads(line)["record"]["decision_id"] == decision
    page.get_by_text("Views and reviews").press("Enter")
    page.get_by_label("Note").fill("Looked at.")
    page.get_by_role("button", name="Mark as reviewed").press("Enter")
    page.get_by_text("are marked as reviewed").wait_for()
    for width in (380, 1280):
        well(page, width)
    page.locator("tbody a").first.click()
    page.get_by_role("heading", name="The record, as it is hashed").wait_for()
    for width in (380, 1280):
        well(page, width)
    page.goto(f"{portal.url}/audit/?q=tool:nonsense")
    page.get_by_text("no tool is called so").wait_for()
    for width in (380, 1280):
        well(page, width)


def test_whoever_follows_sees_what_is_new_while_the_tab_is_seen(page: Page, portal: Portal) -> None:
    page.goto(f"{portal.url}/audit/?q=tool:list_services")
    page.get_by_role("link", name="Follow").click()
    before = page.locator("tbody a").count()
    well(page, 1280)
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    portal.call("GET", "/services?limit=1")
    page.wait_for_timeout(4_000)
    assert page.locator("tbody a").count() == before
    page.evaluate("Object.defineProperty(document, 'hidden', { value: false, configurable: true })")
    page.locator("tbody a").nth(before).wait_for()
    page.get_by_role("link", name="Stop following").click()
    page.wait_for_url("**/audit/?q=tool%3Alist_services")


def test_a_checkpoint_that_was_kept_is_checked_and_the_page_tells_how_it_ended(
    page: Page, portal: Portal, tmp_path: Path
) -> None:
    portal.shell("from policies.journal import write_checkpoint\nwrite_checkpoint()")
    page.context.clear_cookies()
    sign_in(page, portal, "rhea")
    page.get_by_role("link", name="Verify it, and keep a checkpoint").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="Checkpoint of").first.click()
    kept = tmp_path / download.value.suggested_filename
    download.value.save_as(kept)
    page.get_by_label("The checkpoint that you kept").set_input_files(kept)
    page.get_by_role("button", name="Check it").press("Enter")
    waiting = page.get_by_text("waiting for the worker")
    waiting.wait_for()
    for width in (380, 1280):
        well(page, width)
    portal.shell(
        "from integrations.tasks import check_journal\nfrom policies.models import JournalCheck\n"
        "check_journal(JournalCheck.objects.first().pk)"
    )
    page.locator("#checks").get_by_text("still holds exactly the history").first.wait_for()
    assert waiting.count() == 0
    page.goto(f"{portal.url}/audit/?q=since:1d")
    with page.expect_download() as download:
        page.get_by_role("button", name="Export with proof").click()
    taken = tmp_path / download.value.suggested_filename
    download.value.save_as(taken)
    told = portal.manage("verify_export", str(taken), "--checkpoint", str(kept)).stdout
    assert "each with this very hash" in told
