"""The best checkpoint of a run: which it is, and the link in the run's folder that names it.

What counts is one metric of the validation tasks, `trainer_common.best_metric`. The link
`best_checkpoint` always points to a checkpoint that exists, and the limit on checkpoints never
deletes that one.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

from ajet.monitor.metrics_log import read_metrics

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
LINK = "best_checkpoint"


class BestCheckpoint:
    """Remembers the validation results of a run and keeps the link up to date.

    Args:
        run_dir: the run's folder; results that are on record there are read.
        metric: name of the metric; None: no checkpoint is the best one.
    """

    def __init__(self, run_dir: Path, metric: str | None) -> None:
        self._run_dir = run_dir
        self._metric = metric
        self._values: dict[int, float] = {}
        for line in read_metrics(run_dir):
            self.note(line["step"], line)

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Remember the result after a step; whether it is better than all before.

        The base model (step 0) has no checkpoint, so it does not count.
        """
        if self._metric is None or self._metric not in metrics or step == 0:
            return False
        value = metrics[self._metric]
        is_better = all(value > other for before, other in self._values.items() if before != step)
        self._values[step] = value
        return is_better

    def link(self) -> Path | None:
        """Let the link name the best checkpoint that exists; of equal ones, the first.

        Returns:
            The checkpoint that was the best one until now, if another one is now.
        """
        steps = [step for step in steps_with_checkpoint(self._run_dir) if step in self._values]
        if not steps:
            return None
        best = max(steps, key=lambda step: (self._values[step], -step))
        before = linked_checkpoint(self._run_dir)
        name = f"{CHECKPOINTS}/step_{best:06d}"
        if before == self._run_dir / name:
            return None
        aside = self._run_dir / f".{LINK}.tmp"
        try:
            aside.unlink(missing_ok=True)
            aside.symlink_to(name)
            aside.replace(self._run_dir / LINK)
        except OSError as error:  # a file system without links, for example
            logger.warning("%s cannot be written: %s", self._run_dir / LINK, error)
            return None
        return before


def linked_checkpoint(run_dir: Path) -> Path | None:
    """The checkpoint that the link names; None if there is none, or it names something else."""
    link = run_dir / LINK
    name = link.readlink().name if link.is_symlink() else ""
    return run_dir / CHECKPOINTS / name if re.fullmatch(r"step_\d+", name) else None


def steps_with_checkpoint(run_dir: Path) -> list[int]:
    """The steps that have a checkpoint, in ascending order."""
    folders = (run_dir / CHECKPOINTS).glob("step_" + "[0-9]" * 6)
    return sorted(int(folder.name.removeprefix("step_")) for folder in folders)
