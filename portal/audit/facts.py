"""An entry's record as facts in words, in groups: what was asked, what was decided, what PagerDuty said, and when."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from typing import Any, Final

from django.utils.safestring import SafeString

from policies.core.call import EntryKind
from policies.core.text import shown
from policies.models import Entry
from portal.audit.rows import LONGEST
from portal.forms import in_words
from portal.templatetags.words import when

Facts = list[tuple[str, str]]

REQUEST: Final = {
    "door": "Door",
    "operation": "Operation",
    "connection": "Connection",
    "credential": "Key",
    "on_behalf_of": "On behalf of",
    "client": "Client",
    "ip": "From",
    "request_id": "Its own id",
    "held": "Held inside its bounds by",
}
UPSTREAM: Final = {
    "status": "PagerDuty answered",
    "failure": "It failed",
    "attempts": "Attempts",
    "bytes": "Bytes",
    "request_id": "PagerDuty's id of it",
}


def groups(row: Entry) -> list[tuple[str, Facts]]:
    """Those that there is something to say of."""
    details: dict[str, Any] = json.loads(row.record)["details"]
    upstream = details.get("upstream") if isinstance(details.get("upstream"), dict) else {}
    told = [
        ("Notice", _notice(row, details)),
        ("Request", _request(row, details)),
        ("Verdict", _verdict(row, details)),
        ("At PagerDuty", _upstream(details, upstream)),
        ("From the mirror", _mirror(details)),
        ("Timing", _timing(row, details, upstream)),
    ]
    return [(name, [(said, _shown(value)) for said, value in facts if value]) for name, facts in told if facts]


def _shown(value: str) -> str:
    return value if isinstance(value, SafeString) else shown(value, LONGEST)


def _text(value: Any) -> str:
    """What stands for text that is not kept has its length and its digest."""
    if isinstance(value, dict) and set(value) == {"length", "digest"}:
        return f"{value['length']} characters, digest {value['digest']}"
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)


NOTICE: Final = {
    "to": "To",
    "delivery": "Its id",
    "attempt": "Attempt",
    "on_behalf_of": "Asked for by",
    "bytes": "Bytes",
    "digest": "SHA-256 of the body",
    "status": "It was answered",
    "failure": "It failed",
    "detail": "More",
    "ms": "Milliseconds",
    "reason": "Why it is not certain",
}


def _notice(row: Entry, details: dict[str, Any]) -> Facts:
    """What was sent to a webhook, and what came of it. A status of 0 is none."""
    if row.kind != EntryKind.NOTICE:
        return []
    return [(said, _text(details.get(name) or "")) for name, said in NOTICE.items()]


def _request(row: Entry, details: dict[str, Any]) -> Facts:
    if row.kind == EntryKind.NOTICE:
        return []
    asked = " ".join(_text(details.get(name)) for name in ("method", "path")).strip()
    use = details.get("use")
    facts = [
        ("Tool", row.tool),
        ("Asked for", asked),
        *((said, _text(details.get(name))) for name, said in REQUEST.items()),
    ]
    if isinstance(use, dict):
        facts.append(("Use of a tool", f"{_text(use.get('tool'))}, {_text(use.get('id'))}"))
    if details.get("arguments"):
        facts.append(("Arguments", json.dumps(details["arguments"], ensure_ascii=False)))
    return facts if any(value for _, value in facts) else []


def _verdict(row: Entry, details: dict[str, Any]) -> Facts:
    if not row.verdict:
        return []
    version = details.get("policy_version")
    return [
        ("Verdict", in_words(row.verdict)),
        ("Rule", _text(details.get("rule"))),
        ("Why", _text(details.get("reason"))),
        ("What to do", _text(details.get("remedy"))),
        ("Risk", _text(details.get("risk"))),
        ("Policy version", _text(version)),
    ]


def _upstream(details: dict[str, Any], upstream: Any) -> Facts:
    if not upstream:
        return []
    facts = [(said, _text(upstream.get(name))) for name, said in UPSTREAM.items()]
    facts.append(("Its answer", "withheld" if upstream.get("withheld") else ""))
    facts.append(("The caller got", _text(details.get("status"))))
    return facts


def _mirror(details: dict[str, Any]) -> Facts:
    """Of an answer that was made of what the portal keeps."""
    mirror = details.get("mirror")
    if not isinstance(mirror, dict):
        return []
    took = mirror.get("milliseconds")
    as_of = _text(mirror.get("as_of"))
    with contextlib.suppress(ValueError):
        as_of = when(dt.datetime.fromisoformat(as_of), "seconds")
    return [
        ("Answered from", "the portal's own mirror of PagerDuty: nothing was sent"),
        ("As of", as_of),
        ("It took", f"{took:,.1f} ms" if isinstance(took, int | float) else ""),
    ]


def _timing(row: Entry, details: dict[str, Any], upstream: Any) -> Facts:
    recorded, waited = details.get("recorded_at"), upstream.get("milliseconds") if upstream else None
    facts: Facts = [("Came in", when(row.at, "exactly"))]
    try:
        whole = (dt.datetime.fromisoformat(str(recorded)) - row.at) / dt.timedelta(milliseconds=1)
    except (ValueError, TypeError):
        return []
    facts.append(("Recorded", f"{whole:,.1f} ms later"))
    if isinstance(waited, int | float):
        facts.append(("PagerDuty took", f"{waited:,.1f} ms"))
        facts.append(("The portal took", f"{max(whole - waited, 0):,.1f} ms"))
    return facts
