"""Prints the summary of a run from its folder: an episode before and after, metrics, files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from ajet.monitor import (
    call_store,
    episode_log,
    metrics_log,
    reward_curve,
    rollout_store,
    tensorboard_sink,
)
from ajet.monitor.best_checkpoint import (
    CHECKPOINTS,
    LINK,
    linked_checkpoint,
    steps_with_checkpoint,
)
from ajet.monitor.metric_table import Show, number, percent
from ajet.monitor.metrics_log import read_metrics
from ajet.monitor.progress import duration
from ajet.monitor.transcript import FOLDER, load_transcript
from ajet.monitor.transcript_view import transcript_view

BEFORE, AFTER = "before", "after"
"""Names under which the backbone saves the two transcripts (`save_transcript`)."""

WIDE_ENOUGH = 120
"""Console width from which the two episodes are printed side by side."""

ROWS: tuple[tuple[str, str, Show], ...] = (
    ("eval/success_rate", "validation success, sampled", percent),
    ("eval/greedy_success_rate", "validation success, greedy", percent),
    ("eval/reward_mean", "validation reward", number),
    ("reward/mean", "training reward", number),
    ("policy/entropy", "entropy", number),
)

BEST: tuple[tuple[str, str, Show], ...] = (
    ("eval/reward_mean", "validation reward", number),
    ("eval/success_rate", "success", percent),
)
"""What is said of the best checkpoint."""

RESULTS = (
    (f"{reward_curve.FILE_NAME}.png", "the learning curve (also .svg)"),
    (metrics_log.FILE_NAME, "every metric of every step"),
    (episode_log.FILE_NAME, "outcome of every episode, cause of every failure"),
    (rollout_store.FOLDER, "token ids, mask, logprobs, advantages of every sample"),
    (call_store.FOLDER, "every call of every episode, for ajet replay"),
    (FOLDER, "the lowest and the highest reward of every step, as text"),
    (tensorboard_sink.FOLDER, "the metrics for TensorBoard"),
    ("checkpoints", "models in Hugging Face format"),
)
"""File or folder of a run -> its meaning; the summary lists those that exist."""


def print_summary(console: Console, run_dir: Path) -> None:
    """Print the summary of a run; the last line is exactly the path of its folder."""
    _print_episodes(console, run_dir)
    metrics = read_metrics(run_dir)
    if metrics:
        console.print(_start_to_end(metrics))
        took = duration(sum(record.get("time/step_s", 0.0) for record in metrics))
        steps = metrics[-1]["step"]
        console.print(Text(f"{steps} step{'s' if steps != 1 else ''}, {took} of training"))
    there = Table.grid(padding=(0, 2))
    for name, meaning in RESULTS:
        if (run_dir / name).exists():
            there.add_row(Text(f"  {name}", "cyan"), Text(meaning))
    console.print(there)
    for line in _checkpoint_lines(run_dir, metrics):
        console.print(Text(line), soft_wrap=True)
    console.print(Text(str(run_dir), "bold"), soft_wrap=True)


def _checkpoint_lines(run_dir: Path, metrics: Sequence[dict[str, Any]]) -> Iterator[str]:
    """How to load the last checkpoint, and which one is the best."""
    steps = steps_with_checkpoint(run_dir)
    if not steps:
        return
    yield f"To load the last checkpoint, step {steps[-1]}:"
    yield "  from transformers import AutoModelForCausalLM, AutoTokenizer"
    path = f'"{run_dir / CHECKPOINTS / f"step_{steps[-1]:06d}"}"'
    yield f"  model = AutoModelForCausalLM.from_pretrained({path})"
    yield f"  tokenizer = AutoTokenizer.from_pretrained({path})"
    best = linked_checkpoint(run_dir)
    if best is None:
        return
    step = int(best.name.removeprefix("step_"))
    results = [
        f"{label} {show(line[name])}"
        for line in metrics
        if line["step"] == step
        for name, label, show in BEST
        if name in line
    ]
    yield f"The best one is step {step}, {LINK}: {', '.join(results)}"


def _print_episodes(console: Console, run_dir: Path) -> None:
    """Print the episode before and after training, side by side if the console is wide enough."""
    views: list[RenderableType] = []
    for name, title in ((BEFORE, "Before training"), (AFTER, "After training")):
        transcript = load_transcript(run_dir, name)
        if transcript is not None:
            views.append(transcript_view(transcript, title))
    if not views:
        return
    if console.width >= WIDE_ENOUGH:
        beside = Table.grid(padding=(0, 4), expand=True)
        for _ in views:
            beside.add_column(ratio=1)
        beside.add_row(*views)
        views = [beside]
    for view in views:
        console.print()
        console.print(view)


def _start_to_end(metrics: Sequence[dict[str, Any]]) -> Table:
    """The first and last value of each metric that training should change, with their steps."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    for title in ("start", "end", "steps"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, label, show in ROWS:
        lines = [record for record in metrics if name in record]
        if lines:
            first, last = lines[0], lines[-1]
            steps = f"{first['step']} to {last['step']}"
            table.add_row(label, show(first[name]), Text(show(last[name]), "bold"), steps)
    return table
