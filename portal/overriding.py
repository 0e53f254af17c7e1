"""Somebody put on call by an override, from any page that proposes it: by the one pipeline, as whoever asks, on record."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from integrations.gateway import web
from integrations.gateway.web import Done
from integrations.models import Connection
from integrations.pagerduty.analysis.model import Source, Span
from integrations.pagerduty.catalog import TOOLS
from policies.core.call import Client
from policies.models import Entry
from portal.http import Request
from portal.oncall.coverage import at
from portal.readable import Node, readable

OVERRIDE: Final = TOOLS["create_schedule_override"]
ONCE: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
"""What a page that was confirmed sends along: however often it is sent, each override is made once."""


@dataclass(frozen=True)
class Written:
    """What came of one override."""

    done: Done

    @property
    def error(self) -> dict[str, Any] | None:
        return self.done.content["error"] if self.done.is_error else None

    @property
    def may_be_done(self) -> bool:
        """Also where nobody knows whether it was: the mirror, read anew, will say."""
        return self.error is None or self.error.get("kind") == "unknown"

    @property
    def denied(self) -> bool:
        return self.error is not None and self.error.get("kind") in ("denied", "needs_approval")

    @property
    def answer(self) -> Node | None:
        return None if self.error else readable(self.done.content)

    def entries(self, request: Request) -> list[Entry]:
        """Of the record, as far as the reader sees it."""
        rows = Entry.objects.visible_to(request.user).filter(decision_id__in=self.done.decisions).order_by("pk")
        return [row for row in rows if row.kind == "result"]


def iso(instant: int) -> str:
    return at(instant).strftime("%Y-%m-%dT%H:%M:%SZ")


def put_on_call(
    request: Request,
    connection: Connection,
    schedule_id: str,
    user_id: str,
    span: Span,
    key: str,
    *,
    replaces: tuple[Source, str] | None = None,
) -> Written:
    """``key``: of idempotency. ``replaces``: of a schedule with rotations, in which rotation or custom shift whom."""
    arguments = {"schedule_id": schedule_id, "user_id": user_id, "start": iso(span.start), "end": iso(span.end)}
    if replaces is not None:
        source, who = replaces
        name = "custom_shift_id" if source.kind == "custom_shift" else "rotation_id"
        arguments |= {name: source.id, "overridden_user_id": who}
    return Written(
        web.use_tool(
            OVERRIDE,
            arguments,
            by=request.user,
            team=connection.team,
            connection_id=str(connection.pk),
            client=Client(request.META.get("REMOTE_ADDR", ""), request.headers.get("User-Agent", "")),
            idempotency_key=key,
        )
    )
