"""Who may open and change what: every URL of the URL configuration × everybody × their own team's things and others'.

Two tables say it: ``OPENS`` and ``CHANGES``. A page without a row fails, and so do a row without a page, a button without a row,
and whatever is changed by those who may not, by a GET, or from another site.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from html.parser import HTMLParser
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, transaction
from django.test import Client
from django.urls import resolve

from integrations import actions as connection_actions
from integrations.pagerduty.catalog import CATEGORIES, PRESETS, TOOLS
from policies.actions import clone_changes, digest_of, last_change, preset_changes, setting_changes
from policies.core.call import State
from policies.models import Membership, SavedView, Team, User
from tests.conftest import PASSWORD
from tests.pages import addresses, path_of
from tests.world import World, make_world

pytestmark = pytest.mark.django_db
ADDRESSES = addresses()

# stranger: nobody who is signed in, or somebody who was deactivated since. outsider: a person of no team; of a team's things, the
# managers and members of others too. member, manager: of the team, or of some team. owner: of a personal workspace.
# sign-in: sent there. moved: redirected elsewhere. done: something was changed; whatever else stands there changes nothing.
# -: whatever is said, nothing is changed. The first row with a star is of pages that have none of their own.
OPENS = """
                                  stranger outsider member   manager  owner    auditor  administrator
home                              sign-in  200      200      200      200      200      200
reads-go-on                       sign-in  405      405      405      405      405      405
stop-everything                   sign-in  403      403      403      403      403      200
stop                              sign-in  404      200      200      200      200      200
sign-in                           200      moved    moved    moved    moved    moved    moved
sign-out                          sign-in  405      405      405      405      405      405
account                           sign-in  200      200      200      200      200      200
teams                             sign-in  200      200      200      200      200      200
team                              sign-in  404      moved    moved    moved    moved    moved
stop-team                         sign-in  404      403      200      200      403      200
team-members                      sign-in  404      200      200      200      200      200
team-connections                  sign-in  404      200      200      200      200      200
connection-bounds                 sign-in  404      200      200      200      200      200
connection                        sign-in  404      200      200      200      200      200
team-tools                        sign-in  404      200      200      200      200      200
team-tools-history                sign-in  404      200      200      200      200      200
team-reveals                      sign-in  404      200      200      200      200      200
team-preset                       sign-in  404      403      200      200      403      200
team-writes-off                   sign-in  404      403      200      200      403      200
team-agents                       sign-in  404      200      200      200      200      200
agent-connect                     sign-in  404      200      200      200      200      200
stop-agent                        sign-in  404      403      200      200      403      200
grid                              sign-in  403      403      403      403      200      200
grid-clone                        sign-in  403      403      403      403      403      200
grid-category                     sign-in  403      403      403      403      403      200
grid-tool                         sign-in  403      403      403      403      403      200
catalogue                         sign-in  200      200      200      200      200      200
audit                             sign-in  200      200      200      200      200      200
audit-export                      sign-in  405      405      405      405      405      405
audit-review                      sign-in  405      405      405      405      405      405
audit-views                       sign-in  405      405      405      405      405      405
audit-entry                       sign-in  404      404      200      200      200      200
admin-password                    sign-in  moved    moved    moved    moved    moved    moved
admin:index                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:login                       200      200      200      200      200      200      moved
admin:logout                      sign-in  moved    moved    moved    moved    moved    405
admin:password_change             sign-in  moved    moved    moved    moved    moved    moved
admin:password_change_done        sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:autocomplete                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:jsi18n                      sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:view_on_site                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  404
admin:policies_user_add           sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:policies_toolrule_add       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:integrations_connection_add sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:app_list                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:admin/(?P<url>.*)$          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  404
admin:*_changelist                sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:*_history                   sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
admin:*_delete                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*/<path:object_id>/         sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  moved
admin:*_add                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_change                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  200
"""
# Behind a page's name, what of all that can be done there. A page that is not named refuses every POST with 405.
CHANGES = """
                                                     stranger outsider member   manager  owner    auditor  administrator
reads-go-on on,off                                   sign-in  403      403      403      403      403      done
stop-everything rehearse,stop                        sign-in  403      403      403      403      403      done
stop                                                 sign-in  404      403      done     done     403      done
sign-in                                              done     moved    moved    moved    moved    moved    moved
sign-out                                             sign-in  done     done     done     done     done     done
account                                              sign-in  done     done     done     done     done     done
teams create                                         sign-in  403      403      403      403      403      done
teams workspace                                      sign-in  done     done     done     moved    moved    done
stop-team rehearse,stop                              sign-in  404      403      done     done     403      done
team-members add                                     sign-in  404      403      done     422      403      done
team-members remove,set                              sign-in  404      403      done     moved    403      done
team-connections                                     sign-in  404      403      done     done     403      done
connection account_wide                              sign-in  404      403      422      422      403      done
connection approve                                   sign-in  404      403      moved    moved    403      done
connection bounds,delete,discard,discard_from,expiry sign-in  404      403      done     done     403      done
connection from,kind,replace,switch_off              sign-in  404      403      done     done     403      done
connection explain                                   sign-in  404      422      422      422      422      422
connection switch_on,test,test_replacement           sign-in  404      403      moved    moved    403      moved
team-tools                                           sign-in  404      403      done     done     403      done
team-tools undo                                      sign-in  404      403      done     done     403      moved
team-reveals                                         sign-in  404      403      done     done     403      done
team-preset                                          sign-in  404      403      done     done     403      done
team-writes-off                                      sign-in  404      403      done     done     403      done
team-agents close,issue,revoke                       sign-in  404      403      done     done     403      done
stop-agent rehearse,stop                             sign-in  404      403      done     done     403      done
grid-clone                                           sign-in  403      403      403      403      403      done
grid-category                                        sign-in  403      403      403      403      403      done
grid-tool lock,unlock                                sign-in  403      403      403      403      403      done
audit-export                                         sign-in  403      403      done     done     done     done
audit-review                                         sign-in  403      403      done     done     done     done
audit-views                                          sign-in  403      403      done     done     done     done
audit-views delete                                   sign-in  403      403      done     404      404      404
admin-password                                       sign-in  moved    moved    moved    moved    moved    moved
admin:password_change                                sign-in  moved    moved    moved    moved    moved    moved
admin:login                                          done     done     done     done     done     done     done
admin:logout                                         sign-in  moved    moved    moved    moved    moved    done
admin:policies_user_add                              sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_user_change                           sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_agentkey_changelist revoke            sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_stop_changelist lift                  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_team_changelist switch_all_writes_off sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_toolrule_add                          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:policies_toolrule_change                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_changelist switch_off  sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_add                    sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:integrations_connection_change                 sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  done
admin:*_delete                                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_add                                          sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_change                                       sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  403
admin:*_changelist delete_selected                   sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  -
admin:*                                              sign-in  sign-in  sign-in  sign-in  sign-in  sign-in  -
"""

WHY = {"reason": "the matrix"}
Values = dict[str, Any]
CSRF = "x" * 32


def _member(team: Team, action: str) -> Values:
    """Of the first of its members, who are before its managers; to the other role."""
    member = Membership.objects.filter(team=team).order_by("-role", "pk").first()
    assert member is not None
    return {
        "action": action,
        "membership": member.pk,
        "role": "manager" if member.role == "member" else "member",
        **WHY,
    }


def _undo(team: Team) -> Values:
    change = last_change(team, "create_incident")
    assert change is not None
    return {"tool": "create_incident", "undo": change.pk}


def _preset(team: Team) -> Values:
    changes = preset_changes(team, preset=PRESETS["observer"], tools=TOOLS)
    return {"change": [f"{name}:{was}:{will}" for name, (was, will) in changes.items()], **WHY}


def _clone(team: Team) -> Values:
    source, target = Team.objects.get(slug="payments"), Team.objects.get(slug="search")
    return {"seen": digest_of(clone_changes(source, target, tools=TOOLS)), **WHY}


def _category(team: Team) -> Values:
    states = {name: State.ON for name, tool in TOOLS.items() if tool.category == CATEGORIES[0]}
    return {"seen": digest_of(setting_changes(dict.fromkeys(Team.objects.all(), states), tools=TOOLS)), **WHY}


def _selected(model: str, action: str) -> Callable[[Team], Values]:
    return lambda team: {"action": action, "_selected_action": [_row(model)], **WHY}


def _row(label: str) -> Any:
    return apps.get_model(label)._default_manager.order_by("pk").values_list("pk", flat=True).first()


def _only(action: str) -> Callable[[Team], Values]:
    return lambda team: {"action": action, **WHY}


BODIES: dict[str, Callable[[Team], Values]] = {
    "reads-go-on on": lambda team: {"action": "on", "minutes": 30, **WHY},
    "reads-go-on off": lambda team: {"action": "off", "minutes": 30, **WHY},
    "stop-everything rehearse": _only("rehearse"),
    "stop-everything stop": _only("stop"),
    "stop": lambda team: WHY,
    "sign-in": lambda team: {"username": "mina@example.com", "password": PASSWORD},
    "sign-out": lambda team: {},
    "account": lambda team: {"old": PASSWORD, "new": "a new and long one", "again": "a new and long one"},
    "teams create": lambda team: {"action": "create", "name": "New"},
    "teams workspace": lambda team: {"action": "workspace"},
    "stop-team rehearse": _only("rehearse"),
    "stop-team stop": _only("stop"),
    "team-members add": lambda team: {"action": "add", "email": "zed@example.com", "role": "member", **WHY},
    "team-members remove": lambda team: _member(team, "remove"),
    "team-members set": lambda team: _member(team, "set"),
    "team-connections": lambda team: {
        "name": "Second",
        "region": "us",
        "kind": "user",
        "token": "y_NbAkKc66ryYTWUXYEz",
        "team_ids": "PTEAM01",
        **WHY,
    },
    "connection account_wide": lambda team: {"action": "account_wide", "tools": ["list_priorities"], **WHY},
    "connection approve": lambda team: {"action": "approve", "email": "night@example.com"},
    "connection bounds": lambda team: {"action": "bounds", "team_ids": "PTEAM02"},
    "connection expiry": lambda team: {"action": "expiry", "token_expires_on": "2099-01-01"},
    "connection explain": lambda team: {"action": "explain", "type": "service", "id_or_name": "Checkout"},
    "connection from": lambda team: {"action": "from", "email": "day@example.com"},
    "connection replace": lambda team: {"action": "replace", "token": "y_NbAkKc66ryYTWUXYEw"},
    **{
        f"connection {action}": _only(action)
        for action in (
            "delete",
            "discard",
            "discard_from",
            "kind",
            "switch_off",
            "switch_on",
            "test",
            "test_replacement",
        )
    },
    "team-tools": lambda team: {"tool": "resolve_incident", "state": "on", **WHY},
    "team-tools undo": _undo,
    "team-reveals": lambda team: WHY,
    "team-preset": _preset,
    "team-writes-off": lambda team: WHY,
    "team-agents close": lambda team: {
        "action": "close",
        "alarm": team.agent_keys.get(alarms__isnull=False).alarms.get().pk,
    },
    "team-agents issue": lambda team: {
        "action": "issue",
        "name": "new",
        "connection": team.connections.get().pk,
        "calls_per_minute": 5,
        "may": "core",
    },
    "team-agents revoke": lambda team: {"action": "revoke", "key": team.agent_keys.all()[0].pk},
    "stop-agent rehearse": _only("rehearse"),
    "stop-agent stop": _only("stop"),
    "grid-clone": _clone,
    "grid-category": _category,
    "grid-tool lock": lambda team: {"action": "lock", "seen": "open", **WHY},
    "grid-tool unlock": lambda team: {"action": "unlock", "seen": "open", **WHY},
    "audit-export": lambda team: {"q": "", "form": "jsonl"},
    "audit-review": lambda team: {"q": f"team:{team.slug}", "first": 1, "last": 2, "note": "Looked at."},
    "audit-views": lambda team: {"q": "verdict:deny", "name": "Mine"},
    "audit-views delete": lambda team: {"delete": SavedView.objects.get(user__email="mina@example.com").pk},
    "admin:logout": lambda team: {},
    "admin:login": lambda team: {"username": "ada@example.com", "password": PASSWORD},
    "admin:policies_user_add": lambda team: {
        "email": "new@example.com",
        "name": "New",
        "role": "",
        "is_active": "on",
        "password": "a new and long one",
    },
    "admin:policies_user_change": lambda team: {"name": "Newer", "role": "administrator", "is_active": "on"},
    "admin:policies_toolrule_add": lambda team: {"tool": "resolve_incident", "locked": "on", **WHY},
    "admin:policies_toolrule_change": lambda team: {"risk": "high", **WHY},
    "admin:integrations_connection_add": lambda team: {
        "team": team.pk,
        "name": "Second",
        "region": "us",
        "kind": "user",
        "whole_account": "on",
        "from_email": "ada@example.com",
        "new_token": "y_NbAkKc66ryYTWUXYEz",
    },
    "admin:integrations_connection_change": lambda team: {"new_token": "y_NbAkKc66ryYTWUXYEw"},
    "admin:integrations_connection_changelist switch_off": _selected("integrations.Connection", "switch_off"),
    "admin:policies_agentkey_changelist revoke": _selected("policies.AgentKey", "revoke"),
    "admin:policies_stop_changelist lift": _selected("policies.Stop", "lift"),
    "admin:policies_team_changelist switch_all_writes_off": _selected("policies.Team", "switch_all_writes_off"),
}
"""Row of the table → what is sent there, so that it would be done if it may be: for each row with a ``done``."""
QUERIES = {"grid-clone": "?source=payments&target=search", "grid-category": f"?category={CATEGORIES[0]}&state=on"}


WRITES = re.compile(r"\s*(INSERT|UPDATE|DELETE|REPLACE|TRUNCATE|CREATE|DROP|ALTER)\b", re.IGNORECASE)
SIGN_INS = ("/sign-in/", "/admin/login/")
OWN = {
    "nobody": ("stranger", "payments"),
    "dora": ("stranger", "payments"),
    "zed": ("outsider", "payments"),
    "vic": ("member", "payments"),
    "mina": ("manager", "payments"),
    "pia": ("owner", "workspace"),
    "rhea": ("auditor", "payments"),
    "ada": ("administrator", "payments"),
}
"""Person → what they are in the table, and whose things they ask for."""
FOREIGN = (
    ("vic", "outsider", "search"),
    ("mina", "outsider", "search"),
    ("mina", "outsider", "workspace"),
    ("pia", "outsider", "payments"),
    ("rhea", "auditor", "workspace"),
    ("ada", "administrator", "search"),
)


def table(text: str) -> dict[str, dict[str, str]]:
    """Row → who → what becomes of it; a line that names several things to be done is a row each."""
    head, *lines = (line.split() for line in text.splitlines() if line.strip())
    rows: dict[str, dict[str, str]] = {}
    for line in lines:
        (name, *things), cells = line[: -len(head)], line[-len(head) :]
        for row in [f"{name} {thing}" for thing in things[0].split(",")] if things else [name]:
            assert row not in rows, f"{row} stands twice in the table."
            rows[row] = dict(zip(head, cells, strict=True))
    return rows


OPENED, CHANGED = table(OPENS), table(CHANGES)


def rows_of(name: str, rows: dict[str, dict[str, str]]) -> list[str]:
    """The rows of a page: its own, and those with a star that it fits. None: there is no row of it."""
    own = [row for row in rows if row.split()[0] == name]
    stars = [row for row in rows if "*" in row.split()[0] and fnmatchcase(name, row.split()[0]) and row not in own]
    plain = [row for row in stars if " " not in row][: 0 if name in own else 1]
    return [*own, *(row for row in stars if " " in row), *plain]


MAY_BE_DONE = {row for row, who in CHANGED.items() if "done" in who.values()}
DOABLE = [(name, row) for name in ADDRESSES for row in rows_of(name, CHANGED) or [""]]


def body_of(name: str, row: str, team: Team) -> Values:
    if row == "admin:*_changelist delete_selected":
        app, model = name.removeprefix("admin:").removesuffix("_changelist").split("_")
        return {"action": "delete_selected", "_selected_action": [_row(f"{app}.{model}")], "post": "yes"}
    return BODIES[row](team) if row in BODIES else {}


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: Any) -> Iterator[World]:
    """Made once. It is never committed, and each request is rolled back."""
    logging.disable()  # hundreds of refusals are meant
    with django_db_blocker.unblock(), transaction.atomic():
        yield make_world()
        transaction.set_rollback(True)
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def cookies(world: World, django_db_blocker: Any) -> dict[str, str]:
    """Everybody's session. Dora is signed in as she was before she was deactivated."""
    sessions = {"nobody": ""}
    with django_db_blocker.unblock():
        for who in OWN.keys() - sessions:
            client = Client()
            client.force_login(User.objects.get(email=f"{who}@example.com"))
            sessions[who] = client.cookies["sessionid"].value
    return sessions


Ask = Callable[..., Client]


@pytest.fixture
def at(cookies: dict[str, str]) -> Ask:
    """Somebody at a browser that knows nothing but who they are: whatever came of an earlier request was rolled back."""

    def browser(who: str, **options: Any) -> Client:
        client = Client(**options)
        if cookies[who]:
            client.cookies["sessionid"] = cookies[who]
        return client

    return browser


@pytest.fixture(autouse=True)
def nothing_goes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """PagerDuty is not asked: what that writes is by the gateway, of which other tests are."""

    def cannot(*_: Any, **__: Any) -> None:
        raise connection_actions.CannotTest("Not in this test.")

    monkeypatch.setattr(connection_actions, "test_connection", cannot)
    monkeypatch.setattr(connection_actions, "explain_object", cannot)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What is written meanwhile, statement by statement; then it is rolled back."""
    written: list[str] = []

    def look(execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        if WRITES.match(sql):
            written.append(sql)
        return execute(sql, *arguments)

    with transaction.atomic(), connection.execute_wrapper(look):
        yield written
        transaction.set_rollback(True)


def became(answer: Any, written: list[str]) -> str:
    """In the table's words."""
    if written:
        return (
            "done" if answer.status_code < 400 else f"{answer.status_code}, and changed all the same: {written[0][:60]}"
        )
    if answer.status_code in (301, 302):
        return "sign-in" if answer["Location"].startswith(SIGN_INS) else "moved"
    return str(answer.status_code)


@cache
def _path(name: str, team: Team) -> str:
    return path_of(ADDRESSES[name], team) + QUERIES.get(name, "")


def tries(name: str, world: World) -> Iterator[tuple[str, str, Team]]:
    """Who, as what, and whose things."""
    teams = {"payments": world.cast.payments, "search": world.cast.search, "workspace": world.workspace}
    of_a_team = _path(name, teams["payments"]) != _path(name, teams["search"])
    for who, role, team in (*((who, *what) for who, what in OWN.items()), *(FOREIGN if of_a_team else ())):
        yield who, role, teams[team]


def test_every_page_stands_in_the_table_and_every_row_is_one_of_a_page() -> None:
    for name in ADDRESSES:
        assert rows_of(name, OPENED), (
            f"The page {name} is new: say in OPENS of tests/portal/test_matrix.py who may open it, and in CHANGES and BODIES "
            "what can be done there, by whom."
        )
    used = {row for name in ADDRESSES for row in rows_of(name, OPENED)} | {row for _, row in DOABLE}
    gone = sorted((OPENED.keys() | CHANGED.keys()) - used)
    assert gone == [], f"There are no such pages any more: take their rows out of tests/portal/test_matrix.py: {gone}"
    assert MAY_BE_DONE - BODIES.keys() == set(), "Say in BODIES what is sent there."
    assert BODIES.keys() - CHANGED.keys() == set(), "Say in CHANGES who may do this."


@pytest.mark.parametrize("name", ADDRESSES)
def test_who_opens_a_page_and_nothing_is_changed_by_it(name: str, world: World, at: Ask) -> None:
    expected = OPENED[rows_of(name, OPENED)[0]]
    for who, role, team in tries(name, world):
        path = _path(name, team)
        with watched() as written:
            answer = at(who).get(path)
            assert became(answer, written) == expected[role], f"{who} opens {path}"


@pytest.mark.parametrize(("name", "row"), DOABLE)
def test_who_changes_what(name: str, row: str, world: World, at: Ask) -> None:
    expected = CHANGED.get(row, {})
    for who, role, team in tries(name, world):
        path = _path(name, team)
        body = body_of(name, row, team)
        with watched() as written:
            answer = at(who).post(path, body)
            meant = expected.get(role) or ("sign-in" if role == "stranger" else "405")
            assert (written == [] and meant == "-") or became(answer, written) == meant, f"{who} at {path}: {row}"
        if role == "administrator" and body:
            # The same in the address changes nothing.
            with watched() as written:
                at(who).get(path, body)
                assert written == [], f"GET {path} of {row}"


@pytest.mark.parametrize(("name", "row"), [(name, row) for name, row in DOABLE if row in MAY_BE_DONE])
def test_no_other_site_changes_anything(name: str, row: str, world: World, at: Ask) -> None:
    """Nor does a form without its token."""
    who, team = next((who, team) for who, role, team in tries(name, world) if CHANGED[row][role] == "done")
    client = at(who, enforce_csrf_checks=True)
    client.cookies["csrftoken"] = CSRF
    path = _path(name, team)
    body = body_of(name, row, team)
    for sent, headers, meant in (
        (body, {}, "403"),
        ({**body, "csrfmiddlewaretoken": "y" * 32}, {}, "403"),
        ({**body, "csrfmiddlewaretoken": CSRF}, {"Origin": "https://elsewhere.example"}, "403"),
        ({**body, "csrfmiddlewaretoken": CSRF}, {"Origin": "null"}, "403"),
        ({**body, "csrfmiddlewaretoken": CSRF}, {"Origin": "http://testserver"}, "done"),
    ):
        with watched() as written:
            answer = client.post(path, sent, headers=headers)
            assert became(answer, written) == meant, f"{who} at {path} with {headers}"


class Forms(HTMLParser):
    """The forms of a page that are sent by POST: where to, and what each of their buttons does."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, set[str]]] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "form":
            self._inside = (given.get("method") or "").lower() == "post"
            if self._inside:
                self.found.append((given.get("action") or "", set()))
        elif self._inside and given.get("name") == "action" and given.get("value"):
            self.found[-1][1].add(str(given["value"]))

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "form"


def test_every_button_of_every_page_stands_in_the_table(world: World, at: Ask) -> None:
    """Of the portal's own pages; what the admin offers is told by its rows."""
    missing = set()
    for name in ADDRESSES:
        for who, team in (("ada", world.cast.payments), ("mina", world.cast.payments), ("pia", world.workspace)):
            path = _path(name, team)
            if name.startswith("admin") or (answer := at(who).get(path)).status_code != 200:
                continue
            parser = Forms()
            parser.feed(answer.content.decode())
            for target, actions in parser.found:
                to = resolve((target or path).partition("?")[0]).view_name
                missing |= ({f"{to} {action}" for action in actions} or {to}) - CHANGED.keys()
    assert missing == set(), "Say in CHANGES of tests/portal/test_matrix.py who may do this."
