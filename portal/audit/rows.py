"""An entry of the journal in words, as the list, the page of an entry and an export tell of it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from integrations.pagerduty.catalog import TOOLS
from policies.core.call import EntryKind, State
from policies.core.text import shown
from policies.models import Alarm, Entry
from portal.forms import KINDS, in_words


@dataclass(frozen=True)
class Row:
    """One entry in words."""

    entry: Entry
    who: str
    what: str
    team: str
    change: str = ""
    """Of a configuration change: before → after, in short."""
    revealed: str = ""
    """What of that which is masked the answer showed, in words: "3 addresses"."""
    about: str = ""
    """What the call is about: "incident PT4KHLK"."""

    @property
    def verdict(self) -> str:
        return in_words(self.entry.verdict)

    @property
    def heading(self) -> str:
        return KINDS[EntryKind(self.entry.kind)]

    @classmethod
    def of(cls, entry: Entry, teams: dict[int, str]) -> Row:
        details: dict[str, Any] = json.loads(entry.record)["details"]
        called = in_words(entry.tool) or f"{details.get('method', '')} {details.get('path', '')}"
        what = {
            EntryKind.CONFIG: f"{in_words(str(details.get('action', '')))}: {_target(str(details.get('target', '')))}",
            EntryKind.SIGN_IN: _signed(details),
            EntryKind.REJECTED: f"{details.get('count')} refused keys from {_sources(details)}",
            EntryKind.ALARM: _alarm(details),
            EntryKind.STREAM: _of_chains(details),
            EntryKind.INTENT: f"{called} (about to be sent)",
            EntryKind.NOTICE: f"{in_words(str(details.get('what', '')))}, to {details.get('to')}",
        }.get(EntryKind(entry.kind), called)
        changed = _changed(details.get("before"), details.get("after")) if entry.kind == EntryKind.CONFIG else ""
        return cls(
            entry,
            shown(_who(entry, details), LONGEST),
            shown(what, LONGEST),
            teams.get(entry.team_id or 0, ""),
            shown(changed, LONGEST),
            _revealed(details.get("revealed")),
            shown(", ".join(f"{kind} {name}" for kind, name in targets(details)[:SHOWN_FACTS]), LONGEST),
        )


def _who(entry: Entry, details: dict[str, Any]) -> str:
    """By name. Of the portal's own job which, and for whom."""
    if entry.actor.startswith("job:"):
        asked = details.get("on_behalf_of")
        told = f"the portal ({entry.actor.removeprefix('job:').replace('_', ' ')})"
        return f"{told}, for {asked}" if isinstance(asked, str) and asked else told
    # Of a refused sign-in with an address that is nobody's there is only a digest.
    signed = details.get("who") if isinstance(details.get("who"), str) else ""
    return str(details.get("actor", {}).get("name") or details.get("by") or signed or entry.actor)


def targets(details: dict[str, Any]) -> list[tuple[str, str]]:
    """Type and id of what a call is about, where the record kept the id."""
    told = details.get("targets")
    known = [target for target in told if isinstance(target, dict)] if isinstance(told, list) else []
    return [(str(target.get("type", "")), target["id"]) for target in known if isinstance(target.get("id"), str)]


def _signed(details: dict[str, Any]) -> str:
    """Of a sign-in: what, and with what."""
    how = details.get("how")
    return str(details.get("what", "")).replace("_", " ") + (f" ({how})" if isinstance(how, str) else "")


def _of_chains(details: dict[str, Any]) -> str:
    """Of a chain: that it begins, or what of the spool was brought in."""
    if (spool := details.get("spool")) is None:
        return "a part of it begins"
    damaged = "; the rest is damaged and was kept aside" if "problem" in spool else ""
    count = spool["entries"]
    return f"{count} spooled {'entry was' if count == 1 else 'entries were'} brought in{damaged}"


SHOWN_FACTS = 3
LONGEST = 500
"""Characters of a name or a change. They were made fit to be shown when they were written; the record's rows could be edited."""
STATES = {state.value for state in State}


def _target(name: str) -> str:
    """A tool by its title; anything else as people named it."""
    return in_words(name) if name in TOOLS else name


def _changed(before: Any, after: Any) -> str:
    """What became of what, in one short line: of several facts those that differ."""
    if not isinstance(before, dict | None) or not isinstance(after, dict | None):
        return f"{_short(before)} → {_short(after)}"
    old, new = before or {}, after or {}
    names = [name for name in (new | old) if _short(old.get(name)) != _short(new.get(name))]
    told = [f"{in_words(name)}: {_short(old.get(name))} → {_short(new.get(name))}" for name in names[:SHOWN_FACTS]]
    more = len(names) - SHOWN_FACTS
    return "; ".join(told) + (f"; and {more} more" if more > 0 else "")


def _revealed(counts: Any) -> str:
    if not isinstance(counts, dict):
        return ""
    return shown(", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())), LONGEST)


def _short(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        value = [f"{in_words(str(name))} {_short(item)}" for name, item in value.items()]
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    if text in STATES:
        return in_words(text)
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*\+00:00", text):
        return f"{text[:16].replace('T', ' ')} UTC"
    return text if len(text) <= 40 else f"{text[:39]}…"


def _sources(details: dict[str, Any]) -> str:
    """Where refused keys came from. Until there were limits each source had an entry of its own."""
    named = [str(source["ip"]) for source in details.get("sources", [])] or [str(details.get("ip"))]
    others = len(named) > SHOWN_FACTS or details.get("others")
    return ", ".join(named[:SHOWN_FACTS]) + (" and others" if others else "")


def _alarm(details: dict[str, Any]) -> str:
    what = str(details.get("what", ""))
    said = Alarm.Kind(what).label if what in Alarm.Kind.values else in_words(what)
    return f"{details.get('key', {}).get('name')} {said}, from {details.get('ip')}"
