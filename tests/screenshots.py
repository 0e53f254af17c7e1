"""Pictures of every page, in both themes and at both widths, and what is wrong with it: what axe finds, and how it is laid out.

``python -m tests.screenshots`` starts a demo, looks at every page of the URL configuration, and leaves pictures and one sheet of
them in ``screenshots/``, which git ignores. ``tests/browser/test_every_page.py`` looks at the same pages in the same way.
"""

from __future__ import annotations

import argparse
import html
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from axe_core_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, BrowserContext, Error, Page, sync_playwright

from tests.gateway.processes import ROOT, running_demo

CHROMIUM = shutil.which("chromium")
WIDTHS = (1280, 380)
Theme = Literal["light", "dark"]
THEMES: tuple[Theme, ...] = ("light", "dark")

MORE = {
    "home": [("vic", ""), ("mina", ""), ("rhea", "")],
    "teams": [("vic", "")],
    "team-tools": [("ada", "?text=nonsense"), ("mina", "?state=locked"), ("vic", "")],
    "connection": [("vic", "")],
    "connection-bounds": [("ada", "?team_ids=PTEAM00")],
    "catalogue": [("ada", "?text=status+page"), ("ada", "?text=nonsense")],
    "team-notices": [("vic", ""), ("rhea", "")],
    "standing-check": [("vic", "")],
    "audit": [("ada", "?q=verdict%3Adeny"), ("ada", "?q=tool%3Anonsense"), ("mina", ""), ("vic", "")],
    "grid": [("ada", "?category=incidents")],
    "coverage": [("vic", "?text=sundays"), ("rhea", ""), ("ada", "?text=nonsense")],
    "coverage-policy": [("mina", ""), ("vic", "?weeks=12")],
    "response": [
        ("vic", "?by=level"),
        ("ada", "?days=28&by=service"),
        ("ada", "?urgency=low&priority=P1"),
        ("rhea", ""),
    ],
    "escalations": [("vic", "?severity=high"), ("rhea", ""), ("ada", "?text=nonsense")],
    "escalation": [("mina", ""), ("vic", "?days=28")],
    "load": [("vic", ""), ("rhea", ""), ("mina", "?days=28&sort=pages")],
    "load-swaps": [("mina", "?found=yes&weeks=12"), ("vic", "")],
    "schedules": [("ada", "?text=nonsense"), ("rhea", "")],
    "my-on-call": [("mina", "")],
}
"""URL name → who else looks at the page, and with which query: how others see it, and what is empty, refused or a preview."""

OF_A_MODEL = re.compile(r"admin:.*(_(changelist|add|history|delete|change)|<path:object_id>/)$")
LOOKED_AT = re.compile(r"admin:.*_(user|connection|entry)_")
"""Forms, actions and lists of ours, and a long record."""

WRONG = """(narrow) => {
    const wrong = [], width = document.scrollingElement.clientWidth;
    const told = (element) => element.outerHTML.replace(/\\s+/g, ' ').slice(0, 120);
    if (document.scrollingElement.scrollWidth > innerWidth) {
        const wide = [...document.body.querySelectorAll('*')].filter((each) => each.getBoundingClientRect().right > width + 1);
        wrong.push('the page scrolls sideways, for ' + (wide.length ? told(wide[wide.length - 1]) : 'what is not seen'));
    }
    // Text that is cut off: where it lies outside of what hides what is outside of it, and nothing says so by three dots.
    const unseen = '.visually-hidden, .visually-hidden-focusable, thead, script, style, option, [hidden]';
    const hidden = (element) => element.closest(unseen) || !element.checkVisibility({ visibilityProperty: true });
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const element = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim() || hidden(element)) continue;
        const range = document.createRange();
        range.selectNodeContents(texts.currentNode);
        const box = range.getBoundingClientRect();
        for (let outer = element; outer && outer !== document.body; outer = outer.parentElement) {
            const style = getComputedStyle(outer), edge = outer.getBoundingClientRect();
            if (['auto', 'scroll'].includes(style.overflowX) || style.textOverflow === 'ellipsis') break;
            if (style.display === 'inline' || (style.overflowX === 'visible' && style.overflowY === 'visible')) continue;
            if (box.right > edge.right + 1 || box.left < edge.left - 1 || box.bottom > edge.bottom + 1) {
                wrong.push('text is cut off: ' + told(element));
                break;
            }
        }
    }
    // What one may click lies over another such thing. What sticks while others scroll lies over them by its nature.
    const controls = [...document.querySelectorAll('a[href], button, input:not([type=hidden]), select, textarea, summary')]
        .filter((each) => !hidden(each) && !each.closest('.grid, .sticky-top'));
    const boxes = controls.flatMap((each) => [...each.getClientRects()].map((box) => ({ each, box })))
        .filter(({ box }) => box.width > 2 && box.height > 2).sort((one, other) => one.box.top - other.box.top);
    boxes.forEach(({ each, box }, place) => {
        for (let next = place + 1; next < boxes.length && boxes[next].box.top < box.bottom - 2; next++) {
            const other = boxes[next];
            if (other.each === each || other.each.contains(each) || each.contains(other.each)) continue;
            if (Math.min(box.right, other.box.right) - Math.max(box.left, other.box.left) > 2
                && Math.min(box.bottom, other.box.bottom) - other.box.top > 2)
                wrong.push(`${told(each)} lies over ${told(other.each)}`);
        }
    });
    // Each id is one thing's: axe does not look at all rows.
    const ids = [...document.querySelectorAll('[id]')].map((each) => each.id);
    ids.filter((id, place) => ids.indexOf(id) !== place).forEach((id) => wrong.push('there are two of the id ' + id));
    // On a narrow screen nothing that one may click hides in a table that scrolls sideways; the grid says that it scrolls.
    if (narrow) controls.filter((each) => each.closest('#main tbody') && each.getBoundingClientRect().right > width + 1)
        .forEach((each) => wrong.push('out of sight: ' + told(each)));
    return wrong.slice(0, 8);
}"""


ALIKE = """() => {
    const seen = {}, look = (row) => [row, ...row.querySelectorAll('*')]
        .map((each) => each.tagName + each.className + each.type + each.getAttributeNames()).join();
    document.querySelectorAll('[data-alike]').forEach((row) => row.removeAttribute('data-alike'));
    document.querySelectorAll('tbody tr, main li').forEach((row) => {
        const key = look(row);
        seen[key] = (seen[key] || 0) + 1;
        if (seen[key] > 2) row.dataset.alike = '';
    });
}"""


@dataclass(frozen=True)
class Shot:
    """A page as somebody sees it; who is nobody is not signed in."""

    name: str
    who: str
    path: str

    def __str__(self) -> str:
        query = self.path.partition("?")[2]
        return re.sub(r"[^\w.-]+", "_", "-".join(filter(None, (self.name, self.who, query)))).strip("_")


@dataclass
class Demo:
    """A running demo, furnished (``tests.world.furnish_demo``)."""

    info: dict[str, Any]
    paths: dict[str, str]
    sessions: dict[str, str]

    @property
    def url(self) -> str:
        return str(self.info["url"])

    def run(self, code: str) -> str:
        """Run Python on the demo's database; what it prints."""
        command = [sys.executable, "-c", f"import json, django; django.setup()\n{code}"]
        env = {**os.environ, **self.info["env"]}
        return subprocess.run(
            command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=120
        ).stdout

    def shots(self, *, few_of_admin: bool = False) -> Iterator[Shot]:
        """Every address of the URL configuration, as the administrator sees it; some of them otherwise, too. Of the admin's,
        which are one template over many models, few are enough where time counts."""
        for name, path in self.paths.items():
            if few_of_admin and OF_A_MODEL.match(name) and not LOOKED_AT.match(name):
                continue
            for who, query in [("ada", ""), *MORE.get(name, ())]:
                yield Shot(name, who, path + query)
        for name in ("sign-in", "admin:login"):
            yield Shot(name, "", self.paths[name])
        yield Shot("404", "ada", "/nothing/")
        yield Shot("403", "vic", self.paths["grid"])


@contextmanager
def furnished_demo(folder: Path) -> Iterator[Demo]:
    with running_demo(folder) as (info, _):
        demo = Demo(info, {}, {})
        made = json.loads(demo.run("from tests.world import furnish_demo\nprint(json.dumps(furnish_demo()))"))
        demo.paths, demo.sessions = made["paths"], made["sessions"]
        yield demo


@contextmanager
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Looker:
    """Opens pages as several people, each in a window of their own, and keeps what the browser complains of."""

    def __init__(self, browser: Browser, demo: Demo) -> None:
        self.demo = demo
        self.complaints: list[str] = []
        self._browser = browser
        self._pages: dict[str, Page] = {}

    def page_of(self, who: str) -> Page:
        if who not in self._pages:
            context: BrowserContext = self._browser.new_context(
                viewport={"width": WIDTHS[0], "height": 900}, color_scheme="light", reduced_motion="reduce"
            )
            if who:
                context.add_cookies([{"name": "sessionid", "value": self.demo.sessions[who], "url": self.demo.url}])
            page = self._pages[who] = context.new_page()
            page.on("console", lambda said: self._said(said.text) if said.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: self._said(str(error)))
        return self._pages[who]

    def _said(self, text: str) -> None:
        # A page that is refused or missing on purpose says so in its status, which the browser repeats.
        if "Failed to load resource: the server responded with a status of 4" not in text:
            self.complaints.append(text)

    def open(self, shot: Shot) -> Page | None:
        """None: there is no page to be seen at that address (it takes a POST, leads elsewhere, or is no HTML)."""
        page = self.page_of(shot.who)
        page.set_viewport_size({"width": WIDTHS[0], "height": 900})
        page.emulate_media(color_scheme="light")
        try:
            answer = page.goto(self.demo.url + shot.path)
        except Error as error:
            # A form's address, which refuses without a word; and a file.
            if "ERR_HTTP_RESPONSE_CODE_FAILURE" in str(error) or "Download is starting" in str(error):
                return None
            raise
        seen = answer is not None and answer.status < 500 and not answer.request.redirected_from
        if answer is None or not seen or not (answer.header_value("content-type") or "").startswith("text/html"):
            return None
        # What is folded away must be as good as the rest; a menu lies over the rest.
        page.evaluate("document.querySelectorAll('details:not(.menu)').forEach((folded) => { folded.open = true; })")
        return page


def show(page: Page, theme: Theme, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme)
    page.evaluate("(theme) => { document.documentElement.dataset.bsTheme = theme; }", theme)
    settle(page)


def settle(page: Page) -> None:
    """No colour is on its way to another: the admin's buttons take their time."""
    # What turns without end, while something is under way, cannot be finished.
    endless = "each.effect.getComputedTiming().endTime === Infinity"
    page.evaluate(f"document.getAnimations().forEach((each) => {endless} ? each.cancel() : each.finish())")


def wrong_layout(page: Page, width: int) -> list[str]:
    """What scrolls sideways, is cut off or lies over something else."""
    found: list[str] = page.evaluate(WRONG, width < 600)
    return [f"{width} px: {each}" for each in found]


def axe(page: Page, *rules: str) -> list[str]:
    """What axe finds; ``rules``: by these alone. Of rows that are made alike it looks at two: it takes seconds for a hundred of
    them, and finds in each the same."""
    page.evaluate(f"window.axe || {AXE_SCRIPT}")
    page.evaluate(ALIKE)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": rules}
    found = page.evaluate("(options) => axe.run({ exclude: [['[data-alike]']] }, options)", options)
    return [f"{fault['id']}: {fault['nodes'][0]['html'][:160]}" for fault in found["violations"]]


def take(demo: Demo, folder: Path, only: str = "") -> int:
    """Pictures of all pages, and the sheet of them; how many pages have something wrong. ``only``: of which names, as a regular
    expression."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, faulty = [], 0
    with browser() as chromium:
        looker = Looker(chromium, demo)
        for shot in demo.shots():
            if only and not re.search(only, str(shot)):
                continue
            if (page := looker.open(shot)) is None:
                continue
            wrong, pictures = [], []
            for width in WIDTHS:
                for theme in THEMES:
                    show(page, theme, width)
                    if theme == "light":
                        wrong += wrong_layout(page, width)
                    wrong += [f"{theme}, {width} px: {fault}" for fault in axe(page)]
                    picture = f"{shot}-{theme}-{width}.png"
                    page.screenshot(path=folder / picture, full_page=True)
                    pictures.append(
                        f'<a href="{picture}"><img loading="lazy" src="{picture}" alt="{theme}, {width} px"></a>'
                    )
            faulty += bool(wrong)
            for each in wrong:
                print(f"{shot.path} ({shot.who}): {each}", flush=True)
            told = "".join(f"<li>{html.escape(each)}" for each in wrong)
            rows.append(
                f"<h2>{html.escape(f'{shot.name} {shot.who} {shot.path}')}</h2><ul>{told}</ul><p>{''.join(pictures)}</p>"
            )
        for complaint in looker.complaints:
            print(f"The browser says: {complaint}")
    style = "img { width: 23%; margin: 0 1%; vertical-align: top; border: 1px solid; } li { color: #b00; }"
    title = f"Pagewarden: {len(rows)} pages"
    sheet = f'<!doctype html><meta charset="utf-8"><title>{title}</title><style>{style}</style><h1>{title}</h1>'
    (folder / "index.html").write_text(sheet + "".join(rows))
    print(f"{len(rows)} pages, {faulty} with something wrong: {folder / 'index.html'}")
    return faulty


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "screenshots", help="made anew")
    parser.add_argument("--only", default="", help="the pages whose name fits this regular expression")
    options = parser.parse_args()
    if CHROMIUM is None:
        sys.exit("chromium is not on the PATH: install it first.")
    with tempfile.TemporaryDirectory() as folder, furnished_demo(Path(folder)) as demo:
        faulty = take(demo, options.out.resolve(), options.only)
    sys.exit(1 if faulty else 0)


if __name__ == "__main__":
    main()
