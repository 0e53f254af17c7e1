"""Would this escalation policy wake somebody: what is wrong with it, on what evidence, what it comes to, and what mends it.

Pure: a rule looks at the account as it is mirrored and at who is on call in the window, and never guesses: what is not known is
no finding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

from integrations.pagerduty.analysis.model import Account, Slice, Span

Severity = Literal["critical", "high", "medium", "low", "info"]
SEVERITIES: Final[tuple[Severity, ...]] = ("critical", "high", "medium", "low", "info")


class Rule(NamedTuple):
    """What is looked for."""

    name: str
    """As in ``truth.json``: ``nobody_on_call``, ``level_gap``, ``single_level``, ..."""
    severity: Severity
    title: str
    """A few words: ``Nobody is on call at times``."""
    source: str
    """What PagerDuty's documentation says of it, in our words; empty: it is a rule of ours."""
    url: str
    """Where it says so."""


class Evidence(NamedTuple):
    words: str
    """``Level 2, Payments secondary: nobody on call``."""
    span: Span | None = None


class Change(NamedTuple):
    """What mends it, in PagerDuty's terms."""

    words: str
    """``Let the policy repeat twice.``"""
    path: tuple[str | int, ...]
    """Where in the document: ``("num_loops",)``, ``("escalation_rules", 0, "escalation_delay_in_minutes")``."""
    before: Any
    after: Any
    """None: it is for people to choose who or what."""


@dataclass(frozen=True, slots=True)
class Finding:
    rule: Rule
    policy_id: str
    """Empty: it is about a schedule or a service that no policy is to blame for."""
    level: int
    """From 1; 0: the whole policy."""
    subject: tuple[str, str]
    """What it is about: ``policy``, ``schedule``, ``service`` or ``user``, and its id."""
    words: str
    """What is wrong, as a sentence with names."""
    evidence: tuple[Evidence, ...]
    consequence: str
    """What will happen, as a sentence."""
    changes: tuple[Change, ...]
    """What mends it, of which one is enough; empty: nothing in the policy does."""

    @property
    def key(self) -> str:
        """By which it is muted: the rule and what it is about."""
        return f"{self.rule.name}:{self.subject[0]}:{self.subject[1]}:{self.level}"


RULES: Final[Mapping[str, Rule]] = {}


def lint(
    account: Account,
    rendered: Mapping[str, Sequence[Slice]],
    window: Span,
    *,
    policy_ids: Sequence[str] | None = None,
    open_incidents: Mapping[str, int] | None = None,
) -> tuple[Finding, ...]:
    """All findings, the worst first. ``rendered``: slices by schedule id over ``window``, those unknown missing, as
    ``coverage.render_all`` gives them. ``policy_ids``: of these alone, without what is about no policy. ``open_incidents``: how
    many are open by policy id: these keep the policy as it was, which their findings' consequence then tells."""
    raise NotImplementedError
