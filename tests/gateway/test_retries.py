"""Writes that are tried again: by PagerDuty's own clients over lines that break, by several processes at once, after kills.
What counts is how often the write arrived, and that its caller was told the truth."""

from __future__ import annotations

import contextlib
import copy
import http.client
import json
import random
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from integrations.pagerduty.sandbox.world import demo_from_email, demo_tokens
from tests.gateway.line import Line
from tests.gateway.processes import ROOT, Answer, Portal, free_port, received, recording_upstream, running
from tests.gateway.test_clients import OLD, authority  # noqa: F401  (a fixture)

ON = {"add_note_to_incident": "on", "update_incident": "on", "create_incident": "on"}
PATH = "/incidents/PT4KHLK/notes"


def note(text: str) -> dict[str, Any]:
    return {"note": {"content": text}}


def named(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


# PagerDuty's own clients, the simulated account, and a line in front of either


@dataclass(frozen=True)
class Site:
    account: int
    upstream: Line
    """From the portal to the account."""
    portal: Portal
    line: Line
    """From the client to the portal."""
    is_new: bool
    environment: dict[str, str]

    def ask(self, path: str, document: Any = None) -> Any:
        """The account itself."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.account}{path}",
            json.dumps(document).encode() if document else None,
            {"Authorization": f"Token token={demo_tokens(7)['account'].value}"},
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.load(answer)

    def writes(self) -> Counter[str]:
        calls: dict[str, int] = self.ask("/_sandbox/stats")["calls"]
        return Counter({name: n for name, n in calls.items() if name.startswith(("POST", "PUT"))})


@pytest.fixture(scope="module", params=["old", "new"])
def site(
    request: pytest.FixtureRequest,
    authority: Path,  # noqa: F811
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Site]:
    """5.3 in clear, the newest over TLS."""
    is_new, account, folder = request.param == "new", free_port(), tmp_path_factory.mktemp("portal")
    with (
        running("-m", "integrations.pagerduty.sandbox", "--port", str(account), port=account),
        Line(account) as upstream,
    ):
        portal = Portal(folder, f"http://127.0.0.1:{upstream.port}", certificates=authority if is_new else None)
        environment = {**portal.env, "PYTHONPATH": "" if is_new else str(OLD)}
        environment |= {"SSL_CERT_FILE": str(authority / "ca.pem")} if is_new else {}
        try:
            portal.seed(token=demo_tokens(7)["account"].value, states=ON, from_email=demo_from_email(7))
            portal.start()
            with Line(portal.port) as line:
                yield Site(account, upstream, portal, line, is_new, environment)
        finally:
            portal.close()


@pytest.mark.parametrize(
    ("broken", "is_named"), [("upstream", False), ("upstream", True), ("left", False), ("left", True), ("told", True)]
)
def test_what_pagerdutys_own_client_tries_again_is_done_once_and_it_is_told_what_became_of_it(
    site: Site, broken: str, is_named: bool
) -> None:
    """The answer is lost between PagerDuty and the portal; the caller's line is cut before the portal has answered; or after."""
    service = site.ask("/services?limit=1")["services"][0]["id"]
    base = f"{site.portal.url.rsplit(':', 1)[0]}:{site.line.port}/pagerduty"
    program = ROOT / "tests" / "gateway" / "retry_scenario.py"
    command = [sys.executable, str(program), base, site.portal.seeded["key"], service, "named" if is_named else ""]
    before = site.writes()
    known = {entry["decision_id"] for entry in site.portal.entries(kind="intent")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    told = []
    with subprocess.Popen(command, env=site.environment, text=True, **pipes) as client:  # type: ignore[call-overload]
        for _ in range(3):
            assert client.stdout.readline() == "ready\n"
            if broken == "upstream":
                site.upstream.break_next()
            elif broken == "told":
                site.line.break_next()
            else:
                site.ask("/_sandbox/fault", {"fault": "slow:1", "count": 1})
                site.line.break_next(leaves=True)
            client.stdin.write("\n")
            client.stdin.flush()
            told.append(json.loads(client.stdout.readline()))
        there = json.loads(client.stdout.readline())
    assert (there["notes"], there["state"]) == ([True], "acknowledged")
    made = f"/incidents/{there['incident']}"
    done = site.writes() - before
    done.pop("POST /_sandbox/fault", None)
    assert done == {"POST /incidents": 1, f"POST {made}/notes": 1, f"PUT {made}": 1}
    # Three writes began; whatever else the client asked was answered from them, and told so.
    begun = [entry["decision_id"] for entry in site.portal.entries(kind="intent") if entry["decision_id"] not in known]
    assert [answer["replayed"] for answer in told] == begun
    if broken == "upstream":
        assert [(answer["status"], answer["outcome"]) for answer in told] == [(502, "unknown")] * 3
        assert all("outcome is unknown" in answer["errors"]["errors"][0] for answer in told)
    else:
        assert [(answer["status"], answer["outcome"]) for answer in told] == [(201, None), (200, None), (200, None)]


# Two processes on one database, and an upstream that writes down what arrives


@dataclass(frozen=True)
class Pair:
    first: Portal
    second: Portal
    log: Path

    def write(self, text: str, key: str = "", *, by: Portal | None = None, path: str = PATH) -> Answer:
        headers = named(key) if key else {}
        method, document = ("POST", note(text)) if path == PATH else ("PUT", {"incident": {"title": text}})
        return (by or self.first).call(method, path, document, headers=headers)

    def arrived(self, text: str) -> int:
        return sum(text in call["body"] for call in received(self.log))


def beside(portal: Portal) -> Portal:
    """Another process on the same database, not yet started; ``kill`` it, for the database is not its own to close."""
    other = copy.copy(portal)
    other.port, other.process = free_port(), None
    return other


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("portal")
    with recording_upstream(folder) as (url, log):
        first = Portal(folder, url, {"CALL_TIME_LIMIT": "6"})
        second = None
        try:
            first.seed(states=ON)
            first.start()
            second = beside(first)
            second.start()
            yield Pair(first, second, log)
        finally:
            if second is not None and second.process is not None:
                second.kill()
            first.close()


def test_many_at_once_with_one_key_are_sent_once_and_all_told_the_same(pair: Pair) -> None:
    with ThreadPoolExecutor(12) as callers:
        calls = [
            callers.submit(pair.write, "once [slow]", "one-key", by=(pair.first, pair.second)[n % 2]) for n in range(12)
        ]
    answers = [call.result() for call in calls]
    assert pair.arrived("once [slow]") == 1
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    [sent] = [answer for answer in answers if "x-pagewarden-replayed" not in answer.headers]
    first = sent.headers["x-pagewarden-decision"]
    others = [answer for answer in answers if answer is not sent]
    assert {answer.headers["x-pagewarden-replayed"] for answer in others} == {first}
    # Each is on record, and names the first.
    entries = {entry["decision_id"]: entry for entry in pair.first.entries(outcome="replayed")}
    for answer in others:
        entry = entries[answer.headers["x-pagewarden-decision"]]
        assert (entry["kind"], entry["verdict"]) == ("result", "allow")
        assert entry["record"]["details"]["replay_of"] == first
        assert len(entry["record"]["details"]["idempotency"]) == 16
    metrics = urllib.request.urlopen(f"{pair.first.url}/metrics", timeout=5).read()
    assert b'outcome="replayed"' in metrics
    assert json.loads(pair.first.manage("verify_audit", "--json").stdout)["status"] == "intact"


def test_without_a_key_a_write_of_unknown_outcome_is_sent_again_only_when_that_is_forced(pair: Pair) -> None:
    first = pair.write("in doubt [drop]")
    assert (first.status, first.headers["x-pagewarden-outcome"]) == (502, "unknown")
    for by in (pair.first, pair.second):
        again = pair.write("in doubt [drop]", by=by)
        assert (again.status, again.headers["x-pagewarden-outcome"]) == (502, "unknown")
        assert again.headers["x-pagewarden-replayed"] == first.headers["x-pagewarden-decision"]
        assert again.errors[1].endswith("To have it sent again, give it an Idempotency-Key of its own.")
    assert pair.arrived("in doubt [drop]") == 1
    assert pair.write("something else").status == 201
    forced = pair.write("in doubt [drop]", "by all means")
    assert "x-pagewarden-replayed" not in forced.headers
    assert pair.arrived("in doubt [drop]") == 2
    # That one's outcome is unknown, too: with its key for a day, and without one for a minute.
    keyed, keyless = pair.write("in doubt [drop]", "by all means", by=pair.second), pair.write("in doubt [drop]")
    for answer in (keyed, keyless):
        assert (answer.status, answer.headers["x-pagewarden-outcome"]) == (502, "unknown")
        assert answer.headers["x-pagewarden-replayed"] == forced.headers["x-pagewarden-decision"]
    assert keyed.errors[1].endswith("give it another Idempotency-Key of its own.")
    assert pair.arrived("in doubt [drop]") == 2
    long_ago = "at = '2026-01-01 00:00:00+00:00', ended_at = '2026-01-01 00:00:00+00:00'"
    pair.first.sql(f"UPDATE integrations_attempt SET {long_ago} WHERE outcome = 'unknown' AND is_keyed")
    assert pair.write("in doubt [drop]", "by all means").headers["x-pagewarden-outcome"] == "unknown"
    assert pair.arrived("in doubt [drop]") == 2


def test_the_doubt_of_a_write_without_a_key_ends_after_a_minute(pair: Pair) -> None:
    pair.write("old doubt [drop]")
    assert pair.write("old doubt [drop]").headers["x-pagewarden-replayed"]
    pair.first.sql("UPDATE integrations_attempt SET ended_at = '2026-01-01 00:00:00+00:00' WHERE outcome = 'unknown'")
    assert "x-pagewarden-replayed" not in pair.write("old doubt [drop]", by=pair.second).headers
    assert pair.arrived("old doubt [drop]") == 2


def test_identical_writes_without_a_key_whose_outcome_was_told_are_writes_of_their_own(pair: Pair) -> None:
    with ThreadPoolExecutor(6) as callers:
        calls = [callers.submit(pair.write, "twice [slow]", by=(pair.first, pair.second)[n % 2]) for n in range(6)]
    assert [call.result().status for call in calls] == [201] * 6
    assert pair.write("twice [slow]").status == 201
    assert pair.arrived("twice [slow]") == 7


def test_a_key_belongs_to_one_request_one_operation_and_one_agent(pair: Pair) -> None:
    assert pair.write("mine", "shared").status == 201
    other = pair.write("not mine", "shared", by=pair.second)
    assert (other.status, pair.arrived("not mine")) == (409, 0)
    assert other.errors[0].startswith("This Idempotency-Key was used for another request")
    [entry] = pair.first.entries(decision_id=other.headers["x-pagewarden-decision"])
    assert (entry["outcome"], entry["record"]["details"]["problem"]) == ("invalid", "try_other")
    update = pair.write("mine by another operation", "shared", path="/incidents/PT4KHLK")
    assert (update.status, pair.arrived("by another operation")) == (200, 1)
    secret = pair.first.shell(
        "from integrations.actions import do_issue_agent_key\nfrom integrations.models import Connection\n"
        "from integrations.pagerduty.catalog import TOOLS\nfrom policies.models import User\n"
        "ada = User.objects.get(email='ada@example.com')\n"
        "print(do_issue_agent_key(Connection.objects.get(), name='b', by=ada, tools=TOOLS)[1])"
    ).strip()
    time.sleep(1)
    theirs = pair.first.call("POST", PATH, note("mine"), key=secret, headers=named("shared"))
    assert (theirs.status, "x-pagewarden-replayed" in theirs.headers) == (201, False)


def test_every_try_is_decided_anew_and_a_denial_is_no_outcome_of_the_first(pair: Pair) -> None:
    switch = (
        "from integrations.pagerduty.catalog import TOOLS\nfrom policies.actions import do_set_tools\n"
        "from policies.core.call import State\nfrom policies.models import Team, User\n"
        "do_set_tools(Team.objects.get(slug='payments'), states={{'add_note_to_incident': State.{0}}}, tools=TOOLS,"
        " by=User.objects.get(email='ada@example.com'))"
    )
    assert pair.write("while it was on", "before").status == 201
    pair.first.shell(switch.format("OFF"))
    time.sleep(1)
    denied = pair.write("while it was on", "before")
    pair.first.shell(switch.format("ON"))
    assert (denied.status, "x-pagewarden-replayed" in denied.headers) == (403, False)
    time.sleep(1)
    replayed = pair.write("while it was on", "before")
    assert (replayed.status, "x-pagewarden-replayed" in replayed.headers) == (201, True)
    assert pair.arrived("while it was on") == 1


@pytest.mark.parametrize("lines", [[""], ["a" * 256], ["one", "two"], ["caf\xe9"], ["tab\there"]])
def test_a_key_that_is_none_is_refused_once_the_caller_is_authorised(pair: Pair, lines: list[str]) -> None:
    def status(secret: str, path: str) -> int:
        body = json.dumps(note("with a bad key")).encode()
        caller = http.client.HTTPConnection("127.0.0.1", pair.first.port, timeout=20)
        caller.putrequest("POST", f"/pagerduty{path}")
        for name, value in (("Authorization", f"Token token={secret}"), ("Content-Length", str(len(body)))):
            caller.putheader(name, value)
        caller.putheader("Content-Type", "application/json")
        for line in lines:
            caller.putheader("Idempotency-Key", line.encode("latin-1"))
        caller.endheaders(body)
        with contextlib.closing(caller):
            return caller.getresponse().status

    key = pair.first.seeded["key"]
    assert [status(key, PATH), status("pwk_nobody", PATH), status(key, "/incidents/PT4KHLK/merge")] == [400, 401, 403]
    assert pair.arrived("with a bad key") == 0


def test_of_a_key_and_of_an_answer_nothing_is_kept_in_clear_and_the_key_goes_nowhere(pair: Pair) -> None:
    assert pair.write("kept sealed", "a-telling-key-0815").status == 201
    assert pair.write("kept sealed", "a-telling-key-0815").headers["x-pagewarden-replayed"]
    kept = pair.first.shell(
        "from django.core import serializers\nfrom integrations.models import Attempt\nfrom policies.models import Entry\n"
        "print(serializers.serialize('json', [*Attempt.objects.all(), *Entry.objects.all()]))"
    )
    assert '"is_keyed": true' in kept
    for secret in ("a-telling-key-0815", "kept sealed", "PNOTE01"):
        assert secret not in kept
        assert secret not in pair.first.log()
    assert "idempotency" not in "".join(call["head"] for call in received(pair.log)).lower()


def test_what_has_expired_is_taken_away_and_its_key_is_free(pair: Pair) -> None:
    long_ago = "UPDATE integrations_attempt SET expires_at = '2026-01-01 00:00:00+00:00'"
    assert pair.write("yesterday", "of yesterday").status == 201
    pair.first.sql(long_ago)
    assert "x-pagewarden-replayed" not in pair.write("yesterday", "of yesterday").headers
    assert pair.arrived("yesterday") == 2
    pair.first.sql(long_ago)
    left = ""
    for _ in range(20):
        left = pair.first.shell("from integrations.models import Attempt\nprint(Attempt.objects.count())").strip()
        if left == "0":
            break
        time.sleep(1)
    assert left == "0"


def test_after_kills_at_any_moment_no_write_with_a_key_was_sent_twice(tmp_path: Path) -> None:
    with recording_upstream(tmp_path) as (url, log):
        portal = Portal(tmp_path, url, {"CALL_TIME_LIMIT": "1"})
        try:
            portal.seed(states=ON)
            begun: set[str] = set()
            answered: set[str] = set()
            for turn in range(8):
                portal.start()
                stop = threading.Event()
                writers = [threading.Thread(target=_write, args=(portal, stop, begun, answered)) for _ in range(4)]
                for writer in writers:
                    writer.start()
                time.sleep(random.Random(turn).uniform(0.05, 0.35))
                portal.kill()
                stop.set()
                for writer in writers:
                    writer.join()
            portal.start()
            # At once: not yet known to have ended, and certainly not sent again.
            lost = sorted(begun - answered)
            assert lost
            statuses = Counter(portal.call("POST", PATH, note(text), headers=named(text)).status for text in lost[:3])
            assert statuses.keys() <= {201, 409, 502}
            time.sleep(6.5)  # CALL_TIME_LIMIT and 5 s: then no process is at it any more
            unknown = 0
            for text in lost:
                answer = portal.call("POST", PATH, note(text), headers=named(text))
                unknown += answer.headers.get("x-pagewarden-outcome") == "unknown"
                assert answer.status in (201, 502), answer.body
            assert unknown  # at least one kill fell between claim and answer
            arrived = Counter(json.loads(call["body"])["note"]["content"] for call in received(log))
            assert set(arrived.values()) == {1}
            assert answered <= arrived.keys() <= begun
        finally:
            portal.close()


def _write(portal: Portal, stop: threading.Event, begun: set[str], answered: set[str]) -> None:
    while not stop.is_set():
        text = f"note {uuid.uuid4()}"
        begun.add(text)
        try:
            answer = portal.call("POST", PATH, note(text), headers=named(text))
        except (OSError, http.client.HTTPException):
            return
        if answer.status == 201:
            answered.add(text)


def test_without_a_key_a_killed_write_is_not_sent_again_either(tmp_path: Path) -> None:
    with recording_upstream(tmp_path) as (url, log):
        portal = Portal(tmp_path, url, {"CALL_TIME_LIMIT": "3"})
        try:
            portal.seed(states=ON)
            portal.start()
            caller = threading.Thread(target=_broken_off, args=(portal,))
            caller.start()
            while not received(log):
                time.sleep(0.01)
            portal.kill()
            caller.join()
            portal.start()
            early = portal.call("POST", PATH, note("cut off [slow]"))
            [intent] = portal.entries(kind="intent")
            # Still under way, for all that is known; on a slow machine its time is up by now.
            assert (early.status in (409, 502), intent["decision_id"] in early.errors[0]) == (True, True)
            time.sleep(8)
            late = portal.call("POST", PATH, note("cut off [slow]"))
            assert (late.status, late.headers["x-pagewarden-outcome"]) == (502, "unknown")
            assert late.headers["x-pagewarden-replayed"] == intent["decision_id"]
            assert len(received(log)) == 1
        finally:
            portal.close()


def _broken_off(portal: Portal) -> None:
    with contextlib.suppress(OSError, http.client.HTTPException):
        portal.call("POST", PATH, note("cut off [slow]"))
