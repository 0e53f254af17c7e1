"""Reads of one operation: a tool's arguments as its path, query or body. Where nothing is said here, an argument goes where the
operation takes one of its name."""

from __future__ import annotations

import dataclasses
import datetime as dt
import re
from collections.abc import Mapping
from typing import Any, Final

from integrations.pagerduty.catalog import OPERATIONS, TAKES
from integrations.pagerduty.tools.arguments import moment
from integrations.pagerduty.tools.asking import Ask, Given, Told
from policies.core.call import Operation

WINDOW: Final = ("since", "until")
_TEMPLATE: Final = re.compile(r"\{(\w+)\}")


def ask(operation_id: str, given: Given, **fixed: str) -> Ask:
    """The call of an operation with a tool's arguments: ids go into its path, the rest into its query, under its own name or
    with ``[]``. ``fixed``: values of path or query beside the arguments. Windows are told in UTC: some take no other."""
    operation = OPERATIONS[operation_id]
    left = {**given.arguments, **fixed}
    left |= {name: text(at) for name in WINDOW if isinstance(left.get(name), str) and (at := moment(left[name]))}
    path = _path(operation, left)
    return Ask(operation.method, path, _query(operation, left))


def _path(operation: Operation, left: dict[str, Any]) -> str:
    """The path with its ids, which are taken out of ``left``: by name, or for ``{id}`` the tool's own ``…_id``, in order."""

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name not in left:
            name = next(each for each in left if each.endswith("_id") and each not in TAKES[operation.id])
        return str(left.pop(name))

    return _TEMPLATE.sub(value, operation.path)


def _query(operation: Operation, left: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    takes = TAKES[operation.id]
    pairs: list[tuple[str, str]] = []
    for name, value in left.items():
        if isinstance(value, list):
            key = f"{name}[]" if f"{name}[]" in takes else name
            if key.endswith("[]") or name == "ids":
                pairs += [(key, str(item)) for item in value]
            else:
                pairs.append((key, ",".join(map(str, value))))
        elif name in takes:
            pairs.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
    return tuple(pairs)


def month_before(given: Given) -> tuple[str, str]:
    """The window that was asked for, or the last month up to its end, in UTC."""
    until = moment(given.get("until") or "") or given.now
    since = moment(given.get("since") or "") or until - dt.timedelta(days=30)
    return text(since), text(until)


def text(at: dt.datetime) -> str:
    """A moment as PagerDuty takes it, in UTC."""
    return f"{at.astimezone(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"


def of_last_month(operation_id: str, given: Given) -> Ask:
    """The call of an operation that lists a window: the one that was asked for, or the last month."""
    since, until = month_before(given)
    return ask(operation_id, given, since=since, until=until)


def of_window(operation_id: str, given: Given) -> Ask:
    """The call of an operation whose window, where one is asked for, has both ends: of a start alone PagerDuty lists the month
    after it, and not what was since."""
    ends = sum(name in given.arguments for name in WINDOW)
    both = TAKES[operation_id].issuperset(WINDOW)
    return of_last_month(operation_id, given) if ends == 1 and both else ask(operation_id, given)


def only(given: Given, *names: str, **more: Any) -> Given:
    """A tool's arguments of these names alone, and others beside them."""
    kept = {name: given[name] for name in names if given.get(name) is not None}
    return dataclasses.replace(given, arguments={**kept, **more})


def failed(told: Told) -> dict[str, Any]:
    """What stands in the place of a part that came to nothing."""
    return {"failed": {"kind": told.kind, **told.error}}


def elsewhere(told: Told) -> bool:
    """Whether an id is not known in this place, and may be in another: PagerDuty says so, or the bounds, to which whatever is
    not found is outside."""
    by_bounds = told.kind == "denied" and told.error.get("rule") == "bounds"
    return by_bounds or (told.kind == "refused" and told.error.get("status") in (400, 404))
