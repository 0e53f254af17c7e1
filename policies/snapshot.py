"""The policy in memory: read whole from the database whenever its version has moved, swapped whole, never changed."""

from __future__ import annotations

from collections import defaultdict

from policies.core.call import Risk, State
from policies.core.decide import Policy
from policies.models import PolicyVersion, ReadsGoOn, Reveal, Stop, ToolRule, ToolSetting


def current_version() -> int:
    """The version that the database is at; 0 before the first change."""
    return PolicyVersion.objects.filter(pk=1).values_list("version", flat=True).first() or 0


def load_policy(version: int, team_id: int | None = None) -> Policy:
    """The policy of all teams, or of one. ``version`` was read before: a change in between moves it, and the reader starts
    again."""
    of_team = {} if team_id is None else {"team_id": team_id}
    teams: dict[int, dict[str, State]] = defaultdict(dict)
    for team_id, tool, state in ToolSetting.objects.filter(**of_team).values_list("team_id", "tool", "state"):
        teams[team_id][tool] = State(state)
    locked: dict[str, str] = {}
    risks: dict[str, Risk] = {}
    for tool, is_locked, risk, reason in ToolRule.objects.values_list("tool", "locked", "risk", "reason"):
        if is_locked:
            locked[tool] = reason
        if risk:
            risks[tool] = Risk(risk)
    stops = dict(Stop.objects.values_list("subject", "reason"))
    reveals: dict[int, set[str]] = defaultdict(set)
    for team_id, kind in Reveal.objects.filter(**of_team).values_list("team_id", "kind"):
        reveals[team_id].add(kind)
    kinds = {team_id: frozenset(found) for team_id, found in reveals.items()}
    reads_go_on = ReadsGoOn.objects.values_list("minutes", flat=True).first() or 0
    return Policy(version, dict(teams), locked, risks, stops, reads_go_on, kinds)
