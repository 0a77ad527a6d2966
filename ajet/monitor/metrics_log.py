"""`metrics.jsonl`: all metrics of a run, one JSON object per step."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ajet.errors import TrainingError
from ajet.monitor.durable_files import append_json_lines, read_json_lines, start_json_lines

FILE_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends one line per step.

    Args:
        run_dir: the run's folder.
        resumed_step: lines of later steps are dropped (-1: all lines); None: a new run.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        self._path = run_dir / FILE_NAME
        is_kept = None if resumed_step is None else lambda line: line["step"] <= resumed_step
        start_json_lines(self._path, is_kept)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append the metrics of a step.

        Raises:
            TrainingError: a metric is NaN or infinite; nothing is written.
        """
        values = {name: _plain(value) for name, value in metrics.items()}
        broken = {name: value for name, value in values.items() if not math.isfinite(value)}
        if broken:
            raise TrainingError(f"step {step}: metrics must be finite, got {broken}")
        append_json_lines(self._path, [{"step": step, "time": time.time(), **values}])


def read_metrics(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl` so far; empty if there is no such file."""
    path = run_dir / FILE_NAME
    return list(read_json_lines(path)) if path.exists() else []


def _plain(value: float) -> int | float:
    """The value, possibly a numpy or torch scalar, as a Python number; an int stays an int."""
    return value if type(value) is int else float(value)
