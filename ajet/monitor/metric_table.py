"""Shows a step's most important metrics as a grouped table and as one line of text."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.console import Group
from rich.text import Text

Show = Callable[[float], str]


def percent(value: float) -> str:
    """`0.425` as `42.5%`."""
    return f"{100 * value:.1f}%"


def number(value: float) -> str:
    """Three decimal places; scientific notation if they would all be zero."""
    return f"{value:.3f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def count(value: float) -> str:
    """A whole number with thousands separators."""
    return f"{value:,.0f}"


def times(value: float) -> str:
    """A ratio: `1.9` as `1.9x`."""
    return f"{value:.1f}x"


def seconds(value: float) -> str:
    """A duration with one decimal place."""
    return f"{value:.1f} s"


def rate(value: float) -> str:
    """Tokens per second."""
    return f"{value:,.0f} tok/s"


GROUPS: dict[str, tuple[tuple[str, str, Show], ...]] = {
    "reward": (
        ("reward/mean", "mean", number),
        ("reward/std", "std", number),
        ("reward/min", "min", number),
        ("reward/max", "max", number),
        ("episode/success_rate", "success", percent),
    ),
    "eval": (
        ("eval/success_rate", "sampled", percent),
        ("eval/greedy_success_rate", "greedy", percent),
        ("eval/reward_mean", "reward", number),
        ("eval/pass@2", "pass@2", percent),
        ("eval/pass@4", "pass@4", percent),
    ),
    "episodes": (
        ("episode/count", "count", count),
        ("episode/failed", "failed", count),
        ("episode/num_calls", "calls each", number),
        ("group/zero_variance", "groups without gradient", percent),
    ),
    "response": (
        ("response/length_mean", "tokens", number),
        ("response/length_max", "longest", count),
        ("response/cut_share", "cut by the limit", percent),
    ),
    "policy": (
        ("policy/loss", "loss", number),
        ("policy/entropy", "entropy", number),
        ("policy/kl", "kl", number),
        ("policy/grad_norm", "norm", number),
        ("policy/clip_fraction", "clipped", percent),
        ("policy/lr", "lr", number),
    ),
    "fidelity": (
        ("policy/logprob_diff_max", "logprob diff max", number),
        ("policy/logprob_diff_mean", "mean", number),
        ("staleness/mean", "staleness", number),
    ),
    "tokens": (
        ("tokens/sampled", "sampled", count),
        ("tokens/dropped", "dropped", count),
        ("tokens/calls", "as calls", count),
        ("tokens/trained_sequence", "merged", count),
        ("tokens/merge_ratio", "ratio", times),
        ("tokens/computed", "computed", count),
    ),
    "speed": (
        ("rollout/tokens_per_s", "rollout", rate),
        ("train/tokens_per_s", "train", rate),
    ),
    "time": (
        ("time/step_s", "step", seconds),
        ("time/rollout_s", "rollout", seconds),
        ("time/train_s", "train", seconds),
        ("time/sync_s", "sync", seconds),
        ("time/eval_s", "eval", seconds),
    ),
}
"""Table row -> its cells: metric, label, formatter. A row fits into 80 columns."""

LINE: tuple[tuple[str, str, Show], ...] = (
    ("reward/mean", "reward", number),
    ("episode/success_rate", "success", percent),
    ("time/step_s", "in", seconds),
    ("eval/success_rate", "eval", percent),
    ("eval/greedy_success_rate", "greedy", percent),
)


def metric_table(metrics: Mapping[str, float]) -> Group:
    """One row per group of metrics; absent metrics are left out."""
    rows = []
    for group, cells in GROUPS.items():
        row = Text(no_wrap=True, overflow="ellipsis")
        for name, label, show in cells:
            if name in metrics:
                row.append(f"  {label} ", "dim").append(show(metrics[name]), "bold")
        if row:
            rows.append(Text(f"{group:<9}", "cyan", no_wrap=True, overflow="ellipsis") + row)
    return Group(*rows)


def step_line(step: int, total_steps: int, metrics: Mapping[str, float]) -> str:
    """One line for a step; its columns align with those of other steps."""
    width = len(str(total_steps))
    parts = [f"step {step:>{width}}/{total_steps}"]
    parts += [f"{label} {show(metrics[name]):>5}" for name, label, show in LINE if name in metrics]
    reward, success = metrics.get("eval/reward_mean"), metrics.get("eval/success_rate")
    if reward is not None and reward != success:  # with rewards of 0 and 1 it says nothing new
        parts.append(f"eval reward {number(reward)}")
    if metrics.get("episode/failed"):
        parts.append(f"failed {count(metrics['episode/failed'])}")
    return "  ".join(parts)
