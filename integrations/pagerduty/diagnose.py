"""What a connection's token can do, found by cheap and harmless reads; and why it does not see one object. Pure but for ``run``."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlencode

from integrations.gateway.integration import Reply
from policies.core.call import Tool, Verdict


class Answered(Protocol):
    """What ``run`` gives back: the pipeline's answer."""

    @property
    def verdict(self) -> Verdict | None: ...
    @property
    def reply(self) -> Reply | None: ...
    @property
    def problem(self) -> str: ...


class Run(Protocol):
    """Makes one call by the connection that is tested."""

    def __call__(self, method: str, path: str, query: str = "") -> Answered: ...


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. ``ok`` None: it could not be told."""

    name: str
    ok: bool | None
    text: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class ToolCheck:
    """Whether the token can serve one tool. ``derived``: concluded from the token's kind, role and scopes, not tried."""

    tool: str
    ok: bool | None
    text: str
    derived: bool


@dataclass(frozen=True, slots=True)
class Findings:
    """The outcome of a test. ``problem`` is empty where it passed, else which failure it was."""

    passed: bool
    problem: str
    message: str
    checks: tuple[Check, ...] = ()
    tools: tuple[ToolCheck, ...] = ()
    kind: str = ""
    role: str = ""
    scopes: tuple[str, ...] = ()
    read_only: bool | None = None
    latency_ms: float | None = None
    clock_difference_s: float | None = None
    rate_limit: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, slots=True)
class Failure:
    """One way in which a call fails, with what to do about it."""

    problem: str
    message: str
    remedy: str


FAILURES = {
    "resolve": Failure("not_resolved", "PagerDuty's host name was not resolved.", "Check the portal's DNS, and that it may resolve names of the internet."),
    "connect": Failure("not_reachable", "PagerDuty could not be reached.", "Check the portal's network and firewall: it needs TCP port 443 to PagerDuty's API."),
    "tls": Failure("tls", "No secure connection could be made.", "A proxy may stand between and show a certificate of its own: set PAGERDUTY_CA_FILE to its authority."),
    "connect_timeout": Failure("timed_out", "PagerDuty did not accept a connection in time.", "Check the portal's firewall: packets seem to be dropped. Then try again."),
    "timeout": Failure("timed_out", "PagerDuty did not answer in time.", "Try again; look at PagerDuty's status page if it stays."),
    "disconnected": Failure("disconnected", "The connection broke before the answer was whole.", "Try again; a proxy between may cut long answers."),
    "too_large": Failure("too_large", "The answer is over the portal's size limit.", "Raise ANSWER_LIMIT, or ask for less."),
    "malformed": Failure("not_pagerduty", "What came back is not an answer of PagerDuty's.", "A proxy or a captive portal may answer in its place: check what the address leads to."),
    "unsealed": Failure("unsealed", "The token could not be opened.", "The portal's FIELD_ENCRYPTION_KEY has changed: set the old key beside the new one, or replace the token."),
}
STATUSES = {
    401: Failure("unauthorized", "PagerDuty does not accept the token (401).", "It is mistyped, revoked, or of the other kind: create a new one in PagerDuty and replace it."),
    402: Failure("plan", "The account's plan does not include this (402).", "Switch the tool off, or ask the account's owner about the plan."),
    403: Failure("forbidden", "The token has too little access (403).", "Give its owner the role, or the OAuth app the scopes, that the tools need."),
    404: Failure("wrong_region", "PagerDuty knows nothing there (404).", "The account may be of the other region: register the token with the region that the account's URL shows (eu.pagerduty.com is Europe)."),
    429: Failure("rate_limited", "The token's rate limit is used up (429).", "Wait a minute and test again; somebody else may be using the same token."),
}


def failure_of(answer: Answered) -> Failure | None:
    """What went wrong with a call, if anything did."""
    reply = answer.reply
    if reply is None:
        remedy = answer.verdict.remedy if answer.verdict else "Try again shortly."
        return Failure("refused", answer.problem or "The portal refused the call.", remedy)
    if reply.failure:
        return FAILURES[reply.failure]
    if reply.status >= 500:
        return Failure("upstream_error", f"PagerDuty failed ({reply.status}).", "Try again; look at PagerDuty's status page if it stays.")
    if reply.status >= 400:
        return STATUSES.get(reply.status) or Failure("refused", f"PagerDuty refused the call ({reply.status}).", "Test again; tell an administrator if it stays.")
    if reply.status >= 300 or _document(reply) is None:
        return FAILURES["malformed"]
    return None


def _document(reply: Reply) -> dict[str, Any] | None:
    try:
        document = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


PROBES: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    # path, query, the key that PagerDuty's answer has, the tools that it speaks for
    ("/incidents", "limit=1", "incidents", ("list_incidents", "get_incident", "get_incident_timeline", "list_incident_notes")),
    ("/services", "limit=1", "services", ("list_services", "get_service", "list_service_dependencies")),
    ("/escalation_policies", "limit=1", "escalation_policies", ("list_escalation_policies", "get_escalation_policy")),
    ("/schedules", "limit=1", "schedules", ("list_schedules", "get_schedule", "list_schedule_overrides")),
    ("/oncalls", "limit=1", "oncalls", ("list_oncalls", "get_user_oncall_status")),
    ("/users", "limit=1", "users", ("list_users", "get_user_data", "list_user_contact_methods")),
    ("/log_entries", "limit=1", "log_entries", ("list_log_entries",)),
    ("/abilities", "", "abilities", ("list_abilities",)),
)
READ_ONLY_ROLES = frozenset({"observer", "read_only_user", "read_only_limited_user", "restricted_access"})
LIMITED_ROLES = frozenset({"limited_user"})
INCIDENT_TOOLS = frozenset({"create_incident", "update_incident", "resolve_incident", "add_note_to_incident"})


def diagnose(
    run: Run, tools: Sequence[Tool], *, region: str, declared: str, now: Callable[[], float]
) -> Findings:
    """Test a token. ``tools``: those that the team has switched on. At most ten calls, all of them reads."""
    first = run("GET", "/users/me")
    reply = first.reply
    checks: list[Check] = []
    if reply is None or reply.failure or reply.status in (401, 402, 404, 429) or reply.status >= 500:
        failure = failure_of(first) or FAILURES["malformed"]
        reached = reply is not None and not reply.failure
        checks.append(Check("reached", reached, "PagerDuty's host answers." if reached else failure.message, "" if reached else failure.remedy))
        if reached:
            checks.append(Check("authenticated", False, failure.message, failure.remedy))
        return Findings(False, failure.problem, f"{failure.message} {failure.remedy}", tuple(checks))
    document = _document(reply)
    kind, role, scopes = _kind(reply, document)
    if not kind:
        failure = FAILURES["malformed"]
        checks.append(Check("reached", False, failure.message, failure.remedy))
        return Findings(False, failure.problem, f"{failure.message} {failure.remedy}", tuple(checks))
    if kind == "user" and declared == "oauth":
        kind = "oauth"  # An OAuth bearer answers like a user's key.
    checks.append(Check("reached", True, f"PagerDuty's host answers ({region.upper()})."))
    if kind != "account" or declared != "account":
        checks.append(Check("authenticated", True, "PagerDuty accepts the token.") if reply.status < 400 or kind == "oauth" else
                      Check("authenticated", None, "PagerDuty reads the token."))
    words = {"account": "an account API key", "user": "a user's API key", "oauth": "an OAuth bearer token"}
    same = kind == declared
    checks.append(Check("kind", same, f"It is {words[kind]}{f' of a {role}' if role else ''}.", "" if same else
                        f"It was registered as {words.get(declared, declared)}: register it again as what it is."))
    latency = round(reply.seconds * 1000, 1)
    clock = _clock_difference(reply, now())
    if clock is not None:
        fine = abs(clock) <= 30
        checks.append(Check("clock", fine, f"The clocks differ by {abs(clock):.0f} s.", "" if fine else "Set the portal's clock by NTP: times in the record and in windows are off."))
    limits = {name.removeprefix("ratelimit-"): value for name, value in reply.headers if name.startswith("ratelimit-")}
    if limits:
        checks.append(Check("rate_limit", True, f"{limits.get('remaining', '?')} of {limits.get('limit', '?')} calls a minute are left."))
    read_only = _is_read_only(kind, role, scopes)
    checks.append(Check("writes", None if read_only is None else not read_only, {
        True: "It can only read.", False: "It can write (by its role and scopes; no write was tried).",
        None: "Whether it can write is not shown by PagerDuty: a write is never tried.",
    }[read_only]))
    results, failed = _probe(run, tools, role, read_only, kind, scopes)
    # Anything read shows that an account key is accepted: /users/me does not say so of one.
    working = [result for result in results if result.ok and not result.derived]
    wrong = [result for result in results if result.ok is False]
    if failed is not None and failed.problem not in ("forbidden", "plan") and not working:
        return Findings(False, failed.problem, f"{failed.message} {failed.remedy}", tuple(checks), tuple(results), kind, role,
                        scopes, read_only, latency, clock, limits)
    if not same:
        message, problem = f"The token works, but it is {words[kind]}: register it as that.", "wrong_kind"
    elif wrong:
        names = ", ".join(result.tool for result in wrong[:5]) + ("…" if len(wrong) > 5 else "")
        problem = failed.problem if failed else "forbidden"
        message = f"The token works, but cannot serve {len(wrong)} of {len(results)} enabled tools: {names}."
    else:
        message, problem = f"The token works and serves all {len(results)} enabled tools, as far as can be told.", ""
    # A token that works for some tools is in service; what it cannot do is told beside it.
    return Findings(not problem or (problem in ("forbidden", "plan") and bool(working)), problem, message, tuple(checks),
                    tuple(results), kind, role, scopes, read_only, latency, clock, limits)


def _kind(reply: Reply, document: dict[str, Any] | None) -> tuple[str, str, tuple[str, ...]]:
    """Kind, role and scopes as ``GET /users/me`` gives them away."""
    if document is None:
        return "", "", ()
    if reply.status < 300 and isinstance(document.get("user"), dict):
        return "user", str(document["user"].get("role", "")), ()
    error = document.get("error")
    if reply.status == 400 and "account-level access token" in json.dumps(error):
        return "account", "", ()
    if reply.status == 403 and isinstance(error, dict):
        scopes = error.get("token_scopes")
        if scopes is not None:
            return "oauth", "", tuple(sorted(scopes.split() if isinstance(scopes, str) else map(str, scopes)))
        return "user", "", ()
    return "", "", ()


def _is_read_only(kind: str, role: str, scopes: Sequence[str]) -> bool | None:
    if scopes:
        return not any(scope.endswith(".write") for scope in scopes)
    if kind == "user" and role:
        return role in READ_ONLY_ROLES
    return None


def _clock_difference(reply: Reply, now: float) -> float | None:
    try:
        theirs = parsedate_to_datetime(reply.header("date"))
    except (ValueError, TypeError):
        return None
    return round(now - theirs.replace(tzinfo=theirs.tzinfo or dt.UTC).timestamp(), 1)


def _probe(
    run: Run, tools: Sequence[Tool], role: str, read_only: bool | None, kind: str, scopes: Sequence[str]
) -> tuple[list[ToolCheck], Failure | None]:
    """What each tool's probe says; and the first failure."""
    enabled = {tool.name: tool for tool in tools}
    found: dict[str, ToolCheck] = {}
    first: Failure | None = None
    stopped = False
    for path, query, key, names in PROBES:
        # /abilities says of an account key that it is accepted, even where no tool needs it.
        wanted = [name for name in names if name in enabled]
        if not wanted and not (kind == "account" and path == "/abilities" and not found):
            continue
        if stopped:
            for name in wanted:
                found[name] = ToolCheck(name, None, "Not tried: the rate limit was used up.", derived=False)
            continue
        answer = run("GET", path, query)
        failure = failure_of(answer)
        if failure is None and answer.reply is not None and key not in (_document(answer.reply) or {}):
            failure = FAILURES["malformed"]
        if failure is not None:
            first = first or failure
            stopped = failure.problem == "rate_limited"
        for position, name in enumerate(wanted):
            if failure is None:
                found[name] = ToolCheck(name, True, "It can." if position == 0 else "It can: the same kind of read works.", derived=name != names[0])
            elif answer.reply is None:
                found[name] = ToolCheck(name, None, failure.message, derived=False)
            else:
                found[name] = ToolCheck(name, False, f"{failure.message} {failure.remedy}", derived=False)
    for tool in tools:
        if tool.name not in found:
            found[tool.name] = _derived(tool, role, read_only, kind, scopes)
    return [found[tool.name] for tool in tools], first


def _derived(tool: Tool, role: str, read_only: bool | None, kind: str, scopes: Sequence[str]) -> ToolCheck:
    if scopes and not set(tool.scopes) <= set(scopes):
        missing = ", ".join(sorted(set(tool.scopes) - set(scopes)))
        return ToolCheck(tool.name, False, f"Derived: the token lacks the scope {missing}.", derived=True)
    if scopes:
        return ToolCheck(tool.name, True, "Derived: the token has the scopes.", derived=True)
    if tool.writes and read_only:
        return ToolCheck(tool.name, False, f"Derived: a {role or 'read-only token'} cannot write.", derived=True)
    if tool.writes and role in LIMITED_ROLES and tool.name not in INCIDENT_TOOLS:
        return ToolCheck(tool.name, False, f"Derived: a {role} changes incidents alone.", derived=True)
    if kind == "account":
        return ToolCheck(tool.name, None, "Derived: an account key can, unless it was made read-only, which PagerDuty does not show.", derived=True)
    return ToolCheck(tool.name, True, f"Derived: the role {role or 'of its owner'} may.", derived=True)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Whether the token sees an object: ``exists``, ``outside_bounds``, ``not_visible``, ``none`` or a failure's name."""

    result: str
    text: str
    remedy: str = ""


KINDS = {
    "service": ("/services", "services", "service"),
    "incident": ("/incidents", "incidents", "incident"),
    "schedule": ("/schedules", "schedules", "schedule"),
    "escalation_policy": ("/escalation_policies", "escalation_policies", "escalation_policy"),
    "user": ("/users", "users", "user"),
}


def explain(
    run: Run, kind: str, id_or_name: str, bounds: tuple[frozenset[str], frozenset[str]] | None
) -> Explanation:
    """``bounds``: the PagerDuty teams and services that the connection may touch; None: the whole account."""
    if kind not in KINDS:
        raise ValueError(f"unknown kind of object: {kind}")
    path, many, one = KINDS[kind]
    asked = id_or_name.strip()
    word = kind.replace("_", " ")
    looks_like_id = asked.isascii() and asked.isalnum() and asked.isupper() and 5 <= len(asked) <= 16
    if looks_like_id:
        answer = run("GET", f"{path}/{asked}")
        if answer.reply is not None and answer.reply.status < 300 and not answer.reply.failure:
            document = (_document(answer.reply) or {}).get(one)
            if isinstance(document, dict):
                return _within(document, word, bounds)
        failure = failure_of(answer)
        if failure is not None and failure.problem == "forbidden":
            return Explanation("not_visible", f"The {word} exists, but the token's owner may not see it: it is private, or of a team that the owner is not in.",
                               "Add the token's owner to that team in PagerDuty, or register a token of somebody who is.")
        if failure is not None and failure.problem != "wrong_region":
            return Explanation(failure.problem, failure.message, failure.remedy)
        return Explanation("none", f"The token sees no {word} with this id: there is none, it is private, or the token's owner lacks its team.",
                           "Compare the id with the address bar in PagerDuty, and the token's region with the account's.")
    answer = run("GET", path, urlencode({"query": asked, "limit": 25}))
    failure = failure_of(answer)
    if failure is not None or answer.reply is None:
        failure = failure or FAILURES["malformed"]
        return Explanation(failure.problem, failure.message, failure.remedy)
    listed = (_document(answer.reply) or {}).get(many) or []
    named = [item for item in listed if isinstance(item, dict) and str(item.get("name") or item.get("summary", "")).lower() == asked.lower()]
    if named:
        return _within(named[0], word, bounds)
    return Explanation("none", f"The token sees no {word} of this name: there is none, it is private, or the token's owner lacks its team.",
                       f"{len(listed)} others match in part. Try its id, which also tells missing from forbidden.")


def _within(document: dict[str, Any], word: str, bounds: tuple[frozenset[str], frozenset[str]] | None) -> Explanation:
    found = str(document.get("id", ""))
    if bounds is None:
        return Explanation("exists", f"The {word} {found} exists, and the token sees it.")
    teams = {str(team.get("id")) for team in document.get("teams") or [] if isinstance(team, dict)}
    service = document.get("service")
    services = {found} | ({str(service.get("id"))} if isinstance(service, dict) else set())
    if teams & bounds[0] or services & bounds[1]:
        return Explanation("exists", f"The {word} {found} exists inside the connection's bounds.")
    return Explanation("outside_bounds", f"The {word} {found} exists, but outside the connection's bounds.",
                       "Ask a manager to add its team or service to the bounds.")
