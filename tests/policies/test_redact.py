"""What an entry keeps: nothing that a person wrote, whatever field it stands in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.core.redact import MAXIMUM_ITEMS, Redactor

REDACTOR = Redactor(b"k" * 32)
KEEP = {
    "status": frozenset({"resolved", "triggered"}),
    "time_zone": frozenset({"#zone"}),
    "sort_by": frozenset({"created_at:desc"}),
    "offset": frozenset({"#number"}),
}


def kept(value: Any, keep: Mapping[str, frozenset[str]] = KEEP) -> Any:
    return REDACTOR.arguments({"body": value}, keep).get("body")


def test_ids_enumerations_numbers_and_times_are_kept() -> None:
    body = {
        "id": "PT4KHLK",
        "service_id": "PSVC001",
        "status": "resolved",
        "time_zone": "America/New_York",
        "sort_by": "created_at:desc",
        "limit": 25,
        "offset": "100",
        "share": 0.25,
        "more": True,
        "since": "2026-11-01T00:00:00Z",
        "nothing": None,
        "user_ids[]": ["PUSR001", "PUSR002"],
    }
    assert kept(body) == body


def test_other_strings_become_a_length_and_a_keyed_digest() -> None:
    found = kept({"title": "Disk is full on db-7"})
    assert found == {"title": {"length": 20, "digest": REDACTOR.digest("Disk is full on db-7")}}
    assert len(found["title"]["digest"]) == 16
    assert REDACTOR.digest("a") != Redactor(b"j" * 32).digest("a")


def test_a_word_is_kept_only_in_a_field_that_the_catalogue_names() -> None:
    assert kept({"status": "resolved"}) == {"status": "resolved"}
    assert kept({"note": "resolved"})["note"]["length"] == 8
    assert kept({"status": "PT4KHLK"})["status"]["length"] == 7
    assert kept({"status": "correct horse battery staple"})["status"]["length"] == 28


@pytest.mark.parametrize("value", [14155550100, -4155550100, 4155550.1, 0.4155550100, 10**400])
def test_a_number_that_could_be_a_phones_is_digested(value: float) -> None:
    assert set(kept({"note": value})["note"]) == {"length", "digest"}


@pytest.mark.parametrize("text", ["4155-55-01", "2026-13-45", "41:55:55", "2026-11-24T25:00:00Z"])
def test_what_only_looks_like_a_time_is_digested(text: str) -> None:
    assert set(kept({"since": text})["since"]) == {"length", "digest"}


def test_an_id_is_kept_only_where_an_id_belongs() -> None:
    assert kept({"id": "PT4KHLK"}) == {"id": "PT4KHLK"}
    assert kept({"title": "PT4KHLK"})["title"]["length"] == 7
    assert kept({"user_id": "P4155550100"})["user_id"]["length"] == 11
    assert kept({"user_id": "PA4155550100"})["user_id"]["length"] == 12


def test_keys_that_are_no_field_names_are_digested_too() -> None:
    found = kept({"mina@example.com": 1, "+1 415 555 0100": 2})
    assert "mina" not in json.dumps(found)
    assert "415" not in json.dumps(found)
    assert sorted(found.values()) == [1, 2]


def test_what_is_too_much_is_counted_not_kept() -> None:
    found = kept({"ids": [str(n) for n in range(5 * MAXIMUM_ITEMS)]})
    assert len(json.dumps(found)) < 60 * MAXIMUM_ITEMS
    assert "left_out" in json.dumps(found)
    deep: Any = "secret words here"
    for _ in range(40):
        deep = {"a": deep}
    assert "secret" not in json.dumps(kept(deep))


def test_clients_are_named_by_their_product_alone() -> None:
    assert REDACTOR.client_name("python-requests/2.32.3 (mina@example.com)") == "python-requests/2.32.3"
    assert REDACTOR.client_name("tel/4155.5501.00")["length"] == 16  # type: ignore[index]  # a string that is not kept
    assert REDACTOR.client_name("mina@example.com")["length"] == 16  # type: ignore[index]  # a string that is not kept
    assert REDACTOR.client_name("") == ""


PLANTED = (
    "+14155550100",
    "4155550100",
    "415555010",
    "5550100",
    "mina.k@example.com",
    "y_NbAkKc66ryYTWUXYEu",
    "u+AbCdEfGhIjKlMnOpQr",
)
fields = st.sampled_from(["id", "status", "type", "title", "service_id", "since", "time_zone", "sort_by", "address"])
secrets = st.builds(
    lambda before, secret, after: before + secret + after,
    st.text(max_size=4),
    st.sampled_from(PLANTED),
    st.text(max_size=4),
)
trees = st.recursive(
    secrets | st.integers() | st.sampled_from([14155550100, 4155550100.5, 415555010]) | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields | secrets, inner, max_size=4),
    max_leaves=12,
)


@given(trees, st.booleans())
def test_no_planted_secret_is_kept_wherever_it_stands(tree: Any, everything: bool) -> None:
    """Even where the catalogue names every field as one that may be kept."""
    names = ("id", "status", "type", "title", "service_id", "since", "time_zone", "sort_by", "address")
    keep = dict.fromkeys(names, frozenset({"resolved", "#number", "#zone"}))
    text = json.dumps(kept({"incident": tree}, keep if everything else KEEP), ensure_ascii=True)
    for secret in PLANTED:
        assert secret not in text


@given(st.text(alphabet=st.characters(), max_size=30))
def test_hostile_text_is_digested_and_never_breaks_the_entry(text: str) -> None:
    json.dumps(kept({"title": text, text: text}), allow_nan=False).encode("ascii")
