"""``/coverage/``: gaps apart from what is covered or meant, the most dangerous first; and an override that is made from there."""

from __future__ import annotations

import datetime as dt
import json
import re
import urllib.request
from collections.abc import Iterator
from html import unescape
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations import mirror, tasks
from integrations.actions import do_register_token
from integrations.gateway import runtime
from integrations.intended import do_mark_intended
from integrations.models import Connection, IntendedGap, Mirror
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from policies.actions import do_set_tools
from policies.core.call import State
from policies.models import ConfigChange, Entry, Membership
from tests.conftest import Cast
from tests.gateway.processes import free_port, running
from tests.kept import keep, person, policy, schedule, service
from tests.mirrored import mirrored

LIST = "/coverage/"
DAY = dt.timedelta(days=1)
pytestmark = pytest.mark.django_db


def register(cast: Cast, team: Any = None, **more: Any) -> Connection:
    values: dict[str, Any] = {"name": "Main", "kind": "account", "region": "us", "by": cast.ada, "whole_account": True}
    return do_register_token(team or cast.payments, **({"token": "y_NbAkKc66ryYTWUXYEu"} | values | more))


@pytest.fixture
def known(cast: Cast) -> Connection:
    """On Sundays only level 2 of Desk is reached, and nobody of Books; of Empty nobody ever; of Half it is not known."""
    row = register(cast)
    keep(
        row,
        schedule("PSCH1", "Six days", users=["PUSRA"], days=6),
        schedule("PSCH2", "Always", users=["PUSRB", "PUSRC"]),
        schedule("PSCH3", "Drawn up later", users=[]),
        policy("PPOL1", "Desk", "PSCH1", "PSCH2"),
        policy("PPOL2", "Books", "PSCH1", teams=["PTEAM1"]),
        policy("PPOL3", "Empty", "PSCH3"),
        policy("PPOL4", "Half", "PSCHX"),
        policy("PPOL5", "One", "PUSRA"),
        service("PSVC1", "PPOL2", "Ledger"),
        service("PSVC2", "PPOL1", "Checkout"),
        person("PUSRA", "Ann"),
        person("PUSRB", "Ben", zone="America/New_York"),
        person("PUSRC", "Cem"),
    )
    return row


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def text_of(answer: Any) -> str:
    """What is read of a page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", answer.content.decode())).split())


def page(client: Client, path: str = LIST, status: int = 200, **query: Any) -> str:
    answer = client.get(path, query)
    assert answer.status_code == status
    return text_of(answer)


def policy_path(row: Connection, key: str = "PPOL2") -> str:
    return f"{LIST}{row.pk}/{key}/"


def sundays(weeks: int) -> list[dt.datetime]:
    """00:00 UTC of those to come; today's, if it is one, is none of them."""
    today = timezone.now().astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = today + ((6 - today.weekday()) or 7) * DAY
    return [first + week * 7 * DAY for week in range(weeks)]


# The list


def test_what_reaches_nobody_is_told_apart_from_what_a_later_level_covers(
    client: Client, cast: Cast, known: Connection
) -> None:
    shown = page(as_(client, cast, "vic"))
    rows = dict(
        re.findall(r"(Desk|Books|Empty|Half|One) Payments (.*?)(?=(?:Desk|Books|Empty|Half|One) Payments|$)", shown)
    )
    assert rows["Desk"].startswith("· 1 service")
    assert "level 2 covers for 4 days" in rows["Desk"] or "level 2 covers for 3 days" in rows["Desk"]
    assert " 100 % " in rows["Desk"]
    assert "nobody for" not in rows["Desk"]
    assert re.search(r"nobody for [45]\d\d\d minutes", rows["Books"])
    assert " 0 % " in rows["Empty"]
    assert "nobody for 40320 minutes now, until" in rows["Empty"]
    assert "cannot be told for 28 days" in rows["Half"]
    assert "nobody for" not in rows["Half"]
    assert "· no service uses it" in rows["One"]
    assert " 100 % " in rows["One"]
    assert "2 of 5 policies reach nobody at times in the next 4 weeks" in shown
    assert "Of 1 it cannot be told" in shown


def test_gaps_are_sorted_by_the_incidents_that_are_to_be_expected(
    client: Client, cast: Cast, known: Connection
) -> None:
    first = as_(client, cast, "mina").get(LIST).content.decode()
    # Incidents are not known: the longest comes first.
    assert "not known" in first
    assert first.index(">Empty<") < first.index(">Books<")
    days = [(timezone.now() - each * DAY).date() for each in range(1, 15)]
    incidents = {day.isoformat(): {"PSVC1": [2] * 24 if day.weekday() == 6 else [0] * 24} for day in days}
    keep(known, incidents=incidents)
    second = client.get(LIST).content.decode()
    # Two an hour on Sundays; no service uses Empty, so that nothing of it is ever missed.
    assert "48.0" in second
    gaps = second.split('id="gaps"')[1].split('id="policies"')[0]
    assert gaps.index(">Books<") < gaps.index(">Empty<")
    assert "hardly any" in gaps


def test_policies_are_found_by_team_service_and_name(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "vic")

    def found(**query: Any) -> set[str]:
        return set(
            re.findall(
                r">(Desk|Books|Empty|Half|One)</a><div class=.fw-normal", client.get(LIST, query).content.decode()
            )
        )

    assert found() == {"Desk", "Books", "Empty", "Half", "One"}
    assert found(text="ledg") == {"Books"}
    assert found(text="six days") == {"Desk", "Books"}
    assert found(service="PSVC2") == {"Desk"}
    assert found(pagerduty_team="PTEAM1") == {"Books"}
    assert found(team="payments", text="one") == {"One"}
    assert found(text="nonsense") == set()
    # A link that was kept may name what is gone: then it narrows nothing.
    assert found(team="search", service="PGONE") == {"Desk", "Books", "Empty", "Half", "One"}
    assert "No escalation policy fits." in page(client, text="nonsense")
    part = client.get(LIST, {"weeks": "12"}, headers={"HX-Request": "true", "HX-Target": "found"}).content.decode()
    assert "<html" not in part
    assert "The next 12 weeks" in part


def test_one_policy_that_two_connections_mirror_is_shown_once(client: Client, cast: Cast, known: Connection) -> None:
    other = register(cast, cast.search, token="y_NbAkKc66ryYTWUXYEw")
    keep(other, schedule("PSCH1", days=6), policy("PPOL2", "Books", "PSCH1"), policy("PPOL9", "Their own", "PSCH1"))
    names = re.findall(
        r">(Books|Their own)</a><div class=.fw-normal", as_(client, cast, "ada").get(LIST).content.decode()
    )
    assert sorted(names) == ["Books", "Their own"]
    only = re.findall(
        r">(Books|Their own)</a><div class=.fw-normal", client.get(LIST, {"team": "search"}).content.decode()
    )
    assert sorted(only) == ["Books", "Their own"]


def test_before_anything_is_read_there_is_a_hint_and_no_empty_list(client: Client, cast: Cast) -> None:
    assert "You see no connection to PagerDuty" in page(as_(client, cast, "vic"))
    row = register(cast)
    shown = page(client)
    assert "Nothing of PagerDuty has been read yet." in shown
    assert "0 policies" not in shown
    page(client, policy_path(row), status=404)
    assert "nothing of PagerDuty" in page(as_(client, cast, "rhea"))


def test_a_list_costs_the_same_for_one_policy_and_for_many(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "vic").get(LIST)
    with CaptureQueriesContext(database) as few:
        client.get(LIST)
    keep(known, *(policy(f"PMANY{n}", f"Policy {n}", "PSCH1") for n in range(40)))
    client.get(LIST)
    with CaptureQueriesContext(database) as many:
        assert "Page 1 of 2" in text_of(client.get(LIST))
    assert len(many) == len(few) <= 10


# One policy


@pytest.mark.parametrize(
    ("who", "status"), [("ada", 200), ("mina", 200), ("vic", 200), ("rhea", 404), ("omar", 404), ("zed", 404)]
)
def test_outsiders_do_not_learn_that_a_policy_exists(
    client: Client, cast: Cast, known: Connection, who: str, status: int
) -> None:
    as_(client, cast, who)
    assert client.get(policy_path(known)).status_code == status
    assert client.get(policy_path(known, "PNONE")).status_code == 404
    assert client.put(policy_path(known)).status_code == 405
    assert client.post(LIST).status_code == 405
    assert ("Books" in page(client)) is (status == 200)


def test_a_policy_shows_its_levels_its_gaps_and_who_could_close_one(
    client: Client, cast: Cast, known: Connection
) -> None:
    shown = page(as_(client, cast, "mina"), policy_path(known))
    assert "Level 1 Six days Now: Ann until" in shown or "Level 1 Six days Now: nobody" in shown
    assert "pages for Ledger" in shown
    assert "Nobody is reached for" in shown
    # The tool is off as it comes: why, and where that is changed.
    assert "You may not create it from here as it stands: create_schedule_override is switched off" in shown
    assert "Put on call" not in shown
    do_set_tools(cast.payments, states={"create_schedule_override": State.ON}, tools=TOOLS, by=cast.mina)
    chosen = sundays(3)[2]
    answer = client.get(policy_path(known), {"gap": int(chosen.timestamp())})
    assert "Put on call" in text_of(answer)
    assert f'value="{chosen:%Y-%m-%dT%H:%M:%SZ}"' in answer.content.decode()
    assert "Takes turns on this schedule." in text_of(answer)
    # A member reads the same, and may not.
    assert "may not create it" in page(as_(client, cast, "vic"), policy_path(known))
    assert "It is meant to be a gap" not in page(client, policy_path(known))


def test_a_level_whose_schedule_is_not_mirrored_is_not_taken_for_empty(
    client: Client, cast: Cast, known: Connection
) -> None:
    shown = page(as_(client, cast, "vic"), policy_path(known, "PPOL4"))
    assert "Now: not known. Goes on after" in shown
    assert "Now: nobody. Skipped at once." in page(client, policy_path(known, "PPOL3"))


def test_bad_documents_are_named_and_break_nothing(client: Client, cast: Cast, known: Connection) -> None:
    broken = schedule("PSCH9", "Broken", users=["PUSRA"], zone="Mars/Phobos")
    broken["schedule_layers"][0]["rotation_turn_length_seconds"] = 0
    keep(known, broken, policy("PPOL9", "Unwell", "PSCH9"), policy("PPOL8", "No level"))
    shown = page(as_(client, cast, "vic"), policy_path(known, "PPOL9"))
    assert "cannot be taken as it stands" in shown
    assert "Broken" in shown
    assert "It has no level: it reaches nobody." in page(client, policy_path(known, "PPOL8"))
    assert "No level names a schedule" in page(client, policy_path(known, "PPOL8"))
    assert "Books" in page(client)


# Gaps that are meant to be


def intend(client: Client, row: Connection, **more: Any) -> Any:
    until = (timezone.now() + 60 * DAY).date().isoformat()
    start = int(sundays(2)[1].timestamp())
    values = {"action": "intend", "every": "once", "until": until, "reason": "the books are closed"}
    return client.post(f"{policy_path(row)}?gap={start}", {**values, "from": start, "to": start + 86_400, **more})


def test_a_gap_is_marked_as_intended_and_that_is_taken_back(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "mina")
    before = page(client, policy_path(known))
    count = int(re.findall(r"Gaps \((\d)\)", before)[0])
    answer = intend(client, known)
    assert answer.status_code == 302
    mark = IntendedGap.objects.get()
    assert (mark.starts_at, mark.ends_at, mark.weekly) == (sundays(2)[1], sundays(2)[1] + DAY, False)
    assert answer["Location"].endswith(f"#mark-{mark.pk}")
    shown = page(client, policy_path(known))
    assert f"Gaps ({count - 1})" in shown
    assert "1 day are meant" in shown or "1 day is meant" in shown
    assert "the books are closed" in shown
    # In the legend, and in the policy's strip.
    assert client.get(LIST).content.decode().count("is-intended") == 2
    client.post(policy_path(known), {"action": "unmark", "mark": mark.pk, "reason": "they are open now"})
    assert f"Gaps ({count})" in page(client, policy_path(known))
    actions = ConfigChange.objects.filter(action__contains="intended").order_by("pk").values_list("action", "reason")
    assert list(actions) == [("mark_intended", "the books are closed"), ("unmark_intended", "they are open now")]


def test_a_gap_that_comes_each_week_is_marked_by_the_clock_of_its_schedule(
    client: Client, cast: Cast, known: Connection
) -> None:
    as_(client, cast, "mina")
    intend(client, known, every="week")
    assert (IntendedGap.objects.get().weekly, IntendedGap.objects.get().zone) == (True, "UTC")
    # The one before it began is still a gap.
    assert "Gaps (1)" in page(client, policy_path(known)) or "Gaps (2)" in page(client, policy_path(known))


def test_what_grows_beyond_a_mark_is_a_gap_again(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "mina")
    intend(client, known)
    keep(known, schedule("PSCH1", "Six days", users=["PUSRA"], days=5.5))
    shown = page(client, policy_path(known))
    assert "12 hours" in shown
    # Another team's word is its own: Search sees the gap as it is.
    other = register(cast, cast.search, token="y_NbAkKc66ryYTWUXYEw")
    keep(other, schedule("PSCH1", days=6), policy("PPOL2", "Books", "PSCH1"))
    assert "are meant to be" not in page(as_(client, cast, "omar"), policy_path(other))


@pytest.mark.parametrize("who", ["vic", "omar", "rhea"])
def test_only_managers_say_what_is_intended(client: Client, cast: Cast, known: Connection, who: str) -> None:
    mark = do_mark_intended(
        known, policy_id="PPOL2", policy_name="Books", starts_at=sundays(1)[0], ends_at=sundays(1)[0] + DAY,
        until=sundays(1)[0] + 9 * DAY, by=cast.mina, reason="closed",
    )  # fmt: skip
    as_(client, cast, who)
    status = 403 if who == "vic" else 404
    assert intend(client, known).status_code == status
    assert client.post(policy_path(known), {"action": "unmark", "mark": mark.pk}).status_code == status
    assert IntendedGap.objects.get() == mark


def test_what_is_filled_in_wrong_is_said_and_not_lost(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "mina")
    far = (timezone.now() + 500 * DAY).date().isoformat()
    answer = intend(client, known, until=far)
    assert answer.status_code == 422
    assert "a year at most" in text_of(answer)
    assert 'value="the books are closed"' in answer.content.decode()
    assert intend(client, known, reason="").status_code == 422
    for day in ("9999-12-31", "0001-01-01"):
        assert intend(client, known, until=day).status_code == 422
    # A gap that is no longer as it was seen is not marked, nor another in its place.
    for other in ({"from": "1"}, {"to": "x"}, {"to": str(int(sundays(2)[1].timestamp()) + 3_600)}):
        assert "nothing was marked" in text_of(client.get(intend(client, known, **other)["Location"]))
        assert not IntendedGap.objects.exists()
    assert client.post(policy_path(known), {"action": "unmark", "mark": "x"}).status_code == 404
    assert client.post(policy_path(known), {"action": "nonsense"}).status_code == 404
    assert not IntendedGap.objects.exists()


# An override from the page, by the one pipeline


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def real(transactional_db: None, cast: Cast, sandbox: str, settings: Any) -> Iterator[Connection]:
    """Payments' connection to the simulated PagerDuty, mirrored, and a runtime of this test alone."""
    settings.PAGERDUTY_SANDBOX_URL = sandbox
    urllib.request.urlopen(urllib.request.Request(f"{sandbox}/_sandbox/reset", b"{}"), timeout=5).read()
    row = register(cast, token=demo_tokens(7)["account"].value, region="sandbox", from_email=demo_from_email(7))
    mirrored(row)
    yield row
    runtime.current().stop_thread()


def settlement(row: Connection) -> str:
    policies = mirror.kept(row).account.policies.values()
    return policy_path(row, next(each.id for each in policies if each.name == "Settlement"))


def hidden(answer: Any, button: str) -> dict[str, str]:
    """What the form of the first such button sends."""
    form = answer.content.decode().split(button)[0].rsplit("<form", 1)[1]
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form))


def entries(actor: str) -> list[tuple[str, str, str, str]]:
    rows = Entry.objects.filter(actor=actor, kind__in=("intent", "result")).order_by("pk")
    return [row for row in rows.values_list("kind", "tool", "verdict", "outcome") if row[1] != "get_schedule"]


@pytest.mark.django_db(transaction=True)
def test_an_override_is_confirmed_made_once_on_record_and_closes_the_gap(
    client: Client, cast: Cast, real: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_set_tools(cast.payments, states={"create_schedule_override": State.ON}, tools=TOOLS, by=cast.mina)
    asked_for: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tasks.Task, "enqueue", lambda self, *given: asked_for.append((self.name, *given)))
    path = settlement(real)
    shown = as_(client, cast, "mina").get(path)
    gaps = int(re.findall(r"Gaps \((\d+)\)", text_of(shown))[0])
    sent = hidden(shown, 'value="override">Put on call') | {"action": "override"}
    asked = client.post(path, sent)
    assert "Confirm: this writes to PagerDuty" in text_of(asked)
    assert "Instead of nobody" in text_of(asked)
    assert entries(f"user:{cast.mina.pk}") == []
    confirmed = hidden(asked, 'name="confirm"') | {"confirm": "yes"}
    first, second = client.post(path, confirmed), client.post(path, confirmed)
    assert f"is on call on {mirror.kept(real).account.schedules[sent['schedule']].name}" in text_of(first)
    assert entries(f"user:{cast.mina.pk}") == [
        ("intent", "create_schedule_override", "allow", "intended"),
        ("result", "create_schedule_override", "allow", "done"),
        ("result", "create_schedule_override", "allow", "replayed"),
    ]
    entry = Entry.objects.get(actor=f"user:{cast.mina.pk}", outcome="done", tool="create_schedule_override")
    assert f"/audit/{entry.pk}/" in first.content.decode()
    assert json.loads(entry.record)["details"]["door"] == "web"
    assert second.status_code == 200
    # What is mirrored is asked for anew, and then the gap is closed.
    assert Mirror.objects.get(connection=real).asked_by == cast.mina.email
    assert ("sync_connection", str(real.pk)) in asked_for
    assert mirror.sync(real, by="a test", seconds=120, calls=2_000, earlier=False).done
    after = text_of(client.get(path))
    assert f"Gaps ({gaps - 1})" in after


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(("who", "rule"), [("mina", "tool_off"), ("vic", "role")])
def test_an_override_that_is_denied_is_on_record_with_its_reason(
    client: Client, cast: Cast, real: Connection, who: str, rule: str
) -> None:
    if who == "vic":
        do_set_tools(cast.payments, states={"create_schedule_override": State.ON}, tools=TOOLS, by=cast.mina)
    as_(client, cast, who)
    start = timezone.now() + DAY
    account = mirror.kept(real).account
    given = {
        "action": "override",
        "schedule": next(each.id for each in account.schedules.values() if each.name == "Settlement first"),
        "person": next(iter(account.people)),
        "starts": start.isoformat(),
        "ends": (start + DAY).isoformat(),
    }
    path = settlement(real)
    assert "As it stands it will be denied" in text_of(client.post(path, given))
    answer = client.post(path, {**given, "confirm": "yes", "once": "0" * 32})
    [row] = Entry.objects.filter(actor=f"user:{getattr(cast, who).pk}", kind="result")
    assert (row.outcome, row.tool) == ("denied", "create_schedule_override")
    assert f"/explain/?decision={row.decision_id}" in answer.content.decode()
    assert f"<code>{rule}</code>" in client.get(f"/explain/?decision={row.decision_id}").content.decode()
    assert Mirror.objects.get(connection=real).asked_by == ""


def test_what_an_override_may_name_is_what_the_policy_has(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "mina")
    start = timezone.now() + DAY
    good = {
        "action": "override",
        "schedule": "PSCH1",
        "person": "PUSRB",
        "starts": start.isoformat(),
        "ends": (start + DAY).isoformat(),
    }
    assert "Confirm" in text_of(client.post(policy_path(known), good))
    for wrong in (
        {"schedule": "PSCH2"},
        {"person": "PNONE"},
        {"ends": start.isoformat()},
        {"ends": "soon"},
        {"starts": "9999-12-31T23:59:59Z"},
        {"starts": (start - 5 * DAY).isoformat(), "ends": (start - 2 * DAY).isoformat()},
    ):
        assert client.post(policy_path(known), {**good, **wrong}).status_code == 422, wrong


def test_a_person_of_two_teams_sees_both_mirrors(client: Client, cast: Cast, known: Connection) -> None:
    other = register(cast, cast.search, token="y_NbAkKc66ryYTWUXYEw")
    keep(other, schedule("PSCH7"), policy("PPOL7", "Theirs", "PSCH7"))
    as_(client, cast, "vic")
    assert "Theirs" not in page(client)
    Membership.objects.create(user=cast.vic, team=cast.search, role="member")
    assert "Theirs" in page(client)


def test_services_that_no_policy_hears_are_named(client: Client, cast: Cast, known: Connection) -> None:
    assert "no escalation policy" not in page(as_(client, cast, "vic"))
    keep(known, service("PSVC8", "", "Attic"), service("PSVC9", "", "Cellar", status="disabled"))
    shown = page(client)
    assert "1 service has no escalation policy : nobody is ever told of its incidents. Attic" in shown
    assert "Cellar" not in shown.split("Gaps, the most")[0].split("no escalation policy")[1]
    assert "no escalation policy" not in page(client, text="books")


def test_what_was_not_read_yet_is_told_beside_what_was(client: Client, cast: Cast, known: Connection) -> None:
    register(cast, name="New", token="y_NbAkKc66ryYTWUXYEw")
    shown = page(as_(client, cast, "vic"))
    assert "Payments, New: not read to its end yet" in shown
    assert "Books" in shown
