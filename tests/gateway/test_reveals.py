"""Who is shown what is masked, and that it is on record before the answer leaves: the pipeline in this process, with answers made
up in PagerDuty's place."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from typing import Any

import pytest
from django.core.exceptions import ValidationError

from integrations.actions import do_set_bounds
from integrations.gateway.integration import Reply
from integrations.gateway.pipeline import Answer
from integrations.pagerduty.catalog import TOOLS
from integrations.pagerduty.masking import REVEALABLE
from policies.actions import Refused, do_set_reveals, do_set_tools
from policies.core.call import Call, Client, Door, JobCredential, KeyCredential, PersonCredential, State
from policies.core.decide import Policy, reveals
from policies.journal import Journal, JournalUnavailable
from policies.models import ConfigChange, Entry, Reveal, User
from policies.snapshot import current_version, load_policy
from tests.conftest import Cast
from tests.gateway.test_pipeline import JSON, MadeUp, Setting, in_thread

pytestmark = pytest.mark.django_db(transaction=True)
USER = {
    "user": {
        "id": "PUSR001",
        "name": "Ann",
        "http_cal_url": "https://acme.pagerduty.com/private/abc/feed",
        "contact_methods": [
            {"type": "phone_contact_method", "address": "4155550100", "summary": "Mobile"},
            {"type": "email_contact_method", "address": "ann@example.com", "summary": "ann@example.com"},
        ],
        "token": "y_NbAkKc66ryYTWUXYEu",
    }
}
ASKED = frozenset({"addresses", "secrets"})


class Shows(Setting):
    """Payments, whose connection answers every read with a person."""

    def __init__(self, cast: Cast) -> None:
        super().__init__(cast)

        class Person(MadeUp):
            """Of this setting alone: tests give it other answers."""

            reply = Reply(200, JSON, json.dumps(USER).encode())

        self.made_up = Person

    def read(self, credential: Any = None, door: Door = Door.REST, reveal: frozenset[str] = frozenset()) -> Call:
        whose = credential or KeyCredential(self.secret)
        return Call(door, whose, "GET", "/users/PUSR001", "", b"", "", Client("127.0.0.1"), time.time(), reveal=reveal)

    def person(self, who: User) -> PersonCredential:
        return PersonCredential(
            user_id=who.pk,
            name=who.name,
            team_id=self.cast.payments.pk,
            team="Payments",
            resource=str(self.connection.pk),
        )

    def reveal(self, *kinds: str) -> bool:
        return do_set_reveals(
            self.cast.payments, kinds=kinds, known=REVEALABLE, by=self.cast.ada, reason="the on-call bot rings people"
        )


@pytest.fixture
def setting(cast: Cast) -> Shows:
    return Shows(cast)


def answered(setting: Shows, call: Call) -> Answer:
    async def run() -> Answer:
        async with setting.running() as started:
            answer: Answer = await started.pipeline.run(call)
            return answer

    return asyncio.run(run())


def shown(answer: Answer) -> dict[str, Any]:
    assert answer.reply is not None, answer
    user: dict[str, Any] = json.loads(answer.reply.body)["user"]
    return user


def recorded(answer: Answer) -> Any:
    """What the entry of a call says that was shown."""
    assert answer.verdict is not None
    row = Entry.objects.get(decision_id=answer.verdict.decision_id)
    return json.loads(row.record)["details"].get("revealed")


MASKED = ["•••00", "•••om"]
PLAIN = ["4155550100", "ann@example.com"]


def addresses(answer: Answer) -> list[str]:
    return [method["address"] for method in shown(answer)["contact_methods"]]


def test_nothing_is_shown_unless_somebody_chose_so(setting: Shows) -> None:
    answer = answered(setting, setting.read())
    assert addresses(answer) == MASKED
    assert recorded(answer) is None


def test_an_agent_is_shown_what_its_team_is_and_each_value_is_counted_on_record(setting: Shows) -> None:
    assert setting.reveal("addresses")
    answer = answered(setting, setting.read())
    assert addresses(answer) == PLAIN
    assert shown(answer)["http_cal_url"] == "[masked]"
    assert shown(answer)["token"] == "[masked]"
    assert recorded(answer) == {"addresses": 3}  # with the summary that is an address


def test_a_bounded_agent_is_shown_what_its_team_is_in_what_is_filtered(setting: Shows) -> None:
    setting.reveal("addresses")
    do_set_bounds(setting.connection, by=setting.cast.ada, team_ids=["PTEAM00"])
    setting.made_up.reply = Reply(200, JSON, json.dumps({"users": [USER["user"]]}).encode())
    answer = answered(setting, dataclasses.replace(setting.read(), path="/users"))
    assert answer.reply is not None
    assert "4155550100" in answer.reply.body.decode()
    assert recorded(answer) == {"addresses": 3}


def test_what_is_outside_the_bounds_is_not_told_of_by_what_would_have_been_shown(setting: Shows) -> None:
    setting.reveal("addresses")
    do_set_bounds(setting.connection, by=setting.cast.ada, team_ids=["PTEAM00"])
    answer = answered(setting, setting.read())
    assert (answer.status, answer.reply) == (403, None)
    assert recorded(answer) is None


def test_an_agent_cannot_ask_for_more(setting: Shows) -> None:
    answer = answered(setting, setting.read(reveal=frozenset(REVEALABLE)))
    assert addresses(answer) == MASKED
    assert recorded(answer) is None


def test_a_manager_is_shown_what_they_ask_for_and_no_secret(setting: Shows) -> None:
    answer = answered(setting, setting.read(setting.person(setting.cast.mina), Door.WEB, ASKED))
    assert addresses(answer) == PLAIN
    assert shown(answer)["token"] == "[masked]"
    assert recorded(answer) == {"addresses": 3}


def test_a_manager_who_does_not_ask_is_shown_nothing(setting: Shows) -> None:
    setting.reveal(*REVEALABLE)
    assert addresses(answered(setting, setting.read(setting.person(setting.cast.mina), Door.WEB))) == MASKED


def test_a_member_is_shown_of_what_they_ask_for_what_the_team_is(setting: Shows) -> None:
    asks = setting.read(setting.person(setting.cast.vic), Door.WEB, ASKED)
    assert addresses(answered(setting, asks)) == MASKED
    setting.reveal("addresses")
    answer = answered(setting, dataclasses.replace(asks, at=time.time()))
    assert addresses(answer) == PLAIN
    assert recorded(answer) == {"addresses": 3}


def test_a_job_is_shown_nothing_whatever_it_asks_for(setting: Shows) -> None:
    setting.reveal(*REVEALABLE)
    job = JobCredential(job="connection_test", resource=str(setting.connection.pk))
    assert addresses(answered(setting, setting.read(job, Door.JOB, frozenset(REVEALABLE)))) == MASKED


def test_a_reveal_that_is_taken_back_binds_the_next_read_within_a_second(setting: Shows) -> None:
    setting.reveal("addresses")

    async def run() -> list[list[str]]:
        async with setting.running() as started:
            before = addresses(await started.pipeline.run(setting.read()))
            await in_thread(setting.reveal)
            await asyncio.sleep(1)
            return [before, addresses(await started.pipeline.run(setting.read()))]

    assert asyncio.run(run()) == [PLAIN, MASKED]


def test_what_cannot_be_recorded_is_not_shown(setting: Shows, monkeypatch: pytest.MonkeyPatch) -> None:
    setting.reveal("addresses")

    def closed(self: Journal, *args: Any, **kwargs: Any) -> asyncio.Future[None]:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.set_exception(JournalUnavailable("closed"))
        return future

    monkeypatch.setattr(Journal, "append", closed)
    answer = answered(setting, setting.read())
    assert (answer.status, answer.reply) == (503, None)


def test_an_error_repeats_no_address_to_anybody(setting: Shows) -> None:
    setting.reveal(*REVEALABLE)
    said = {"error": {"message": "Phone number +1 415-555-0100 of ann@example.com is invalid", "code": 2001}}
    setting.made_up.reply = Reply(400, JSON, json.dumps(said).encode())
    answer = answered(setting, setting.read())
    assert answer.reply is not None
    assert json.loads(answer.reply.body)["error"]["message"] == "Phone number •••00 of •••om is invalid"


def test_an_error_that_cannot_be_read_is_not_shown(setting: Shows) -> None:
    setting.made_up.reply = Reply(400, JSON, b'{"error": "+14155550100",}')
    answer = answered(setting, setting.read())
    assert (answer.status, answer.reply and answer.reply.body) == (502, b"")


# Who chooses


def test_showing_more_is_an_administrators_choice_and_showing_less_a_managers(cast: Cast) -> None:
    def choose(by: Any, *kinds: str) -> bool:
        return do_set_reveals(cast.payments, kinds=kinds, known=REVEALABLE, by=by, reason="on call")

    for who in (cast.mina, cast.omar, cast.vic, cast.rhea, cast.zed):
        with pytest.raises(Refused):
            choose(who, "addresses")
    assert not Reveal.objects.exists()
    version = current_version()
    assert choose(cast.ada, "addresses", "keys")
    assert current_version() == version + 1
    assert load_policy(current_version()).reveals == {cast.payments.pk: frozenset({"addresses", "keys"})}
    for who in (cast.omar, cast.vic, cast.rhea, cast.zed):
        with pytest.raises(Refused):
            choose(who)
    with pytest.raises(Refused):
        choose(cast.mina, "addresses", "calendars")
    assert choose(cast.mina, "addresses")
    assert not choose(cast.mina, "addresses")
    assert [
        (change.before, change.after, change.reason) for change in ConfigChange.objects.filter(action="set_reveals")
    ] == [
        (["addresses", "keys"], ["addresses"], "on call"),
        ([], ["addresses", "keys"], "on call"),
    ]


@pytest.mark.parametrize(("kinds", "reason"), [(["secrets"], "why"), (["x"], "why"), (["addresses"], " ")])
def test_secrets_cannot_be_chosen_nor_anything_without_a_reason(cast: Cast, kinds: list[str], reason: str) -> None:
    with pytest.raises(ValidationError):
        do_set_reveals(cast.payments, kinds=kinds, known=REVEALABLE, by=cast.ada, reason=reason)
    assert not ConfigChange.objects.exists()


def test_an_auditor_and_a_stranger_are_shown_nothing_they_ask_for(setting: Shows) -> None:
    policy = Policy(reveals={setting.cast.payments.pk: frozenset(REVEALABLE)})
    for who in (setting.cast.rhea, setting.cast.zed):
        credential = setting.person(who)

        async def principal(credential: PersonCredential = credential) -> Any:
            async with setting.running() as started:
                state = await started.watch.refresh()
                return state.identities.identify(setting.read(credential, Door.WEB)).principal

        assert reveals(policy, asyncio.run(principal()), ASKED) == frozenset()


def test_tools_that_read_nothing_but_keys_are_masked_like_the_rest(setting: Shows) -> None:
    do_set_tools(setting.cast.payments, states={"get_service_integration": State.ON}, tools=TOOLS, by=setting.cast.ada)
    integration = {"integration": {"id": "PINT001", "integration_key": "e93facc04764012d7bfb002500d5d1a6"}}
    setting.made_up.reply = Reply(200, JSON, json.dumps(integration).encode())
    call = dataclasses.replace(setting.read(), path="/services/PSVC001/integrations/PINT001")
    answer = answered(setting, call)
    assert answer.reply is not None
    assert json.loads(answer.reply.body)["integration"]["integration_key"] == "[masked]"
    setting.reveal("keys")
    answer = answered(setting, dataclasses.replace(call, at=time.time()))
    assert answer.reply is not None
    assert json.loads(answer.reply.body) == integration
    assert recorded(answer) == {"keys": 1}
