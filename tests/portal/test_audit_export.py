"""``/audit/export/``: what a query finds as a file, for those who may see it, in pieces, and on record."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client
from hypothesis import given
from hypothesis import strategies as st

from policies.core.chain import link
from policies.models import ConfigChange, Entry, PolicyVersion, User
from portal.audit import export
from portal.audit.export import FORMULA, defused
from tests.conftest import Cast
from tests.portal.test_audit_page import note


def exported(user: User, form: str = "jsonl", text: str = "") -> tuple[Any, bytes]:
    """The answer, and the file whole."""
    client = AsyncClient()
    client.force_login(user)

    async def take() -> tuple[Any, bytes]:
        answer: Any = await client.post("/audit/export/", {"q": text, "form": form})
        if not answer.streaming:
            return answer, b""
        return answer, b"".join([piece async for piece in answer.streaming_content])

    return async_to_sync(take)()


def lines(user: User, text: str = "") -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(user, "jsonl", text)[1].splitlines()]


def test_a_line_holds_the_record_as_it_is_hashed_and_its_place(cast: Cast) -> None:
    first, second = note("d1"), note("d2", tool="get_incident")
    answer, file = exported(cast.rhea, "jsonl", "kind:result")
    assert answer["Content-Disposition"].startswith('attachment; filename="pagewarden-audit-')
    assert answer["Content-Disposition"].endswith('Z.jsonl"')
    told = file.decode().splitlines()
    assert [json.loads(line)["id"] for line in told] == [first.pk, second.pk]
    last = json.loads(told[1])
    assert (last["stream"], last["seq"], last["hash"]) == ("configuration", second.seq, second.hash)
    record = told[1].split('"record": ', 1)[1][:-1]
    assert record == second.record
    assert link(first.hash, record) == second.hash


def test_only_what_the_person_may_see_and_what_the_query_finds(cast: Cast) -> None:
    note("of payments", team_id=cast.payments.pk)
    note("of search", team_id=cast.search.pk)
    note("of none")

    def decisions(user: User, text: str = "kind:result") -> list[str]:
        return [line["record"]["decision_id"] for line in lines(user, text)]

    assert decisions(cast.mina) == ["of payments"]
    assert decisions(cast.omar) == ["of search"]
    assert decisions(cast.rhea) == decisions(cast.ada) == ["of payments", "of search", "of none"]
    assert decisions(cast.rhea, "team:search kind:result") == ["of search"]
    assert decisions(cast.rhea, "since:1h kind:result nowhere") == []
    for nobody in (cast.vic, cast.zed):
        assert exported(nobody)[0].status_code == 403


def test_that_it_was_taken_is_on_record_before_it_is_given(cast: Cast) -> None:
    note("d1", team_id=cast.payments.pk)
    before = PolicyVersion.objects.values_list("version", flat=True).first()
    changes = ConfigChange.objects.count()
    taken = lines(cast.mina, "tool:list_incidents verdict:allow")
    [row] = Entry.objects.filter(record__contains="export_audit")
    details = json.loads(row.record)["details"]
    assert (row.kind, row.actor, row.team_id) == ("config", f"user:{cast.mina.pk}", cast.payments.pk)
    assert details["target"] == "tool:list_incidents verdict:allow"
    assert details["by"] == "mina@example.com"
    assert details["after"]["form"] == "jsonl"
    assert taken[-1]["id"] <= details["after"]["up_to_entry"] < row.pk
    # Nobody's rights changed.
    assert PolicyVersion.objects.values_list("version", flat=True).first() == before
    assert ConfigChange.objects.count() == changes
    client = Client()
    client.force_login(cast.mina)
    assert "export audit: tool:list_incidents verdict:allow" in client.get("/audit/").content.decode()


def test_a_spreadsheet_runs_nothing_of_it(cast: Cast) -> None:
    for number, name in enumerate(("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", 'a","=1', "ünï")):
        note(f"d{number}", details={"actor": {"kind": "agent", "id": "key:1", "name": name}, "reason": name})
    answer, file = exported(cast.rhea, "csv", "kind:result")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(file.decode()))
    assert tuple(head) == export.COLUMNS
    assert [row[head.index("decision_id")] for row in rows] == [f"d{number}" for number in range(7)]
    for column in ("who", "reason"):
        cells = [row[head.index(column)] for row in rows]
        assert cells[:4] == ["'=1+1", "'+1", "'-1", "'@SUM(A1)"]
        assert cells[5:] == ['a","=1', "ünï"]
    assert not [cell for row in rows for cell in row if cell.startswith(FORMULA)]


@given(st.text())
def test_no_cell_begins_a_formula(text: str) -> None:
    assert not defused(text).startswith(FORMULA)
    assert defused(text).endswith(text)


def test_it_is_made_in_pieces(cast: Cast, monkeypatch: pytest.MonkeyPatch, django_assert_max_num_queries: Any) -> None:
    monkeypatch.setattr(export, "STEP", 10)
    for number in range(45):
        note(f"d{number}")
    held: list[int] = []
    usual = export._lines

    def counted(part: Any) -> bytes:
        held.append(len(part))
        return usual(part)

    monkeypatch.setattr(export, "_lines", counted)
    assert [line["record"]["decision_id"] for line in lines(cast.rhea, "kind:result")] == [f"d{n}" for n in range(45)]
    assert max(held) <= 10
    assert len(held) >= 5


@pytest.mark.parametrize(
    ("text", "form", "status"), [("tool:nonsense", "csv", 302), ("", "xlsx", 404), ("team:nope", "csv", 302)]
)
def test_what_is_no_query_or_no_form_is_not_exported(cast: Cast, text: str, form: str, status: int) -> None:
    count = Entry.objects.filter(kind="config").count()
    assert exported(cast.rhea, form, text)[0].status_code == status
    assert Entry.objects.filter(kind="config").count() == count


def test_it_is_asked_for_by_a_form_of_the_page(client: Client, cast: Cast) -> None:
    client.force_login(cast.rhea)
    shown = client.get("/audit/?q=verdict:deny").content.decode()
    assert 'action="/audit/export/"' in shown
    assert '<input type="hidden" name="q" value="verdict:deny">' in shown
    assert client.get("/audit/export/?form=csv").status_code == 405
    client.force_login(cast.vic)
    assert "/audit/export/" not in client.get("/audit/").content.decode()
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(cast.rhea)
    assert strict.post("/audit/export/", {"form": "csv"}).status_code == 403
