"""Charts as numbers: paths for SVG and labels for its axes. Pure.

A chart's lines are drawn in a box of WIDTH by HEIGHT that is stretched to where it stands; labels are text beside it,
so that they keep their size on any screen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

WIDTH, HEIGHT = 1000, 200
_STEPS = (1, 2, 4, 6, 8, 10)  # each halves into what is whole, from 2 on
_SPANS = (30, 60, 120, 300, 900, 3600)  # seconds

Points: TypeAlias = Sequence[tuple[float, float | None]]  # time and value; None is a gap


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name, a word for its style, its path, and its last value."""

    name: str
    style: str
    path: str
    last: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over a span of time, with the labels of both axes: values from the top, times from the left."""

    title: str
    unit: str
    lines: Sequence[Line]
    values: Sequence[float]
    times: Sequence[str]
    rows: Sequence[tuple[str, Sequence[float | None]]]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw yet."""
        return not any(line.path for line in self.lines)


def round_up(value: float, least: float = 1.0) -> float:
    """Round up to a number that halves well, for an axis to end at."""
    value = max(value, least)
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if step * power >= value * (1 - 1e-9))


def path_of(points: Points, begin: float, end: float, top: float, width: int = WIDTH, height: int = HEIGHT) -> str:
    """Draw points as a path: from `begin` to `end`, and 0 to `top`. A gap ends a stroke."""
    parts: list[str] = []
    pen = "M"
    for at, value in points:
        if value is None or at < begin:
            pen = "M"
            continue
        x = (at - begin) / (end - begin) * width
        y = height - min(value, top) / top * height
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(parts)


def sparkline(points: Points, seconds: float, end: float) -> tuple[str, str]:
    """Draw a small line of 100 by 20, and the area below it; both are empty without two points.

    It shows up to `seconds` before `end`: while less is known, half a minute or what there is.
    """
    known = [(at, value) for at, value in points if value is not None and at >= end - seconds]
    if len(known) < 2:
        return "", ""
    begin = min(known[0][0], end - _SPANS[0])
    top = max(value for _, value in known) or 1.0
    line = path_of(known, begin, end, top * 1.1, 100, 20)
    first, last = ((at - begin) / (end - begin) * 100 for at in (known[0][0], known[-1][0]))
    return line, f"{line}L{last:.1f} 20L{first:.1f} 20Z"


def chart(
    title: str, unit: str, series: Sequence[tuple[str, str, Points]], seconds: float, now: float, least: float = 1.0
) -> Chart:
    """Chart series, each a name, a word for its style and points, over the last `seconds` before `now`.

    While less is known, it is a shorter span that holds all.
    """
    first = min((points[0][0] for _, _, points in series if points), default=now)
    seconds = next((span for span in _SPANS if now - first <= span <= seconds), seconds)
    begin = now - seconds
    shown = [(name, style, [point for point in points if point[0] >= begin]) for name, style, points in series]
    known = [value for _, _, points in shown for _, value in points if value is not None]
    top = round_up(max(known, default=0.0), least)
    lines = [
        Line(name, style, path_of(points, begin, now, top), points[-1][1] if points else None)
        for name, style, points in shown
    ]
    times = [_ago(seconds * part / 4) for part in (4, 3, 2, 1, 0)]
    return Chart(title, unit, lines, [top, top / 2, 0.0], times, _rows([points for _, _, points in shown], now))


def _ago(seconds: float) -> str:
    if seconds == 0:
        return "now"
    if seconds < 60:
        return f"−{seconds:g} s"  # noqa: RUF001 - a minus, as it stands in a chart
    minutes, rest = divmod(round(seconds), 60)
    return f"−{minutes}:{rest:02}" if rest else f"−{minutes} min"  # noqa: RUF001 - a minus, as it stands in a chart


def _rows(series: Sequence[Points], now: float, count: int = 10) -> list[tuple[str, Sequence[float | None]]]:
    """Give about `count` of the points as rows of a table, the last ones first, for those who do not see lines."""
    times = [at for at, _ in series[0]] if series else []
    step = max(1, math.ceil(len(times) / count))
    picked = range(len(times) - 1, -1, -step)
    return [(f"{now - times[index]:.0f} s ago", [points[index][1] for points in series]) for index in picked]
