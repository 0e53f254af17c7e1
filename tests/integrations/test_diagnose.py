"""What a test says of a token, for each way in which PagerDuty can answer, and why a token does not see one object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from integrations.gateway.integration import FAILURES, Reply
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.diagnose import (
    MAXIMUM_CALLS,
    NETWORK,
    Diagnosis,
    Finding,
    Heard,
    ToolFinding,
    diagnose,
    explain_object,
    failure_of,
)

HTML = b"<html><body>Sign in to the company's network</body></html>"
DATE = (("date", "Tue, 10 Mar 2026 12:00:00 GMT"),)
AT = 1773144000.0
"""The same moment."""
READS = tuple(TOOLS[name] for name in ("list_incidents", "list_services", "list_schedules", "list_users"))


def answer(document: Any, status: int = 200, *, seconds: float = 0.042) -> Heard:
    return Heard(Reply(status, DATE, json.dumps(document).encode(), seconds=seconds))


def refusal(status: int, code: int = 2001, message: str = "No", **more: Any) -> Heard:
    return answer({"error": {"message": message, "code": code, "errors": [], **more}}, status)


def failed(failure: str) -> Heard:
    return Heard(Reply(0, failure=failure, sent=False))


def page(status: int) -> Heard:
    """A page of a proxy's, say."""
    return Heard(Reply(status, (("content-type", "text/html"),), HTML))


class PagerDuty:
    """Answers by path, or alike to everything; remembers what it was asked."""

    def __init__(self, answers: Mapping[str, Heard] | None = None, default: Heard | None = None) -> None:
        self.answers, self.default = dict(answers or {}), default
        self.asked: list[str] = []

    def __call__(self, method: str, path: str, query: str = "") -> Heard:
        assert method == "GET"
        self.asked.append(f"{path}?{query}" if query else path)
        if path in self.answers:
            return self.answers[path]
        if self.default is not None:
            return self.default
        return answer({path.rsplit("/", 1)[-1]: []})


def user(role: str = "admin") -> dict[str, Heard]:
    return {"/users/me": answer({"user": {"id": "PUSR000", "role": role}})}


ACCOUNT = {"/users/me": answer({"error": "This uses an account-level access token."}, 400)}


def diagnosed(pagerduty: PagerDuty, *, kind: str = "user", tools: Any = READS, ahead: float = 0.0) -> Diagnosis:
    return diagnose(pagerduty, kind=kind, region="United States", tools=tools, now=lambda: AT + ahead)


def check(found: Diagnosis, name: str) -> Finding:
    [finding] = [each for each in found.checks if each.name == name]
    return finding


def tool(found: Diagnosis, name: str) -> ToolFinding:
    [finding] = [each for each in found.tools if each.tool == name]
    return finding


# What a test passes with


def test_a_user_key_that_serves_everything_passes() -> None:
    found = diagnosed(PagerDuty(user()))
    assert (found.passed, found.problem, found.kind, found.role) == (True, "", "user", "admin")
    assert {each.serves for each in found.tools} == {"yes"}
    assert "Nothing speaks against any of the 4 enabled tools" in found.message


def test_what_is_not_known_of_the_tools_is_counted() -> None:
    found = diagnosed(PagerDuty(ACCOUNT), kind="account", tools=(*READS, TOOLS["resolve_incident"]))
    assert "Of the 5 enabled tools 4 are served, and of 1 it is not known." in found.message
    assert "Nothing speaks against" not in found.message


def test_an_account_key_is_told_by_how_pagerduty_refuses_to_name_its_owner() -> None:
    pagerduty = PagerDuty(ACCOUNT)
    found = diagnosed(pagerduty, kind="account")
    assert (found.passed, found.kind, found.role) == (True, "account", "")
    assert "/abilities" in pagerduty.asked  # that refusal alone does not show that the key is accepted


@pytest.mark.parametrize(("seconds", "said"), [(0.042, "42 ms"), (0.0001, "1 ms"), (1.2, "1200 ms")])
def test_how_long_pagerduty_took_is_shown(seconds: float, said: str) -> None:
    pagerduty = PagerDuty({"/users/me": answer({"user": {"role": "admin"}}, seconds=seconds)})
    found = diagnosed(pagerduty, tools=())
    assert check(found, "latency").message == f"PagerDuty answers in {said}."
    assert found.latency_ms == seconds * 1000


def test_how_long_is_not_shown_where_pagerduty_did_not_answer() -> None:
    for heard in (failed("resolve"), page(200)):
        assert [each.name for each in diagnosed(PagerDuty(default=heard)).checks] == ["reached"]


@pytest.mark.parametrize(
    ("ahead", "fine", "said"),
    [(2, True, "2 s ahead of"), (0.4, True, "agrees with PagerDuty's to the second"), (-90, False, "90 s behind")],
)
def test_clocks_that_differ_are_worth_a_word(ahead: float, fine: bool, said: str) -> None:
    clock = check(diagnosed(PagerDuty(user()), ahead=ahead), "clock")
    assert (clock.ok, bool(clock.remedy)) == (fine, not fine)
    assert said in clock.message


def test_no_more_calls_are_made_than_it_may() -> None:
    pagerduty = PagerDuty(user())
    diagnosed(pagerduty, tools=tuple(TOOLS.values()))
    assert len(pagerduty.asked) <= MAXIMUM_CALLS
    assert len(pagerduty.asked) == len(set(pagerduty.asked))


def test_a_harmless_read_tells_of_every_reading_tool_but_of_those_that_read_by_post() -> None:
    pagerduty = PagerDuty(user())
    found = diagnosed(pagerduty, tools=tuple(tool for tool in TOOLS.values() if not tool.writes))
    untold = {each.tool for each in found.tools if each.derived and "derived from" not in each.message}
    by_post = {name for name, tool in TOOLS.items() if any(scope.endswith(".write") for scope in tool.scopes)}
    assert untold == by_post - {name for name, tool in TOOLS.items() if tool.writes} | {"get_incident_analytics"}


def test_a_test_that_takes_too_long_leaves_the_rest_untried() -> None:
    times = iter(range(0, 10_000, 25))
    found = diagnose(
        PagerDuty(user()), kind="user", region="EU", tools=READS, now=lambda: AT, monotonic=lambda: next(times)
    )
    assert found.passed
    assert [each.serves for each in found.tools] == ["yes", "unknown", "unknown", "unknown"]
    assert "took too long" in found.message


# What ends it


FATAL: dict[str, tuple[Heard, str, str, str]] = {
    # what happens: (answer, problem, a part of the message, a part of the remedy)
    "not resolved": (failed("resolve"), "resolve", "host name was not resolved", "DNS"),
    "not reachable": (failed("connect"), "connect", "cannot be reached", "port 443"),
    "TLS": (failed("tls"), "tls", "certificate is not trusted", "OUTBOUND_CA_FILE"),
    "connect timeout": (
        failed("connect_timeout"),
        "connect_timeout",
        "did not accept a connection in time",
        "firewall",
    ),
    "timeout": (failed("timeout"), "timeout", "did not answer in time", "status.pagerduty.com"),
    "broken off": (failed("disconnected"), "disconnected", "broke before its answer was whole", "status.pagerduty.com"),
    "too large": (failed("too_large"), "too_large", "size limit", "ANSWER_LIMIT"),
    "malformed": (failed("malformed"), "malformed", "not an answer of PagerDuty's", "proxy"),
    "not opened": (failed("unsealed"), "unsealed", "cannot open the token", "FIELD_ENCRYPTION_KEY"),
    "401": (refusal(401, 2006), "unauthorized", "mistyped, was revoked, or belongs to the other region", "new token"),
    "402": (refusal(402, 2014), "plan", "plan does not include", "Switch the tool off"),
    "403": (refusal(403, 2010), "forbidden", "too little access", "higher role"),
    "404": (refusal(404, 2100), "not_found", "the other region", "eu.pagerduty.com"),
    "429": (refusal(429, 2020), "rate_limited", "rate limit", "Wait a minute"),
    "500": (refusal(500), "unavailable", "failed to answer (500)", "status.pagerduty.com"),
    "503 of a proxy": (page(503), "unavailable", "failed to answer (503)", "status.pagerduty.com"),
    "HTML, 200": (page(200), "not_pagerduty", "not an answer of PagerDuty's", "proxy or firewall"),
    "HTML, 403": (page(403), "not_pagerduty", "It was 403 in no form of PagerDuty's", "proxy or firewall"),
    "JSON of somebody else's": (answer({"hello": "world"}), "not_pagerduty", "not an answer of PagerDuty's", "proxy"),
    "a list": (answer([1, 2]), "not_pagerduty", "not an answer of PagerDuty's", "proxy or firewall"),
}


@pytest.mark.parametrize("case", FATAL)
def test_each_failure_has_its_own_words_and_remedy(case: str) -> None:
    heard, problem, message, remedy = FATAL[case]
    found = diagnosed(PagerDuty(default=heard))
    assert (found.passed, found.problem) == (False, problem)
    assert message in found.message
    assert remedy in found.remedy
    assert found.message.endswith(".")
    assert found.remedy.endswith(".")
    assert {each.serves for each in found.tools} <= {"no", "unknown"}


def test_a_wrong_token_that_is_told_in_plain_text_is_no_proxys_doing() -> None:
    plain = Reply(401, (("content-type", "text/plain"),), b"HTTP Token: Access denied.")
    usual = refusal(401, 2006).reply
    assert usual is not None
    assert failure_of(plain, "abilities") == failure_of(usual, "abilities")


def test_no_two_failures_share_their_words() -> None:
    said: dict[str, str] = {}
    for heard, problem, _, _ in FATAL.values():
        found = diagnosed(PagerDuty(default=heard))
        said.setdefault(problem, found.message)
    # What came back is not PagerDuty's either way: HTTP that cannot be parsed, or a document that is somebody else's.
    assert said.pop("malformed") == diagnosed(PagerDuty(default=page(200))).message
    assert len(set(said.values())) == len(said)


def test_every_failure_of_the_network_has_words() -> None:
    assert set(FAILURES) <= set(NETWORK)


@pytest.mark.parametrize("case", ["not resolved", "TLS", "401", "429", "500", "HTML, 200"])
def test_no_further_call_is_made_where_the_next_would_fail_alike(case: str) -> None:
    pagerduty = PagerDuty(default=FATAL[case][0])
    found = diagnosed(pagerduty, tools=tuple(TOOLS.values()))
    assert found.calls == len(pagerduty.asked) == 1


def test_a_token_that_stops_to_be_accepted_midway_fails() -> None:
    found = diagnosed(PagerDuty({**user(), "/services": refusal(401, 2006)}))
    assert (found.passed, found.problem) == (False, "unauthorized")


# What only some tools suffer from


def test_a_plan_that_lacks_one_thing_fails_that_tool_alone() -> None:
    found = diagnosed(PagerDuty({**user(), "/schedules": refusal(402, 2014)}))
    assert (found.passed, found.problem) == (True, "")
    assert "It cannot serve 1 of the 4 enabled tools: list_schedules." in found.message
    schedules = tool(found, "list_schedules")
    assert (schedules.serves, schedules.derived) == ("no", False)
    assert "plan does not include" in schedules.message
    assert schedules.remedy
    assert tool(found, "list_services").serves == "yes"


def test_too_little_access_to_one_thing_fails_that_tool_alone() -> None:
    found = diagnosed(PagerDuty({**user(), "/services": refusal(403, 2010)}))
    assert found.passed
    assert tool(found, "list_services").serves == "no"
    assert "too little access" in tool(found, "list_services").message
    assert tool(found, "list_incidents").serves == "yes"


def test_a_missing_scope_is_named() -> None:
    lacking = refusal(403, 2010, required_scopes=["services.read"], token_scopes="incidents.read users.read")
    found = diagnosed(PagerDuty({**user(), "/services": lacking}), kind="oauth")
    assert found.scopes == ("incidents.read", "users.read")
    assert tool(found, "list_services").message == "The token lacks the scope services.read."
    assert tool(found, "list_schedules").message == "The token lacks the scope schedules.read."


def test_a_rate_limit_midway_leaves_the_rest_unknown_and_the_token_accepted() -> None:
    found = diagnosed(PagerDuty({**user(), "/services": refusal(429, 2020)}))
    assert found.passed
    assert tool(found, "list_incidents").serves == "yes"
    assert tool(found, "list_schedules").serves == "unknown"
    assert "rate limit" in tool(found, "list_schedules").message


@pytest.mark.parametrize(
    ("kind", "role", "serves"),
    [("user", "admin", "yes"), ("user", "read_only_user", "no"), ("user", "restricted_access", "unknown")],
)
def test_a_write_is_never_tried_and_its_answer_says_that_it_is_derived(kind: str, role: str, serves: str) -> None:
    pagerduty = PagerDuty(user(role))
    found = diagnosed(pagerduty, kind=kind, tools=(TOOLS["create_schedule_override"],))
    write = tool(found, "create_schedule_override")
    assert (write.serves, write.derived) == (serves, True)
    assert role.replace("_", " ") in write.message
    assert pagerduty.asked == ["/users/me"]


@pytest.mark.parametrize(("registered", "answers"), [("user", ACCOUNT), ("account", user())])
def test_a_token_of_another_kind_than_registered_fails(registered: str, answers: dict[str, Heard]) -> None:
    found = diagnosed(PagerDuty(answers), kind=registered)
    assert (found.passed, found.problem) == (False, "kind")
    assert "but it was registered as" in found.message
    assert check(found, "kind").ok is False


def test_a_portal_that_lets_no_call_through_says_that_it_was_itself() -> None:
    found = diagnosed(PagerDuty(default=Heard(rule="bounds", denied="It is held to a part of the account.")))
    assert (found.passed, found.problem) == (False, "denied")
    assert "held to a part of the account" in found.message


# One object

TEAM = {"id": "PTEAM01", "type": "team_reference"}
CHECKOUT = {"id": "PSVC001", "name": "Checkout", "teams": [TEAM]}


def explained(run: Callable[..., Heard], asked: str, *, type: str = "service", **given: Any) -> Finding:
    bounds: dict[str, Any] = {"whole_account": True, "team_ids": frozenset(), "service_ids": frozenset()}
    return explain_object(run, type=type, id_or_name=asked, **{"kind": "user", **bounds, **given})


def test_an_object_that_is_seen_exists() -> None:
    pagerduty = PagerDuty({"/services/PSVC001": answer({"service": CHECKOUT})})
    found = explained(pagerduty, "PSVC001")
    assert (found.name, found.ok) == ("exists", True)
    assert found.message == "The service Checkout (PSVC001) exists, and the token sees it."
    assert len(pagerduty.asked) == 1


def test_an_object_is_found_by_its_name_whatever_its_case() -> None:
    pagerduty = PagerDuty({"/services": answer({"services": [CHECKOUT, {"id": "PSVC002", "name": "Checkout 2"}]})})
    found = explained(pagerduty, " checkout ")
    assert found.name == "exists"
    assert "PSVC001" in found.message
    assert pagerduty.asked == ["/services?query=checkout&limit=100"]


@pytest.mark.parametrize(
    ("bounds", "name"),
    [
        ({"team_ids": frozenset({"PTEAM01"})}, "exists"),
        ({"service_ids": frozenset({"PSVC001"})}, "exists"),
        ({"team_ids": frozenset({"PTEAM02"})}, "outside_or_none"),
        ({"service_ids": frozenset({"PSVC002"})}, "outside_or_none"),
    ],
)
def test_an_object_outside_the_bounds_is_told_from_none_by_nothing(bounds: dict[str, Any], name: str) -> None:
    nothing = answer({"services": []})
    pagerduty = PagerDuty({"/services/PSVC001": answer({"service": CHECKOUT}), "/services": nothing})
    found = explained(pagerduty, "PSVC001", whole_account=False, **bounds)
    assert found.name == name
    if name == "outside_or_none":
        for refused in (refusal(404, 2100), refusal(403, 2010)):
            without = PagerDuty({"/services/PSVC001": refused, "/services": nothing})
            assert explained(without, "PSVC001", whole_account=False, **bounds) == found
            assert len(without.asked) == len(pagerduty.asked)


def test_what_is_outside_the_bounds_is_not_named_to_who_did_not_name_it() -> None:
    here = {"id": "PSVC002", "name": "Checkout 2", "teams": [{"id": "PTEAM02"}]}
    pagerduty = PagerDuty(
        {"/services": answer({"services": [CHECKOUT, here]}), "/services/PSVC001": answer({"service": CHECKOUT})}
    )
    bounds: dict[str, Any] = {"whole_account": False, "team_ids": frozenset({"PTEAM02"})}
    assert "Similar names: Checkout 2." in explained(pagerduty, "Check", **bounds).message
    assert "Checkout" not in explained(pagerduty, "PSVC001", **bounds).message.replace("Checkout 2", "")
    assert "PSVC001" not in explained(pagerduty, "checkout", **bounds).message


@pytest.mark.parametrize(("asked", "path"), [("PSVC001", "/services/PSVC001"), ("Checkout", "/services")])
def test_an_owner_without_the_team_is_told_as_such(asked: str, path: str) -> None:
    found = explained(PagerDuty({path: refusal(403, 2010)}), asked)
    assert (found.name, found.ok) == ("lacks_team", False)
    assert "lack its PagerDuty team" in found.message
    assert "Add the token's owner to the PagerDuty team" in found.remedy


def test_a_missing_scope_is_not_taken_for_a_missing_team() -> None:
    lacking = refusal(403, 2010, required_scopes=["services.read"], token_scopes=["users.read"])
    found = explained(PagerDuty({"/services/PSVC001": lacking}), "PSVC001", kind="oauth")
    assert (found.name, found.message) == ("forbidden", "The token lacks the scope services.read.")


@pytest.mark.parametrize(
    ("kind", "name"), [("user", "private_or_none"), ("oauth", "private_or_none"), ("account", "no_such")]
)
def test_what_is_not_found_may_be_private_but_not_to_an_account_key(kind: str, name: str) -> None:
    pagerduty = PagerDuty({"/services/PSVC001": refusal(404, 2100)})
    found = explained(pagerduty, "PSVC001", kind=kind)
    assert (found.name, found.ok) == (name, False)
    assert "PSVC001" in found.message
    assert found.remedy.endswith(".")
    assert (name == "private_or_none") == ("private" in found.message)


def test_a_schedule_of_the_other_kind_is_found_too() -> None:
    other_kind = refusal(400, 2001)
    shifts = answer({"schedule": {"id": "PSCH300", "name": "Shifts"}})
    pagerduty = PagerDuty({"/schedules/PSCH300": other_kind, "/v3/schedules/PSCH300": shifts})
    assert explained(pagerduty, "PSCH300", type="schedule").name == "exists"


def test_similar_names_are_named_where_none_is_the_one() -> None:
    pagerduty = PagerDuty({"/services": answer({"services": [CHECKOUT]})})
    found = explained(pagerduty, "Check", kind="account")
    assert found.name == "no_such"
    assert "Similar names: Checkout." in found.message


def test_a_name_that_looks_like_an_id_is_looked_up_as_a_name_too() -> None:
    shouted = {"id": "PSVC009", "name": "CHECKOUT"}
    pagerduty = PagerDuty({"/services/CHECKOUT": refusal(404, 2100), "/services": answer({"services": [shouted]})})
    assert explained(pagerduty, "CHECKOUT").name == "exists"
    assert len(pagerduty.asked) == 2


@pytest.mark.parametrize("asked", ["Checkout is down", "checkout", "pt4khlk", "#4711", "47110", "P1", "A/B", "P" * 40])
def test_an_incident_is_asked_for_by_its_id_alone(asked: str) -> None:
    pagerduty = PagerDuty()
    found = explained(pagerduty, asked, type="incident")
    assert (found.ok, found.message) == (None, "Name the incident by its id, such as PT4KHLK.")
    assert pagerduty.asked == []


def test_an_incident_that_is_not_there_is_not_looked_for_by_its_title() -> None:
    pagerduty = PagerDuty({"/incidents/PT4KHLK": refusal(404, 2100)})
    assert explained(pagerduty, "PT4KHLK", type="incident", kind="account").name == "no_such"
    assert len(pagerduty.asked) == 1


@pytest.mark.parametrize("type", ["service", "incident", "schedule", "escalation_policy", "user"])
def test_nothing_asked_is_no_call(type: str) -> None:
    pagerduty = PagerDuty()
    assert explained(pagerduty, "  ", type=type).name == "no_name"
    assert pagerduty.asked == []


@pytest.mark.parametrize("case", ["not resolved", "timeout", "401", "429", "500", "HTML, 403"])
def test_a_failure_is_not_taken_for_an_answer(case: str) -> None:
    heard, problem, message, remedy = FATAL[case]
    for asked in ("PSVC001", "Checkout"):
        found = explained(PagerDuty(default=heard), asked)
        assert (found.name, found.ok) == (problem, None)
        assert message in found.message
        assert remedy in found.remedy


def test_a_refusal_of_the_portals_own_is_told_as_such() -> None:
    found = explained(PagerDuty(default=Heard(rule="lock", denied="get_service is locked off.")), "PSVC001")
    assert (found.name, found.ok) == ("denied", None)
    assert "locked off" in found.message
    assert "the portal that refused" in found.remedy


def test_a_type_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(ValueError, match="no type of object"):
        explained(PagerDuty(), "PSVC001", type="team")
