"""What would change a decision, for whoever looks: a button, a page, or somebody to ask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.urls import reverse
from django.utils.http import urlencode

from integrations.gateway.explain import Explained, as_it_is, explain
from integrations.gateway.identity import Identified
from integrations.gateway.web import call_of
from integrations.models import Connection
from policies.actions import ASKABLE
from policies.core.call import Decision, Kind, Risk, State, Tool
from policies.core.decide import EVERYTHING, Step
from policies.models import Stop, Team, ToolRequest, ToolSetting, User


@dataclass(frozen=True, slots=True)
class Way:
    """How one thing that stands in the way is changed."""

    step: Step
    who: str
    """Whose it is to change, in words."""
    page: str = ""
    """Where it is changed, for whoever may; empty: they may not, or nobody can."""
    link: str = ""
    """What the page is called."""
    switch: bool = False
    """A button that switches the tool on does it, for whoever looks."""


PAGES: Final = {
    "locked": ("grid-tool", "Unlock it for all teams"),
    "narrowed_key": ("team-agents", "Issue another key"),
    "key_revoked": ("team-agents", "Issue another key"),
    "key_expired": ("team-agents", "Issue another key"),
    "call_limit": ("team-agents", "Agent keys"),
    "role": ("team-members", "Members"),
    "no_connection": ("team-agents", "Issue a key for one of the connections"),
    "suspended": ("team-connections", "Connections"),
    "bounds": ("team-connections", "Connections"),
}
"""Rule → the page on which it is changed, and how a link to it reads."""


@dataclass(frozen=True, slots=True)
class About:
    """An explanation, and what whoever looks can do about it."""

    team: Team
    explained: Explained
    ways: tuple[Way, ...]
    """One for each step that stands in the way, in their order."""
    may_ask: bool
    """Whether a manager can be asked: nothing stands in the way that only others can change."""
    asked: ToolRequest | None
    """The newest request of theirs for this."""
    was: State
    """What the team says of the tool: what the button that changes it goes by."""
    asks_why: bool
    """Whether a reason must be given to switch it on (``do_set_tools``)."""

    @property
    def headline(self) -> str:
        return HEADLINES[self.explained.verdict.decision]

    @property
    def waits(self) -> bool:
        return self.asked is not None and self.asked.closed_at is None

    @property
    def who(self) -> str:
        """As ``WouldForm`` calls them."""
        principal = self.explained.principal
        return f"me:{self.team.slug}" if principal.kind is Kind.PERSON else principal.id


def about_oneself(user: User, team: Team, connection: Connection, tool: Tool) -> About:
    """Whether somebody may use a tool as themselves, through one of the team's connections, as the pipeline would decide now."""
    state = as_it_is(team.pk)
    identified = state.identities.identify(call_of(user, team, str(connection.pk)))
    assert isinstance(identified, Identified)  # noqa: S101  (a person is never turned away, only denied)
    return about(user, team, explain(state.policy, identified, tool))


def where_explained(team: Team, tool: Tool) -> str:
    """The page that tells oneself of it."""
    return f"{reverse('explain')}?{urlencode({'who': f'me:{team.slug}', 'tool': tool.name})}"


HEADLINES: Final = {
    Decision.ALLOW: "Allowed",
    Decision.DENY: "Denied",
    Decision.NEEDS_APPROVAL: "Needs approval",
}


def about(user: User, team: Team, explained: Explained) -> About:
    tool, manages = explained.tool, Team.objects.editable_by(user).filter(pk=team.pk).exists()
    rules = {step.said.rule for step in explained.standing if step.said is not None}
    asked = ToolRequest.objects.filter(user=user, team=team, subject=explained.principal.id, tool=tool.name)
    state = ToolSetting.objects.filter(team=team, tool=tool.name).values_list("state", flat=True).first()
    return About(
        team,
        explained,
        tuple(_way(user, team, explained, step, manages) for step in explained.standing),
        bool(rules) and rules <= ASKABLE and not manages and not user.is_auditor and _is_own(user, explained),
        None if manages else asked.first(),
        State(state) if state else tool.default,
        explained.verdict.risk is Risk.HIGH,
    )


def _is_own(user: User, explained: Explained) -> bool:
    """Of the team's agents, and of oneself: another person asks for themselves."""
    return explained.principal.id.startswith("key:") or explained.principal.id == f"user:{user.pk}"


def _way(user: User, team: Team, explained: Explained, step: Step, manages: bool) -> Way:
    assert step.said is not None  # noqa: S101  (whatever objects says something)
    rule, tool = step.said.rule, explained.tool
    manager = f"a manager of {team.name}"
    match rule:
        case "tool_off" | "needs_approval":
            return Way(step, manager, switch=manages)
        case "stopped":
            return _stop(user, explained, step)
        case "locked":
            may = user.is_administrator
            return Way(step, "an administrator", reverse("grid-tool", args=[tool.name]) if may else "", PAGES[rule][1])
        case "job_list":
            return Way(step, "")
        case _ if rule in PAGES:
            name, link = PAGES[rule]
            return Way(step, manager, reverse(name, args=[team.slug]) if manages else "", link)
    return Way(step, manager)


def _stop(user: User, explained: Explained, step: Step) -> Way:
    principal = explained.principal
    subjects = [EVERYTHING, f"team:{principal.team_id}", principal.id]
    standing = {stop.subject: stop for stop in Stop.objects.visible_to(user).filter(subject__in=subjects)}
    stop = next((standing[subject] for subject in subjects if subject in standing), None)
    if stop is None:
        return Way(step, "an administrator")
    who = "an administrator" if stop.by_administrator else f"a manager of {principal.team}, or an administrator"
    return Way(step, who, reverse("stop", args=[stop.pk]), "The stop")


def requests_to_answer(user: User, team: Team | None = None) -> list[ToolRequest]:
    """What people ask for that somebody may answer, the oldest first."""
    found = ToolRequest.objects.open().editable_by(user).select_related("team", "user").order_by("at")
    return list(found if team is None else found.filter(team=team))
