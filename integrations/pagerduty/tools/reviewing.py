"""What is wrong with escalation policies, as assistants are told it: by the same function that the pages ask."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from integrations.measured import USUAL, period, responded_by
from integrations.pagerduty.analysis.escalation import SEVERITIES, Change, Evidence, Finding, Unjudged
from integrations.pagerduty.analysis.model import Policy
from integrations.pagerduty.tools.asking import Given
from integrations.pagerduty.tools.slim import outside, plain
from integrations.pagerduty.tools.telling import (
    FEW,
    MANY,
    SOME,
    Answer,
    Mirror,
    id_of,
    listed,
    page_of,
    reference,
    span_of,
    time_of,
)
from integrations.review import Reviewed, open_by_policy, reviewed
from policies.core.call import Target

RANK: Final = {severity: place for place, severity in enumerate(SEVERITIES)}


def review_escalation_policy(given: Given, mirror: Mirror) -> Answer:
    """``{"window", "escalation_policy", "findings": [...], ...}``; of all ``{"window", "escalation_policies": [...], ...}``"""
    account, history = mirror.account, mirror.history()
    is_open = open_by_policy(history.log) if history.known is not None else {}
    found = reviewed(mirror.connection, mirror.sweep(), given.now, open_incidents=is_open)
    told: dict[str, Any] = {
        "window": {"since": time_of(found.window.start, given), "until": time_of(found.window.end, given)}
    }
    if "escalation_policy_id" in given.arguments:
        id = id_of(given, "escalation_policy_id", account.policies)
        one = found.of(id)
        told["escalation_policy"] = reference(id, account.policies[id].name)
        told |= _of_one(account.policies[id], one, mirror, given)
        return told, (Target("escalation_policy", id),)
    return told | _of_all(found, mirror, given), ()


# One policy


def _of_one(policy: Policy, found: Reviewed, mirror: Mirror, given: Given) -> dict[str, Any]:
    most = MANY if given.full else SOME
    services = [reference(one.id, one.name) for one in mirror.account.services.values() if one.policy_id == policy.id]
    told: dict[str, Any] = {"levels": len(policy.levels), "repeats": policy.loops}
    listed(told, "services", services[: MANY if given.full else FEW], len(services))
    told["findings"] = []
    listed(told, "findings", [_finding(one, given) for one in found.findings[:most]], len(found.findings))
    told |= _aside(found, given)
    if not found.findings:
        told["said"] = "No rule finds anything wrong with it" + (
            ", as far as they could be asked: see not_judged." if found.unjudged else "."
        )
    return told


def _finding(one: Finding, given: Given) -> dict[str, Any]:
    most = MANY if given.full else FEW
    told: dict[str, Any] = {"rule": one.rule.name, "severity": one.rule.severity}
    if one.level:
        told["level"] = one.level
    told["words"] = plain(one.words, 500)
    listed(told, "evidence", [_evidence(each, given) for each in one.evidence[:most]], len(one.evidence))
    told["consequence"] = plain(one.consequence, 500)
    if one.changes:
        told["changes"] = [_change(each, given) for each in one.changes]
    if one.follows:
        told["goes_away_with"] = one.follows
    if given.full:
        told |= {
            "about": {"type": one.subject[0], "id": plain(one.subject[1], 64)},
            "title": one.rule.title,
            "documented": one.rule.source or "It is a rule of Pagewarden's own.",
        }
        if one.rule.url:
            told["url"] = one.rule.url
    return told


def _evidence(one: Evidence, given: Given) -> Any:
    words = plain(one.words, 300)
    return {"words": words, **span_of(one.span, given)} if one.span is not None else {"words": words}


def _change(one: Change, given: Given) -> dict[str, Any]:
    told: dict[str, Any] = {"words": plain(one.words, 300)}
    if given.full and one.path:
        told["path"] = ".".join(map(str, one.path))
        told |= {"before": _value(one.before), "after": _value(one.after)}
        if one.after is None:
            told["after"] = "for people to choose"
    return told


def _value(value: Any) -> Any:
    """Of a document of PagerDuty's: every text in it plain."""
    if isinstance(value, str):
        return plain(value, 200)
    if isinstance(value, dict):
        return {plain(str(key), 64): _value(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    return value


def _aside(found: Reviewed, given: Given) -> dict[str, Any]:
    """What is no finding: muted by the team, meant to be so, or not to be told."""
    told: dict[str, Any] = {}
    if found.muted:
        told["muted_findings"] = len(found.muted)
        if given.full:
            told["muted"] = [
                {
                    "rule": each.finding.rule.name,
                    "until": time_of(int(each.row.until.timestamp()), given),
                    # What people wrote into the portal.
                    "reason": outside(each.row.reason),
                }
                for each in found.muted[:MANY]
            ]
    if meant := sum(span.seconds for spans in found.meant.values() for span in spans):
        told["intended_gap_minutes"] = meant // 60
    listed(told, "not_judged", _unjudged(found.unjudged[: MANY if given.full else FEW]), len(found.unjudged))
    return told


def _unjudged(found: Iterable[Unjudged]) -> list[str]:
    return [plain(each.words, 300) for each in found]


# All of them


def _of_all(found: Reviewed, mirror: Mirror, given: Given) -> dict[str, Any]:
    """The worst first, as on the page."""
    account = mirror.account
    by_policy: dict[str, list[Finding]] = {}
    for one in found.findings:
        by_policy.setdefault(one.policy_id, []).append(one)
    loose = by_policy.pop("", [])
    incidents = _incidents(mirror, given)
    rows = sorted(
        (policy for policy in account.policies.values() if policy.id in by_policy),
        key=lambda policy: _order(policy, by_policy[policy.id], incidents),
    )
    page, paging = page_of(rows, given)
    told: dict[str, Any] = {
        "escalation_policies": [_row(policy, by_policy[policy.id], incidents, given) for policy in page],
        **paging,
        "without_findings": len(account.policies) - len(rows),
    }
    if len(rows) < len(account.policies) and found.unjudged:
        told["said"] = "Not everything could be judged: where nothing is found, not_judged may say why."
    most = MANY if given.full else FEW
    others = [
        {"rule": one.rule.name, "severity": one.rule.severity, "words": plain(one.words, 300)} for one in loose[:most]
    ]
    listed(told, "of_no_policy", others, len(loose))
    return told | _aside(found, given)


def _order(policy: Policy, found: Sequence[Finding], incidents: dict[str, int] | None) -> tuple[Any, ...]:
    worst = min(RANK[one.rule.severity] for one in found)
    at_worst = sum(RANK[one.rule.severity] == worst for one in found)
    return (worst, -at_worst, -len(found), -(incidents or {}).get(policy.id, 0), policy.name.casefold(), policy.id)


def _incidents(mirror: Mirror, given: Given) -> dict[str, int] | None:
    """Of the last 90 days, by policy id; None: not known."""
    found = period(mirror.connection, mirror.history(), USUAL, given.now)
    return None if found is None else {each.key: each.incidents for each in responded_by(found, "policy")}


def _row(policy: Policy, found: Sequence[Finding], incidents: dict[str, int] | None, given: Given) -> dict[str, Any]:
    counts = Counter(one.rule.severity for one in found)
    titles = list(dict.fromkeys(one.rule.title for one in found))
    told: dict[str, Any] = {
        **reference(policy.id, policy.name),
        "findings": {severity: counts[severity] for severity in SEVERITIES if severity in counts},
    }
    if incidents is not None:
        told["incidents_in_90_days"] = incidents.get(policy.id, 0)
    listed(told, "titles", titles[: MANY if given.full else FEW], len(titles))
    return told
