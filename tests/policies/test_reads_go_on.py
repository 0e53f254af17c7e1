"""Whether reads go on when the database is away: an administrator's choice, made beforehand, with a reason, on record."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command

from policies import actions
from policies.models import ConfigChange, Entry, ReadsGoOn
from policies.snapshot import current_version, load_policy
from tests.conftest import Cast

pytestmark = pytest.mark.django_db


def test_only_an_administrator_chooses_and_says_why(cast: Cast) -> None:
    for who in (cast.mina, cast.vic, cast.rhea, cast.zed):
        with pytest.raises(actions.Refused, match="Only an administrator"):
            actions.do_set_reads_go_on(by=who, on=True, reason="x")
    with pytest.raises(ValidationError, match="reason is missing"):
        actions.do_set_reads_go_on(by=cast.ada, on=True, reason=" ")
    for minutes in (0, -1, 61):
        with pytest.raises(ValidationError, match="1 to 60 minutes"):
            actions.do_set_reads_go_on(by=cast.ada, on=True, minutes=minutes, reason="x")
    assert not ReadsGoOn.objects.exists()
    assert not ConfigChange.objects.filter(action="reads_go_on").exists()
    assert load_policy(current_version()).reads_go_on == 0


def test_the_choice_moves_the_policy_and_is_on_record(cast: Cast) -> None:
    before = current_version()
    actions.do_set_reads_go_on(by=cast.ada, on=True, minutes=10, reason="on call must see")
    actions.do_set_reads_go_on(by=cast.ada, on=True, minutes=10, reason="again")  # says nothing new
    assert current_version() == before + 1
    assert load_policy(current_version()).reads_go_on == 10
    actions.do_set_reads_go_on(by=cast.ada, on=False, reason="audit wants it closed")
    actions.do_set_reads_go_on(by=cast.ada, on=False, reason="again")
    assert load_policy(current_version()).reads_go_on == 0
    changes = ConfigChange.objects.filter(action="reads_go_on").order_by("id").values_list("before", "after", "reason")
    assert list(changes) == [
        ("off", "10 minutes", "on call must see"),
        ("10 minutes", "off", "audit wants it closed"),
    ]
    assert Entry.objects.filter(kind="config", record__contains='"action":"reads_go_on"').count() == 2


def test_the_command_switches_and_tells(cast: Cast, settings: Any, tmp_path: Path) -> None:
    settings.SPOOL_DIR = tmp_path / "spool"

    def told(*arguments: str) -> str:
        out = StringIO()
        call_command("reads_go_on", *arguments, stdout=out)
        return out.getvalue()

    assert "everything stops" in told("status")
    with pytest.raises(CommandError, match="reason is missing"):
        told("on")
    with pytest.raises(CommandError, match="1 to 60"):
        told("on", "--minutes", "600", "--reason", "x")
    shown = told("on", "--minutes", "20", "--reason", "on call must see")
    assert "at most 20 minutes" in shown
    assert "A revocation or a stop binds them only when it is back. Writes do not go on." in shown
    found = json.loads(told("status", "--json"))
    assert (found["minutes"], found["by"], found["problem"]) == (20, "the command reads_go_on", "")
    (tmp_path / "other").write_text("no folder")
    settings.SPOOL_DIR = tmp_path / "other"
    assert "cannot be written" in json.loads(told("status", "--json"))["problem"]
    told("off", "--reason", "audit wants it closed")
    assert json.loads(told("status", "--json"))["minutes"] == 0
