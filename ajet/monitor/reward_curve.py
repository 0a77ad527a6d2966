"""Draws the learning curve of a run to `reward_curve.svg` and `reward_curve.png`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len, set_cell_size

from ajet.errors import MissingExtraError
from ajet.monitor.durable_files import written_aside
from ajet.monitor.metrics_log import read_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.typing import RcKeyType

FILE_NAME = "reward_curve"

Metrics = dict[str, Any]
"""One line of `metrics.jsonl`."""
Points = Sequence[tuple[int, float]]
"""Steps and values of a metric."""

MANY_POINTS = 200
"""From so many points on, a noisy line hides how it runs."""
LONG_LABEL = 5
TITLE_WIDTH = 56
"""Columns of a terminal; a Chinese letter takes two."""

STYLE: dict[RcKeyType, Any] = {
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "grid.color": "#e6e6e6",
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "svg.hashsalt": "ajet",
}


CJK_FONTS = ("Noto Sans CJK SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei")


@dataclass(slots=True, kw_only=True, frozen=True)
class CurveLine:
    """One metric plotted over steps."""

    metric: str
    label: str
    colour: str
    marker: str


@dataclass(slots=True, kw_only=True, frozen=True)
class Panel:
    """Lines that share a y-axis."""

    title: str
    lines: tuple[CurveLine, ...]
    is_share: bool
    """Whether values are shares from 0 to 1, shown in percent."""


PANELS = (
    Panel(
        title="Success on validation tasks",
        lines=(
            CurveLine(
                metric="eval/greedy_success_rate", label="greedy", colour="#e07b00", marker="s"
            ),
            CurveLine(metric="eval/success_rate", label="sampled", colour="#1f6fb4", marker="o"),
        ),
        is_share=True,
    ),
    Panel(
        title="Reward, mean of the step",
        lines=(
            CurveLine(metric="reward/mean", label="training", colour="#2a8a4a", marker="."),
            CurveLine(metric="eval/reward_mean", label="validation", colour="#8a4fbf", marker="o"),
        ),
        is_share=False,
    ),
)


def draw_reward_curve(run_dir: Path) -> list[Path]:
    """Draw validation success and training reward over steps, from the run's `metrics.jsonl`.

    Returns:
        The written files; empty if there are no such metrics yet.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    metrics = read_metrics(run_dir)
    panels = [panel for panel in PANELS if any(_all_points(panel, metrics))]
    if not panels:
        return []
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise MissingExtraError("matplotlib", "local") from error
    paths = [run_dir / f"{FILE_NAME}.{suffix}" for suffix in ("svg", "png")]
    with rc_context({**STYLE, "font.family": _fonts()}), warnings.catch_warnings():
        # A letter that no installed font has is drawn as a box; the run's name is elsewhere, too.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = _figure(run_dir.name, panels, metrics)
        for path in paths:
            with written_aside(path) as aside:
                figure.savefig(aside, format=path.suffix[1:], dpi=150)
    return paths


def _fonts() -> list[str]:
    """Matplotlib's own font, then installed ones for names in Chinese, Japanese or Korean."""
    from matplotlib import font_manager

    installed = {font.name for font in font_manager.fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in CJK_FONTS if name in installed)]


def _figure(title: str, panels: Sequence[Panel], metrics: Sequence[Metrics]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(8, 1 + 2.6 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for one, panel in zip(axes, panels, strict=True):
        _draw_panel(one, panel, metrics)
    axes[-1].set_xlabel("step")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    figure.suptitle(_fitting(title), fontsize=14)
    return figure


def _draw_panel(axes: Axes, panel: Panel, metrics: Sequence[Metrics]) -> None:
    """Draw each metric through the steps that have it; label the first and last value."""
    from matplotlib.ticker import PercentFormatter

    axes.set_title(panel.title)
    axes.margins(x=0.09, y=0.1)
    drawn = {line: _draw_line(axes, line, points) for line, points in _all_points(panel, metrics)}
    for line in drawn:
        _label_ends(axes, panel, line, drawn)
    if panel.is_share:
        axes.set_ylim(-0.06, 1.09)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    if len(panel.lines) > 1:
        axes.legend(loc="best", ncols=len(panel.lines))


def _draw_line(axes: Axes, line: CurveLine, points: Points) -> Points:
    """Draw one metric; a long run's line is a moving mean, with the values behind it.

    Returns:
        The points of the line.
    """
    label, marker = line.label, line.marker
    if len(points) >= MANY_POINTS:
        axes.plot(*zip(*points, strict=True), color=line.colour, alpha=0.3, linewidth=0.8)
        points = _moving_mean(points)
        label, marker = f"{label}, mean of the last {_window(points)}", ""
    steps, values = zip(*points, strict=True)
    axes.plot(
        steps, values, label=label, color=line.colour, marker=marker, markersize=6, linewidth=2
    )
    return points


def _window(points: Points) -> int:
    """How many points the moving mean is over: so few that a line of it still has 50 of them."""
    return len(points) // 50


def _moving_mean(points: Points) -> Points:
    """The mean over the last points up to each one."""
    width = _window(points)
    values = [value for _, value in points]
    parts = [values[max(0, end - width) : end] for end in range(1, len(values) + 1)]
    return [(step, sum(part) / len(part)) for (step, _), part in zip(points, parts, strict=True)]


def _label_ends(
    axes: Axes, panel: Panel, line: CurveLine, drawn: Mapping[CurveLine, Points]
) -> None:
    """Label the first and last point with their values; a higher line's text is put higher."""
    points = drawn[line]
    ends = {points[0]: (-8, "right"), points[-1]: (8, "left")}
    for (step, value), (shift, align) in ends.items():
        values = {other: dict(those).get(step, value) for other, those in drawn.items()}
        highest = max(values, key=lambda other: values[other])
        lift = 0 if len(panel.lines) == 1 else 6.5 if line is highest else -6.5
        text = f"{value:.0%}" if panel.is_share else _short(value)
        if len(text) > LONG_LABEL:  # there is no room for it between the point and the axis
            shift, align, lift = (0, "left" if shift < 0 else "right", 2 * lift or 13)
        axes.annotate(
            text,
            (step, value),
            (shift, lift),
            textcoords="offset points",
            ha=align,
            va="center",
            color=line.colour,
        )


def _short(value: float) -> str:
    """A number in as few characters as tell it from its neighbours."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value == 0 or abs(value) >= 0.01 else f"{value:.1e}"


def _fitting(title: str) -> str:
    """The title, without its middle if it is wider than the figure: a name may have 255 letters."""
    if cell_len(title) <= TITLE_WIDTH:
        return title
    half = TITLE_WIDTH // 2
    return f"{set_cell_size(title, half)} … {set_cell_size(title[::-1], half)[::-1]}"


def _all_points(panel: Panel, metrics: Sequence[Metrics]) -> Iterator[tuple[CurveLine, Points]]:
    """The lines of a panel that have points."""
    for line in panel.lines:
        if points := [(one["step"], one[line.metric]) for one in metrics if line.metric in one]:
            yield line, points
