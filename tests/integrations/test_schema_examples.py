"""The list of the published examples that do not validate is what the schema comes to."""

from __future__ import annotations

from pathlib import Path

from tests.schema_examples import DOCUMENT, WHY, answered, faults, text


def test_the_list_of_examples_that_do_not_validate_is_true(schema_dir: Path) -> None:
    assert DOCUMENT.read_text() == text(schema_dir), "run python -m tests.schema_examples"


def test_each_of_them_has_a_reason_of_its_own(schema_dir: Path) -> None:
    found, count = faults(schema_dir)
    assert 0 < len(found) < count
    assert {fault.why for fault in found} <= set(WHY) - {"other"}


def test_every_answer_of_the_sandbox_validates_against_the_corrected_schema_and_most_against_the_file(
    schema_dir: Path,
) -> None:
    found = answered(schema_dir)
    assert {each.corrected for each in found} == {""}
    assert {each.exactly for each in found} <= {"", *WHY} - {"other"}
    exactly = sum(not each.exactly for each in found)
    assert len(found) / 2 < exactly < len(found)
    said = DOCUMENT.read_text()
    assert f"Of the {len(found)} calls" in said
    assert f"{exactly} validate" in said
