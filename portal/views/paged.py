"""``/paged/``: who would be paged for an incident, level by level, until it ends. What is asked stands in the address."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from integrations import mirror
from integrations.pagerduty.analysis.model import Account, Policy, Service, Slice, Source, Span
from integrations.pagerduty.analysis.paging import (
    Notice,
    Paged,
    Reached,
    Step,
    longest,
    service_is_paged,
    who_is_paged,
)
from portal.forms import PagedForm
from portal.http import Request
from portal.oncall.coverage import Seen, at, look, policy_page
from portal.oncall.strips import lasts
from portal.views.coverage import waiting

SOURCES: Final = {
    "layer": "layer",
    "rotation": "rotation",
    "custom_shift": "custom shift",
    "override": "override",
    "rendered": "as PagerDuty renders it",
    "policy": "named by the policy itself",
}
CONTACTS: Final = {"email": "e-mail", "phone": "phone call", "sms": "text message", "push": "push", "other": "other"}


@dataclass(frozen=True, slots=True)
class Told:
    """A notification, in words."""

    minute: int
    by: str
    address: str
    sent: bool


@dataclass(frozen=True)
class PersonShown:
    one: Reached
    account: Account

    @property
    def name(self) -> str:
        return self.account.name_of(self.one.user)

    @property
    def ways(self) -> list[tuple[str, str, str]]:
        """What puts them on this level: the id of the schedule (empty: none), its name, and what of it."""
        return [self._way(self.one.source, self.one.schedule_id), *(self._way(*other) for other in self.one.also)]

    def _way(self, source: Source, schedule_id: str) -> tuple[str, str, str]:
        schedule = self.account.schedules.get(schedule_id)
        said = SOURCES[source.kind]
        if source.kind in ("layer", "rotation") and source.name:
            # Most layers are called so: Layer 1.
            said = source.name if source.name.casefold().startswith(said) else f"{said} {source.name}"
        return (schedule_id if schedule else "", schedule.name if schedule else schedule_id, said)

    @property
    def told(self) -> list[Told] | None:
        """None: how they are told is not known."""
        return None if self.one.contacts is None else [_told(each) for each in self.one.contacts]


def _told(notice: Notice) -> Told:
    contact = notice.contact
    return Told(notice.minute, CONTACTS[contact.kind], contact.address or contact.label, notice.sent)


@dataclass(frozen=True)
class StepShown:
    step: Step
    account: Account
    begins: int

    @property
    def at(self) -> dt.datetime:
        return at(self.begins + 60 * self.step.minutes)

    @property
    def people(self) -> list[PersonShown]:
        return [PersonShown(one, self.account) for one in self.step.reached]


@dataclass(frozen=True)
class Answer:
    seen: Seen
    paged: Paged
    service: Service | None
    as_kept: bool
    """Whether it is told by what PagerDuty had then."""

    @cached_property
    def loops(self) -> list[tuple[int, list[StepShown]]]:
        """By loop, from 1."""
        found: dict[int, list[StepShown]] = {}
        for step in self.paged.steps:
            found.setdefault(step.loop, []).append(StepShown(step, self.seen.sweep.account, self.paged.at))
        return list(found.items())

    @property
    def policy(self) -> Policy:
        return self.paged.policy

    @property
    def policy_page(self) -> str:
        known = self.policy.id in self.seen.sweep.account.policies
        return policy_page(self.seen.connection, self.policy.id) if known else ""

    @property
    def begins(self) -> dt.datetime:
        return at(self.paged.at)

    @property
    def ends(self) -> dt.datetime | None:
        return None if self.paged.ends_at is None else at(self.paged.ends_at)

    @property
    def takes(self) -> str:
        return "" if self.paged.ends_at is None else lasts(self.paged.ends_at - self.paged.at)


@require_safe
def index(request: Request) -> HttpResponse:
    now = timezone.now().replace(microsecond=0)
    connections = mirror.visible_to(request.user)
    seen = look(connections, now)
    context: dict[str, Any] = {}
    if not seen:
        context["waiting"] = waiting(connections)
        # As where there are others, what is asked for is not among them.
        return render(request, "paged/index.html", context, status=404 if request.GET.get("of") else 200)
    named = _named(seen)
    asked = request.GET if request.GET else None
    offered = _offered(seen, request.GET.get("of", ""))
    form = PagedForm(asked, offered)
    context["form"] = form
    if asked is None or not form.is_valid():
        return render(request, "paged/index.html", context, status=422 if form.errors else 200)
    values = form.cleaned_data
    begins: dt.datetime = values["at"] or now
    answer = _answer(*named[values["of"]], begins, values["urgency"], now)
    link = {"of": values["of"], "at": begins.strftime("%Y-%m-%dT%H:%M:%SZ"), "urgency": values["urgency"]}
    if values["at"] is not None:
        # The field takes a time without an offset alone.
        local = timezone.localtime(begins).strftime("%Y-%m-%dT%H:%M")
        context["form"] = PagedForm({**request.GET.dict(), "at": local}, offered)
    context |= {
        "answer": answer,
        "is_now": values["at"] is None,
        "link": f"{reverse('paged')}?{urlencode({name: value for name, value in link.items() if value})}",
        "is_past": begins < now - dt.timedelta(minutes=5),
    }
    return render(request, "paged/index.html", context)


def _key(kind: str, seen: Seen, key: str) -> str:
    return f"{kind}.{key}.{seen.connection.pk}"


def _named(seen: list[Seen]) -> dict[str, tuple[Seen, str, str]]:
    """All that may be asked for: by what names it in an address, whose it is, which kind and which id."""
    return {
        _key(kind, each, key): (each, kind, key)
        for each in seen
        for kind, known in (("service", each.sweep.account.services), ("policy", each.sweep.account.policies))
        for key in known
    }


def _offered(seen: list[Seen], asked: str) -> list[tuple[str, str]]:
    """Every service and policy, by name. What several connections of an account mirror is there once, of the first of them, or
    of the one that is asked for."""
    rows: list[tuple[str, str]] = []
    for kind in ("service", "policy"):
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for each in seen:
            account = each.sweep.account
            for key, one in (account.services if kind == "service" else account.policies).items():
                place, named = (each.connection.region, key), _key(kind, each, key)
                if place not in found or named == asked:
                    found[place] = (named, f"{one.name} ({kind})")
        rows += sorted(found.values(), key=lambda row: (row[1].casefold(), row[0]))
    return [("", "Choose a service or an escalation policy"), *rows]


def _answer(seen: Seen, kind: str, key: str, begins: dt.datetime, urgency: str, now: dt.datetime) -> Answer:
    account, instant = seen.sweep.account, int(begins.timestamp())
    service = account.services[key] if kind == "service" else None
    policy = account.policies.get(service.policy_id if service else key)
    rendered: Mapping[str, Sequence[Slice]] | None = None
    as_kept = False
    if policy is not None:
        # A minute more, for who is on call is looked up at its last one, too.
        lasting = Span(instant, instant + 60 * longest(policy) + 60)
        if begins < now - dt.timedelta(minutes=5):
            rendered, as_kept = _then(seen, policy, lasting, int(now.timestamp()))
        elif lasting.start >= seen.sweep.window.start and lasting.end <= seen.sweep.window.end:
            rendered = seen.sweep.rendered
    # An urgency that was chosen is that of this one incident, whatever the service usually has.
    if service is None or (urgency and policy is not None and service.status != "disabled"):
        assert policy is not None  # noqa: S101  (it is one of those that are offered)
        paged = who_is_paged(account, policy.id, instant, urgency=urgency or "high", rendered=rendered)
    else:
        paged = service_is_paged(account, service.id, instant, rendered=rendered)
    return Answer(seen, paged, service, as_kept)


def _then(seen: Seen, policy: Policy, lasting: Span, now: int) -> tuple[Mapping[str, Sequence[Slice]] | None, bool]:
    """Who was on call as PagerDuty had it then, and whether that is kept of all its schedules: what they were cannot be told from
    what they are. Else nothing: it is told by what they are."""
    found: dict[str, Sequence[Slice]] = {}
    for target in (target for level in policy.levels for target in level.targets):
        if target.kind != "schedule" or target.deleted or target.id in found:
            continue
        known = mirror.past_known(seen.connection, target.id)
        if known is None or lasting.start < known.start:
            return None, False
        ahead = (
            one._replace(start=max(one.start, now)) for one in seen.sweep.rendered.get(target.id, ()) if one.end > now
        )
        found[target.id] = [*mirror.past(seen.connection, target.id, lasting), *ahead]
    return found, True
