"""The keys of a team: what the page tells of each, how they are found, and how what one may do is changed."""

from __future__ import annotations

import datetime as dt
import re
from html import unescape
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.test import Client
from django.utils import timezone

from integrations.actions import do_issue_agent_key
from integrations.gateway.identity import Identified, Rejected, load_identities
from integrations.models import Connection
from integrations.pagerduty.catalog import TOOLS
from policies.actions import Refused, Widens, do_change_key, do_revoke_key, do_stop
from policies.core.call import Entry as NewEntry
from policies.core.call import EntryKind
from policies.journal import append_in_transaction
from policies.models import AgentKey, ConfigChange, Entry
from policies.snapshot import current_version
from tests.conftest import Cast
from tests.portal.test_outside_text import HOSTILE

AGENTS = "/teams/payments/agents/"
DAY = dt.timedelta(days=1)


def issue(connection: Connection, name: str, **changes: Any) -> AgentKey:
    values: dict[str, Any] = {"by": "test", "tools": TOOLS, "expires_at": timezone.now() + 90 * DAY, **changes}
    return do_issue_agent_key(connection, name=name, **values)[0]


def called(key: AgentKey, verdict: str = "allow") -> None:
    entry = NewEntry(EntryKind.RESULT, timezone.now(), "d", key.team_id, f"key:{key.pk}", "list_incidents", verdict)
    append_in_transaction(entry)


def as_(client: Client, cast: Cast, who: str) -> Client:
    client.force_login(getattr(cast, who))
    return client


def names(client: Client, query: str = "") -> list[str]:
    page = client.get(f"{AGENTS}{query}").content.decode()
    return re.findall(r'<th scope="row">([^<]+)<', page)


# What the page tells


def test_calls_and_denials_of_a_week_are_told_to_those_who_read_the_record(
    client: Client, cast: Cast, connection: Connection
) -> None:
    key = issue(connection, "bot")
    for verdict in ("allow", "allow", "deny"):
        called(key, verdict)
    for who, told in (("mina", True), ("rhea", True), ("ada", True), ("vic", False)):
        page = as_(client, cast, who).get(AGENTS).content.decode()
        assert ("3 calls" in page) is ("1 denied" in page) is told, who
    link = re.search(r'href="(/audit/\?[^"]+)">3 calls', as_(client, cast, "mina").get(AGENTS).content.decode())
    assert link is not None
    assert client.get(unescape(link[1])).content.decode().count("<time") == 3


def test_the_end_of_a_key_is_told_before_it_comes(client: Client, cast: Cast, connection: Connection) -> None:
    as_(client, cast, "mina")
    issue(connection, "later")
    assert "soon:" not in client.get(AGENTS).content.decode()
    issue(connection, "ending", expires_at=timezone.now() + 5 * DAY + dt.timedelta(hours=1))
    page = " ".join(client.get(AGENTS).content.decode().split())
    assert re.search(r"1 key expires soon: <a [^>]+>ending</a> in 5 days", page)
    assert "expires in 5 days</span>" in page
    assert names(client, "?state=expiring") == ["ending"]


def test_revoking_says_beforehand_when_the_key_was_used_last(
    client: Client, cast: Cast, connection: Connection
) -> None:
    key = issue(connection, "bot")
    assert "It was never used" in as_(client, cast, "mina").get(AGENTS).content.decode()
    AgentKey.objects.filter(pk=key.pk).update(last_used_at=timezone.now() - 2 * DAY)
    called(key)
    page = " ".join(re.sub("</?time[^>]*>", "", client.get(AGENTS).content.decode()).split())
    assert "It was used last 2 days ago, and made 1 call in the last 7 days." in page


def test_keys_are_filtered_and_sorted(client: Client, cast: Cast, connection: Connection) -> None:
    now = timezone.now()
    a, b, c = (issue(connection, name) for name in ("alpha", "Beta", "gamma"))
    d = issue(connection, "delta", by=cast.mina)
    AgentKey.objects.filter(pk=a.pk).update(last_used_at=now, created_at=now - 40 * DAY)
    AgentKey.objects.filter(pk=b.pk).update(created_at=now - 35 * DAY)
    AgentKey.objects.filter(pk=c.pk).update(created_at=now - 50 * DAY, expires_at=now - DAY)
    for verdict in ("deny", "allow", "allow"):
        called(a, verdict)
    called(b, "deny")
    called(b, "deny")
    do_revoke_key(d, by="test")
    do_stop(by=cast.mina, reason="odd", key=b)
    as_(client, cast, "mina")
    assert names(client) == ["delta", "Beta", "alpha", "gamma"]
    for query, expected in {
        "?sort=name": ["alpha", "Beta", "delta", "gamma"],
        "?sort=used": ["alpha"],
        "?sort=calls": ["alpha", "Beta"],
        "?sort=denied": ["Beta", "alpha"],
        "?sort=expires": ["alpha", "Beta"],
    }.items():
        assert names(client, query)[: len(expected)] == expected, query
    for query, expected in {
        "?state=usable": ["Beta", "alpha"],
        "?state=unused": ["Beta"],
        "?state=stopped": ["Beta"],
        "?state=expired": ["gamma"],
        "?state=revoked": ["delta"],
        "?text=ETA": ["Beta"],
        f"?text=pwk_{c.prefix}_…": ["gamma"],
        "?text=mina@example": ["delta"],
        "?text=nonsense": [],
        "?state=nonsense": [],
    }.items():
        assert names(client, query) == expected, query
    assert "No key is like that." in client.get(f"{AGENTS}?text=nonsense").content.decode()


def test_an_empty_page_says_what_comes_first(client: Client, cast: Cast) -> None:
    assert "First register a PagerDuty token under" in as_(client, cast, "mina").get(AGENTS).content.decode()
    assert "a manager registers a PagerDuty token" in as_(client, cast, "vic").get(AGENTS).content.decode()


def test_many_keys_come_in_pages_at_the_price_of_one(
    client: Client, cast: Cast, connection: Connection, django_assert_num_queries: Any
) -> None:
    as_(client, cast, "mina")
    issue(connection, "k")
    with django_assert_num_queries(18):
        client.get(AGENTS)
    for number in range(54):
        AgentKey.objects.create(team=cast.payments, name=f"n{number}", prefix=f"p{number}", digest="x", created_by="x")
    with django_assert_num_queries(18):
        first = names(client)
    assert len(first) == 50
    assert len(names(client, "?page=2")) == 5
    shown = client.get(f"{AGENTS}?sort=name&page=1").content.decode()
    assert "?sort=name&amp;page=2" in shown


@pytest.mark.parametrize("text", [HOSTILE, "<script>alert(1)</script>", "W" * 10_000])
def test_hostile_text_in_a_key_is_shown_as_text(client: Client, cast: Cast, connection: Connection, text: str) -> None:
    """No action lets it in; what an earlier release or a hand in the database left is harmless all the same."""
    key = issue(connection, "bot")
    fields = {"name": text[:100], "created_by": text[:200], "kept_by": text[:200]}
    AgentKey.objects.filter(pk=key.pk).update(**fields, networks=["10.0.0.0/8"])
    as_(client, cast, "mina")
    for path in (AGENTS, f"{AGENTS}{key.pk}/change/", f"{AGENTS}?text={text[:100]}"):
        answer = client.get(path)
        assert answer.status_code == 200
        assert "<script>alert" not in answer.content.decode()


# What a key may do, changed


def path(key: AgentKey, slug: str = "payments") -> str:
    return f"/teams/{slug}/agents/{key.pk}/change/"


def form(client: Client, key: AgentKey, **changes: Any) -> dict[str, Any]:
    """What the page would send back, with changes."""
    page = client.get(path(key)).content.decode()
    seen = re.search(r'name="seen" value="(\w+)"', page)
    assert seen is not None
    key.refresh_from_db()
    values = {
        "seen": seen[1],
        "expires_on": f"{key.expires_at:%Y-%m-%d}" if key.expires_at else "",
        "networks": ", ".join(key.networks),
        "calls_per_minute": str(key.calls_per_minute),
        "may": "team" if key.tools is None else "tools",
        "tools": key.tools or [],
    }
    return {**values, **changes}


def test_a_key_is_narrowed_at_once_with_before_and_after_on_record(
    client: Client, cast: Cast, connection: Connection
) -> None:
    key, secret = do_issue_agent_key(
        connection, name="bot", by=cast.ada, tools=TOOLS, expires_at=timezone.now() + 90 * DAY
    )
    as_(client, cast, "mina")
    version = current_version()
    values = form(client, key, may="tools", tools=["list_incidents"], networks="10.1.0.0/16", calls_per_minute="60")
    answer = client.post(path(key), {**values, "reason": "reads only"}, follow=True)
    assert "bot is changed: it binds its next write at once" in answer.content.decode()
    assert current_version() > version  # which is what the next write of every process is decided by
    change = ConfigChange.objects.get(action="narrow_key")
    assert (change.actor, change.reason, change.target) == ("mina@example.com", "reads only", f"bot (pwk_{key.prefix})")
    before, after = change.before or {}, change.after or {}
    assert (before["tools"], after["tools"]) == (None, ["list_incidents"])
    assert (before["networks"], after["networks"]) == ([], ["10.1.0.0/16"])
    assert before["expires_at"] == after["expires_at"]  # to the second
    assert "narrow_key" in Entry.objects.filter(kind="config").latest("id").record
    identities = load_identities(frozenset())
    inside = identities.agent(secret, "10.1.2.3", 0)
    assert isinstance(inside, Identified)
    assert (inside.principal.narrowed_to, inside.calls_per_minute) == (frozenset({"list_incidents"}), 60)
    assert isinstance(identities.agent(secret, "10.2.0.1", 0), Rejected)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"may": "team", "tools": []}, "It could use all that its team allows, now and later."),
        ({"may": "tools", "tools": ["list_incidents", "resolve_incident"]}, "It could also use Resolve incident."),
        ({"networks": ""}, "It could come from anywhere."),
        ({"networks": "10.1.0.0/16, 10.0.0.0/8, ::/0"}, "It could also come from 10.0.0.0/8, ::/0."),
        ({"calls_per_minute": "61"}, "It could make up to 61 calls a minute."),
        ({"expires_on": ""}, "It would never expire."),
        ({"expires_on": "2099-01-01"}, "It could be used until 2099-01-01 23:59 UTC."),
    ],
)
def test_nothing_is_widened_silently(
    client: Client, cast: Cast, connection: Connection, changes: dict[str, Any], said: str
) -> None:
    key = issue(connection, "bot", narrowed_to=["list_incidents"], networks=["10.1.0.0/16"], calls_per_minute=60)
    as_(client, cast, "mina")
    values = form(client, key, **changes)
    before = AgentKey.objects.values().get()
    for confirmed in ([], ["It could do something else."]):
        answer = client.post(path(key), {**values, "widening": confirmed})
        assert answer.status_code == 422
        assert said in unescape(answer.content.decode())
    assert AgentKey.objects.values().get() == before
    assert client.post(path(key), {**values, "widening": [said]}).status_code == 302
    assert AgentKey.objects.values().get() != before
    assert ConfigChange.objects.filter(action="widen_key").count() == 1


def test_what_is_sent_back_as_it_was_changes_nothing(client: Client, cast: Cast, connection: Connection) -> None:
    key = issue(connection, "bot", narrowed_to=["list_incidents"], networks=["10.1.0.0/16"], by=cast.ada)
    as_(client, cast, "mina")
    count = ConfigChange.objects.count()
    assert client.post(path(key), form(client, key)).status_code == 302
    assert ConfigChange.objects.count() == count


def test_two_people_at_once_do_not_overwrite_each_other(client: Client, cast: Cast, connection: Connection) -> None:
    key = issue(connection, "bot")
    as_(client, cast, "mina")
    values = form(client, key, calls_per_minute="10")
    AgentKey.objects.update(networks=["10.0.0.0/8"])
    answer = client.post(path(key), values)
    assert "changed by somebody else meanwhile" in answer.content.decode()
    assert AgentKey.objects.get().calls_per_minute != 10


@pytest.mark.parametrize(("who", "status"), [("vic", 403), ("rhea", 403), ("omar", 404), ("zed", 404)])
def test_only_managers_change_a_key(client: Client, cast: Cast, connection: Connection, who: str, status: int) -> None:
    key = issue(connection, "bot")
    as_(client, cast, who)
    assert client.get(path(key)).status_code == status
    assert client.post(path(key), {"calls_per_minute": "1"}).status_code == status
    with pytest.raises(Refused):
        change(key, by=getattr(cast, who), calls_per_minute=1)
    assert as_(client, cast, "ada").get(path(key, "search")).status_code == 404
    assert client.delete(path(key)).status_code == 405


def change(key: AgentKey, **changes: Any) -> AgentKey:
    values = {
        "by": "test",
        "expires_at": key.expires_at,
        "networks": key.networks,
        "narrowed_to": key.tools,
        "calls_per_minute": key.calls_per_minute,
    }
    return do_change_key(key, tools=TOOLS, **{**values, **changes})


def test_an_administrators_word_is_not_gone_round_by_widening(cast: Cast, connection: Connection) -> None:
    key = issue(connection, "bot", calls_per_minute=60)
    no_limit = "It could make calls without a limit."
    with pytest.raises(Refused, match="call limit"):
        change(key, by=cast.mina, calls_per_minute=0, widening=[no_limit])
    do_stop(by=cast.ada, reason="under review", key=key)
    more = "It could make up to 70 calls a minute."
    with pytest.raises(Refused, match="while an administrator stops"):
        change(key, by=cast.mina, calls_per_minute=70, widening=[more])
    with pytest.raises(Widens):
        change(key, by=cast.ada, calls_per_minute=0)
    change(key, by=cast.ada, calls_per_minute=0, widening=[no_limit])
    key.refresh_from_db()
    # What an administrator gave may stay when a manager narrows the rest.
    change(key, by=cast.mina, narrowed_to=["list_incidents"])
    key.refresh_from_db()
    assert (key.calls_per_minute, key.tools) == (0, ["list_incidents"])


def test_a_revoked_key_is_not_changed_and_a_past_end_is_refused(
    client: Client, cast: Cast, connection: Connection
) -> None:
    key = issue(connection, "bot")
    with pytest.raises(ValidationError, match="expired already"):
        change(key, expires_at=timezone.now() - DAY)
    do_revoke_key(key, by="test")
    assert as_(client, cast, "mina").get(path(key)).status_code == 404
    with pytest.raises(ValidationError, match="revoked, for good"):
        change(key, narrowed_to=["list_incidents"])


def test_a_new_key_and_its_call_can_be_copied(client: Client, cast: Cast, connection: Connection) -> None:
    values = {"action": "issue", "name": "x", "connection": str(connection.pk), "calls_per_minute": "60"}
    page = as_(client, cast, "mina").post(AGENTS, values).content.decode()
    for block in ("raw-key", "curl"):
        assert page.count(f'id="{block}"') == page.count(f'data-copy="{block}"') == 1
    # Without a script they are text to be selected: the buttons are not there.
    assert re.search(r'<button [^>]*data-copy="curl" hidden>', page)
