"""A personal workspace is no way around an administrator: its key, at the door of a running portal."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.gateway.processes import Answer, Portal, received

NOTE = {"note": {"content": "the disk is full"}}
BASE = (
    "from integrations.actions import do_issue_agent_key, do_register_token\nfrom integrations.pagerduty.catalog import TOOLS\n"
    "from policies.actions import *\nfrom policies.core.call import State\nfrom policies.models import Stop, Team, User\n"
    "ada, vic = User.objects.get(name='Ada'), User.objects.get(name='Vic')\n"
)
MINE = "workspace = Team.objects.get(owner=vic)\n"


@pytest.fixture(scope="module")
def key(portal: Portal) -> str:
    """Of Vic, who only views in a shared team and manages the workspace: with every tool on."""
    made = portal.shell(
        f"{BASE}workspace = do_create_personal_workspace(vic, by=vic)\n"
        "connection = do_register_token(workspace, name='Own', token='u+Vics_0123456789abc', kind='user', region='sandbox',\n"
        "    by=ada, whole_account=True)\n"
        "do_set_tools(workspace, states=dict.fromkeys(TOOLS, State.ON), tools=TOOLS, by=vic, reason='mine')\n"
        "print(do_issue_agent_key(connection, name='own', by=ada, tools=TOOLS, calls_per_minute=0)[1])"
    ).strip()
    until = time.monotonic() + 3
    while portal.call("GET", "/services", key=made).status == 401:
        assert time.monotonic() < until
        time.sleep(0.05)
    return made


def both(portal: Portal, key: str) -> tuple[Answer, Answer]:
    return portal.call("POST", "/incidents/PT4KHLK/notes", NOTE, key=key), portal.call("GET", "/incidents", key=key)


def rules(portal: Portal, *answers: Answer) -> list[str]:
    found = []
    for answer in answers:
        [entry] = portal.entries(decision_id=answer.headers["x-pagewarden-decision"], kind="result")
        found.append(entry["record"]["details"]["rule"])
    return found


def test_its_key_goes_through_where_nothing_forbids_it(portal: Portal, key: str) -> None:
    assert [answer.status for answer in both(portal, key)] == [201, 200]


@pytest.mark.parametrize(
    ("forbid", "rule", "allow"),
    [
        (
            "for name in ('add_note_to_incident', 'list_incidents'):\n"
            "    do_set_tool_rule(name, tools=TOOLS, by=ada, locked=True, reason='leaks')",
            "locked",
            "for name in ('add_note_to_incident', 'list_incidents'):\n"
            "    do_set_tool_rule(name, tools=TOOLS, by=ada, locked=False)",
        ),
        ("do_stop(by=ada, reason='it pages people', team=workspace)", "stopped", "lift"),
        ("do_stop(by=ada, reason='all of it')", "stopped", "lift"),
    ],
    ids=["locks", "a stop of the workspace", "a stop of everything"],
)
def test_what_an_administrator_forbids_binds_it_and_its_owner_cannot_undo_it(
    portal: Portal, upstream: tuple[str, Path], key: str, forbid: str, rule: str, allow: str
) -> None:
    before = len(received(upstream[1]))
    portal.shell(
        f"{BASE}{MINE}{forbid}\n"
        "do_set_tools(workspace, states=dict.fromkeys(TOOLS, State.ON), tools=TOOLS, by=vic, reason='mine')\n"
        "refused = 0\n"
        "for stop in Stop.objects.all():\n"
        "    try:\n        do_lift_stop(stop, by=vic, reason='mine')\n    except Refused:\n        refused += 1\n"
        "assert refused == Stop.objects.count()\n"
        "try:\n    do_set_tool_rule('list_incidents', tools=TOOLS, by=vic, locked=False)\n    raise SystemExit(1)\n"
        "except Refused:\n    pass"
    )
    write, _ = both(portal, key)  # the very next write
    time.sleep(1)
    answers = (write, *both(portal, key))
    assert [answer.status for answer in answers] == [403, 403, 403]
    assert rules(portal, *answers) == [rule] * 3
    writes = [one for one in received(upstream[1])[before:] if one["method"] == "POST"]
    assert writes == []
    lift = "for stop in Stop.objects.all():\n    do_lift_stop(stop, by=ada, reason='fine')"
    portal.shell(f"{BASE}{lift if allow == 'lift' else allow}")
    time.sleep(1)
    assert [answer.status for answer in both(portal, key)] == [201, 200]
