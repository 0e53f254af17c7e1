"""From all escalation policies to the worst, to what would mend it, and to what is said to be as it should be: in a browser."""

from __future__ import annotations

import datetime as dt

import pytest
from playwright.sync_api import Page

from tests.browser.test_browser import faults
from tests.gateway.processes import Portal
from tests.screenshots import wrong_layout

pytestmark = pytest.mark.browser

MIRRORED = """
from integrations.models import Connection
from tests.mirrored import mirrored
mirrored(Connection.objects.get())
"""


def test_the_worst_policy_is_looked_at_changed_on_paper_and_muted(page: Page, portal: Portal) -> None:
    portal.shell(MIRRORED)
    page.goto(portal.url)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Escalations").click()
    page.get_by_label("Wrong, at least").select_option("critical")
    page.get_by_text("Something is wrong with 1 of 1 policy").wait_for()
    assert "severity=critical" in page.url
    assert faults(page) == []
    page.get_by_role("link", name="Settlement", exact=True).click()
    page.get_by_role("heading", name="What is wrong").wait_for()
    assert page.get_by_role("img", name="2 levels: level 1 at once").count() == 1

    # What if somebody were told behind the last level: by the keyboard, and the address keeps it.
    result = page.locator("#what-if")
    page.get_by_label("Tell also").select_option("Payments primary (schedule)")
    page.get_by_role("combobox", name="On", exact=True).select_option("a new last level")
    page.get_by_role("button", name="Work it out").press("Enter")
    result.get_by_text("Mended:").wait_for()
    assert "Level 3" in result.inner_text()
    assert "if=yes" in page.url
    # What is wrong is said at once, and so that it is right again.
    nobody = page.get_by_role("group", name="Level 1 tells").get_by_role("checkbox")
    nobody.press("Space")
    result.get_by_text("Level 1 names nobody").wait_for()
    assert faults(page) == []
    page.go_back()
    result.get_by_text("Mended:").wait_for()
    for width in (380, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        assert wrong_layout(page, width) == []
    assert faults(page) == []
    page.reload()
    result.get_by_text("Mended:").wait_for()
    # To make it so is asked once more, with what would be other; it is left.
    result.get_by_role("button", name="Change the policy so").press("Enter")
    page.get_by_role("heading", name="Confirm: this writes to PagerDuty").wait_for()
    assert page.get_by_text("As it stands it will be denied").count() == 1
    for width in (380, 1200):
        page.set_viewport_size({"width": width, "height": 900})
        assert wrong_layout(page, width) == []
    assert faults(page) == []
    page.get_by_role("link", name="Leave it").click()

    finding = page.locator(".finding").first
    finding.get_by_text("Mute it", exact=False).first.click()
    finding.get_by_label("Why").fill("Settlement is closed then")
    finding.get_by_label("Until the end of").fill((dt.datetime.now(dt.UTC).date() + dt.timedelta(days=30)).isoformat())
    finding.get_by_role("button", name="Mute it").press("Enter")
    page.get_by_text("Muted. It is listed below").wait_for()
    page.locator("summary", has_text="Muted (1)").click()
    page.get_by_text("Settlement is closed then").wait_for()
    assert faults(page) == []
    page.get_by_role("button", name="Tell it again").press("Enter")
    page.get_by_text("Taken back: it is told again.").wait_for()
