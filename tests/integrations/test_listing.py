"""``docs/catalogue.md``: generated, whole, and what the catalogue says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.management import call_command

from integrations.pagerduty.catalog import ALIASES, BOUNDS, OPERATIONS, REASONS, REFUSALS, TOOLS
from integrations.pagerduty.listing import BOUNDS_TOLD, markdown, refused, served

HERE = Path(settings.BASE_DIR) / "docs" / "catalogue.md"


@pytest.fixture
def elsewhere(tmp_path: Path, settings: Any) -> Path:
    """Another house, so that nothing here is written."""
    (tmp_path / "docs").mkdir()
    shutil.copy(HERE, tmp_path / "docs")
    settings.BASE_DIR = tmp_path
    return tmp_path / "docs" / "catalogue.md"


def test_the_file_is_what_would_be_written() -> None:
    call_command("catalogue", "--check")


def test_a_file_that_was_changed_or_lost_is_found_and_written_anew(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("catalogue", "--check")
    elsewhere.write_text(elsewhere.read_text().replace("| low |", "| high |", 1))
    changed = elsewhere.read_text()
    with pytest.raises(SystemExit) as stopped:
        call_command("catalogue", "--check")
    assert stopped.value.code == 1
    assert "manage.py catalogue" in capsys.readouterr().err
    assert elsewhere.read_text() == changed
    call_command("catalogue")
    assert elsewhere.read_text() == HERE.read_text()
    elsewhere.unlink()
    with pytest.raises(SystemExit):
        call_command("catalogue", "--check")


def test_every_operation_stands_in_it_once_and_every_tool_with_all_it_needs() -> None:
    text = markdown()
    assert f"PagerDuty publishes {len(OPERATIONS)} operations." in text
    mirrored = [tool for tool in TOOLS.values() if not tool.operations]
    assert f"{len(OPERATIONS) - len(REFUSALS)} of them are served by {len(TOOLS) - len(mirrored)} tools" in text
    assert f"{len(mirrored)} more tools have no operation" in text
    assert f"{len(REFUSALS)} are refused" in text
    for name, operation in OPERATIONS.items():
        where = f"`{operation.method} {operation.path}`"
        [*rows] = [
            line for line in text.splitlines() if f"{where} ({name})" in line or f"| `{name}` | {where} |" in line
        ]
        assert len(rows) == sum(name in tool.operations for tool in TOOLS.values()) + (name in REFUSALS), name
    for tool in TOOLS.values():
        [row] = [line for line in text.splitlines() if line.startswith(f"| **{tool.title}**<br>`{tool.name}`")]
        assert f"| {tool.risk.value} | {'writes' if tool.writes else 'reads'} | {tool.default.value} |" in row
        assert all(f"`{scope}`" in row for scope in tool.scopes)
        assert ("own mirror: nothing is sent" in row) is (tool in mirrored)
    for sentence in REASONS.values():
        assert sentence in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    width = 0
    for line in markdown().splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        if line.startswith("|---"):
            width = cells
        elif line.startswith("|") and width:
            assert cells == width, line
        elif not line.startswith("|"):
            width = 0


def test_a_link_to_a_part_leads_to_its_heading() -> None:
    text = markdown()
    headings = {line.lstrip("# ").lower().replace(" ", "-") for line in text.splitlines() if line.startswith("#")}
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


def test_the_listing_holds_every_tool_and_every_refusal_once() -> None:
    assert sorted(row.tool.name for rows in served().values() for row in rows) == sorted(TOOLS)
    assert sorted(row.operation.id for rows in refused().values() for row in rows) == sorted(REFUSALS)
    assert set(BOUNDS_TOLD) == set(BOUNDS)
    covered = {alias for rows in served().values() for row in rows for alias in row.aliases}
    assert covered == set(ALIASES)


def test_a_line_is_the_first_sentence_and_names_of_tools_are_found_in_what_to_use_instead() -> None:
    rows = {row.tool.name: row for found in served().values() for row in found}
    for row in rows.values():
        assert row.tool.description.startswith(row.line[:-1])
        assert row.line.endswith(".")
    [each] = [row for found in refused().values() for row in found if row.operation.id == "getAbility"]
    assert each.parts[0] == ("list_abilities", True)
    assert "".join(piece for piece, _ in each.parts) == each.instead
