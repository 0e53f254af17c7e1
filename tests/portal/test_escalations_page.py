"""``/escalations/``: what is wrong with policies, the worst first; what a change would come to; and a change made from there."""

from __future__ import annotations

import datetime as dt
import json
import re
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection as database
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations import history, mirror, tasks
from integrations.gateway import runtime
from integrations.models import Connection, Mirror, MutedFinding
from integrations.pagerduty.analysis.escalation import RULES
from integrations.pagerduty.analysis.incidents import Incident, Step, log_of
from integrations.pagerduty.analysis.model import Span
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from policies.actions import do_set_tools
from policies.core.call import State
from policies.models import ConfigChange, Entry
from tests.conftest import Cast
from tests.gateway.processes import free_port, running
from tests.kept import keep, person, policy, schedule, service
from tests.mirrored import mirrored
from tests.portal.test_coverage_page import as_, hidden, register, text_of

LIST = "/escalations/"
DAY = 86_400
LADDER = (("phone", 0), ("email", 2), ("phone", 3))
PEOPLE = dict(zip("ABCDE", ("Ann", "Ben", "Cem", "Dee", "Eve"), strict=True))
pytestmark = pytest.mark.django_db


def page(client: Client, path: str = LIST, status: int = 200, **query: Any) -> str:
    answer = client.get(path, query)
    assert answer.status_code == status
    return text_of(answer)


def policy_path(row: Connection, key: str = "PPOL1") -> str:
    return f"{LIST}{row.pk}/{key}/"


@pytest.fixture
def incidents(monkeypatch: pytest.MonkeyPatch) -> list[Incident]:
    """What is known of incidents of every connection, of the whole year; none: nothing is."""
    kept: list[Incident] = []

    def told(connection: Connection) -> history.History:
        now = int(timezone.now().timestamp())
        known = Span(now - 365 * DAY, now) if kept else None
        return history.History(log_of(kept), known, timezone.now() if kept else None, "", False)

    monkeypatch.setattr(history, "history", told)
    return kept


def incident(number: int, policy_id: str, *steps: tuple[int, str], days: int = 5) -> Incident:
    """``steps``: seconds after it began, and what happened then. It is resolved after a day."""
    began = int(timezone.now().timestamp()) - days * DAY - number
    told = [Step(f"L{number}", began, "trigger", ""), Step(f"L{number}n", began, "notify", "PUSRA", "phone")]
    told += [
        Step(f"L{number}{place}", began + at, kind, "PUSRA", "timeout" if kind == "escalate" else "")
        for place, (at, kind) in enumerate(steps)
    ]
    return Incident(
        f"PI{number}",
        began,
        number,
        policy_id=policy_id,
        service_id="PSVC1",
        status="resolved",
        resolved=began + DAY,
        steps=tuple(told),
    )


@pytest.fixture
def known(cast: Cast, incidents: list[Incident]) -> Connection:
    """Desk: nobody is on level 1 on Sundays. Books: nobody at all then, nor anybody else. Sound: nothing is wrong with it."""
    row = register(cast)
    keep(
        row,
        schedule("PSCH1", "Six days", users=["PUSRA"], days=6),
        schedule("PSCH2", "Always", users=["PUSRB", "PUSRC"]),
        schedule("PSCH3", "First", users=["PUSRD", "PUSRE"]),
        policy("PPOL1", "Desk", "PSCH1", "PSCH2", teams=["PTEAM1"], loops=2),
        policy("PPOL2", "Books", "PSCH1", teams=["PTEAM1"], loops=1),
        policy("PPOL3", "Sound", "PSCH3", "PSCH2", teams=["PTEAM1"], loops=2),
        service("PSVC1", "PPOL2", "Ledger"),
        service("PSVC2", "PPOL1", "Checkout"),
        service("PSVC3", "PPOL3", "Search"),
        *(person(f"PUSR{letter}", name, ladder=LADDER) for letter, name in PEOPLE.items()),
    )
    return row


def names(client: Client, **query: Any) -> list[str]:
    """Of the policies that are listed, in their order."""
    text = client.get(LIST, query).content.decode()
    return re.findall(r'<th scope="row"><a href="/escalations/[^"]+">([^<]+)</a>', text)


# The list


def test_the_worst_stands_first_and_what_it_carries_beside_it(
    client: Client, cast: Cast, known: Connection, incidents: list[Incident]
) -> None:
    as_(client, cast, "vic")
    assert names(client) == ["Books", "Desk", "Sound"]
    before = page(client)
    assert "Something is wrong with 2 of 3 policies: 1 critical, " in before
    assert "no incidents are read yet" in before
    assert re.search(
        r"Books Payments · 1 level · 1 service 1 critical \d high Nobody is on call at times and \d more not known",
        before,
    )
    assert "Sound Payments · 2 levels · 1 service nothing, as far as is known not known" in before
    # Forty of Desk, all answered after two minutes, and one of the year before.
    incidents += [incident(number, "PPOL1", (120, "acknowledge")) for number in range(40)]
    incidents += [incident(99, "PPOL1", (120, "acknowledge"), days=200)]
    after = page(client)
    assert "no incidents are read yet" not in after
    assert re.search(r"Desk Payments .*? A level reaches nobody at times 40 2 min", after)
    assert re.search(
        r"Sound Payments · 2 levels · 1 service nothing, as far as is known 0 no incident no incident", after
    )
    assert re.search(r"Desk Payments .*? A level reaches nobody at times 41 2 min", page(client, days=365))


def test_policies_are_found_by_how_bad_it_is_by_rule_and_by_name(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "vic")
    assert names(client, severity="critical") == ["Books"]
    assert names(client, severity="high") == ["Books", "Desk"]
    assert names(client, rule="nobody_on_call") == ["Books"]
    assert names(client, rule="level_gap") == ["Books", "Desk"]
    assert names(client, text="ledg") == ["Books"]
    assert names(client, text="always") == ["Desk", "Sound"]
    # A link that was kept may name what is gone: then it narrows nothing.
    assert names(client, severity="awful", rule="gone", team="search", days="7") == ["Books", "Desk", "Sound"]
    assert "No escalation policy fits." in page(client, text="nonsense")
    part = client.get(LIST, {"severity": "critical"}, headers={"HX-Request": "true", "HX-Target": "found"})
    assert "<html" not in part.content.decode()
    assert "Books" in text_of(part)


def test_what_no_policy_is_to_blame_for_stands_apart(client: Client, cast: Cast, known: Connection) -> None:
    assert "Of no policy" not in page(as_(client, cast, "vic"))
    keep(
        known,
        {**schedule("PSCH9", "Nobody's rota", users=["PUSRA"]), "escalation_policies": []},
        service("PSVC8", "", "Attic"),
        service("PSVC9", "PPOL3", "Cellar", status="disabled"),
    )
    shown = page(client)
    assert "Of no policy (3)" in shown
    apart = shown.split("Of no policy (3)")[1]
    assert all(name in apart for name in ("Nobody's rota", "Attic", "Cellar"))
    assert "3 findings of no policy besides." in shown
    assert "Of no policy (1)" in page(client, text="attic")


def test_nothing_read_nothing_there_and_nothing_wrong_are_told_apart(
    client: Client, cast: Cast, incidents: list[Incident]
) -> None:
    assert "You see no connection to PagerDuty" in page(as_(client, cast, "vic"))
    assert "Auditors read the record" in page(as_(client, cast, "rhea"))
    row = register(cast)
    assert "Nothing of PagerDuty has been read yet." in page(as_(client, cast, "vic"))
    keep(row)
    assert "No escalation policy is within what your connections see." in page(client)
    keep(
        row,
        schedule("PSCH2", "Always", users=["PUSRB", "PUSRC"]),
        schedule("PSCH3", "First", users=["PUSRD", "PUSRE"]),
        policy("PPOL3", "Sound", "PSCH3", "PSCH2", teams=["PTEAM1"], loops=2),
        service("PSVC3", "PPOL3", "Search"),
        *(person(f"PUSR{letter}", name, ladder=LADDER) for letter, name in PEOPLE.items()),
    )
    assert "The only policy has nothing wrong with it, as far as is known." in page(client)


def test_a_page_asks_as_much_for_one_policy_and_for_many(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "vic").get(LIST)
    with CaptureQueriesContext(database) as few:
        client.get(LIST)
    keep(known, *(policy(f"PMANY{n}", f"Policy {n}", "PSCH1") for n in range(40)))
    client.get(LIST)
    with CaptureQueriesContext(database) as many:
        assert "Page 1 of 2" in text_of(client.get(LIST))
    assert len(many) == len(few) <= 12


def test_one_policy_that_two_connections_mirror_is_shown_once(client: Client, cast: Cast, known: Connection) -> None:
    other = register(cast, cast.search, token="y_NbAkKc66ryYTWUXYEw")
    keep(other, schedule("PSCH1", days=6), policy("PPOL2", "Books", "PSCH1"), policy("PPOL9", "Their own", "PSCH1"))
    assert sorted(names(as_(client, cast, "ada"))) == ["Books", "Desk", "Sound", "Their own"]
    assert sorted(names(client, team="search")) == ["Books", "Their own"]
    assert "Their own" not in page(as_(client, cast, "vic"))


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
    assert client.post(policy_path(known), {"action": "nonsense"}).status_code == 404
    assert ("Books" in page(client)) is (status == 200)


def test_a_policy_tells_its_levels_what_is_wrong_and_what_mends_it(
    client: Client, cast: Cast, known: Connection, incidents: list[Incident]
) -> None:
    # To Ann's level 24 came, of which half are answered after 3 minutes; the others after 10, by its delay, came to level 2, and
    # were answered there 15 minutes later: after level 2's own 10.
    incidents += [incident(number, "PPOL1", (180, "acknowledge")) for number in range(24)]
    incidents += [incident(number, "PPOL1", (600, "escalate"), (1_500, "acknowledge")) for number in range(24, 48)]
    answer = as_(client, cast, "vic").get(policy_path(known))
    shown, markup = text_of(answer), answer.content.decode()
    assert "It carried 48 incidents in 90 days" in shown
    said = re.findall(r'<svg class="rungs"[^>]*aria-label="([^"]*)"', markup)[0]
    assert re.fullmatch(
        r"2 levels: level 1 at once: (Ann|nobody now: skipped at once); level 2 after 10 min: (Ben|Cem)\. "
        r"After the last it begins again from level 1, 2 times more: 1 h in all\.",
        said,
    )
    rows = re.findall(r"Level (\d) (?:at once|after 10 min), for 10 minutes (.*?)(?=Level \d|What is wrong)", shown)
    assert rows[0][1].startswith("Six days")
    assert re.search(r"1[123] times, 1[123] days", rows[0][1])
    assert "(answered there: 24 of 48 that came to it)" in rows[0][1]
    assert "never" in rows[1][1]
    assert "longer than its 10 minutes (answered there: 24 of 24 that came to it)" in rows[1][1]
    assert "Slowest to answer is level 2" in shown
    assert "What is wrong (1)" in shown
    assert "level 1 of Desk (Six days) reaches nobody." in shown
    assert "What it comes to: Level 1 is passed over then" in shown
    assert re.search(r"nobody is on call, Sun \d+ \w+, 00:00 to Mon", shown)
    assert f'href="{RULES["level_gap"].url}"' in markup
    assert "What would mend it" in shown
    assert "Checkout" in shown
    # Whoever does not manage the team is shown no button.
    assert 'value="mute"' not in markup
    assert 'value="mute"' in as_(client, cast, "mina").get(policy_path(known)).content.decode()


def test_bad_documents_break_nothing(client: Client, cast: Cast, known: Connection) -> None:
    keep(known, policy("PPOL8", "No level"), policy("PPOL9", "Half", "PSCHX"), service("PSVC8", "PPOL8", "Cellar"))
    as_(client, cast, "mina")
    assert "It has no level: it reaches nobody." in page(client, policy_path(known, "PPOL8"))
    shown = page(client, policy_path(known, "PPOL9"))
    assert "not mirrored: who is on call is not known" in shown
    assert "What could not be judged, for not enough is known:" in shown
    assert "No service uses it: it is never gone through." in shown


def test_each_defect_of_the_demo_world_is_told_on_its_policys_page(
    client: Client, cast: Cast, incidents: list[Incident]
) -> None:
    row = register(cast)
    mirrored(row)
    as_(client, cast, "vic")
    planted = Sandbox(7).world.planted["policy_defects"]
    told = 0
    for defect in planted:
        # The clocks may be far from their change now.
        if "escalation_policy_id" not in defect or defect.get("gap") == "clock_change":
            continue
        shown = page(client, policy_path(row, defect["escalation_policy_id"]))
        wrong = shown.split("What is wrong (")[1].split("What if")[0]
        assert RULES[defect["rule"]].title in wrong, defect
        told += 1
    assert told >= 20
    apart = page(client).split("Of no policy")[1]
    assert all(
        defect["name"] in apart
        for defect in planted
        if defect["rule"] in ("service_disabled", "schedule_without_policy")
    )


# Findings that are as they should be


def mute(client: Client, row: Connection, **more: Any) -> Any:
    until = (timezone.now() + dt.timedelta(days=60)).date().isoformat()
    values = {"action": "mute", "finding": "level_gap:policy:PPOL1:1", "until": until, "reason": "Ben takes Sundays"}
    return client.post(policy_path(row), {**values, **more})


def test_a_finding_is_muted_until_a_day_and_told_again(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "mina")
    key = re.findall(r'name="finding" value="([^"]+)"', client.get(policy_path(known)).content.decode())[0]
    assert mute(client, known, finding=key).status_code == 302
    row = MutedFinding.objects.get()
    shown = page(client, policy_path(known))
    assert "What is wrong (0)" in shown
    assert "Nothing, as far as is known, but for what is muted." in shown
    assert "Muted (1)" in shown
    assert "by mina@example.com: Ben takes Sundays" in shown or "by Mina: Ben takes Sundays" in shown
    assert names(client) == ["Books", "Desk", "Sound"]
    assert "1 muted" in page(client)
    assert names(client, rule="level_gap") == ["Books"]
    # A member reads it, and cannot take it back.
    assert "Tell it again" not in page(as_(client, cast, "vic"), policy_path(known))
    client.force_login(cast.mina)
    client.post(policy_path(known), {"action": "unmute", "mute": row.pk, "reason": "Ben left"})
    assert "What is wrong (1)" in page(client, policy_path(known))
    actions = (
        ConfigChange.objects.filter(action__contains="mute_finding").order_by("pk").values_list("action", "reason")
    )
    assert list(actions) == [("mute_finding", "Ben takes Sundays"), ("unmute_finding", "Ben left")]


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("omar", 404), ("rhea", 404)])
def test_only_managers_say_what_is_as_it_should_be(
    client: Client, cast: Cast, known: Connection, who: str, status: int
) -> None:
    as_(client, cast, who)
    for action in ("mute", "unmute", "apply"):
        assert mute(client, known, action=action).status_code == status
    assert not MutedFinding.objects.exists()


def test_what_is_filled_in_wrong_is_said_and_not_lost(client: Client, cast: Cast, known: Connection) -> None:
    as_(client, cast, "mina")
    key = re.findall(r'name="finding" value="([^"]+)"', client.get(policy_path(known)).content.decode())[0]
    far = (timezone.now() + dt.timedelta(days=500)).date().isoformat()
    answer = mute(client, known, finding=key, until=far)
    assert answer.status_code == 422
    assert "a year at most" in text_of(answer)
    assert 'value="Ben takes Sundays"' in answer.content.decode()
    for wrong in ({"reason": ""}, {"until": "soon"}, {"until": "9999-12-31"}, {"until": "0001-01-01"}):
        assert mute(client, known, finding=key, **wrong).status_code == 422
    assert "nothing was muted" in text_of(
        client.get(mute(client, known, finding="level_gap:policy:PPOL2:1")["Location"])
    )
    assert client.post(policy_path(known), {"action": "unmute", "mute": "x"}).status_code == 404
    assert not MutedFinding.objects.exists()


# What if


def draft(*levels: tuple[int, int, list[str]], loops: int | str = 2, **more: Any) -> dict[str, Any]:
    """``levels``: which one it is now (0: a new one), minutes, and whom it tells."""
    found: dict[str, Any] = {"if": "yes", "loops": loops}
    for number, (was, delay, targets) in enumerate(levels, 1):
        found |= {f"was-{number}": was, f"delay-{number}": delay, f"target-{number}": targets}
    return found | more


FIRST, SECOND = (1, 10, ["schedule.PSCH1"]), (2, 10, ["schedule.PSCH2"])


def test_other_targets_are_told_beside_what_is_with_gaps_findings_and_levels(
    client: Client, cast: Cast, known: Connection
) -> None:
    as_(client, cast, "vic")
    before = Mirror.objects.get(connection=known).version
    # Books, with Always beside Six days, and a level behind it.
    asked = draft((1, 10, ["schedule.PSCH1", "schedule.PSCH2"]), (0, 15, ["user.PUSRE"]), loops=1)
    part = client.get(policy_path(known, "PPOL2"), asked, headers={"HX-Request": "true", "HX-Target": "what-if"})
    markup, shown = part.content.decode(), text_of(part)
    assert "<html" not in markup
    assert "PagerDuty is not touched" in shown
    assert "Level 1, tells now: Six days then: Six days, Always" in shown
    assert "Level 2 then: 15 minutes: Eve" in shown
    assert re.search(r"Nobody is reached, in 12 weeks 1[123] times, 1[123] days .*? never Only a later level is", shown)
    assert "Nobody else is told after 20 min 50 min" in shown
    mended = shown.split("Mended:")[1]
    assert "reaches nobody on any level." in mended
    assert "Books has one level only." in mended
    assert markup.count('class="rungs"') == 2
    # Nothing of it was written or asked for, and the address is all of it.
    assert Mirror.objects.get(connection=known).version == before
    assert not Entry.objects.filter(kind__in=("intent", "result")).exists()
    [link] = re.findall(r'<a href="([^"]+)">The address of this</a>', markup)
    whole = client.get(link.replace("&amp;", "&").partition("#")[0])
    assert "Level 2 then: 15 minutes: Eve" in text_of(whole)
    # In another level's place, one more told there, and none of the others changed.
    again = page(client, policy_path(known), **draft(FIRST, SECOND, add="user.PUSRD", to=1, **{"place-2": 1}))
    assert "Order of today's levels now: 1, 2 then: 2, 1" in again
    assert "Level 1 (level 2 now), tells now: Always then: Always, Dee" in again
    left_out = page(client, policy_path(known), **draft(FIRST, SECOND, **{"place-1": "out"}))
    assert "Level 1 now now: 10 minutes: Six days" in left_out
    assert "This is how it is: nothing is other." in page(client, policy_path(known), **draft(FIRST, SECOND))


def test_other_delays_change_what_is_expected(
    client: Client, cast: Cast, known: Connection, incidents: list[Incident]
) -> None:
    # Nobody answers on level 1; on level 2 everybody does after a minute: half are acknowledged a minute after level 1's delay.
    incidents += [incident(number, "PPOL1", (600, "escalate"), (660, "acknowledge")) for number in range(60)]
    shown = page(as_(client, cast, "vic"), policy_path(known), **draft((1, 4, ["schedule.PSCH1"]), SECOND))
    assert "Half acknowledged within, as expected 11 min 5 min" in shown


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"if": "yes", "loops": "2"}, "A policy has one level at least"),
        (draft((1, 0, ["schedule.PSCH1"])), "Level 1: its minutes are a whole number from 1 to 10,080."),
        (draft((1, 10_081, ["schedule.PSCH1"])), "Level 1: its minutes are a whole number from 1 to 10,080."),
        (draft((1, 10, [])), "Level 1 names nobody"),
        (draft((1, 10, ["schedule.PNONE"])), "“PNONE” is no schedule that is mirrored here."),
        (draft((1, 10, ["user.PUSRZ", "user.PUSRA"])), "“PUSRZ” is no person that is mirrored here."),
        (draft((1, 10, ["<b>.x"])), "“x” is no person or schedule that is mirrored here."),
        (draft(FIRST, add="user.PNONE"), "“PNONE” is no person that is mirrored here."),
        (draft(FIRST, loops=10), "How often it repeats is a whole number from 0 to 9."),
        (draft(FIRST, loops="²"), "How often it repeats is a whole number from 0 to 9."),
        (
            draft((1, 10, [f"user.PMANY{n}" for n in range(100)])),
            "Level 1 names 100 targets: PagerDuty takes 10 at most.",
        ),
        (draft(*[(0, 5, ["user.PUSRA"])] * 60), "These are more than 50 levels"),
    ],
)
def test_what_cannot_be_is_said(
    client: Client, cast: Cast, known: Connection, query: dict[str, Any], said: str
) -> None:
    keep(known, *(person(f"PMANY{n}", f"One of many {n}") for n in range(100)))
    answer = as_(client, cast, "mina").get(policy_path(known), query)
    assert answer.status_code == 200
    assert said in text_of(answer)
    assert "Change the policy so" not in text_of(answer)
    # Nor by a form that nobody was shown.
    sent = client.post(policy_path(known), {**query, "action": "apply", "confirm": "yes", "once": "0" * 32})
    assert sent.status_code == 302
    assert said.split("“")[0] in text_of(client.get(sent["Location"]))
    assert not Entry.objects.filter(kind__in=("intent", "result")).exists()


# A change of the policy, by the one pipeline


@pytest.fixture(scope="module")
def sandbox() -> Iterator[str]:
    port = free_port()
    with running("-m", "integrations.pagerduty.sandbox", "--port", str(port), port=port):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def real(
    transactional_db: None, cast: Cast, sandbox: str, settings: Any, incidents: list[Incident]
) -> Iterator[Connection]:
    """Payments' connection to the simulated PagerDuty, mirrored, and a runtime of this test alone."""
    settings.PAGERDUTY_SANDBOX_URL = sandbox
    urllib.request.urlopen(urllib.request.Request(f"{sandbox}/_sandbox/reset", b"{}"), timeout=5).read()
    row = register(cast, token=demo_tokens(7)["account"].value, region="sandbox", from_email=demo_from_email(7))
    mirrored(row)
    yield row
    runtime.current().stop_thread()


def stands(sandbox: str, key: str) -> dict[str, Any]:
    """The policy as the simulated PagerDuty has it."""
    token = {"Authorization": f"Token token={demo_tokens(7)['account'].value}"}
    asked = urllib.request.Request(f"{sandbox}/escalation_policies/{key}", headers=token)
    return json.loads(urllib.request.urlopen(asked, timeout=5).read())["escalation_policy"]  # type: ignore[no-any-return]


def key_of(row: Connection, name: str) -> str:
    return next(each.id for each in mirror.kept(row).account.policies.values() if each.name == name)


def as_fields(row: Connection, key: str, **changed: Any) -> dict[str, Any]:
    """The draft of a policy as it is, but for what is changed."""
    found = mirror.kept(row).account.policies[key]
    levels = [
        (number, level.delay, [f"{target.kind}.{target.id}" for target in level.targets])
        for number, level in enumerate(found.levels, 1)
    ]
    return draft(*levels, loops=found.loops) | changed


def entries(actor: str) -> list[tuple[str, str, str, str]]:
    rows = Entry.objects.filter(actor=actor, kind__in=("intent", "result")).order_by("pk")
    return list(rows.values_list("kind", "tool", "verdict", "outcome"))


@pytest.mark.django_db(transaction=True)
def test_a_change_is_confirmed_made_once_on_record_and_of_nothing_else(
    client: Client, cast: Cast, real: Connection, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    do_set_tools(
        cast.payments, states={"update_escalation_policy": State.ON}, tools=TOOLS, by=cast.mina, reason="on trial"
    )
    asked_for: list[tuple[Any, ...]] = []
    monkeypatch.setattr(tasks.Task, "enqueue", lambda self, *given: asked_for.append((self.name, *given)))
    key = key_of(real, "Slow to pass on")
    path, before = policy_path(real, key), stands(sandbox, key)
    as_(client, cast, "mina")
    shown = client.get(path, as_fields(real, key, **{"delay-1": 15}))
    assert "Level 1, goes on after now: 45 minutes then: 15 minutes" in text_of(shown)
    sent = hidden(shown, 'value="apply">Change the policy so') | {"action": "apply"}
    asked = client.post(path, sent)
    assert "Confirm: this writes to PagerDuty" in text_of(asked)
    assert "Level 1, goes on after now: 45 minutes then: 15 minutes" in text_of(asked)
    actor = f"user:{cast.mina.pk}"
    assert entries(actor) == []
    confirmed = hidden(asked, 'name="confirm"') | {"confirm": "yes"}
    first, second = client.post(path, confirmed), client.post(path, confirmed)
    assert "Slow to pass on is changed" in text_of(first)
    assert "Slow to pass on is changed" in text_of(second)
    reads, writes = (
        [row for row in entries(actor) if row[1] == tool]
        for tool in ("get_escalation_policy", "update_escalation_policy")
    )
    # The tool reads the policy once more by itself.
    assert {row[2:] for row in reads} == {("allow", "done")}
    assert [row for row in writes if row[0] == "intent"] == [
        ("intent", "update_escalation_policy", "allow", "intended")
    ]
    assert ("result", "update_escalation_policy", "allow", "done") in writes
    assert writes[-1] == ("result", "update_escalation_policy", "allow", "replayed")
    after = stands(sandbox, key)
    assert [rule["escalation_delay_in_minutes"] for rule in after["escalation_rules"]] == [15, 25, 15]
    for one in (before, after):
        one["escalation_rules"][0].pop("escalation_delay_in_minutes")
        one.pop("updated_at", None)
    assert after == before
    assert Mirror.objects.get(connection=real).asked_by == cast.mina.email
    assert ("sync_connection", str(real.pk)) in asked_for


@pytest.mark.django_db(transaction=True)
def test_a_policy_that_is_no_longer_as_it_was_is_left_alone(
    client: Client, cast: Cast, real: Connection, sandbox: str
) -> None:
    do_set_tools(
        cast.payments, states={"update_escalation_policy": State.ON}, tools=TOOLS, by=cast.mina, reason="on trial"
    )
    key = key_of(real, "Slow to pass on")
    path = policy_path(real, key)
    as_(client, cast, "mina")
    asked = client.post(
        path, hidden(client.get(path, as_fields(real, key, loops=3)), 'value="apply">') | {"action": "apply"}
    )
    confirmed = hidden(asked, 'name="confirm"') | {"confirm": "yes"}
    # Somebody changes it in PagerDuty meanwhile.
    changed = stands(sandbox, key)
    changed["escalation_rules"][1]["escalation_delay_in_minutes"] = 99
    token = {"Authorization": f"Token token={demo_tokens(7)['account'].value}", "Content-Type": "application/json"}
    body = json.dumps({"escalation_policy": changed}).encode()
    put = urllib.request.Request(
        f"{sandbox}/escalation_policies/{key}", body, {**token, "From": demo_from_email(7)}, method="PUT"
    )
    urllib.request.urlopen(put, timeout=5).read()
    answer = client.post(path, confirmed)
    assert "is no longer as it was when this was proposed: nothing was changed." in text_of(answer)
    after = stands(sandbox, key)
    assert (after["num_loops"], after["escalation_rules"][1]["escalation_delay_in_minutes"]) == (
        changed["num_loops"],
        99,
    )
    assert Mirror.objects.get(connection=real).asked_by == cast.mina.email
    # What was proposed of something else than what is mirrored now is not even asked.
    old = client.post(path, {**as_fields(real, key, loops=3), "action": "apply", "was": "0" * 24})
    assert "is no longer as it was" in text_of(client.get(old["Location"]))


@pytest.mark.django_db(transaction=True)
def test_a_change_that_is_denied_is_on_record_with_its_reason(
    client: Client, cast: Cast, real: Connection, sandbox: str
) -> None:
    key = key_of(real, "Slow to pass on")
    path, before = policy_path(real, key), stands(sandbox, key)
    as_(client, cast, "mina")
    asked = client.post(
        path, hidden(client.get(path, as_fields(real, key, loops=3)), 'value="apply">') | {"action": "apply"}
    )
    assert "As it stands it will be denied" in text_of(asked)
    answer = client.post(path, hidden(asked, 'name="confirm"') | {"confirm": "yes"})
    assert "Denied" in text_of(answer)
    assert ("result", "update_escalation_policy", "deny", "denied") in entries(f"user:{cast.mina.pk}")
    assert stands(sandbox, key) == before


def test_what_would_not_go_with_its_level_is_not_made_from_here(
    client: Client, cast: Cast, incidents: list[Incident]
) -> None:
    row = register(cast)
    mirrored(row)
    as_(client, cast, "mina")
    key = key_of(row, "Each in turn")
    swapped = as_fields(row, key, **{"place-2": 1})
    shown = page(client, policy_path(row, key), **swapped)
    assert "It cannot be made from here. A level tells one of its targets in turn" in shown
    sent = client.post(policy_path(row, key), {**swapped, "action": "apply", "confirm": "yes", "once": "0" * 32})
    assert "This is not changed from here." in text_of(client.get(sent["Location"]))
    # Its delays are.
    assert "Change the policy so" in page(client, policy_path(row, key), **as_fields(row, key, **{"delay-1": 12}))
    gone = key_of(row, "Left behind")
    shown = page(client, policy_path(row, gone), **as_fields(row, gone, loops=4))
    assert "A level still names what is deleted: take it out first." in shown
