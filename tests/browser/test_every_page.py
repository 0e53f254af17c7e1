"""The running demo in a real browser: every page of the URL configuration, and each story from the home page to its end.

What is looked at of a page is told in ``tests/screenshots.py``, which makes pictures of the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from integrations.pagerduty.sandbox.world import demo_tokens
from tests.browser.conftest import required
from tests.portal.test_demo import call
from tests.screenshots import THEMES, WIDTHS, Demo, Looker, axe, furnished_demo, show, wrong_layout

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    required()
    with furnished_demo(tmp_path_factory.mktemp("demo")) as demo:
        yield demo


# The stories, each in at most three clicks from the home page


class Clicks:
    """Counts what somebody clicks; keys cost nothing, and are not counted."""

    def __init__(self, page: Page) -> None:
        self.count = 0
        page.expose_function("clicked", self._clicked)
        page.add_init_script("document.addEventListener('click', (event) => { if (event.detail) clicked(); }, true)")

    def _clicked(self) -> None:
        self.count += 1


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    found: list[str] = []
    yield found
    assert found == []


def at_home(chromium: Browser, demo: Demo, who: str, complaints: list[str]) -> tuple[Page, Clicks]:
    """Somebody who is signed in, before their first click."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": "sessionid", "value": demo.sessions[who], "url": demo.url}])
    page = context.new_page()
    page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    clicks = Clicks(page)
    page.goto(demo.url)
    return page, clicks


def test_an_administrator_makes_a_team(chromium: Browser, demo: Demo, complaints: list[str]) -> None:
    """What comes after the first set-up, which ``test_sign_in.py`` walks from its link on."""
    page, clicks = at_home(chromium, demo, "ada", complaints)
    page.get_by_role("link", name="Teams", exact=True).first.click()
    page.get_by_label("Name").fill("Billing")
    page.get_by_role("button", name="Create the team").click()
    page.get_by_label("Add somebody").get_by_label("E-mail").fill("omar@pagewarden.example")
    page.get_by_label("Add somebody").get_by_label("Role").select_option("manager")
    page.get_by_role("button", name="Add to Billing").click()
    page.get_by_role("rowheader", name="Omar").wait_for()
    assert clicks.count <= 3


def test_a_token_is_registered_and_tested(chromium: Browser, demo: Demo, complaints: list[str]) -> None:
    page, clicks = at_home(chromium, demo, "mina", complaints)
    page.locator("tr", has=page.get_by_role("link", name="Payments")).get_by_role("link", name="Connections").click()
    page.get_by_label("Name").fill("Story")
    page.get_by_label("Region").select_option("sandbox")
    page.get_by_label("Token", exact=False).and_(page.locator("[type=password]")).fill(
        demo_tokens(7)["user_manager"].value
    )
    page.get_by_label("PagerDuty teams").fill("PTEAM01")
    page.get_by_role("button", name="Seal and register").click()
    page.get_by_role("button", name="Test the connection").click()
    page.locator("#said").get_by_text("PagerDuty accepts the token").wait_for()
    assert clicks.count <= 3


def note(demo: Demo) -> tuple[int, Any, dict[str, str]]:
    """The reader's assistant writes a note."""
    key = demo.info["agents"]["reader"]["key"]
    incident = call(f"{demo.info['rest_url']}/incidents?limit=1", key)[1]["incidents"][0]["id"]
    return call(
        f"{demo.info['rest_url']}/incidents/{incident}/notes", key, "POST", {"note": {"content": "Looked at it."}}
    )


def becomes(status: int, ask: Any) -> bool:
    """Within the second that a change may take to be seen, and another for a busy machine."""
    until = time.monotonic() + 2
    while (found := ask()[0]) != status and time.monotonic() < until:
        time.sleep(0.1)
    return bool(found == status)


def test_a_write_is_allowed_and_the_next_call_succeeds(chromium: Browser, demo: Demo, complaints: list[str]) -> None:
    assert note(demo)[0] == 403
    page, clicks = at_home(chromium, demo, "mina", complaints)
    page.locator("tr", has=page.get_by_role("link", name="Payments")).get_by_role("link", name="Tools").click()
    page.locator("#tool-add_note_to_incident").get_by_role("button", name="On", exact=True).click()
    page.get_by_text("Add incident note is on for Payments.").wait_for()
    assert clicks.count <= 3
    assert becomes(200, lambda: note(demo))


def test_a_key_is_revoked_and_the_next_call_fails(chromium: Browser, demo: Demo, complaints: list[str]) -> None:
    key = demo.info["agents"]["bounded_a"]["key"]

    def read() -> tuple[int, Any, dict[str, str]]:
        return call(f"{demo.info['rest_url']}/incidents?limit=1", key)

    assert read()[0] == 200
    page, clicks = at_home(chromium, demo, "mina", complaints)
    page.locator("tr", has=page.get_by_role("link", name="Payments")).get_by_role("link", name="Agents").click()
    page.get_by_text("Revoke … bounded_a").click()
    page.get_by_label("Why bounded_a is revoked").fill("the story is over")
    page.get_by_role("button", name="Revoke bounded_a").click()
    page.get_by_text("bounded_a is revoked").wait_for()
    assert clicks.count <= 3
    assert becomes(401, read)


def test_who_is_paged_most_at_night_is_found_and_swaps_are_proposed(
    chromium: Browser, demo: Demo, complaints: list[str]
) -> None:
    page, clicks = at_home(chromium, demo, "mina", complaints)
    page.get_by_role("link", name="Load", exact=True).click()
    # Of the demo's people she is the one who looks (``furnish_demo``).
    assert page.locator("table.load tbody th").first.inner_text() == "Priya Sharma (you)"
    # Another period is fetched without a click, and stands in the address.
    page.get_by_label("Over the last").select_option("28 days")
    page.wait_for_url("**/load/?*days=28*")
    page.get_by_text("Priya Sharma had").wait_for()
    page.get_by_role("link", name="Payments primary").click()
    page.get_by_role("heading", name="Before and after").wait_for(timeout=60_000)
    assert page.get_by_text("takes over from Priya Sharma").count() > 0
    assert clicks.count <= 2


def test_a_denied_call_is_found_by_its_decision_id_and_exported(
    chromium: Browser, demo: Demo, complaints: list[str], tmp_path: Path
) -> None:
    status, _, headers = call(f"{demo.info['rest_url']}/users/PUSR001", demo.info["agents"]["reader"]["key"], "DELETE")
    assert status == 403
    decision = headers["x-pagewarden-decision"]
    page, clicks = at_home(chromium, demo, "mina", complaints)
    page.get_by_role("link", name="Audit", exact=True).first.click()
    page.locator("#q").fill(f"decision:{decision}")
    page.locator("#q").press("Enter")
    [row] = page.locator("tbody tr").all()
    assert "DELETE /users/{id}" in row.inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as JSON Lines").click()
    download.value.save_as(tmp_path / "taken.jsonl")
    [line] = (tmp_path / "taken.jsonl").read_text().splitlines()
    assert json.loads(line)["record"]["decision_id"] == decision
    row.get_by_role("link").first.click()
    page.get_by_role("heading", name="The record, as it is hashed").wait_for()
    assert clicks.count <= 3


def test_a_gap_is_closed_by_an_override_from_the_home_page(
    chromium: Browser, demo: Demo, complaints: list[str]
) -> None:
    demo.run(
        "from integrations.pagerduty.catalog import TOOLS\n"
        "from policies.actions import do_set_tools\n"
        "from policies.core.call import State\n"
        "from policies.models import Team\n"
        "states = {'create_schedule_override': State.ON}\n"
        "do_set_tools(Team.objects.get(slug='payments'), states=states, tools=TOOLS, by='the story')"
    )
    page, clicks = at_home(chromium, demo, "mina", complaints)
    gaps = page.locator("section", has=page.get_by_role("heading", name="On call now")).get_by_role(
        "link", name="Settlement", exact=True
    )
    # Once the worker has read the account.
    until = time.monotonic() + 60
    while not (before := gaps.count()) and time.monotonic() < until:
        time.sleep(1)
        page.goto(demo.url)
    gaps.first.click()
    page.get_by_role("button", name="Put on call").first.click()
    page.get_by_role("button", name="on call").click()
    page.get_by_text("What is mirrored is being read again").wait_for()
    page.get_by_role("status").filter(has_text="is on call on Settlement").wait_for()
    assert clicks.count <= 3
    until = time.monotonic() + 60
    while time.monotonic() < until:
        page.goto(demo.url)
        if gaps.count() < before:
            break
        time.sleep(1)
    assert gaps.count() == before - 1


# Every page


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("<p style='width: 2000px'>x</p>", "scrolls sideways"),
        ("<p style='width: 3rem; overflow: hidden; white-space: nowrap'>a text that is longer</p>", "cut off"),
        ("<p style='height: 1rem; overflow: hidden'>two<br>lines</p>", "cut off"),
        ("<a href='/'>one</a><button style='margin-left: -2rem'>two</button>", "lies over"),
        ("<main id='main'><div style='overflow: auto'><table><tbody><tr><td style='min-width: 900px'></td>"
         "<td><button>x</button></td></tr></table></div></main>", "out of sight"),
        ("<p style='width: 3rem; overflow: hidden; white-space: nowrap; text-overflow: ellipsis'>a text that is longer</p>"
         "<a href='/'>one</a> <button>two</button><div style='overflow: auto'><p style='width: 900px'>x</p></div>", ""),
    ],
    ids=["sideways", "text cut off", "line cut off", "over another", "out of sight", "nothing"],
)  # fmt: skip
def test_what_is_wrong_with_a_layout_is_seen(chromium: Browser, body: str, told: str) -> None:
    page = chromium.new_page(viewport={"width": 380, "height": 900})
    page.set_content(f"<!doctype html><body>{body}")
    found = wrong_layout(page, 380)
    assert (told in "".join(found)) if told else found == []
    page.close()


def test_every_page_is_sound_in_both_themes_and_at_both_widths(chromium: Browser, demo: Demo) -> None:
    """axe finds nothing, nothing scrolls sideways, is cut off or lies over another, and the browser complains of nothing."""
    looker, wrong, seen = Looker(chromium, demo), dict[str, list[str]](), 0
    for shot in demo.shots(few_of_admin=True):
        if (page := looker.open(shot)) is None:
            continue
        seen += 1
        found = []
        # Each page in both themes and at both widths; each pair of them on every second page (the screenshots': all four).
        for width, theme in zip(WIDTHS, THEMES if seen % 2 else THEMES[::-1], strict=True):
            show(page, theme, width)
            found += wrong_layout(page, width)
            found += [f"{theme}, {width} px: {fault}" for fault in axe(page)]
        if found:
            wrong[f"{shot.path} ({shot.who})"] = found
    assert wrong == {}
    assert looker.complaints == []
    assert seen > len(demo.paths) / 5


def test_hostile_text_breaks_no_layout(chromium: Browser, demo: Demo) -> None:
    """Words of ten thousand letters wherever people or PagerDuty write. The last test here: the demo is of no use after it."""
    demo.run("from django.db import transaction\nfrom tests.world import spoil\nwith transaction.atomic(): spoil()")
    looker, wrong = Looker(chromium, demo), dict[str, list[str]]()
    for shot in demo.shots(few_of_admin=True):
        # The admin is Django's own, and scrolls.
        if shot.name.startswith("admin") or (page := looker.open(shot)) is None:
            continue
        found = []
        for width in WIDTHS:
            show(page, "light", width)
            found += wrong_layout(page, width)
        if found:
            wrong[f"{shot.path} ({shot.who})"] = found
    assert wrong == {}
    assert looker.complaints == []
