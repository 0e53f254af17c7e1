"""What is shown unmasked: who sees the page, who may change it, and how reveals are seen in the record."""

from __future__ import annotations

import json

import pytest
from django.test import Client
from django.utils import timezone

from integrations.pagerduty.masking import REVEALABLE
from policies.actions import do_set_reveals
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.journal import append_in_transaction
from policies.models import ConfigChange, Entry, Reveal
from tests.conftest import Cast

pytestmark = pytest.mark.django_db
PATH = "/teams/payments/tools/reveals/"
CHOICE = {"addresses": "on", "reason": "the on-call bot rings people"}


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def reveal(cast: Cast, *kinds: str) -> None:
    do_set_reveals(cast.payments, kinds=kinds, known=REVEALABLE, by=cast.ada, reason="rings people")


@pytest.mark.parametrize(
    ("who", "status"), [("ada", 200), ("mina", 200), ("vic", 200), ("rhea", 200), ("omar", 404), ("zed", 404)]
)
def test_it_is_seen_by_the_teams_people_administrators_and_auditors(
    client: Client, cast: Cast, who: str, status: int
) -> None:
    assert as_(client, cast, who).get(PATH).status_code == status


@pytest.mark.parametrize(
    ("who", "status"), [("ada", 302), ("mina", 422), ("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)]
)
def test_an_administrator_alone_shows_more(client: Client, cast: Cast, who: str, status: int) -> None:
    assert as_(client, cast, who).post(PATH, CHOICE).status_code == status
    assert Reveal.objects.exists() is (who == "ada")


def test_a_stranger_signs_in_first_and_other_methods_are_refused(client: Client, cast: Cast) -> None:
    assert client.get(PATH)["Location"].startswith("/sign-in/")
    assert as_(client, cast, "ada").put(PATH).status_code == 405
    assert client.delete(PATH).status_code == 405


def test_a_manager_is_told_why_they_cannot_and_what_they_typed_is_kept(client: Client, cast: Cast) -> None:
    reveal(cast, "keys")
    answer = as_(client, cast, "mina").post(PATH, {**CHOICE, "keys": "on"})
    said = answer.content.decode()
    assert "Only an administrator may let a team" in said
    assert "the on-call bot rings people" in said


def test_a_manager_takes_back_what_is_shown(client: Client, cast: Cast) -> None:
    reveal(cast, "addresses", "keys")
    shown = as_(client, cast, "mina").get(PATH).content.decode()
    assert 'name="calendars"' in shown
    assert shown.count("disabled") == 1  # calendars are not hers to show
    answer = client.post(PATH, {"reason": "no more calls"}, follow=True)
    assert "Shown unmasked for Payments now: nothing." in answer.content.decode()
    assert not Reveal.objects.exists()


def test_nothing_is_changed_without_a_reason(client: Client, cast: Cast) -> None:
    answer = as_(client, cast, "ada").post(PATH, {"addresses": "on"})
    assert answer.status_code == 422
    assert not ConfigChange.objects.exists()


def test_the_tools_page_says_what_is_shown_and_leads_to_who_chose_it(client: Client, cast: Cast) -> None:
    as_(client, cast, "vic")
    assert PATH in (before := client.get("/teams/payments/tools/").content.decode())
    assert "but for these" not in before
    reveal(cast, "addresses")
    assert (
        "phone numbers and e-mail addresses of contact methods" in client.get("/teams/payments/tools/").content.decode()
    )
    assert '<button class="btn btn-primary"' not in client.get(PATH).content.decode()
    shown = as_(client, cast, "rhea").get(PATH).content.decode()
    assert "From nothing to addresses by ada@example.com" in shown
    assert "rings people" in shown


def write(cast: Cast, decision_id: str, **details: object) -> None:
    append_in_transaction(
        NewEntry(
            EntryKind.RESULT, timezone.now(), decision_id, cast.payments.pk, "key:1", "get_user_data", details=details
        )
    )


def test_the_record_shows_what_was_revealed_and_can_be_filtered_by_it(client: Client, cast: Cast) -> None:
    write(cast, "with", revealed={"addresses": 3, "keys": 1})
    write(cast, "without", reason='somebody typed "revealed":{')
    as_(client, cast, "rhea")
    assert "shown unmasked: 3 addresses, 1 keys" in client.get("/audit/").content.decode()
    found = client.get("/audit/?revealed=on").content.decode()
    with_, without = (Entry.objects.get(decision_id=name).pk for name in ("with", "without"))
    assert f"/audit/{with_}/" in found
    assert f"/audit/{without}/" not in found
    assert "3 addresses, 1 keys" in client.get(f"/audit/{with_}/").content.decode()


HOSTILE = "Ann\u202e\x1b[31m\U000e0041<b>"


def test_hostile_names_in_the_record_are_written_out(client: Client, cast: Cast) -> None:
    """Rows of before, or that somebody edited: what is written now is made fit first."""
    write(cast, "hostile", actor={"name": HOSTILE}, reason=HOSTILE, method=HOSTILE, path=HOSTILE, revealed={HOSTILE: 1})
    row = Entry.objects.get(decision_id="hostile")
    as_(client, cast, "rhea")
    for path in ("/audit/", f"/audit/{row.pk}/"):
        page = client.get(path).content.decode()
        assert "Ann\\u202e\\x1b[31m\\U000e0041&lt;b&gt;" in page
        assert not set("\u202e\x1b\U000e0041") & set(page)
    assert json.loads(row.record)["details"]["reason"] == HOSTILE
