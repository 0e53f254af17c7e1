"""Views that a reviewer keeps, and ranges that are marked as reviewed."""

from __future__ import annotations

import json

import pytest
from django.test import Client

from policies.models import Entry, Membership, Review, SavedView
from tests.conftest import Cast
from tests.portal.test_audit_page import HOSTILE, note


def test_a_view_is_kept_for_oneself_and_deleted(client: Client, cast: Cast) -> None:
    client.force_login(cast.mina)
    answer = client.post("/audit/views/", {"q": "verdict:deny since:7d", "name": HOSTILE[:50]})
    assert answer["Location"] == "/audit/?q=verdict%3Adeny+since%3A7d"
    shown = client.get("/audit/").content.decode()
    assert 'href="/audit/?q=verdict%3Adeny+since%3A7d"' in shown
    assert "<script>alert" not in shown
    view = SavedView.objects.get()
    client.post("/audit/views/", {"q": "verdict:allow", "name": view.name})
    assert SavedView.objects.get().query == "verdict:allow"
    other = Client()
    other.force_login(cast.rhea)
    assert "verdict%3Aallow" not in other.get("/audit/").content.decode()
    assert other.post("/audit/views/", {"delete": view.pk}).status_code == 404
    client.post("/audit/views/", {"delete": view.pk})
    assert not SavedView.objects.exists()


@pytest.mark.parametrize(
    "values", [{"q": "tool:nonsense", "name": "x"}, {"q": "", "name": ""}, {"q": "", "name": "x" * 61}]
)
def test_what_is_no_view_is_not_kept(client: Client, cast: Cast, values: dict[str, str]) -> None:
    client.force_login(cast.rhea)
    assert client.post("/audit/views/", values).status_code == 302
    assert not SavedView.objects.exists()


def test_a_range_is_marked_with_a_note_on_record_and_the_next_goes_on(client: Client, cast: Cast) -> None:
    first = note("d1", team_id=cast.payments.pk)
    client.force_login(cast.mina)
    text = "tool:list_incidents"
    shown = client.get(f"/audit/?q={text}").content.decode()
    assert f'name="last" value="{first.pk}"' in shown
    values = {"q": text, "first": "1", "last": str(first.pk), "note": "Looked for odd reads: none."}
    client.post("/audit/review/", values)
    [row] = Entry.objects.filter(record__contains="mark_reviewed")
    details = json.loads(row.record)["details"]
    assert (details["by"], details["reason"], details["target"]) == ("mina@example.com", values["note"], text)
    assert details["after"] == {"from_entry": 1, "to_entry": first.pk}
    second = note("d2", team_id=cast.payments.pk)
    shown = client.get(f"/audit/?q={text}").content.decode()
    assert "were reviewed by mina@example.com" in shown
    assert f'name="first" value="{first.pk + 1}"' in shown
    assert f'name="last" value="{second.pk}"' in shown
    assert "were reviewed by" not in client.get("/audit/").content.decode()
    # The auditor sees it; the manager of another team does not.
    for who, sees in (("rhea", True), ("omar", False)):
        client.force_login(getattr(cast, who))
        assert ("were reviewed by" in client.get(f"/audit/?q={text}").content.decode()) is sees


@pytest.mark.parametrize(
    "values",
    [
        {"first": "1", "last": "1", "note": ""},
        {"first": "5", "last": "1", "note": "x"},
        {"first": "0", "last": "1", "note": "x"},
        {"first": "1", "last": "1", "note": "the key is pwk_abcdefgh_0123456789abcdef"},
        {"first": "1", "last": "1", "note": "x", "q": "tool:nonsense"},
    ],
)
def test_what_is_no_review_is_not_marked(client: Client, cast: Cast, values: dict[str, str]) -> None:
    client.force_login(cast.rhea)
    assert client.post("/audit/review/", values).status_code == 302
    assert not Review.objects.exists()


@pytest.mark.parametrize("path", ["/audit/review/", "/audit/views/"])
def test_only_readers_and_only_by_post(client: Client, cast: Cast, path: str) -> None:
    values = {"name": "x", "first": "1", "last": "1", "note": "x"}
    for who in ("vic", "zed"):
        client.force_login(getattr(cast, who))
        assert client.post(path, values).status_code == 403
    client.force_login(cast.rhea)
    assert client.get(path).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.rhea)
    assert strict.post(path, values).status_code == 403
    assert not Review.objects.exists()
    assert not SavedView.objects.exists()


def test_a_managers_review_of_their_team_is_none_of_all_teams(client: Client, cast: Cast) -> None:
    row = note("d1", team_id=cast.payments.pk)
    client.force_login(cast.mina)
    client.post("/audit/review/", {"q": "kind:result", "first": "1", "last": str(row.pk), "note": "fine"})
    assert f'name="first" value="{row.pk}"' in client.get("/audit/?q=kind:result").content.decode()
    client.force_login(cast.rhea)
    shown = client.get("/audit/?q=kind:result").content.decode()
    assert "were reviewed by mina@example.com, for Payments, at" in shown
    assert 'name="first" value="1"' in shown
    Membership.objects.create(user=cast.mina, team=cast.search, role="manager")
    client.force_login(cast.mina)
    values = {"q": "kind:result", "first": "1", "last": str(row.pk), "note": "both"}
    assert "say which this is of" in client.post("/audit/review/", values, follow=True).content.decode()
    client.post("/audit/review/", values | {"q": "kind:result team:payments"})
    assert Review.objects.count() == 2
