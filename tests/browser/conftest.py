"""One browser for the tests of a file, one portal for all of them, and Mina's page."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.browser.test_browser import browsing
from tests.gateway.processes import Portal, free_port, running
from tests.screenshots import CHROMIUM, browser


def required() -> None:
    """Ends the test where there is no browser: as failed where browsers are required."""
    if CHROMIUM is None:
        if os.environ.get("REQUIRE_BROWSER"):
            pytest.fail("chromium is not on the PATH, and the browser tests are required here.")
        pytest.skip("chromium is not installed")


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    # No longer than a file's tests: while it runs no other event loop can, in this process.
    required()
    with browser() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def portal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Portal]:
    required()
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        portal = Portal(tmp_path_factory.mktemp("portal"), f"http://127.0.0.1:{port}")
        try:
            portal.seed(token=demo_tokens(7)["account"].value, states={}, from_email=demo_from_email(7))
            portal.start(static=True)
            yield portal
        finally:
            portal.close()


@pytest.fixture
def page(chromium: Browser, portal: Portal) -> Iterator[Page]:
    with browsing(chromium, portal) as page:
        yield page
