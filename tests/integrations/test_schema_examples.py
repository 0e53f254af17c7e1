"""The list of the published examples that do not validate is what the schema comes to."""

from __future__ import annotations

from pathlib import Path

from tests.schema_examples import DOCUMENT, WHY, faults, text


def test_the_list_of_examples_that_do_not_validate_is_true(schema_dir: Path) -> None:
    assert DOCUMENT.read_text() == text(schema_dir), "run python -m tests.schema_examples"


def test_each_of_them_has_a_reason_of_its_own(schema_dir: Path) -> None:
    found, count = faults(schema_dir)
    assert 0 < len(found) < count
    assert {fault.why for fault in found} <= set(WHY) - {"other"}
