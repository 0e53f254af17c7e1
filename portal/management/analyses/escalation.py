"""``analyze escalation``: what keeps escalation policies from waking somebody, and what mends it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.analysis import reading
from integrations.pagerduty.analysis.coverage import render_all
from integrations.pagerduty.analysis.escalation import SEVERITIES, Change, Evidence, Finding, Unjudged, review
from integrations.pagerduty.analysis.model import Account
from portal.management.analyses import Answer, Asked, Document, told_of, window_asked, written, zone_asked
from portal.management.analyses.schedules import account_in, reach_of

NAMED: Final = 10
"""Of what could not be judged, so many are told to people."""


def escalation(asked: Asked) -> Answer:
    account, schedules, notes, refused = account_in(asked.documents)
    if not account.policies and not account.services:
        raise ValueError(refused[0] if refused else "There is neither an escalation policy nor a service in it.")
    notes += refused
    if asked.everybody:
        if not account.people:
            raise ValueError("There are no users in it, so that these cannot be all of the account.")
        policies = {id: reading.without_gone(each, account.people.keys()) for id, each in account.policies.items()}
        account = replace(account, policies=policies)
    zone = zone_asked(asked, schedules[0].zone if schedules else "UTC")
    window = window_asked(asked, zone, reach_of(schedules))
    for label, problems in (
        *((each.name or each.id, each.problems) for each in account.policies.values()),
        *((each.name or each.id, each.problems) for each in schedules),
    ):
        notes += [f"{label}: {note}" for note in told_of(problems)]
    run = review(account, render_all(account, window), window)
    counts = Counter(one.rule.severity for one in run.findings)
    document: Document = {
        "window": {"start": written(window.start, zone), "end": written(window.end, zone)},
        "policies": len(account.policies),
        "counts": {severity: counts[severity] for severity in SEVERITIES},
        "findings": [_finding(one, account, zone) for one in run.findings],
        "unjudged": [_unjudged(one, account) for one in run.unjudged],
    }
    return Answer(document, list(_lines(document)), notes)


def _finding(one: Finding, account: Account, zone: ZoneInfo) -> Document:
    rule = one.rule
    return {
        "key": one.key,
        "rule": rule.name,
        "severity": rule.severity,
        "title": rule.title,
        "policy_id": one.policy_id,
        "policy_name": _policy(one.policy_id, account),
        "level": one.level or None,
        "subject": {"kind": one.subject[0], "id": one.subject[1]},
        "words": one.words,
        "evidence": [_evidence(each, zone) for each in one.evidence],
        "consequence": one.consequence,
        "changes": [_change(each, one.policy_id) for each in one.changes],
        "follows": one.follows or None,
        "source": rule.source,
        "url": rule.url,
    }


def _policy(id: str, account: Account) -> str:
    return account.policies[id].name if id in account.policies else ""


def _evidence(evidence: Evidence, zone: ZoneInfo) -> Document:
    if evidence.span is None:
        return {"words": evidence.words}
    start, end = (written(at, zone) for at in evidence.span)
    return {"words": evidence.words, "start": start, "end": end}


def _change(change: Change, policy_id: str) -> Document:
    kind, id = change.document if change.document[0] else ("policy", policy_id)
    return {
        "words": change.words,
        "document": {"kind": kind, "id": id},
        "path": list(change.path),
        "before": change.before,
        "after": change.after,
    }


def _unjudged(one: Unjudged, account: Account) -> Document:
    return {
        "rules": list(one.rules),
        "policy_id": one.policy_id,
        "policy_name": _policy(one.policy_id, account),
        "subject": {"kind": one.subject[0], "id": one.subject[1]},
        "words": one.words,
    }


def _lines(document: Document) -> Iterator[str]:
    window, found = document["window"], document["findings"]
    told = ", ".join(f"{count} {severity}" for severity, count in document["counts"].items() if count)
    yield f"{window['start']} to {window['end']}: {document['policies']} escalation policies, {told or 'nothing found'}"
    for one in found:
        yield f"{one['severity'].upper()} {one['rule']}: {one['words']}"
        for each in one["evidence"]:
            when = f"{each['start']}  {each['end']}  " if "start" in each else ""
            yield f"  {when}{each['words']}"
        yield f"  {one['consequence']}"
        for change in one["changes"]:
            where = ".".join(map(str, change["path"]))
            value = "" if change["after"] is None else f": {change['before']} becomes {change['after']}"
            yield f"  {change['words']} ({change['document']['kind']} {change['document']['id']}, {where}{value})"
    unjudged = document["unjudged"]
    if unjudged:
        # The same is not known for each policy that has to do with it.
        words = list(dict.fromkeys(one["words"] for one in unjudged))
        yield f"Not judged, as not enough is known: {len(words)}"
        yield from (f"  {each}" for each in words[:NAMED])
        if len(words) > NAMED:
            yield f"  and {len(words) - NAMED} more"
