"""Whatever stands in names, reasons and answers, on every page of the URL configuration: it is text, and all of it is seen."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import product
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from policies.models import AgentKey
from tests.pages import QUERIES, addresses, path_of
from tests.world import ACTING, HOSTILE, World, make_world, session_of, spoil

ADDRESSES = addresses()


class Tags(HTMLParser):
    """What of the hostile text became an element, an attribute or an address of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.wrong: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        inline = tag == "script" and "src" not in given
        acts = any(name == "data-hostile" or name == "style" or name.startswith("on") for name in given)
        leads = any(
            (given.get(name) or "").strip().lower().startswith("javascript:") for name in ("href", "action", "src")
        )
        if inline or acts or leads:
            self.wrong.append(self.get_starttag_text() or tag)


@pytest.fixture(scope="module")
def spoiled(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """Made once, and never committed."""
    with django_db_blocker.unblock(), transaction.atomic():
        world = make_world()
        spoil()
        yield world
        transaction.set_rollback(True)


@pytest.mark.django_db
@pytest.mark.parametrize("name", ADDRESSES)
def test_every_page_of_hostile_things(client: Client, spoiled: World, name: str) -> None:
    if name == "team-agents":
        # Not for all pages: with what is no network there, every call is refused, and nothing can be told of any.
        AgentKey.objects.update(networks=[HOSTILE])
    people = (
        (spoiled.cast.ada,) if name.startswith("admin") else (spoiled.cast.ada, spoiled.cast.mina, spoiled.cast.vic)
    )
    path, examples = path_of(ADDRESSES[name], spoiled.cast.payments), [row for row in QUERIES if row.split()[0] == name]
    asked: list[dict[str, Any]] = [{}, *(QUERIES[row](spoiled.cast.payments) for row in examples)]
    for person, query in product(people, asked):
        client.cookies["sessionid"] = session_of(person)
        if person == spoiled.cast.vic and not query:
            query = dict.fromkeys(("q", "text", "team", "tool", "category", "decision", "who"), HOSTILE)
        answer = client.get(path, query)
        if answer.streaming or not answer["Content-Type"].startswith("text/html"):
            continue
        page = answer.content.decode()
        assert not ACTING & set(page)
        assert "unsafe" not in answer["Content-Security-Policy"]
        parser = Tags()
        parser.feed(page)
        assert parser.wrong == []
