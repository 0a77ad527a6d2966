"""What the metrics of a step decide: which checkpoint is the best one, and whether the run may end.

Every backbone uses the same rules, `trainer_common.best_metric` and `trainer_common.stop_at`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import did_you_mean
from ajet.monitor.best_checkpoint import BestCheckpoint
from ajet.monitor.metrics_log import read_metrics
from ajet.training.checkpoints import latest_checkpoint, remove_checkpoint, step_of
from ajet.training.schedule import is_due

logger = logging.getLogger(__name__)


class Goals:
    """The target and the best checkpoint of a run.

    Args:
        common: section `ajet.trainer_common`.
        run_folder: the run's folder, which may have metrics of an earlier process.
        validates: whether the run has validation tasks.
    """

    def __init__(self, common: TrainerCommonConfig, run_folder: Path, *, validates: bool) -> None:
        self._common = common
        self._run_folder = run_folder
        self._validates = validates
        self._best = BestCheckpoint(run_folder, common.best_metric)
        self._names_are_checked = False

    def note(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Remember a step's metrics; whether its validation result earns a checkpoint.

        That is the case if it is the best result so far, and checkpoints are written at all before
        the end of the run.
        """
        if not self._names_are_checked and ("eval/success_rate" in metrics or not self._validates):
            self._check_names(metrics)
        return self._best.note(step, metrics) and self._common.save_freq is not None

    def is_reached(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether a step reaches the target at which the run ends."""
        target = self._common.stop_at
        value = None if target.metric is None else metrics.get(target.metric)
        return step > 0 and value is not None and value >= target.value

    def was_reached(self, step: int) -> bool:
        """The same for a step on record."""
        lines = [line for line in read_metrics(self._run_folder) if line["step"] == step]
        return any(self.is_reached(step, line) for line in lines)

    def reached_text(self, step: int) -> str:
        """What to tell the user at the target."""
        target = self._common.stop_at
        return (
            f"step {step} reaches the target, {target.metric} of {target.value:g} or more "
            "(trainer_common.stop_at): the run ends"
        )

    def link_best(self) -> None:
        """Name the best checkpoint; delete the one before if it was kept for that reason only."""
        before = self._best.link()
        if before is None or is_due(step_of(before), self._common.save_freq):
            return
        if before != latest_checkpoint(before.parent):  # a resumed run continues from the latest
            remove_checkpoint(before)

    def _check_names(self, metrics: Mapping[str, Any]) -> None:
        """Warn of settings that name a metric which this run does not have."""
        self._names_are_checked = True
        target, best = self._common.stop_at, self._common.best_metric
        if target.metric is not None and target.metric not in metrics:
            logger.warning(
                'trainer_common.stop_at: this run has no metric "%s", so all steps are trained%s',
                target.metric,
                did_you_mean(target.metric, metrics),
            )
        if self._validates and best and best not in metrics:
            logger.warning(
                'trainer_common.best_metric: this run has no metric "%s", so no checkpoint is the '
                "best one%s",
                best,
                did_you_mean(best, metrics),
            )
