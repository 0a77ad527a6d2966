"""Draws the learning curve of a run to `reward_curve.svg` and `reward_curve.png`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    panels = [panel for panel in PANELS if any(_points(line, metrics) for line in panel.lines)]
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
    figure.suptitle(title, fontsize=14)
    return figure


def _draw_panel(axes: Axes, panel: Panel, metrics: Sequence[Metrics]) -> None:
    """Draw each metric through the steps that have it; label the first and last value."""
    from matplotlib.ticker import PercentFormatter

    axes.set_title(panel.title)
    axes.margins(x=0.09, y=0.1)
    for line in panel.lines:
        points = _points(line, metrics)
        if points:
            steps, values = zip(*points, strict=True)
            axes.plot(
                steps,
                values,
                label=line.label,
                color=line.colour,
                marker=line.marker,
                markersize=6,
                linewidth=2,
            )
            _label_ends(axes, panel, line, metrics)
    if panel.is_share:
        axes.set_ylim(-0.04, 1.09)
        axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    if len(panel.lines) > 1:
        axes.legend(loc="lower right", ncols=len(panel.lines))


def _label_ends(axes: Axes, panel: Panel, line: CurveLine, metrics: Sequence[Metrics]) -> None:
    """Label the first and last point with their values; a higher line's text is put higher."""
    points = _points(line, metrics)
    ends = {points[0]: (-8, "right"), points[-1]: (8, "left")}
    for (step, value), (shift, align) in ends.items():
        values = [dict(_points(other, metrics)).get(step, value) for other in panel.lines]
        highest = panel.lines[values.index(max(values))]
        lift = 0 if len(panel.lines) == 1 else 5 if line is highest else -5
        axes.annotate(
            f"{value:.0%}" if panel.is_share else f"{value:.2f}",
            (step, value),
            (shift, lift),
            textcoords="offset points",
            ha=align,
            va="center",
            color=line.colour,
        )


def _points(line: CurveLine, metrics: Sequence[Metrics]) -> list[tuple[int, float]]:
    return [(record["step"], record[line.metric]) for record in metrics if line.metric in record]
