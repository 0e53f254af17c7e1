"""From nobody to a team of two, in a browser: the set-up link, a passkey, an authenticator app, an invitation."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from playwright.sync_api import Browser, Page

from tests.browser.conftest import required
from tests.browser.test_browser import faults
from tests.conftest import PASSWORD
from tests.gateway.processes import Portal
from tests.screenshots import wrong_layout

pytestmark = pytest.mark.browser


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    required()
    portal = Portal(tmp_path, "", {"REQUIRE_MFA": "administrators"})
    try:
        portal.manage("migrate", "-v0")
        portal.start(static=True)
        yield portal
    finally:
        portal.close()


def printed(portal: Portal, what: str) -> str:
    """The newest link in the server's output, by the name that passkeys belong to."""
    until = time.monotonic() + 10
    while not (found := re.findall(rf"http://127\.0\.0\.1:\d+(/{what}/\S+)", portal.log())):
        assert time.monotonic() < until, portal.log()
        time.sleep(0.05)
    return f"http://localhost:{portal.port}{found[-1]}"


class Person:
    """Somebody at a browser of their own, with a device that holds passkeys. Every page they come to is looked at."""

    def __init__(self, browser: Browser) -> None:
        self.page: Page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
        self.complaints: list[str] = []
        self.page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        session = self.page.context.new_cdp_session(self.page)
        session.send("WebAuthn.enable")
        options = {
            "protocol": "ctap2",
            "transport": "internal",
            "hasResidentKey": True,
            "hasUserVerification": True,
            "isUserVerified": True,
            "automaticPresenceSimulation": True,
        }
        session.send("WebAuthn.addVirtualAuthenticator", {"options": options})

    def looks(self, name: str) -> None:
        """In both themes, wide and narrow: readable, and nothing beyond the edge."""
        for width in (1280, 380):
            self.page.set_viewport_size({"width": width, "height": 900})
            assert wrong_layout(self.page, width) == [], name
            if pictures := os.environ.get("PICTURES"):
                self.page.screenshot(path=f"{pictures}/{name}-{width}.png", full_page=True)
        assert faults(self.page) == [], name
        self.page.set_viewport_size({"width": 1280, "height": 900})

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).click()

    def follow(self, name: str) -> None:
        self.page.get_by_role("link", name=name, exact=True).click()

    def comes_to(self, heading: str) -> None:
        self.page.get_by_role("heading", name=heading).wait_for()

    def type(self, **values: str) -> None:
        for name, value in values.items():
            self.page.fill(f"[name={name}]", value)


def test_from_the_set_up_link_to_a_second_person(chromium: Browser, portal: Portal) -> None:
    at = f"http://localhost:{portal.port}"
    ada = Person(chromium)
    ada.page.goto(at)
    ada.page.get_by_text("Nobody is here yet").wait_for()
    ada.looks("nobody")
    ada.page.goto(printed(portal, "set-up"))
    ada.looks("set-up")
    ada.type(email="ada@example.com", name="Ada", new=PASSWORD, again=PASSWORD)
    ada.press("Set it up")

    # More than a password is asked of administrators: nothing else is open.
    ada.page.get_by_text("You need one here").wait_for()
    ada.looks("second-factor-needed")
    ada.page.goto(f"{at}/teams/")
    ada.follow("Add a passkey")
    ada.comes_to("Is it you, Ada?")
    ada.looks("again-password")
    ada.type(password=PASSWORD)
    ada.press("Go on")
    ada.comes_to("Add a passkey")
    ada.looks("passkey-add")
    ada.type(name="Laptop")
    ada.press("Add it")
    ada.comes_to("Recovery codes")
    ada.press("Show them, this once")
    ada.page.locator("#codes").wait_for()
    ada.looks("recovery-codes")
    recovery = ada.page.locator("#codes").inner_text().split()
    assert len(recovery) == 10
    ada.follow("I have kept them")
    ada.page.get_by_text("Laptop", exact=True).first.wait_for()

    # The passkey alone signs in, and stands for both factors.
    ada.page.locator("#you summary").click()
    ada.press("Sign out")
    ada.looks("sign-in")
    ada.press("Use a passkey")
    ada.page.wait_for_url(f"{at}/")
    ada.page.goto(f"{at}/account/")
    ada.page.get_by_text("by passkey").wait_for()
    ada.looks("account")

    # After a password, too; and so does an app's code.
    ada.page.goto(f"{at}/account/second-factor/")
    ada.follow("Set up an app")
    ada.press("Use a passkey")  # says again who it is
    ada.comes_to("Set up an authenticator app")
    ada.looks("app-set-up")
    secret = ada.page.locator("code.secret").inner_text()
    ada.type(code=str(format_hotp_value(hotp_value(secret, int(time.time()) // 30))))
    ada.press("Set it up")
    ada.comes_to("Your second factor")
    ada.looks("second-factor")
    ada.page.locator("#you summary").click()
    ada.press("Sign out")
    ada.type(username="ada@example.com", password=PASSWORD)
    ada.press("Sign in")
    ada.comes_to("One more step")
    ada.looks("one-more-step")
    ada.press("Use a passkey")
    ada.page.wait_for_url(f"{at}/")

    # Somebody who has no passkey here is told so, on the page.
    mina = Person(chromium)
    mina.page.goto(f"{at}/sign-in/")
    mina.press("Use a passkey")
    mina.page.get_by_text("No passkey was used").wait_for()
    assert faults(mina.page) == []

    # Ada makes a team and invites Mina, who comes in by the link in the mail.
    ada.page.goto(f"{at}/teams/")
    ada.page.get_by_label("Name").fill("Payments")
    ada.press("Create the team")
    ada.page.get_by_label("Invite somebody").get_by_label("E-mail").fill("mina@example.com")
    ada.page.get_by_label("Invite somebody").get_by_label("Role in the team").select_option("manager")
    ada.press("Invite to Payments")
    ada.page.get_by_text("mina@example.com is invited").wait_for()
    ada.looks("members")
    ada.follow("Invitations to the whole portal")
    ada.comes_to("Invitations")
    ada.looks("invitations")
    mina.page.goto(printed(portal, "invitation"))
    mina.looks("invitation")
    mina.type(name="Mina", new=PASSWORD, again=PASSWORD)
    mina.press("Come in")
    mina.page.wait_for_url(f"{at}/")
    mina.page.goto(f"{at}/teams/payments/members/")
    mina.page.get_by_role("row", name="Mina").wait_for()
    mina.page.goto(printed(portal, "invitation"))
    mina.comes_to("This invitation no longer works")
    mina.looks("closed")
    refused = [said for said in ada.complaints + mina.complaints if "410" not in said]
    assert refused == []
