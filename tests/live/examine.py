"""The contract test itself: the account asked through the REST door of a portal of its own, the sandbox asked directly, and
what differs."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from integrations.pagerduty.catalog import OPERATIONS
from integrations.pagerduty.resolve import match
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_tokens
from tests.gateway.processes import ROOT, Portal
from tests.live.contract import PROBES, Answered, Asker, Probe, Seen, Send
from tests.live.shapes import compare, unknown_kinds

SEED: Final = 7
_REFUSED_TOKEN: Final = "PagerDuty refused the connection's own token."


class CouldNotRun(Exception):
    """Nothing can be said of the account: why, and what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """``region``: us, eu, or sandbox (which only the project's own tests use, with its address)."""

    token: str = field(repr=False)
    region: str = "us"
    from_email: str = ""
    sandbox_url: str = ""


def examine(account: Account, probes: Sequence[Probe] = PROBES, schema: Path | None = None) -> dict[str, Any]:
    """The report: JSON, with paths and types and no value of the account's.

    Raises:
        CouldNotRun: the account could not be asked, or not through the door.
    """
    now = dt.datetime.now(dt.UTC)
    with tempfile.TemporaryDirectory(prefix="pagewarden-live-") as folder:
        portal = _portal(Path(folder), account)
        try:
            key = _register(portal, account)
            portal.start()
            asker = Asker(_through_the_door(portal, key), now, schema=schema)
            live = asker.ask_all(probes)
            journal = _looked_through(portal, asker.calls)
        except (AssertionError, OSError) as error:
            raise CouldNotRun(f"The portal of this test did not work: {str(error)[-2000:]}") from error
        finally:
            portal.close()
    return _report(account, live, asker.calls, journal, ask_sandbox(probes, now))


def _portal(folder: Path, account: Account) -> Portal:
    """With secrets of its own: those of the other tests are published, and here a true token is sealed."""
    made = {
        "SECRET_KEY": secrets.token_urlsafe(48),
        "FIELD_ENCRYPTION_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "JOURNAL_SIGNING_KEY": base64.b64encode(secrets.token_bytes(32)).decode(),
    }
    environment = folder / "environment"
    environment.touch(mode=0o600)
    environment.write_text("".join(f"{name}={value}\n" for name, value in made.items()))
    portal = Portal(folder, account.sandbox_url, {"PAGEWARDEN_ENV_FILE": str(environment), "REDIS_URL": ""})
    portal.env.pop("PAGERDUTY_LIVE_TOKEN", None)
    return portal


def _register(portal: Portal, account: Account) -> str:
    portal.manage("migrate", "-v0")
    given = {
        "token": account.token,
        "region": account.region,
        "from_email": account.from_email or "contract-test@example.com",
    }
    command = [sys.executable, "-m", "tests.live.register"]
    ran = subprocess.run(
        command, env=portal.env, cwd=ROOT, input=json.dumps(given), capture_output=True, text=True, timeout=60
    )
    if ran.returncode != 0:
        # The last line alone says what was refused, and holds nothing of the token.
        raise CouldNotRun(f"The token could not be registered: {(ran.stderr.strip().splitlines() or ['?'])[-1]}")
    return ran.stdout.strip()


def _through_the_door(portal: Portal, key: str) -> Send:
    """Asks the account through the door.

    Raises:
        CouldNotRun: the account is out of reach, its token is refused, or its calls are used up: more calls would not help.
    """
    reached = False

    def send(method: str, path: str, body: Any) -> Answered:
        nonlocal reached
        answer = portal.call(method, path, body, key=key)
        told = answer.body.decode()[:500]
        if _REFUSED_TOKEN in told:
            raise CouldNotRun(
                "PagerDuty does not know this token: is it whole and still in use, and is the region right?"
            )
        if answer.status == 429 or (answer.status >= 500 and not reached):
            found = match(method, path.partition("?")[0])
            raise CouldNotRun(f"{method} {found[0].path if found else '?'} was answered {answer.status}: {told}")
        reached = True
        return Answered(answer.status, json.loads(answer.body) if answer.body else None)

    return send


def _looked_through(portal: Portal, calls: int) -> dict[str, int]:
    """What the portal's own journal says of the run: every call was an allowed read.

    Raises:
        CouldNotRun: a call was denied here, and never reached the account.
    """
    entries = portal.entries(kind__in=["intent", "result"])
    intents = sum(entry["kind"] == "intent" for entry in entries)
    if denied := [entry for entry in entries if entry["verdict"] != "allow" or entry["outcome"] == "invalid"]:
        details = denied[0]["record"]["details"]
        raise CouldNotRun(
            f"The portal itself refused {details['operation']}: {details.get('problem') or details['reason']}"
        )
    if intents or len(entries) != calls:
        raise CouldNotRun(f"The journal has {len(entries)} entries and {intents} intents of {calls} reads.")
    return {"results": len(entries), "intents": intents}


def ask_sandbox(probes: Iterable[Probe], now: dt.datetime) -> dict[str, Seen]:
    """The same of the simulated account: of many more things, so that its objects are known in all their forms."""
    token = demo_tokens(SEED)["user_manager"].value
    with asyncio.Runner() as runner:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(Sandbox(SEED)),
            base_url="http://sandbox",
            headers={"Authorization": f"Token token={token}"},
        )

        def send(method: str, path: str, body: Any) -> Answered:
            content = None if body is None else json.dumps(body).encode()
            answer = runner.run(client.request(method, path, content=content))
            return Answered(answer.status_code, answer.json() if answer.content else None)

        return Asker(send, now, limits=(5, 100), tries=(20, 20), thorough=True, most=5_000).ask_all(probes)


def _report(
    account: Account, live: Mapping[str, Seen], calls: int, journal: Mapping[str, int], sandbox: Mapping[str, Seen]
) -> dict[str, Any]:
    operations = {name: _told(name, seen, sandbox[name]) for name, seen in live.items()}
    return {
        "region": account.region,
        "at": dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "calls": calls,
        "journal": dict(journal),
        "differences": sum(len(told["differences"]) for told in operations.values()),
        "operations": operations,
    }


def _told(name: str, live: Seen, sandbox: Seen) -> dict[str, Any]:
    """One operation of the report. A difference is: a field, a type, a fault of the schema, or a status that no plan, right or
    absence explains."""
    both = live.outcome == sandbox.outcome == "answered"
    differences = [f"not valid by the published schema: {fault}" for fault in sorted(live.faults)]
    if live.outcome in ("refused", "failed"):
        differences.append(f"status differs: live {live.status}; sandbox {sandbox.status}")
    if both:
        differences += map(str, compare(live.shape, sandbox.shape))
    note = live.note
    if live.outcome == "answered" and not both:
        note = f"nothing to compare with: the sandbox {sandbox.note or f'answered {sandbox.status}'}"
    return {
        "request": f"{OPERATIONS[name].method} {OPERATIONS[name].path}",
        "outcome": live.outcome,
        "status": live.status,
        "calls": live.calls,
        "note": note,
        "differences": differences,
        "kinds_not_compared": unknown_kinds(live.shape, sandbox.shape) if both else [],
    }


WORDS: Final = {
    "answered": "answered",
    "plan": "not in the account's plan (402)",
    "access": "the token may not (403)",
    "absent": "not there (404)",
    "refused": "refused otherwise",
    "failed": "failed",
    "not tried": "not tried",
}


def readable(report: Mapping[str, Any]) -> str:
    """The report for people."""
    operations: Mapping[str, Mapping[str, Any]] = report["operations"]
    lines = [f"The account (region {report['region']}) and the sandbox, {report['at']}:"]
    for outcome, words in WORDS.items():
        names = [name for name, told in operations.items() if told["outcome"] == outcome]
        if names:
            shown = "" if outcome == "answered" else f": {', '.join(names)}"
            lines.append(f"  {len(names)} {words}{shown}")
    for name, told in operations.items():
        remarks = [*told["differences"], *(f"not compared: {path}" for path in told["kinds_not_compared"])]
        remarks += [f"{told['outcome']}: {told['note']}"] if told["note"] else []
        if remarks:
            lines += ["", f"{name} ({told['request']})", *(f"  {remark}" for remark in remarks)]
    lines += [
        "",
        f"{report['calls']} calls, all of them reads by the portal's journal ({report['journal']['intents']} intents of writes).",
        f"{report['differences'] or 'No'} difference{'s' if report['differences'] != 1 else ''}.",
    ]
    return "\n".join(lines)
