"""What a connection's token can do, found by few, cheap and harmless reads; and why it does not see one object.

Pure but for ``run``, which makes one call as the portal's own job. A write is never tried: what is said of writes is
derived from the token's kind, role and scopes, and says that it is.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol
from urllib.parse import quote, urlencode

from integrations.gateway.integration import Reply
from integrations.pagerduty.catalog import OPERATIONS
from policies.core.call import Tool
from policies.core.text import shown

MAXIMUM_CALLS: Final = 24
TIME_LIMIT: Final = 60.0
"""Seconds after which no further call is begun."""
MAXIMUM_SCOPES: Final = 200
"""Scopes of a token that are told; PagerDuty has fewer."""
CLOCK_LIMIT: Final = 30.0
"""Seconds by which the clocks may differ before it is worth a word."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of one call: PagerDuty's reply, or the portal's own denial with its rule and reason."""

    reply: Reply | None = None
    rule: str = ""
    denied: str = ""


class Run(Protocol):
    def __call__(self, method: str, path: str, query: str = "") -> Heard: ...


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found. ``ok`` None: it cannot be known. ``derived``: concluded, not seen."""

    name: str
    ok: bool | None
    message: str
    remedy: str = ""
    derived: bool = False


@dataclass(frozen=True, slots=True)
class ToolFinding:
    """Whether a token can serve a tool: ``serves`` is ``yes``, ``no`` or ``unknown``."""

    tool: str
    title: str
    serves: str
    message: str
    remedy: str = ""
    derived: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a call fails, what it means, and what to do about it."""

    problem: str
    message: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The outcome of a test. ``problem`` is empty where it passed, else which failure it was (``Failure.problem``)."""

    passed: bool
    problem: str
    message: str
    remedy: str = ""
    kind: str = ""
    """What the token turned out to be: ``account``, ``user``, ``oauth``; empty: not told."""
    role: str = ""
    """PagerDuty's role of the token's owner (user keys)."""
    scopes: tuple[str, ...] = ()
    """Of an OAuth token, where PagerDuty named them."""
    read_only: bool | None = None
    """Derived; None: cannot be known without writing."""
    latency_ms: float | None = None
    clock_seconds: float | None = None
    """How far the portal's clock is ahead of PagerDuty's."""
    rate_limit: Mapping[str, int] = field(default_factory=dict)
    """``limit``, ``remaining`` and ``reset`` (seconds), as far as PagerDuty told."""
    checks: tuple[Finding, ...] = ()
    tools: tuple[ToolFinding, ...] = ()
    calls: int = 0

    def as_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


_WAIT = "Try again in a minute; look at status.pagerduty.com if it stays."
_PROXY = "Something between the portal and PagerDuty seems to answer in its place: look at the proxy or firewall."
NETWORK: Final[Mapping[str, tuple[str, str]]] = {
    "resolve": ("PagerDuty's host name was not resolved.", "Look at the DNS settings of the portal's host."),
    "private_address": (
        "PagerDuty's host name leads to a private address, which cannot be PagerDuty: the token was not sent there.",
        "Somebody or something answers for PagerDuty in this network's DNS: look there. If PagerDuty is reached by way "
        "of a proxy, set OUTBOUND_PROXY.",
    ),
    "proxy": (
        "The corporate proxy cannot be reached, or did not let the portal through to PagerDuty.",
        "Compare OUTBOUND_PROXY with what the proxy wants (its address, a user and a password), and let it open "
        "connections to PagerDuty's host on port 443.",
    ),
    "connect": (
        "PagerDuty's host cannot be reached: the connection was refused or found no way.",
        "Let the portal's host make connections to PagerDuty on port 443.",
    ),
    "tls": (
        "No secure connection to PagerDuty could be made: its certificate is not trusted.",
        "If a proxy opens the traffic, set OUTBOUND_CA_FILE to its authority. Also check the clock of the "
        "portal's host.",
    ),
    "connect_timeout": (
        "PagerDuty's host did not accept a connection in time.",
        "A firewall may be dropping packets: let the portal's host make connections to PagerDuty on port 443.",
    ),
    "timeout": ("PagerDuty did not answer in time.", _WAIT),
    "disconnected": ("The connection to PagerDuty broke before its answer was whole.", _WAIT),
    "too_large": ("PagerDuty's answer is over the portal's size limit.", "Raise ANSWER_LIMIT."),
    "malformed": ("What came back is not an answer of PagerDuty's.", _PROXY),
    "unsealed": (
        "The portal cannot open the token that it keeps.",
        "Put the key that it was sealed with back into FIELD_ENCRYPTION_KEY, or replace the token.",
    ),
}
_STATUSES: Final[Mapping[int, tuple[str, str, str]]] = {
    401: (
        "unauthorized",
        "PagerDuty does not accept the token: it is mistyped, was revoked, or belongs to the other region.",
        "Compare the connection's region with the account's address (accounts in Europe are at eu.pagerduty.com); "
        "if it is right, make a new token in PagerDuty and put it in place of this one.",
    ),
    402: (
        "plan",
        "The PagerDuty account's plan does not include this.",
        "Switch the tool off, or ask the owner of the PagerDuty account about its plan.",
    ),
    403: (
        "forbidden",
        "The token has too little access for this.",
        "Give its owner a higher role or the PagerDuty team, or the OAuth application the scope; or use another token.",
    ),
    404: (
        "not_found",
        "PagerDuty knows nothing at this address: the account may be in the other region.",
        "Compare the connection's region with the account's address (accounts in Europe are at eu.pagerduty.com).",
    ),
    429: (
        "rate_limited",
        "PagerDuty's rate limit for this token is used up.",
        "Wait a minute and test again; see what else uses the same token.",
    ),
}
_NOT_PAGERDUTY: Final = Failure("not_pagerduty", NETWORK["malformed"][0], NETWORK["malformed"][1])


def failure_of(reply: Reply, key: str) -> Failure | None:
    """What went wrong with a read whose answer has its content under ``key``; None: nothing."""
    if reply.failure:
        return Failure(reply.failure, *NETWORK[reply.failure])
    document = _document(reply)
    if reply.status >= 500:
        return Failure("unavailable", f"PagerDuty failed to answer ({reply.status}).", _WAIT)
    if reply.status == 429:
        return Failure(*_STATUSES[429])
    # PagerDuty says what is wrong as JSON under "error"; a proxy that refuses does not.
    # (A wrong token it has told in plain text.)
    if reply.status >= 400 and reply.status != 401 and (document is None or "error" not in document):
        return dataclasses.replace(
            _NOT_PAGERDUTY, message=f"{_NOT_PAGERDUTY.message} It was {reply.status} in no form of PagerDuty's."
        )
    if reply.status in _STATUSES:
        failure = Failure(*_STATUSES[reply.status])
        if missing := _missing_scopes(document or {}):
            return dataclasses.replace(failure, message=f"The token lacks the scope {', '.join(missing)}.")
        return failure
    if reply.status >= 400:
        return Failure(
            "refused",
            f"PagerDuty refused the call ({reply.status}).",
            "Tell an administrator: the portal asked wrongly.",
        )
    if reply.status != 200 or document is None or not isinstance(document.get(key), dict | list):
        return _NOT_PAGERDUTY
    return None


def in_short(heard: Heard) -> str:
    """What came of one call, in a few words for whoever watches a test."""
    if heard.reply is None:
        return f"not sent: {heard.denied or 'the portal could not make the call'}"
    if heard.reply.failure:
        return NETWORK[heard.reply.failure][0]
    took = f"{heard.reply.status} in {heard.reply.seconds * 1000:.0f} ms"
    return f"answered: {took}" if heard.reply.status < 400 else f"refused: {took}"


def _document(reply: Reply) -> dict[str, Any] | None:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _error(reply: Reply) -> dict[str, Any]:
    error = (_document(reply) or {}).get("error")
    return error if isinstance(error, dict) else {}


def _names(value: object) -> tuple[str, ...]:
    """Scopes, which come as a list or as one string."""
    names = value.replace(",", " ").split() if isinstance(value, str) else value if isinstance(value, list) else []
    return tuple(sorted(shown(str(name), 100) for name in names[:MAXIMUM_SCOPES]))


def _missing_scopes(document: Mapping[str, Any]) -> list[str]:
    error = document.get("error")
    if not isinstance(error, dict) or "required_scopes" not in error:
        return []
    return sorted(set(_names(error["required_scopes"])) - set(_names(error.get("token_scopes"))))


@dataclass(frozen=True, slots=True)
class Probe:
    """A cheap, harmless read that shows whether a scope's reads are served."""

    scope: str
    path: str
    key: str
    query: str = "limit=1"


PROBES: Final[Mapping[str, Probe]] = {
    "listAbilities": Probe("abilities.read", "/abilities", "abilities", ""),
    "listIncidents": Probe("incidents.read", "/incidents", "incidents"),
    "listServices": Probe("services.read", "/services", "services"),
    "listEscalationPolicies": Probe("escalation_policies.read", "/escalation_policies", "escalation_policies"),
    "listSchedules": Probe("schedules.read", "/schedules", "schedules"),
    "listOnCalls": Probe("oncalls.read", "/oncalls", "oncalls"),
    "listUsers": Probe("users.read", "/users", "users"),
    "listLogEntries": Probe("incidents.read", "/log_entries", "log_entries"),
    "listTeams": Probe("teams.read", "/teams", "teams"),
    "listPriorities": Probe("priorities.read", "/priorities", "priorities"),
    "listIncidentTypes": Probe("incident_types.read", "/incidents/types", "incident_types", ""),
    "listChangeEvents": Probe("change_events.read", "/change_events", "change_events"),
    "listEventOrchestrations": Probe("event_orchestrations.read", "/event_orchestrations", "orchestrations"),
    "listIncidentWorkflows": Probe("incident_workflows.read", "/incident_workflows", "incident_workflows"),
    "listStatusPages": Probe("status_pages.read", "/status_pages", "status_pages", ""),
    "listWebhookSubscriptions": Probe("webhook_subscriptions.read", "/webhook_subscriptions", "webhook_subscriptions"),
    "listExtensionSchemas": Probe("extension_schemas.read", "/extension_schemas", "extension_schemas"),
    "listStandards": Probe("standards.read", "/standards", "standards", ""),
    "listAuditRecords": Probe("audit_records.read", "/audit/records", "records"),
    # v3 schedules are of a world of their own, and PagerDuty declares no scope for them.
    "listSchedulesV3": Probe("", "/v3/schedules", "schedules"),
}
"""By operation. The first of a scope speaks for those of its operations that need an id."""
_BY_SCOPE: Final = {probe.scope: name for name, probe in reversed(list(PROBES.items()))}

# PagerDuty's roles (schema: User.role). A role in a PagerDuty team can raise some of them there.
_WRITERS: Final = frozenset({"owner", "admin", "user"})
_RESPONDERS: Final = frozenset({"limited_user"})
_READERS: Final = frozenset({"read_only_user", "read_only_limited_user"})
_RESPONDER_SCOPES: Final = frozenset({"incidents.write"})
_KINDS: Final = {"account": "an account API key", "user": "a user API key", "oauth": "an OAuth bearer token"}


class _Session:
    """The calls of one diagnosis: counted, timed, and given up once one fails in a way that the next would too."""

    def __init__(self, run: Run, now: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._run, self._now, self._monotonic = run, now, monotonic
        self._started = monotonic()
        self.calls = 0
        self.fatal: Failure | None = None
        self.stopped = ""
        self.scopes: tuple[str, ...] = ()
        self.latencies: list[float] = []
        self.clock: float | None = None
        self.rate_limit: dict[str, int] = {}
        self.accepted = False
        """Whether an answer has shown that PagerDuty knows the token."""

    def read(self, path: str, query: str = "") -> Heard | None:
        """One call; None: no more are made."""
        if self.stopped:
            return None
        if self.calls >= MAXIMUM_CALLS or self._monotonic() - self._started > TIME_LIMIT:
            self.stopped = "The test took too long: this was not tried."
            return None
        heard = self._run("GET", path, query)
        if heard.reply is None:
            if heard.rule == "bounds":
                self.stopped = heard.denied
            return heard
        self.calls += 1
        self._measure(heard.reply)
        if (scopes := _names(_error(heard.reply).get("token_scopes"))) and not self.scopes:
            self.scopes = scopes
        return heard

    def judge(self, failure: Failure | None) -> None:
        if failure is None or failure.problem in ("plan", "forbidden"):
            self.accepted = self.accepted or failure is None or failure.problem == "forbidden"
        elif failure.problem == "rate_limited":
            self.stopped = "PagerDuty's rate limit was reached during the test: this was not tried."
            if not self.accepted:
                self.fatal = failure
        elif failure.problem not in ("not_found", "refused"):
            self.stopped, self.fatal = f"Not tried: {failure.message}", failure

    def _measure(self, reply: Reply) -> None:
        if reply.failure:
            return
        self.latencies.append(reply.seconds * 1000)
        for name in ("limit", "remaining", "reset"):
            value = reply.header(f"ratelimit-{name}")
            if value.isascii() and value.isdecimal() and len(value) < 10:
                self.rate_limit[name] = int(value)
        if self.clock is None and (told := reply.header("date")):
            try:
                theirs = parsedate_to_datetime(told)
            except ValueError:
                return
            self.clock = round(self._now() - theirs.replace(tzinfo=theirs.tzinfo or dt.UTC).timestamp(), 1)


def diagnose(
    run: Run,
    *,
    kind: str,
    region: str,
    tools: Sequence[Tool],
    now: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
) -> Diagnosis:
    """Test a token that was registered as ``kind``. ``tools``: those that the team has on.

    At most two dozen calls, all reads, none begun after a minute. A test passes when PagerDuty accepts the token, it is
    of the kind that it was registered as, and not every read was refused. ``problem`` is ``denied`` where the portal
    itself allowed no call.
    """
    session = _Session(run, now, monotonic)
    found, role = _identify(session, kind)
    denied = ""
    probed: dict[str, Failure | None] = {}

    def probe(operation: str) -> None:
        nonlocal denied
        if operation in probed or session.stopped:
            return
        wanted = PROBES[operation]
        heard = session.read(wanted.path, wanted.query)
        if heard is None:
            return
        if heard.reply is None:
            denied = denied or heard.denied
            return
        failure = failure_of(heard.reply, wanted.key)
        session.judge(failure)
        # What ends the whole test says nothing of this one tool.
        if session.fatal is None and not session.stopped:
            probed[operation] = failure

    if not session.stopped and found != "user":
        # /users/me does not show that an account key is accepted; this does, even on a bounded connection.
        probe("listAbilities")
    for tool in tools:
        if (operation := _probe_of(tool)) and not (operation == "listUsers" and _is_me(tool, found)):
            probe(operation)

    read_only = _read_only(found, role, session.scopes)
    served = tuple(_tool_finding(tool, session, probed, found, role, read_only) for tool in tools)
    verdict = _verdict(session, found, kind, probed, served, denied)
    return dataclasses.replace(
        verdict,
        kind=found,
        role=role,
        scopes=session.scopes,
        read_only=read_only,
        latency_ms=round(min(session.latencies), 1) if session.latencies else None,
        clock_seconds=session.clock,
        rate_limit=session.rate_limit,
        checks=_checks(session, region, found, kind, role, read_only, verdict),
        tools=served,
        calls=session.calls,
    )


def _identify(session: _Session, registered: str) -> tuple[str, str]:
    """The token's kind and its owner's role, as ``GET /users/me`` gives them away."""
    heard = session.read("/users/me")
    if heard is None or heard.reply is None:
        # The lock of a tool, say: the other reads may still tell.
        return "", ""
    reply = heard.reply
    document = _document(reply)
    if reply.status == 400 and "account-level access token" in json.dumps(document):
        return "account", ""
    failure = failure_of(reply, "user")
    if failure is not None and failure.problem in ("not_found", "refused", "plan"):
        session.stopped, session.fatal = f"Not tried: {failure.message}", failure
    session.judge(failure)
    if failure is None and document is not None:
        return ("oauth" if registered == "oauth" else "user"), shown(str(document["user"].get("role") or ""), 40)
    return ("oauth" if session.scopes else ""), ""


def _probe_of(tool: Tool) -> str:
    """The operation whose probe speaks for a tool's reads; empty: none does."""
    own = next((operation for operation in tool.operations if operation in PROBES), "")
    if own or tool.writes:
        return own
    if not tool.operations:
        return _BY_SCOPE["schedules.read"]  # The mirror, from which it is answered, is read by this very token.
    if not tool.scopes:
        v3 = all(OPERATIONS[operation].path.startswith("/v3/") for operation in tool.operations)
        return "listSchedulesV3" if v3 else ""
    scope = tool.scopes[0]
    # users:contact_methods.read is a part of users.read to keys, which have no scopes.
    return (
        _BY_SCOPE.get(scope) or _BY_SCOPE.get(f"{scope.partition(':')[0]}.read", "") if scope.endswith(".read") else ""
    )


def _is_me(tool: Tool, kind: str) -> bool:
    return kind in ("user", "oauth") and "getCurrentUser" in tool.operations


def _read_only(kind: str, role: str, scopes: Sequence[str]) -> bool | None:
    if scopes:
        return not any(scope.endswith(".write") for scope in scopes)
    if kind == "user" and role in _READERS | _WRITERS | _RESPONDERS:
        return role in _READERS
    return None


def _tool_finding(
    tool: Tool, session: _Session, probed: Mapping[str, Failure | None], kind: str, role: str, read_only: bool | None
) -> ToolFinding:
    def finding(serves: str, message: str, remedy: str = "", *, derived: bool = True) -> ToolFinding:
        return ToolFinding(tool.name, tool.title, serves, message, remedy, derived)

    if session.scopes and (missing := sorted(set(tool.scopes) - set(session.scopes))):
        return finding(
            "no",
            f"The token lacks the scope {', '.join(missing)}.",
            "Give the OAuth application the scope, or switch the tool off.",
        )
    if tool.writes:
        return finding(*_write(tool, session, kind, role))
    if _is_me(tool, kind):
        return finding("yes", "PagerDuty answered a read of this tool.", derived=False)
    operation = _probe_of(tool)
    if operation in probed:
        failure = probed[operation]
        own = operation in tool.operations
        how = "" if own else f" (derived from {PROBES[operation].path})"
        if failure is None:
            return finding(
                "yes",
                f"PagerDuty answered a read of this tool{how}."
                if own
                else f"PagerDuty answers reads of its kind{how}.",
                derived=not own,
            )
        return finding("no", f"{failure.message.rstrip('.')}{how}.", failure.remedy, derived=not own)
    if operation:
        return finding(
            "unknown", session.stopped or "The portal did not allow the read that would tell.", derived=False
        )
    if session.fatal is not None:
        return finding("unknown", session.stopped)
    if session.scopes:
        return finding("yes", "The token has the scope.")
    if any(scope.startswith("analytics.") for scope in tool.scopes):
        # It reads by POST, and PagerDuty refuses what is not GET to read-only keys.
        if kind == "user" and not read_only:
            return finding("yes", "User keys read analytics, as long as PagerDuty teams or services are named.")
        return finding(
            "unknown", "A token that only reads is probably refused analytics, which PagerDuty serves by POST."
        )
    return finding("unknown", "No harmless read tells.")


def _words(role: str) -> str:
    return role.replace("_", " ")


def _write(tool: Tool, session: _Session, kind: str, role: str) -> tuple[str, str]:
    """Whether a write can be served, by kind, role and scopes alone, and why."""
    if session.scopes:
        return "yes", "The token has the scope."
    if kind == "account":
        return "unknown", "An account key can, unless it was made read-only, which PagerDuty does not tell."
    if kind == "user" and role in _READERS:
        return "no", f"Its owner's role in PagerDuty ({_words(role)}) only reads."
    if kind == "user" and (role in _WRITERS or (role in _RESPONDERS and set(tool.scopes) <= _RESPONDER_SCOPES)):
        return "yes", f"Its owner's role in PagerDuty ({_words(role)}) may."
    if kind == "user" and role:
        return "unknown", f"Its owner's role ({_words(role)}) alone may not; a higher role in a PagerDuty team would."
    return "unknown", "PagerDuty does not tell the token's role or scopes."


def _verdict(
    session: _Session,
    found: str,
    registered: str,
    probed: Mapping[str, Failure | None],
    served: Sequence[ToolFinding],
    denied: str,
) -> Diagnosis:
    if session.fatal is not None:
        return Diagnosis(False, session.fatal.problem, session.fatal.message, session.fatal.remedy)
    if found and found != registered:
        return Diagnosis(
            False,
            "kind",
            f"The token is {_KINDS[found]}, but it was registered as {_KINDS[registered]}.",
            "Correct the connection's kind (an account key needs an administrator), or put the token that was "
            "meant in its place.",
        )
    refused = [failure for failure in probed.values() if failure is not None]
    if refused and len(refused) == len(probed) and found not in ("user", "oauth"):
        return Diagnosis(False, refused[0].problem, refused[0].message, refused[0].remedy)
    if not session.accepted:
        if denied or session.stopped:
            return Diagnosis(
                False,
                "denied",
                denied or session.stopped,
                "Ask an administrator to unlock the reads that a test needs.",
            )
        return Diagnosis(False, _NOT_PAGERDUTY.problem, _NOT_PAGERDUTY.message, _NOT_PAGERDUTY.remedy)
    if refused and len(refused) == len(probed):
        return Diagnosis(False, refused[0].problem, refused[0].message, refused[0].remedy)
    cannot = [tool.tool for tool in served if tool.serves == "no"]
    untried = sum(tool.serves == "unknown" and not tool.derived for tool in served)
    unknown = sum(tool.serves == "unknown" and tool.derived for tool in served)
    message = f"PagerDuty accepts the token{f': it is {_KINDS[found]}' if found else ''}."
    if cannot:
        named = ", ".join(cannot[:5]) + (" and others" if len(cannot) > 5 else "")
        message += f" It cannot serve {len(cannot)} of the {len(served)} enabled tools: {named}."
        if unknown:
            message += f" Of {unknown} it is not known."
    elif served and not untried and unknown:
        yes = len(served) - unknown
        message += (
            f" Of the {len(served)} enabled tools {yes} {'is' if yes == 1 else 'are'} served, and of {unknown} it is "
            f"not known."
        )
    elif served and not untried:
        message += f" Nothing speaks against any of the {len(served)} enabled tools."
    if untried:
        message += (
            f" {untried} enabled tool{'s' if untried != 1 else ''} could not be tried: {session.stopped or denied}"
        )
    return Diagnosis(True, "", message)


def _checks(
    session: _Session, region: str, found: str, registered: str, role: str, read_only: bool | None, verdict: Diagnosis
) -> tuple[Finding, ...]:
    reached = bool(session.latencies) and verdict.problem != "not_pagerduty"
    checks = [
        Finding(
            "reached",
            reached,
            f"PagerDuty answers: {region}." if reached else verdict.message,
            "" if reached else verdict.remedy,
        )
    ]
    if not reached:
        return tuple(checks)
    checks.append(Finding("latency", True, f"PagerDuty answers in {max(1, round(min(session.latencies)))} ms."))
    if session.accepted:
        checks.append(Finding("authenticated", True, "PagerDuty accepts the token."))
    else:
        checks.append(
            Finding(
                "authenticated", False if verdict.problem == "unauthorized" else None, verdict.message, verdict.remedy
            )
        )
    if found:
        same = found == registered
        checks.append(
            Finding(
                "kind",
                same,
                f"It is {_KINDS[found]}{f' of a PagerDuty user with the role {_words(role)}' if role else ''}.",
                "" if same else verdict.remedy,
            )
        )
    if session.scopes:
        checks.append(Finding("scopes", True, f"Its scopes: {', '.join(session.scopes)}."))
    if session.accepted:
        checks.append(
            Finding(
                "access",
                None if read_only is None else True,
                {
                    True: "It only reads.",
                    False: "It reads and writes.",
                    None: "Whether it may write is not told: a test never writes.",
                }[read_only],
                derived=True,
            )
        )
    if session.clock is not None:
        fine = abs(session.clock) <= CLOCK_LIMIT
        checks.append(
            Finding(
                "clock",
                fine,
                "The portal's clock agrees with PagerDuty's to the second."
                if abs(session.clock) < 1
                else f"The portal's clock is {abs(session.clock):.0f} s "
                f"{'ahead of' if session.clock >= 0 else 'behind'} PagerDuty's.",
                "" if fine else "Set the clock of the portal's host by NTP: expiries and records depend on it.",
            )
        )
    if "remaining" in session.rate_limit:
        limits = session.rate_limit
        checks.append(
            Finding(
                "rate_limit",
                limits["remaining"] > 0,
                f"{limits['remaining']} of {limits.get('limit', '?')} calls are left; the count starts anew in "
                f"{limits.get('reset', '?')} s.",
            )
        )
    return tuple(checks)


# One object


@dataclass(frozen=True, slots=True)
class Object:
    """How objects of one type are read: ``/services/{id}`` gives ``{"service": {...}}``, the list ``{"services":
    [...]}``."""

    title: str
    path: str
    one: str
    by_name: bool = True
    """Whether the list can be searched by name."""
    elsewhere: str = ""
    """Where the others of its type are: PagerDuty answers 400 to an id of the other kind of schedule."""

    @property
    def many(self) -> str:
        return self.path.removeprefix("/")


OBJECTS: Final[Mapping[str, Object]] = {
    "service": Object("service", "/services", "service"),
    "incident": Object("incident", "/incidents", "incident", by_name=False),
    "schedule": Object("schedule", "/schedules", "schedule", elsewhere="/v3/schedules"),
    "escalation_policy": Object("escalation policy", "/escalation_policies", "escalation_policy"),
    "user": Object("user", "/users", "user"),
}
_ID = re.compile(r"[A-Z][A-Z0-9]{4,15}")


def explain_object(
    run: Run,
    *,
    type: str,
    id_or_name: str,
    kind: str,
    whole_account: bool,
    team_ids: frozenset[str],
    service_ids: frozenset[str],
) -> Finding:
    """Why a token does or does not see an object, named by its id or its exact name. At most three reads.

    ``Finding.name`` is ``no_name`` (not named in a way that can be looked up: no call is made), ``exists``,
    ``outside_or_none`` (on a bounded connection: whether what is outside exists is told to nobody), ``lacks_team`` (it is
    there, but its owner may not), ``no_such`` (an account key sees all there is), ``private_or_none`` (PagerDuty answers a
    user's token alike for both), or a failure's name.

    Raises:
        ValueError: an unknown ``type``.
    """
    if type not in OBJECTS:
        raise ValueError(f"no type of object: {type[:40]!r}")
    what, asked = OBJECTS[type], id_or_name.strip()[:200]

    def inside(item: Mapping[str, Any]) -> bool:
        services = _ids([item if what.one == "service" else item.get("service")])
        return whole_account or bool(_ids(item.get("teams")) & team_ids or services & service_ids)

    if not asked:
        return Finding("no_name", None, f"Name the {what.title} by its id{' or its name' if what.by_name else ''}.")
    named_by_id = _ID.fullmatch(asked) is not None
    if not (named_by_id or what.by_name):
        return Finding("no_name", None, f"Name the {what.title} by its id, such as PT4KHLK.")
    missing = None
    if named_by_id:
        heard = run("GET", f"{what.path}/{quote(asked, safe='')}")
        if heard.reply is not None and heard.reply.status == 400 and what.elsewhere:
            heard = run("GET", f"{what.elsewhere}/{quote(asked, safe='')}")
        if heard.reply is None:
            return _refused(heard)
        failure = failure_of(heard.reply, what.one)
        if failure is None:
            found = (_document(heard.reply) or {})[what.one]
            item = found if isinstance(found, dict) else {}
            if inside(item):
                return _seen(what, item, whole_account)
        elif failure.problem == "forbidden" and whole_account:
            return _lacks(what, failure, heard.reply)
        elif failure.problem not in ("not_found", "forbidden"):
            return Finding(failure.problem, None, failure.message, failure.remedy)
        missing = _missing(what, asked, kind, [], whole_account)
        if not what.by_name:
            return missing
    # A name may look like an id: CHECKOUT.
    heard = run("GET", what.path, urlencode({"query": asked, "limit": 100}))
    if heard.reply is None:
        return missing or _refused(heard)
    failure = failure_of(heard.reply, what.many)
    if failure is not None:
        if missing is not None:
            return missing
        if failure.problem == "forbidden":
            return _lacks(what, failure, heard.reply)
        return Finding(failure.problem, None, failure.message, failure.remedy)
    items = [item for item in (_document(heard.reply) or {})[what.many] if isinstance(item, dict)]
    names = {shown(str(item.get("name") or item.get("summary") or ""), 100): item for item in items}
    for name, item in names.items():
        if name.casefold() == shown(asked, 100).casefold() and inside(item):
            return _seen(what, item, whole_account)
    similar = sorted(name for name, item in names.items() if inside(item))
    return missing if missing is not None and not similar else _missing(what, asked, kind, similar, whole_account)


def _refused(heard: Heard) -> Finding:
    return Finding("denied", None, heard.denied, "It was the portal that refused, not PagerDuty.")


def _lacks(what: Object, failure: Failure, reply: Reply) -> Finding:
    if _missing_scopes(_document(reply) or {}):
        return Finding("forbidden", False, failure.message, failure.remedy)
    return Finding(
        "lacks_team",
        False,
        f"The {what.title} is there, but the token's owner may not see it: they lack its PagerDuty team.",
        "Add the token's owner to the PagerDuty team in PagerDuty, or register a token of somebody in it.",
    )


def _missing(what: Object, asked: str, kind: str, similar: Sequence[str], whole_account: bool) -> Finding:
    like = f" Similar names: {', '.join(similar[:5])}." if similar else ""
    asked = shown(asked, 200)
    if not whole_account:
        return Finding(
            "outside_or_none",
            False,
            f"The {what.title} {asked} is not within the connection's bounds, or the token sees none such.{like}",
            "Compare it with the address of its page in PagerDuty. If assistants should reach it, add its PagerDuty team or "
            "service to the bounds.",
        )
    if kind == "account":
        return Finding(
            "no_such",
            False,
            f"There is no {what.title} {asked} in this account.{like}",
            "Compare it with the address of its page in PagerDuty, and the connection's region with the account's.",
        )
    return Finding(
        "private_or_none",
        False,
        f"The token sees no {what.title} {asked}: there is none, or it is private to a PagerDuty team that the "
        f"token's owner is not "
        f"in. PagerDuty answers both alike.{like}",
        "Open it in PagerDuty as the token's owner, or ask with an account key's connection, which sees private "
        "ones too.",
    )


def _ids(value: object) -> frozenset[str]:
    return (
        frozenset(str(each.get("id")) for each in value if isinstance(each, dict))
        if isinstance(value, list)
        else frozenset()
    )


def _seen(what: Object, item: Mapping[str, Any], whole_account: bool) -> Finding:
    name = shown(str(item.get("name") or item.get("summary") or ""), 100)
    label = f"{name} ({shown(str(item.get('id', '')), 40)})"
    where = "and the token sees it" if whole_account else "inside the connection's bounds"
    return Finding("exists", True, f"The {what.title} {label} exists, {where}.")
