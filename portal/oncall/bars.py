"""How load is drawn: a bar of its kinds, columns of months, and a week by hours. Pure geometry; what is drawn is told in words or
in a table beside it, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

KINDS: Final = ("sleep", "off", "business")
"""Of interruptions: the worst first, which is drawn where bars begin."""
LONG: Final = 200
"""Width of a whole bar."""
THICK: Final = {"sleep": 12, "off": 8, "business": 4}
"""Of a bar's kinds: they differ by their form, not by colours alone."""
STEP: Final = 12
"""Width of a month."""
FEWEST: Final = 6
"""Months that a picture has room for, at least."""
HIGH: Final = 60
"""Height of the highest column."""
CELL: Final = 10
"""Width of an hour, and height of a day."""
STEPS: Final = 4
"""Of heat."""


class Shape(NamedTuple):
    name: str
    """Its class."""
    path: str


@dataclass(frozen=True, slots=True)
class Drawn:
    width: int
    height: int
    shapes: tuple[Shape, ...]
    lines: str = ""
    """A path of what is measured by."""


def bar(parts: Sequence[float], most: float) -> Drawn:
    """``parts``: as many as ``KINDS``. ``most``: what a whole bar stands for."""
    left, shapes, high = 0.0, [], THICK["sleep"]
    for kind, part in zip(KINDS, parts, strict=True):
        if part > 0 and most > 0:
            # What is there is seen, however little it is.
            width = max(LONG * part / most, 1)
            top, thick = (high - THICK[kind]) / 2, THICK[kind]
            shapes.append(Shape(f"is-{kind}", f"M{left:.4g} {top:g}h{width:.4g}v{thick}h-{width:.4g}z"))
            left += width
    return Drawn(LONG, high, tuple(shapes))


def line(name: str, value: float, most: float) -> Drawn:
    """One figure as a bar of the class ``is-<name>``."""
    width = max(LONG * value / most, 1) if value > 0 and most > 0 else 0
    high = THICK["off"]
    return Drawn(LONG, high, (Shape(f"is-{name}", f"M0 0h{width:.4g}v{high}h-{width:.4g}z"),) if width else ())


def columns(months: Sequence[Sequence[float]], most: float) -> Drawn:
    """Each month's ``KINDS`` one on the other, the worst at the bottom."""
    paths: dict[str, list[str]] = {}
    for place, parts in enumerate(months):
        bottom = float(HIGH)
        for kind, part in zip(KINDS, parts, strict=True):
            if part > 0 and most > 0:
                height, wide = max(HIGH * part / most, 0.5), STEP * (0.4 + THICK[kind] / 30)
                left = place * STEP + (STEP - wide) / 2
                bottom -= height
                paths.setdefault(kind, []).append(f"M{left:.4g} {bottom:.4g}h{wide:.3g}v{height:.4g}h-{wide:.3g}z")
    shapes = tuple(Shape(f"is-{kind}", "".join(paths[kind])) for kind in KINDS if kind in paths)
    # Few months do not become wide for it.
    width = max(len(months), FEWEST) * STEP
    return Drawn(width, HIGH, shapes, f"M0 0h{width}M0 {HIGH / 2:g}h{width}M0 {HIGH}h{width}")


def heat(week: Sequence[Sequence[float]]) -> Drawn:
    """Seven days of 24 hours: the more in an hour, the larger its square and the stronger."""
    most = max((value for day in week for value in day), default=0)
    paths: dict[int, list[str]] = {}
    for row, day in enumerate(week):
        for column, value in enumerate(day):
            if value > 0:
                step = step_of(value, most)
                side = CELL - 1 - 1.5 * (STEPS - step)
                edge = (CELL - side) / 2
                at = f"M{column * CELL + edge:g} {row * CELL + edge:g}"
                paths.setdefault(step, []).append(f"{at}h{side:g}v{side:g}h-{side:g}z")
    shapes = tuple(Shape(f"heat heat-{step}", "".join(paths[step])) for step in sorted(paths))
    width, height = 24 * CELL, max(len(week), 1) * CELL
    lines = "".join(f"M{hour * CELL} 0v{height}" for hour in (6, 12, 18)) + f"M0 {5 * CELL}h{width}"
    return Drawn(width, height, shapes, lines)


def step_of(value: float, most: float) -> int:
    """1 to ``STEPS``; 0: nothing."""
    return min(max(math.ceil(STEPS * value / most), 1), STEPS) if value > 0 and most > 0 else 0
