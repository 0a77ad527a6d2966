"""Curves over steps as SVG that takes its colours from the page's style."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

from ajet.viewer.report.html_text import Html, tag

WIDTH, HEIGHT = 420, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 10, 8, 34
NUM_TICKS = 4


@dataclass(slots=True, kw_only=True, frozen=True)
class Curve:
    """One metric."""

    label: str
    points: Sequence[tuple[int, float]]
    """(step, value), by step."""
    gaps: Sequence[int] = ()
    """Steps whose value is NaN, infinite, or larger than a chart can show, by step."""


def svg_chart(title: str, curves: Sequence[Curve], *, is_share: bool = False) -> Html:
    """A figure with title, labelled axes and a legend."""
    steps = [step for curve in curves for step, _ in curve.points]
    values = [value for curve in curves for _, value in curve.points]
    first, last = min(steps), max(steps)
    ticks = _ticks(0.0, 1.0) if is_share else _ticks(min(values), max(values))
    low, high = ticks[0], ticks[-1]

    def x(step: float) -> float:
        share = (step - first) / (last - first) if last > first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    show = _percent if is_share else _short
    grid = [
        tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=f"{y(t):.1f}", y2=f"{y(t):.1f}", class_="grid")
        + tag("text", show(t), x=LEFT - 7, y=f"{y(t) + 4:.1f}", text_anchor="end")
        for t in ticks
    ]
    below = [
        tag("text", str(step), x=f"{x(step):.1f}", y=HEIGHT - BOTTOM + 16, text_anchor="middle")
        for step in _step_ticks(first, last)
    ]
    lines = [
        _line(number, part, x, y)
        for number, curve in enumerate(curves)
        for part in _without_gaps(curve)
    ]
    words = "; ".join(
        f"{c.label}: {show(c.points[0][1])} at step {c.points[0][0]}, "
        f"{show(c.points[-1][1])} at step {c.points[-1][0]}"
        for c in curves
    )
    drawing = tag(
        "svg",
        *map(Html, grid),
        *below,
        *lines,
        tag("text", "step", x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 3, text_anchor="middle"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}. {words}",
    )
    legend = [
        tag(
            "li",
            tag("span", class_=f"swatch c{n % 6}"),
            c.label,
            " ",
            tag("b", show(c.points[-1][1])),
            f" at step {c.points[-1][0]}; no number at {len(c.gaps)} other steps" if c.gaps else "",
        )
        for n, c in enumerate(curves)
    ]
    return tag("figure", tag("figcaption", title), drawing, tag("ul", *legend, class_="legend"))


def _without_gaps(curve: Curve) -> list[list[tuple[int, float]]]:
    """The points between the gaps."""
    parts: dict[int, list[tuple[int, float]]] = {}
    for step, value in curve.points:
        parts.setdefault(bisect(curve.gaps, step), []).append((step, value))
    return list(parts.values())


def _line(number: int, points: Sequence[tuple[int, float]], x: object, y: object) -> Html:
    assert callable(x) and callable(y)
    places = [f"{x(step):.1f},{y(value):.1f}" for step, value in points]
    if len(places) == 1:
        cx, _, cy = places[0].partition(",")
        return tag("circle", cx=cx, cy=cy, r=3, class_=f"dot c{number % 6}")
    return tag("polyline", points=" ".join(places), class_=f"line c{number % 6}")


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers around the values."""
    if low == high == 0:
        high = 1.0
    if low == high:
        low, high = low - (abs(low) * 0.1 or 1.0), high + (abs(high) * 0.1 or 1.0)
    rough = (high - low) / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 2.5, 5, 10) if each * power >= rough * 0.999)
    start = math.floor(low / step + 1e-9)
    end = math.ceil(high / step - 1e-9)
    return [number * step for number in range(start, end + 1)]


def _step_ticks(first: int, last: int) -> list[int]:
    if first == last:
        return [first]
    ticks = [round(tick) for tick in _ticks(first, last) if first <= tick <= last]
    return sorted(set(ticks))


def _percent(value: float) -> str:
    return f"{100 * value:.0f}%"


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.2g}"
    return f"{value:,.4g}"
