"""`task_success.jsonl`: how often each training task was solved, step by step.

A curriculum starts again from this file when a run is resumed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ajet.monitor.durable_files import append_json_lines, read_json_lines, start_json_lines
from ajet.schema.episode import TaskResult

FILE_NAME = "task_success.jsonl"


class TaskResultLog:
    """Appends one line per task of a step; a run without results has no such file.

    Args:
        run_dir: the run's folder.
        resumed_step: lines of later steps are dropped (-1: all lines); None: a new run.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        self._path = run_dir / FILE_NAME
        if resumed_step is not None:
            start_json_lines(self._path, lambda line: bool(line["step"] <= resumed_step))

    def write(self, step: int, results: Sequence[TaskResult]) -> None:
        """Append the results of a step."""
        if results:
            append_json_lines(self._path, ({"step": step, **asdict(each)} for each in results))


def read_task_results(run_dir: Path) -> Iterator[tuple[int, TaskResult]]:
    """The results so far, each with its step.

    Raises:
        DataError: a line other than a torn last one is not a JSON object.
    """
    path = run_dir / FILE_NAME
    if path.exists():
        for line in read_json_lines(path):
            fields: dict[str, Any] = {key: x for key, x in line.items() if key != "step"}
            yield line["step"], TaskResult(**fields)
