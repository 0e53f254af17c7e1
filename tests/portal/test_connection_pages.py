"""A connection's pages: what they warn of, that stale pages turn nothing round, and that reasons and expiries are kept."""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.html import strip_tags

from integrations import actions, tasks
from integrations.fields import seal
from integrations.gateway import runtime
from integrations.gateway.identity import Rejected, load_identities
from integrations.gateway.integration import Reply
from integrations.models import Connection, ConnectionTest, RunningTest
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.diagnose import PROBES, Diagnosis, Heard
from policies.actions import Refused, do_revoke_key
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.journal import append_in_transaction
from policies.models import AgentKey, ConfigChange, Entry
from tests.conftest import Cast
from tests.gateway.processes import free_port
from tests.portal.test_outside_text import HOSTILE

TOKEN = "y_NbAkKc66ryYTWUXYEu"


def register(cast: Cast, **changes: Any) -> Connection:
    values: dict[str, Any] = {"name": "Main", "token": TOKEN, "kind": "user", "region": "us", "by": cast.ada}
    values |= {"whole_account": True}
    return actions.do_register_token(cast.payments, **{**values, **changes})


@pytest.fixture
def connection(cast: Cast) -> Connection:
    return register(cast)


@pytest.fixture
def mina(client: Client, cast: Cast) -> Client:
    client.force_login(cast.mina)
    return client


def path_of(connection: Connection) -> str:
    return f"/teams/payments/connections/{connection.pk}/"


# The switch


def test_a_second_click_on_a_stale_page_does_not_turn_the_switch_round(mina: Client, connection: Connection) -> None:
    path = path_of(connection)
    off = {"action": "switch_off", "reason": "holiday"}
    assert 'value="switch_off"' in mina.get(path).content.decode()
    for _ in range(2):
        assert "is switched off" in mina.post(path, off, follow=True).content.decode()
        connection.refresh_from_db()
        assert not connection.is_enabled
    assert 'value="switch_on"' in mina.get(path).content.decode()
    change = ConfigChange.objects.get(action="disable_connection")
    assert change.reason == "holiday"
    for _ in range(2):
        assert "is switched on" in mina.post(path, {"action": "switch_on"}, follow=True).content.decode()
    assert ConfigChange.objects.filter(action="enable_connection").count() == 1
    assert mina.post(path, {"action": "enable"}).status_code == 404


# Bounds


def test_a_bounded_connection_says_what_works_inside_its_bounds(mina: Client, cast: Cast) -> None:
    values = {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PTEAM01"}
    shown = mina.post("/teams/payments/connections/", values, follow=True).content.decode()
    assert "The token of Ours is sealed" in shown
    assert "What works inside the bounds" in shown
    assert "Reaches the whole account: an administrator can allow it account-wide." in shown
    row = Connection.objects.get()
    for page in ("/teams/payments/connections/", path_of(row)):
        assert ">bounded</span>" in mina.get(page).content.decode(), page
    key = {"action": "issue", "name": "helper", "connection": str(row.pk), "calls_per_minute": "60", "reason": "trial"}
    assert "shown this once" in mina.post("/teams/payments/agents/", key).content.decode()
    assert set(
        ConfigChange.objects.filter(action__in=("issue_key", "use_connection")).values_list("reason", flat=True)
    ) == {"trial"}


def test_a_connection_to_the_whole_account_has_no_such_table(mina: Client, connection: Connection) -> None:
    assert "What works inside the bounds" not in mina.get(path_of(connection)).content.decode()
    for page in ("/teams/payments/connections/", path_of(connection)):
        assert ">bounded</span>" not in mina.get(page).content.decode(), page


def test_bounds_are_explained_before_they_are_set(mina: Client, cast: Cast) -> None:
    path = "/teams/payments/connections/bounds/"
    assert "nothing is set" in mina.get(path).content.decode()
    teams = mina.get(path, {"team_ids": "PTEAM01"}).content.decode()
    assert re.search(r"\d+ tools work, \d+ tools? (?:is|are) cut, \d+ tools are refused", teams)
    both = mina.get(path, {"team_ids": "PTEAM01", "service_ids": "PSVC001"}, headers={"hx-request": "true"})
    assert "<html" not in both.content.decode()
    assert "Shows what is the teams&#x27;, and nothing of the services." in both.content.decode()
    services = mina.get(path, {"service_ids": "PSVC001"}).content.decode()
    assert "It can be held by teams alone, and the bounds name services." in services
    assert "is not an id of PagerDuty" in mina.get(path, {"team_ids": "payments"}).content.decode()
    assert mina.post(path).status_code == 405
    assert not Connection.objects.exists()


def test_outsiders_see_nothing_of_bounds(client: Client, cast: Cast) -> None:
    for who, status in (("zed", 404), ("omar", 404), ("vic", 200), ("rhea", 200)):
        client.force_login(getattr(cast, who))
        assert client.get("/teams/payments/connections/bounds/").status_code == status, who


def test_tools_are_allowed_account_wide_by_administrators_alone(client: Client, cast: Cast) -> None:
    row = register(cast, whole_account=False, team_ids=["PTEAM01"])
    asked = {"action": "account_wide", "tools": ["list_teams"], "reason": "to find ids"}
    for who, status in (("zed", 404), ("omar", 404), ("vic", 403), ("rhea", 403), ("mina", 422)):
        client.force_login(getattr(cast, who))
        assert client.post(path_of(row), asked).status_code == status, who
    row.refresh_from_db()
    assert row.account_wide_tools == []
    client.force_login(cast.ada)
    shown = client.post(path_of(row), asked, follow=True).content.decode()
    assert "Allowed account-wide: List teams." in shown
    assert "beyond them list_teams" in shown
    row.refresh_from_db()
    assert row.account_wide_tools == ["list_teams"]


@pytest.mark.parametrize(
    ("health", "said"), [("failing", "The last test failed: 401."), ("untested", "has not been tested yet"), ("ok", "")]
)
def test_the_tools_and_the_key_form_show_a_connection_that_is_not_well(
    mina: Client, connection: Connection, health: str, said: str
) -> None:
    Connection.objects.update(health=health, health_message="401.")
    for page in ("tools", "agents"):
        shown = mina.get(f"/teams/payments/{page}/").content.decode()
        assert ("alert-warning" in shown) is bool(said)
        assert said in shown


# Reasons


def test_why_is_kept_with_every_change_of_a_connection(mina: Client, connection: Connection) -> None:
    path = path_of(connection)
    done = [
        ("replace", {"token": "u+" + TOKEN}),
        ("discard", {}),
        ("expiry", {"token_expires_on": "2099-01-01"}),
        ("from", {"email": "boss@example.com"}),
        ("discard_from", {}),
        ("bounds", {"team_ids": "PTEAM01"}),
        ("switch_off", {}),
    ]
    for action, values in done:
        mina.post(path, {"action": action, "reason": f"why {action}", **values})
    mina.post(f"{path}delete/", {"reason": "why delete"})
    done.append(("delete", {}))
    kept = list(ConfigChange.objects.order_by("id").values_list("reason", flat=True))
    assert [reason for reason in kept if reason] == [f"why {action}" for action, _ in done]


def test_a_registration_keeps_its_reason(mina: Client, cast: Cast) -> None:
    values = {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PT00001", "reason": "pilot"}
    mina.post("/teams/payments/connections/", values)
    assert ConfigChange.objects.get().reason == "pilot"


def test_a_secret_in_a_reason_is_refused_and_nothing_done(mina: Client, connection: Connection) -> None:
    answer = mina.post(path_of(connection), {"action": "switch_off", "reason": f"was {TOKEN}"}, follow=True)
    assert "looks as if it held a token" in answer.content.decode()
    connection.refresh_from_db()
    assert connection.is_enabled


# Expiry


def test_a_token_serves_to_the_end_of_its_last_day(mina: Client, cast: Cast) -> None:
    values = {"name": "Ours", "region": "us", "kind": "user", "token": TOKEN, "team_ids": "PTEAM01"}
    mina.post("/teams/payments/connections/", {**values, "token_expires_on": "2099-03-01"})
    row = Connection.objects.get()
    assert actions.suspension(row, dt.datetime(2099, 3, 1, 23, 59, tzinfo=dt.UTC)).find("expired") < 0
    assert "expired on 1 March 2099" in actions.suspension(row, dt.datetime(2099, 3, 2, tzinfo=dt.UTC))
    assert "at the end of 1 March 2099, UTC" in strip_tags(mina.get(path_of(row)).content.decode())


def test_a_replacement_brings_its_own_expiry(mina: Client, cast: Cast, connection: Connection) -> None:
    values = {"action": "replace", "token": "u+" + TOKEN, "token_expires_on": "2099-05-06"}
    mina.post(path_of(connection), values)
    connection.refresh_from_db()
    actions.do_promote_candidate(connection, by="test", tested=connection.candidate_fingerprint or "", kind="user")
    connection.refresh_from_db()
    assert connection.token_expires_at == dt.datetime(2099, 5, 6, 23, 59, 59, tzinfo=dt.UTC)


def test_an_expiry_is_corrected_and_taken_back(mina: Client, connection: Connection) -> None:
    path = path_of(connection)
    Connection.objects.update(reminded_days=7)
    answer = mina.post(path, {"action": "expiry", "token_expires_on": "2099-01-01"}, follow=True)
    assert "expires at the end of 2099-01-01, UTC" in answer.content.decode()
    connection.refresh_from_db()
    assert connection.reminded_days is None
    assert 'value="2099-01-01"' in mina.get(path).content.decode()
    count = ConfigChange.objects.count()
    mina.post(path, {"action": "expiry", "token_expires_on": "2099-01-01"})
    assert ConfigChange.objects.count() == count
    assert "in the past" in mina.post(path, {"action": "expiry", "token_expires_on": "2020-01-01"}).content.decode()
    assert "is not known now" in mina.post(path, {"action": "expiry"}, follow=True).content.decode()
    connection.refresh_from_db()
    assert connection.token_expires_at is None


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_only_managers_correct_an_expiry(
    client: Client, cast: Cast, connection: Connection, who: str, status: int
) -> None:
    client.force_login(getattr(cast, who))
    values = {"action": "expiry", "token_expires_on": "2099-01-01"}
    assert client.post(path_of(connection), values).status_code == status
    with pytest.raises(Refused):
        actions.do_set_token_expiry(connection, token_expires_at=None, by=getattr(cast, who))


@pytest.mark.parametrize(
    ("hours", "said"),
    [
        (36, "2 days left"),
        (5, "1 day left"),
        (-5, "ended less than a day ago"),
        (-30, "ended 1 day ago"),
        (-75, "ended 3 days ago"),
    ],
)
def test_the_time_that_is_left_is_said_in_words(mina: Client, connection: Connection, hours: int, said: str) -> None:
    Connection.objects.update(token_expires_at=timezone.now() + dt.timedelta(hours=hours))
    shown = mina.get(path_of(connection)).content.decode()
    assert said in shown
    assert re.search(r"-\d+ days", shown) is None


def test_a_replacement_of_a_kind_that_was_not_told_stays_out_of_service(cast: Cast, connection: Connection) -> None:
    actions.do_replace_token(connection, token="u+" + TOKEN, by=cast.mina)
    connection.refresh_from_db()
    print_ = connection.candidate_fingerprint or ""
    with pytest.raises(Refused, match="could not tell what kind of token the replacement is: test it again"):
        actions.do_promote_candidate(connection, by=cast.mina, tested=print_, kind="")
    with pytest.raises(Refused, match="is not an user API key"):
        actions.do_promote_candidate(connection, by=cast.mina, tested=print_, kind="account")
    connection.refresh_from_db()
    assert (connection.last4, connection.candidate_fingerprint) == (TOKEN[-4:], print_)


# Tests of a connection


def test_the_last_six_tests_are_shown_with_what_they_found(mina: Client, connection: Connection) -> None:
    found = {"remedy": "Make a new one.", "checks": [{"ok": False, "message": "The clock is off.", "remedy": ""}]}
    for number in range(8):
        ConnectionTest.objects.create(
            connection=connection,
            passed=number % 2 == 0,
            message=f"Finding {number}.",
            findings=found,
            of_candidate=number == 7,
            asked_by=f"somebody{number}",
        )
    shown = mina.get(path_of(connection)).content.decode()
    assert [int(number) for number in re.findall(r"asked by somebody(\d)", shown)] == [7, 6, 5, 4, 3, 2]
    assert "(a replacement token)" in shown
    assert "Last test: passed" in shown  # of the token in service: number 6
    assert shown.count("The clock is off.") == 7


def found(connection: Connection, monkeypatch: pytest.MonkeyPatch, **outcome: Any) -> None:
    """What the next test of the connection finds, whatever PagerDuty is like."""
    diagnosis = Diagnosis(
        **{"passed": True, "problem": "", "message": "The new one is fine.", "kind": "user", **outcome}
    )
    monkeypatch.setattr("integrations.actions.diagnose.diagnose", lambda *args, **more: diagnosis)
    monkeypatch.setattr(actions, "_runner", lambda *args: None)


def test_a_replacement_that_passed_is_what_the_page_tells_of(
    mina: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(connection)
    found(connection, monkeypatch, message="The old one is fine.")
    assert "The old one is fine." in mina.post(path, {"action": "test"}, follow=True).content.decode()
    mina.post(path, {"action": "replace", "token": "u+" + TOKEN})
    found(connection, monkeypatch)
    shown = mina.post(path, {"action": "test_replacement"}, follow=True).content.decode()
    assert f"The token …{TOKEN[-4:]} is in service now; the one before it is gone." in shown
    last = shown.split('id="test"')[1].split("</section>")[0]
    assert "passed, just now" in " ".join(strip_tags(last).split())
    assert "The new one is fine." in last
    found(connection, monkeypatch, message="Still fine.")
    mina.post(path, {"action": "test"})
    assert "Still fine." in mina.get(path).content.decode().split('id="test"')[1].split("</section>")[0]


def test_a_replacement_that_failed_is_said_to_have_failed_until_another_comes(
    mina: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(connection)
    mina.post(path, {"action": "replace", "token": "u+" + TOKEN})
    assert "waits: it must pass its test" in mina.get(path).content.decode()
    found(connection, monkeypatch, passed=False, problem="unauthorized", message="It is mistyped.")
    mina.post(path, {"action": "test_replacement"})
    for page in (path, "/", "/teams/payments/connections/"):
        shown = mina.get(page).content.decode()
        assert re.search(r"failed its test at \d\d:\d\d UTC: It is mistyped\.", shown), page
        assert "waits: it must pass" not in shown
    mina.post(path, {"action": "replace", "token": "v+" + TOKEN})
    assert "waits: it must pass its test" in mina.get(path).content.decode()


def test_a_key_is_offered_the_usable_connection_first(mina: Client, cast: Cast, connection: Connection) -> None:
    register(cast, name="Abounded", token="u+" + TOKEN, whole_account=False, team_ids=["PTEAM01"])
    register(cast, name="Aoff", token="v+" + TOKEN)
    Connection.objects.filter(name="Aoff").update(is_enabled=False)
    shown = mina.get("/teams/payments/agents/").content.decode()
    offered = re.findall(r"<option value=\"[^\"]+\"( selected)?>\s*([^<]+?)\s*</option>", shown)
    assert offered == [
        (" selected", "Main"),
        ("", "Aoff (switched off: calls are denied)"),
        ("", "Abounded (bounded)"),
    ]


def test_the_form_says_what_an_address_means_before_a_token_is_sealed(mina: Client, cast: Cast) -> None:
    assert "It matters for account keys" in mina.get("/teams/payments/connections/").content.decode()


def test_auditors_are_not_offered_what_they_cannot_ask(client: Client, cast: Cast, connection: Connection) -> None:
    for who, offered in (("rhea", False), ("vic", True), ("mina", True)):
        client.force_login(getattr(cast, who))
        assert ('value="explain"' in client.get(path_of(connection)).content.decode()) is offered, who


@pytest.fixture
def nowhere(settings: Any) -> Iterator[None]:
    """A sandbox that nobody serves."""
    settings.PAGERDUTY_SANDBOX_URL = f"http://127.0.0.1:{free_port()}"
    yield
    runtime.current().stop_thread()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("who", ["mina", "scheduled test"])
def test_a_tests_calls_are_recorded_with_who_asked_for_them(cast: Cast, nowhere: None, who: str) -> None:
    connection = register(cast, region="sandbox")
    assert not actions.test_connection(connection, by=getattr(cast, who, who)).passed
    rows = [json.loads(row.record) for row in Entry.objects.filter(kind="result")]
    assert rows
    expected = "mina@example.com" if who == "mina" else who
    assert {row["details"]["on_behalf_of"] for row in rows} == {expected}
    assert {row["actor"] for row in rows} == {"job:connection_test"}
    assert expected not in {str(row["details"].get("client")) for row in rows}


# A test that is watched

HTMX = {"HX-Request": "true"}


@pytest.mark.django_db(transaction=True)
def test_a_test_is_watched_call_by_call_until_it_has_ended(
    mina: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, asked, go_on = path_of(connection), threading.Event(), threading.Event()
    body = json.dumps({"user": {"role": "admin"}, **{probe.key: [] for probe in PROBES.values()}}).encode()

    def run(method: str, path: str, query: str = "") -> Heard:
        if path != "/users/me":
            asked.set()
            assert go_on.wait(20)
        return Heard(Reply(200, (), body, seconds=0.12))

    monkeypatch.setattr(actions, "_runner", lambda *args: run)
    began = mina.post(path, {"action": "test"}, headers=HTMX).content.decode()
    assert "<html" not in began
    assert 'hx-trigger="every 1s"' in began
    assert asked.wait(20)
    watched = mina.get(f"{path}test/", headers=HTMX).content.decode()
    assert "<code>GET /users/me</code>" in watched
    assert "answered: 200 in 120 ms" in watched
    assert "1 call made." in watched
    # Whoever opens the page meanwhile watches too, and a second click begins no second test.
    assert "asked for by mina@example.com" in mina.get(path).content.decode()
    mina.post(path, {"action": "test"}, headers=HTMX)
    go_on.set()
    for _ in range(200):
        answer = mina.get(f"{path}test/", headers=HTMX)
        if answer.status_code == 204:
            break
        time.sleep(0.1)
    assert answer["HX-Redirect"] == path
    assert ConnectionTest.objects.count() == 1
    page = mina.get(path).content.decode()
    assert "PagerDuty accepts the token" in page
    assert "Enabled tool</th>" in page
    assert 'hx-trigger="every 1s"' not in page


@pytest.mark.django_db(transaction=True)
def test_a_watched_test_that_breaks_or_dies_says_so(
    mina: Client, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = path_of(connection)
    monkeypatch.setattr(actions, "_runner", lambda *args: 1 / 0)
    mina.post(path, {"action": "test"}, headers=HTMX)
    for _ in range(200):
        if RunningTest.objects.get().ended_at:
            break
        time.sleep(0.1)
    assert mina.get(f"{path}test/", headers=HTMX).status_code == 204
    assert "an error of the portal" in mina.get(path).content.decode()
    RunningTest.objects.update(ended_at=None, begun_at=timezone.now() - dt.timedelta(hours=1))
    assert mina.get(f"{path}test/", headers=HTMX).status_code == 204
    assert "the process that made it is gone" in mina.get(path).content.decode()
    wrong = mina.post(path, {"action": "test_replacement"}, headers=HTMX).content.decode()
    assert "There is no replacement token to test." in wrong


@pytest.mark.parametrize(("who", "begins", "watches"), [("vic", 403, 302), ("rhea", 403, 302), ("omar", 404, 404)])
def test_only_managers_begin_a_test_and_their_team_watches(
    client: Client, cast: Cast, connection: Connection, who: str, begins: int, watches: int
) -> None:
    client.force_login(getattr(cast, who))
    assert client.post(path_of(connection), {"action": "test"}, headers=HTMX).status_code == begins
    assert client.get(f"{path_of(connection)}test/").status_code == watches
    assert client.post(f"{path_of(connection)}test/").status_code in (405, 404)
    with pytest.raises(Refused):
        actions.begin_test(connection, by=getattr(cast, who))
    assert not RunningTest.objects.exists()


def test_the_history_of_tests_is_a_picture_with_the_same_table(mina: Client, connection: Connection) -> None:
    for number, (passed, took) in enumerate([(True, 80.0), (False, None), (True, 320.0)]):
        at = timezone.now() - dt.timedelta(hours=3 - number)
        ConnectionTest.objects.create(
            connection=connection,
            at=at,
            passed=passed,
            message=f"m{number}",
            latency_ms=took,
            asked_by="scheduled test",
        )
    page = mina.get(path_of(connection)).content.decode()
    [picture] = re.findall(r"<svg viewBox=.*?</svg>", page, re.DOTALL)
    assert "2 of the last 3 tests passed." in picture
    assert re.findall(r'<g class="(\w+)">', picture) == ["passed", "failed", "passed"]
    heights = [float(height) for height in re.findall(r'<rect [^>]*height="([\d.]+)"', picture)]
    assert heights == [20.0, 80.0, 80.0]
    assert picture.count("<path") == 1  # what failed has a sign, not a colour alone
    table = page.split("The same as a table")[1].split("</table>")[0]
    assert re.findall(r'data-label="Quickest answer">([^<]+)<', table) == ["320 ms", "not measured", "80 ms"]
    assert re.findall(r'data-label="Found">([^<]+)<', table) == ["m2", "m1", "m0"]


@pytest.mark.parametrize("text", [HOSTILE, "<script>alert(1)</script>", "W" * 500])
def test_hostile_text_of_tests_and_names_is_shown_as_text(
    mina: Client, cast: Cast, connection: Connection, text: str
) -> None:
    Connection.objects.update(name=text[:100], kept_by=text[:254])
    now = timezone.now()
    for _ in range(2):
        ConnectionTest.objects.create(connection=connection, passed=False, message=text, asked_by=text[:254])
    RunningTest.objects.create(
        connection=connection, begun_at=now, of_candidate=False, asked_by=text[:254], steps=[[text, text]]
    )
    actions.do_issue_agent_key(connection, name="k", by="test", tools=TOOLS)
    AgentKey.objects.update(name=text[:100])
    for path in ("", "delete/", "test/"):
        answer = mina.get(f"{path_of(connection)}{path}", headers=HTMX if path == "test/" else {})
        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()


def test_a_list_of_connections_costs_the_same_for_one_and_for_many(
    mina: Client, cast: Cast, connection: Connection, django_assert_num_queries: Any
) -> None:
    page = "/teams/payments/connections/"
    actions.do_replace_token(connection, token="w+" + TOKEN, by="test")
    with django_assert_num_queries(9):
        mina.get(page)
    for number in range(5):
        row = register(cast, name=f"More {number}", token=f"{number}+{TOKEN}")
        actions.do_replace_token(row, token=f"x{number}+{TOKEN}", by="test")
    with django_assert_num_queries(9):
        mina.get(page)


# Deleting


def test_deleting_says_beforehand_exactly_what_stops(mina: Client, cast: Cast, connection: Connection) -> None:
    other = register(cast, name="Second", token="u+" + TOKEN)
    now = timezone.now()
    busy, _, gone = (
        actions.do_issue_agent_key(connection, name=name, by=cast.mina, tools=TOOLS, narrowed_to=["list_incidents"])[0]
        for name in ("busy bot", "idle bot", "gone bot")
    )
    actions.do_issue_agent_key(other, name="other bot", by=cast.mina, tools=TOOLS)
    do_revoke_key(gone, by="test")
    AgentKey.objects.filter(pk=busy.pk).update(last_used_at=now - dt.timedelta(days=2))
    for kind, decision in ((EntryKind.RESULT, "d1"), (EntryKind.INTENT, "d2"), (EntryKind.INTENT, "d1")):
        append_in_transaction(
            NewEntry(kind, now, decision, cast.payments.pk, f"key:{busy.pk}", "list_incidents", "allow",
                     resource=str(connection.pk))
        )  # fmt: skip
    actions.do_replace_token(connection, token="w+" + TOKEN, by="test")
    page = " ".join(mina.get(f"{path_of(connection)}delete/").content.decode().replace("\xa0", " ").split())
    assert "2 agent keys would be revoked" in page
    assert re.findall(r'<th scope="row">(\w+ bot)</th>', page) == ["busy bot", "idle bot"]  # used last comes first
    assert re.search(r"busy bot.*?2 days ago.*?1 call<.*?idle bot.*?never", page)
    assert "1 tool that these keys may use now" in page
    assert "List incidents" in page
    assert "the whole PagerDuty account. They go with it" in page
    assert "1 write is on the way to PagerDuty now" in page
    assert "A replacement token (…XYEu) waits for its test" in page
    assert "Goes on</dt><dd>Second" in page


def test_a_connection_whose_keys_would_stop_is_deleted_only_by_its_name(
    mina: Client, cast: Cast, connection: Connection
) -> None:
    path = f"{path_of(connection)}delete/"
    key, secret = actions.do_issue_agent_key(connection, name="bot", by=cast.mina, tools=TOOLS)
    for typed in ("", "main", "Mein"):
        assert mina.post(path, {"typed": typed, "key": [str(key.pk)]}).status_code == 422
    # A key that the page had not told of.
    answer = mina.post(path, {"typed": "Main"})
    assert "Another key was issued for this connection meanwhile" in answer.content.decode()
    assert Connection.objects.exists()
    answer = mina.post(path, {"typed": "Main", "key": [str(key.pk)], "reason": "moved"}, follow=True)
    assert "Main is deleted with its sealed token; 1 agent key is revoked." in answer.content.decode()
    assert not Connection.objects.exists()
    # Its callers are refused from now on; that it was, and why, stays on record.
    assert load_identities(frozenset()).agent(secret, "10.0.0.1", 0) == Rejected("revoked")
    kept = {change.action: change.reason for change in ConfigChange.objects.all()}
    assert kept["delete_connection"] == "moved"
    assert kept["revoke_key"] == "its connection Main was deleted"
    assert "delete connection: Main" in mina.get("/audit/?kind=config").content.decode()


def test_a_connection_that_nobody_uses_is_deleted_without_its_name(mina: Client, connection: Connection) -> None:
    page = mina.get(f"{path_of(connection)}delete/").content.decode()
    assert "No agent key would stop" in page
    assert 'name="typed"' not in page
    assert mina.post(f"{path_of(connection)}delete/", {}).status_code == 302
    assert not Connection.objects.exists()


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_only_managers_delete(client: Client, cast: Cast, connection: Connection, who: str, status: int) -> None:
    client.force_login(getattr(cast, who))
    for method in (client.get, client.post):
        assert method(f"{path_of(connection)}delete/").status_code == status
    assert Connection.objects.exists()


# Reminders


def test_a_reminder_that_cannot_be_sent_waits_and_holds_nobody_up(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    second = register(cast, name="Second", token="u+" + TOKEN)
    sent: list[str] = []
    broken = {"Main"}

    def send(subject: str, body: str, *args: Any) -> None:
        [name] = re.findall(r"connection (\w+) of", body)
        if name in broken:
            raise ConnectionRefusedError("no mail server")
        sent.append(name)

    monkeypatch.setattr(actions, "send_mail", send)
    later = timezone.now() + dt.timedelta(days=350)
    assert actions.remind(later) == 1
    assert sent == [second.name]
    assert "could be sent" in caplog.text
    broken.clear()
    assert actions.remind(later + dt.timedelta(hours=1)) == 1
    assert sent == ["Second", "Main"]
    assert actions.remind(later + dt.timedelta(hours=2)) == 0


def test_where_mail_goes_is_a_setting() -> None:
    import os
    import subprocess
    import sys

    names = ("EMAIL_BACKEND", "EMAIL_HOST", "EMAIL_PORT", "EMAIL_USE_TLS", "DEFAULT_FROM_EMAIL")
    code = f"import portal.settings as settings; print(*(getattr(settings, name) for name in {names}))"
    given = {"EMAIL_URL": "smtp+tls://u:p@mail.example:587", "DEFAULT_FROM_EMAIL": "pages@example.com"}
    environment = {**os.environ, "PAGEWARDEN_ENV_FILE": "tests/environment", **given}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    told = done.stdout.split()
    assert told == ["django.core.mail.backends.smtp.EmailBackend", "mail.example", "587", "True", "pages@example.com"]


# The rest


def test_a_connection_that_was_never_tested_comes_first(cast: Cast, connection: Connection) -> None:
    now = timezone.now()
    Connection.objects.update(health_at=now - dt.timedelta(days=2))
    fresh = register(cast, name="Fresh", token="u+" + TOKEN)
    assert [row.pk for row in tasks.due_connections(now)] == [fresh.pk, connection.pk]
    assert "NULLS FIRST" in str(Connection.objects.order_by(*tasks.OLDEST_FIRST).query).upper()


def test_whoever_administers_not_is_offered_no_account_key(client: Client, cast: Cast) -> None:
    client.force_login(cast.mina)
    shown = client.get("/teams/payments/connections/").content.decode()
    assert 'value="account"' not in shown
    assert re.search(r'value="user"\s+selected', shown)
    client.force_login(cast.ada)
    assert 'value="account"' in client.get("/teams/payments/connections/").content.decode()


def test_keys_of_a_deleted_connection_stay_listed(mina: Client, cast: Cast, connection: Connection) -> None:
    key, _ = actions.do_issue_agent_key(connection, name="old helper", by=cast.mina, tools=TOOLS)
    mina.post(f"{path_of(connection)}delete/", {"typed": "Main", "key": [str(key.pk)]})
    shown = mina.get("/teams/payments/agents/").content.decode()
    assert "old helper" in shown
    assert "revoked" in shown
    assert AgentKey.objects.get().revoked_at is not None


def test_a_field_of_many_boxes_says_what_is_wrong_with_it(mina: Client, connection: Connection) -> None:
    values = {"action": "issue", "name": "x", "connection": str(connection.pk), "calls_per_minute": "60"}
    answer = mina.post("/teams/payments/agents/", {**values, "tools": ["no_such_tool"]})
    assert answer.status_code == 422
    assert "no_such_tool is not one of the available choices" in answer.content.decode()


def test_an_error_page_claims_nothing_about_pagerduty(
    cast: Cast, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(raise_request_exception=False)
    client.force_login(cast.mina)
    monkeypatch.setattr("portal.dashboard.warnings", lambda *args: 1 / 0)
    answer = client.get("/")
    assert answer.status_code == 500
    assert "Nothing was sent" not in answer.content.decode()
    assert "Whether anything was done is not certain" in answer.content.decode()


def test_a_token_that_was_sealed_for_a_row_is_still_shown_nowhere(mina: Client, connection: Connection) -> None:
    actions.do_replace_token(connection, token="u+" + TOKEN, by="test")
    connection.refresh_from_db()
    assert connection.candidate is not None
    shown = "".join(mina.get(page).content.decode() for page in ("/", path_of(connection), "/teams/payments/agents/"))
    for secret in (TOKEN, connection.candidate.ciphertext.decode(), seal(connection.pk, TOKEN).ciphertext.decode()):
        assert secret not in shown
