"""PagerDuty's refusals, in words that say what to do: each knows whether trying again can help. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from integrations.pagerduty.tools.slim import plain

_REMEDIES: Final = {
    400: "Correct the arguments by what PagerDuty says, and try again.",
    402: "The account's plan does not include this: nothing here can change that.",
    403: "The connection's token may not do this: ask a manager of the team to look at the connection.",
    404: "Look the id up again: it may be wrong, gone, of another account, or a name that looks like an id.",
    409: "Something else has changed it meanwhile: read it anew first.",
    429: "PagerDuty's rate limit is reached: wait a minute before you try again.",
}
"""Status → what to do about it."""
_LATER: Final = frozenset({408, 429})
MAXIMUM: Final = 500


def refused(status: int, body: bytes) -> dict[str, Any]:
    """``{"problem", "remedy", "status", "retry"}`` of an answer of 4xx or 5xx; ``retry``: whether a second try can help."""
    said = _said(body)
    problem = f"PagerDuty answered {status}{f': {said}' if said else '.'}"
    retry = status in _LATER or status >= 500
    remedy = _REMEDIES.get(status) or ("Try again shortly." if retry else _REMEDIES[400])
    return {"problem": problem, "remedy": remedy, "status": status, "retry": retry}


def _said(body: bytes) -> str:
    """What PagerDuty says of an error, in one line. Its form differs: ``errors`` is a list, or by field (v3)."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    error = document.get("error", document) if isinstance(document, dict) else document
    if not isinstance(error, dict):
        return plain(str(error), MAXIMUM)
    errors = error.get("errors") or []
    if isinstance(errors, dict):
        errors = [
            f"{name}: {', '.join(map(str, texts)) if isinstance(texts, list) else texts}"
            for name, texts in errors.items()
        ]
    told = [str(error.get("message", "")), *map(str, errors if isinstance(errors, list) else [errors])]
    return plain(" ".join(text for text in told if text), MAXIMUM)
