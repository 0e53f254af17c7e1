"""A mirror for tests, filled from the simulated PagerDuty in this process: no network, no worker, in the open transaction."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock
from urllib.parse import urlencode

import httpx
from django.utils import timezone

from integrations import mirror, mirror_history
from integrations.mirror_tasks import Cannot, Document, Kind, Task
from integrations.models import (
    Connection,
    Mirror,
    MirroredDocument,
    MirroredIncident,
    MirrorPart,
    PastKnown,
    PastShift,
)
from integrations.pagerduty.sandbox.app import Sandbox
from integrations.pagerduty.sandbox.world import demo_tokens

ROWS = (MirrorPart, MirroredDocument, MirroredIncident, PastShift, PastKnown)
_made: dict[Any, tuple[int, list[dict[str, Any]]]] = {}


def mirrored(
    connection: Connection,
    world: str = "demo",
    *,
    now: dt.datetime | None = None,
    seed: int = 7,
    size: str = "demo",
    sandbox: Sandbox | None = None,
    history: bool = False,
    days: int = mirror_history.KEPT_DAYS,
) -> mirror.Kept:
    """Fill a connection's mirror with the world of this kind (``demo``, ``clean``, …), inside the PagerDuty teams that it is
    bounded to. ``now``: the moment at which it is read; ``sandbox``: read this one, which a test may have changed. Worlds are
    read once in a process and copied then. ``history``: with incidents and shifts of so many ``days``: a year takes half a
    minute, 40 days a few seconds."""
    key = (history and days, world, now, seed, size, mirror._bounds(connection), timezone.now().date())
    if sandbox is None and key in _made:
        _copy(connection, *_made[key])
        return mirror.kept(connection)
    with at(now), mock.patch.object(mirror_history, "KEPT_DAYS", days):
        asked = sandbox or _sandbox(seed, now, world, size)
        Mirror.objects.get_or_create(connection=connection, defaults={"bounds": mirror._bounds(connection)})
        # A demo's worker may be reading it, for as long as a year of incidents takes: it gives way.
        Mirror.objects.filter(connection=connection).update(held_until=None)
        kinds = [kind for kind in mirror.MINUTES if history or kind not in mirror_history.KINDS]
        run = InProcess(connection, asked, seed, kinds).run(again=True)
    assert run.done, run
    Mirror.objects.filter(pk=connection.pk).update(asked_at=None)
    if sandbox is None:
        names = [[field.attname for field in model._meta.concrete_fields if field.name != "id"] for model in ROWS]
        made = [
            {"model": model, "rows": list(model._default_manager.filter(connection=connection).values(*fields))}
            for model, fields in zip(ROWS, names, strict=True)
        ]
        _made[key] = Mirror.objects.values_list("history", flat=True).get(pk=connection.pk), made
    return mirror.kept(connection)


@functools.cache
def _sandbox(seed: int, now: dt.datetime | None, world: str, size: str) -> Sandbox:
    return Sandbox(seed, now, kind=world, size=size)


def _copy(connection: Connection, number: int, made: Sequence[Mapping[str, Any]]) -> None:
    now = timezone.now()
    standing = Mirror.objects.filter(pk=connection.pk).values_list("version", flat=True).first() or 0
    values = {"bounds": mirror._bounds(connection), "version": standing + 1, "begun_at": now, "ended_at": now}
    values["history"] = number
    Mirror.objects.update_or_create(connection=connection, defaults=values)
    for each in made:
        each["model"]._default_manager.filter(connection=connection).delete()
        each["model"]._default_manager.bulk_create(
            each["model"](**{**row, "connection_id": connection.pk}) for row in each["rows"]
        )


@contextlib.contextmanager
def at(now: dt.datetime | None) -> Iterator[None]:
    """As if it were then; the simulated PagerDuty that is asked then must have been made then, too."""
    if now is None:
        yield
        return
    moment = mock.patch("time.time", return_value=now.timestamp())
    with moment, mock.patch("django.utils.timezone.now", return_value=now):
        yield


class InProcess(mirror._Sync):
    """Asks the simulated PagerDuty directly, with nobody to decide or record in between; bounds of teams are kept by filters."""

    def __init__(self, connection: Connection, sandbox: Sandbox, seed: int, kinds: Sequence[str]) -> None:
        super().__init__(connection, "a test", 600.0, 100_000, kinds)
        self._client = httpx.AsyncClient(transport=httpx.ASGITransport(sandbox), base_url="http://sandbox")
        self._token = demo_tokens(seed)["account"].value
        self._loop = asyncio.new_event_loop()

    def run(self, *, again: bool) -> mirror.Run:
        try:
            return super().run(again=again)
        finally:
            self._loop.close()

    def _know(self) -> None:
        pass

    def _pause(self) -> None:
        pass

    def _spent(self) -> bool:
        return False

    def _ask_for(self, kind: str, state: Document, tasks: Sequence[Task]) -> list[Any]:
        bounds = [] if self.connection.whole_account else self.connection.bound_team_ids
        forced = {"team_ids[]": bounds} if bounds else {}
        if kind == Kind.ONCALLS and bounds:
            forced = {"escalation_policy_ids[]": self._ids(Kind.POLICIES) or ["PNONE00"]}

        async def ask(path: str, query: Mapping[str, Any] | None = None) -> Any:
            self.calls += 1
            sent = urlencode({**(query or {}), **forced}, doseq=True)
            answer = await self._client.get(f"{path}?{sent}", headers={"Authorization": f"Token token={self._token}"})
            if answer.status_code >= 400:
                raise Cannot(mirror._refusal(answer.status_code, answer.content), answer.status_code)
            return answer.json()

        async def all_of_them() -> list[Any]:
            return [await self._one(kind, state, task, ask) for task in tasks]

        return self._loop.run_until_complete(all_of_them())
