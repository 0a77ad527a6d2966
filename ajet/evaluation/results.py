"""The results of an evaluation: computed, recorded, and shown as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ajet.errors import ConfigError
from ajet.evaluation.compare import PairedComparison, compare
from ajet.evaluation.evaluate import read_identity, read_scores, write_evaluation
from ajet.evaluation.statistics import LEVEL, MeanWithInterval, TaskScores, estimates_of
from ajet.monitor.metrics_log import FILE_NAME as METRICS
from ajet.monitor.metrics_log import MetricsLog

NUM_SHOWN = 5
"""Task ids of a comparison that are shown; `evaluation.json` has all."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Results:
    """What an evaluation found."""

    folder: Path
    identity: dict[str, Any]
    tasks: list[TaskScores]
    estimates: dict[str, MeanWithInterval]
    against: str | None
    """The model of the other evaluation."""
    comparison: PairedComparison | None

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data, for `evaluation.json`."""
        return {
            "identity": self.identity,
            "estimates": {name: asdict(each) for name, each in self.estimates.items()},
            "num_tasks": len(self.tasks),
            "num_episodes": sum(task.num_attempts for task in self.tasks),
            "num_failed": sum(task.num_failed for task in self.tasks),
            "level": LEVEL,
            "against": self.against,
            "comparison": self.comparison and asdict(self.comparison),
            "tasks": [asdict(task) for task in self.tasks],
        }


def record_results(folder: Path, against: Path | None) -> Results:
    """Compute the results of a finished evaluation, and write them to its folder.

    Args:
        folder: the evaluation's folder.
        against: the folder of another one to compare with.

    Raises:
        ConfigError: a folder is not that of an evaluation, or the two have no task in common.
    """
    tasks = read_scores(folder)
    comparison = compare(tasks, read_scores(against)) if against else None
    if against and comparison is None:
        raise ConfigError(f"{against} has none of the tasks of {folder}: nothing to compare")
    results = Results(
        folder=folder,
        identity=read_identity(folder),
        tasks=tasks,
        estimates=estimates_of(tasks),
        against=read_identity(against)["model"] if against else None,
        comparison=comparison,
    )
    write_evaluation(folder, results.as_json())
    (folder / METRICS).unlink(missing_ok=True)
    MetricsLog(folder).write(0, _metrics(results.estimates))
    return results


def _metrics(estimates: dict[str, MeanWithInterval]) -> dict[str, float]:
    """The numbers under the names that training gives them, for curves and trackers."""
    names = {"reward": "eval/reward_mean", "success": "eval/success_rate"}
    return {names.get(name, f"eval/{name}"): each.value for name, each in estimates.items()}


def print_results(console: Console, results: Results) -> None:
    """Print the numbers with their intervals, and the comparison if there is one."""
    first = results.identity
    failed = sum(task.num_failed for task in results.tasks)
    console.print(
        Text(
            f"{first['model']}: {len(results.tasks)} tasks, {first['num_samples']} attempt(s) "
            f"each, {failed or 'none'} failed"
        )
    )
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column("mean", justify="right")
    table.add_column(f"{LEVEL:.0%} interval", justify="right")
    for name, each in results.estimates.items():
        table.add_row(name, _shown(name, each.value), _interval(name, each))
    console.print(table)
    if results.comparison is not None:
        _print_comparison(console, str(results.against), results.comparison)
    console.print(Text(str(results.folder), "bold"), soft_wrap=True)


def _print_comparison(console: Console, against: str, found: PairedComparison) -> None:
    console.print(Text(f"against {against}, task by task ({found.num_tasks} tasks in both)"))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for title in ("", "difference", f"{LEVEL:.0%} interval", ""):
        table.add_column(title, justify="right" if title else "left")
    rows = {"success": found.success} | ({"reward": found.reward} if found.reward else {})
    for name, each in rows.items():
        sure = each.low > 0 or each.high < 0
        table.add_row(
            name,
            _shown(name, each.value, sign="+"),
            _interval(name, each, sign="+"),
            "" if sure else "the interval contains 0",
        )
    console.print(table)
    for title, ids in (("better", found.better), ("worse", found.worse)):
        console.print(Text(f"{title} on {len(ids)} task(s){_some(ids)}"), soft_wrap=True)
    if found.num_missing:
        console.print(Text(f"{found.num_missing} task(s) are in one evaluation only: left out"))


def _some(ids: Sequence[str]) -> str:
    more = f", and {len(ids) - NUM_SHOWN} more" if len(ids) > NUM_SHOWN else ""
    return f": {', '.join(ids[:NUM_SHOWN])}{more}" if ids else ""


def _shown(name: str, value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if name == "reward" else f"{100 * value:{sign}.1f}%"


def _interval(name: str, each: MeanWithInterval, sign: str = "") -> str:
    return f"{_shown(name, each.low, sign)} to {_shown(name, each.high, sign)}"
