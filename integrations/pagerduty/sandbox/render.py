"""Who is on call when: a v2 schedule's layers, restrictions and overrides, rendered over a window.

The portal's analysis renders them by code of its own (``analysis/rotation.py``), and neither knows the other's: the tests
hold each against the other, which would prove nothing of one engine that both use.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final
from zoneinfo import ZoneInfo

from integrations.pagerduty.sandbox.world import DAY, parse_time

Shift = tuple[float, float, str]
"""Start, end (Unix time), user id."""


def layer_shifts(layer: dict[str, Any], zone: ZoneInfo, since: float, until: float) -> list[Shift]:
    """One layer's shifts: turns in order from its virtual start, cut by its restrictions."""
    start = max(parse_time(layer["start"]), since)
    end = min(parse_time(layer["end"]) if layer["end"] else until, until)
    if start >= end or not layer["users"]:
        return []
    virtual, turn = parse_time(layer["rotation_virtual_start"]), layer["rotation_turn_length_seconds"]
    users = [entry["user"]["id"] for entry in layer["users"]]
    # By whole days, so that what is asked for at another second of the same day is known already.
    first_day, last_day = int(start // DAY), int(-(-end // DAY))
    allowed = _allowed(tuple(tuple(row.items()) for row in layer["restrictions"]), zone, first_day, last_day)
    shifts: list[Shift] = []
    if len(users) == 1:
        return _merged(
            (max(low, start), min(high, end), users[0]) for low, high in allowed if low < end and high > start
        )
    # One turn earlier: a change of the clock moves where turns of days begin.
    number = int((start - virtual) // turn) - 1
    first = 0  # of the allowed spans that are not over: a century of turns is one walk along a century of spans
    while (begin := _turn_start(virtual, turn, number, zone)) < end:
        finish = _turn_start(virtual, turn, number + 1, zone)
        while first < len(allowed) and allowed[first][1] <= begin:
            first += 1
        for place in range(first, len(allowed)):
            low, high = allowed[place]
            if low >= finish:
                break
            a, b = max(begin, low, start), min(finish, high, end)
            if a < b:
                shifts.append((a, b, users[number % len(users)]))
        number += 1
    return _merged(shifts)


def _turn_start(virtual: float, turn: int, number: int, zone: ZoneInfo) -> float:
    """Turns of whole days keep their local hour across changes of the clock."""
    if turn % DAY:
        return virtual + number * turn
    local = dt.datetime.fromtimestamp(virtual, zone).replace(tzinfo=None) + dt.timedelta(seconds=turn * number)
    return local.replace(tzinfo=zone).timestamp()


@lru_cache(maxsize=1024)
def _allowed(
    restrictions: tuple[tuple[tuple[str, Any], ...], ...], zone: ZoneInfo, first_day: int, last_day: int
) -> list[tuple[float, float]]:
    """The spans that the restrictions leave, in order and apart from each other. Days are counted from 1970."""
    start, end = first_day * DAY, last_day * DAY
    if not restrictions:
        return [(start, end)]
    found: list[tuple[float, float]] = []
    first = dt.datetime.fromtimestamp(start, zone).date() - dt.timedelta(days=8)
    for offset in range(last_day - first_day + 11):
        day = first + dt.timedelta(days=offset)
        for restriction in map(dict, restrictions):
            if restriction["type"] == "weekly_restriction" and day.isoweekday() != restriction["start_day_of_week"]:
                continue
            clock = dt.time.fromisoformat(restriction["start_time_of_day"])
            local = dt.datetime.combine(day, clock)
            begin = local.replace(tzinfo=zone).timestamp()
            finish = (local + dt.timedelta(seconds=restriction["duration_seconds"])).replace(tzinfo=zone).timestamp()
            found.append((begin, finish))
    spans: list[tuple[float, float]] = []
    for low, high in sorted(found):
        if spans and spans[-1][1] >= low:
            spans[-1] = (spans[-1][0], max(spans[-1][1], high))
        else:
            spans.append((low, high))
    return spans


def _merged(shifts: Iterable[Shift]) -> list[Shift]:
    merged: list[Shift] = []
    for start, end, user in sorted(shifts):
        if merged and merged[-1][2] == user and merged[-1][1] >= start:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end), user)
        else:
            merged.append((start, end, user))
    return merged


def laid_over(below: list[Shift], above: list[Shift]) -> list[Shift]:
    """``above`` wins wherever it is. Each of them is in order, and nobody's shift in it overlaps another's."""
    return _merged(_laid(below, above))


def _laid(below: list[Shift], above: list[Shift]) -> list[Shift]:
    if not below or not above:
        return above or below
    kept: list[Shift] = []
    first = 0
    for start, end, user in below:
        while first < len(above) and above[first][1] <= start:
            first += 1
        low = start
        for place in range(first, len(above)):
            a, b, _ = above[place]
            if a >= end:
                break
            if low < a:
                kept.append((low, a, user))
            low = max(low, b)
        if low < end:
            kept.append((low, end, user))
    return sorted(kept + above)


def override_shifts(schedule: dict[str, Any], since: float, until: float) -> list[Shift]:
    found: list[Shift] = []
    for override in schedule["overrides"]:
        start, end = max(parse_time(override["start"]), since), min(parse_time(override["end"]), until)
        if start < end:
            found = laid_over(found, [(start, end, override["user"]["id"])])
    return found


def final_shifts(schedule: dict[str, Any], since: float, until: float) -> list[Shift]:
    """The schedule as it is: later layers over earlier ones, overrides over all."""
    if until - since > KEPT_DAYS * DAY:
        return _final_shifts(schedule, since, until)
    # By whole days, and kept: who is on call is asked for again and again, at another second of the same day.
    first_day, last_day = int(since // DAY), int(-(-until // DAY))
    said = repr((schedule["time_zone"], schedule["schedule_layers"], schedule["overrides"], first_day, last_day))
    key = blake2b(said.encode(), digest_size=16).digest()
    if key not in _kept:
        if len(_kept) >= KEPT or sum(map(len, _kept.values())) >= KEPT_SHIFTS:
            _kept.clear()
        _kept[key] = _final_shifts(schedule, first_day * DAY, last_day * DAY)
    return [
        (max(start, since), min(end, until), user) for start, end, user in _kept[key] if start < until and end > since
    ]


KEPT: Final = 1024
KEPT_DAYS: Final = 200
KEPT_SHIFTS: Final = 250_000
"""About 40 MB."""
_kept: dict[bytes, list[Shift]] = {}


def _final_shifts(schedule: dict[str, Any], since: float, until: float) -> list[Shift]:
    zone = ZoneInfo(schedule["time_zone"])
    shifts: list[Shift] = []
    for layer in schedule["schedule_layers"]:
        shifts = _laid(shifts, layer_shifts(layer, zone, since, until))
    return laid_over(shifts, override_shifts(schedule, since, until))


def coverage(shifts: list[Shift], since: float, until: float) -> float:
    return round(100 * sum(end - start for start, end, _ in shifts) / (until - since), 1) if until > since else 0.0
