"""kill -9 in the middle of writes, at random moments: no write without an entry, every orphan closed, the chain whole."""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from pathlib import Path

from tests.gateway.processes import Portal, received, recording_upstream

KILLS = 50


def test_a_power_cut_at_any_moment_leaves_every_write_on_record(tmp_path: Path) -> None:
    with recording_upstream(tmp_path) as (url, log):
        portal = Portal(tmp_path, url, {"CALL_TIME_LIMIT": "2"})
        try:
            portal.seed(states={"add_note_to_incident": "on"})
            answered: set[str] = set()
            for turn in range(KILLS):
                portal.start()
                stop = threading.Event()
                writers = [threading.Thread(target=_write, args=(portal, stop, answered)) for _ in range(4)]
                for writer in writers:
                    writer.start()
                time.sleep(random.Random(turn).uniform(0.02, 0.35))
                portal.kill()
                stop.set()
                for writer in writers:
                    writer.join()
            portal.start()
            time.sleep(7.5)  # CALL_TIME_LIMIT and 5 s: the age at which an intent is an orphan
            deadline = time.monotonic() + 20
            while (open_intents := _open(portal)) and time.monotonic() < deadline:
                time.sleep(1)
            assert open_intents == []
            portal.stop()

            entries = portal.entries()
            intents = {entry["decision_id"]: entry for entry in entries if entry["kind"] == "intent"}
            results = {entry["decision_id"]: entry for entry in entries if entry["kind"] == "result"}
            sent = [json.loads(call["body"])["note"]["content"] for call in received(log) if call["method"] == "POST"]
            assert len(sent) > KILLS  # there was something to lose
            # A note's text is digested in its entry: the digest says which note an intent was for.
            digests = {
                intent["record"]["details"]["arguments"]["body"]["note"]["content"]["digest"]
                for intent in intents.values()
            }
            assert {_digest(portal, texts) for texts in [tuple(sent)]}.pop() <= digests
            assert len(sent) == len(set(sent))  # and none was sent twice
            assert intents.keys() <= results.keys()
            assert answered <= results.keys()
            unknown = [entry for entry in results.values() if entry["outcome"] == "unknown"]
            assert unknown  # at least one power cut fell between intent and result
            verified = portal.manage("verify_audit", "--json", check=False)
            assert verified.returncode == 0, verified.stdout
        finally:
            portal.close()


def _write(portal: Portal, stop: threading.Event, answered: set[str]) -> None:
    while not stop.is_set():
        try:
            answer = portal.call("POST", "/incidents/PT4KHLK/notes", {"note": {"content": f"note {uuid.uuid4()}"}})
        except OSError:
            return
        if answer.status == 201:
            answered.add(answer.headers["x-pagewarden-decision"])


def _digest(portal: Portal, texts: tuple[str, ...]) -> frozenset[str]:
    out = portal.run(
        "-c",
        "import django, hashlib, json, sys; django.setup()\nfrom django.conf import settings\n"
        "from policies.core.redact import Redactor\n"
        "r = Redactor(hashlib.blake2b(settings.SECRET_KEY.encode(), person=b'redaction', digest_size=32).digest())\n"
        "print(json.dumps([r.digest(t) for t in json.load(sys.stdin)]))",
        stdin=json.dumps(texts),
    ).stdout
    return frozenset(json.loads(out))


def _open(portal: Portal) -> list[str]:
    entries = portal.entries(kind__in=["intent", "result"])
    results = {entry["decision_id"] for entry in entries if entry["kind"] == "result"}
    return [
        entry["decision_id"] for entry in entries if entry["kind"] == "intent" and entry["decision_id"] not in results
    ]
