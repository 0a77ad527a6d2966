"""Writes a run's metrics, episodes, samples and calls to its folder."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from ajet.config.sections.root import RootConfig
from ajet.monitor.call_store import CallStore
from ajet.monitor.episode_log import EpisodeLog, EpisodePhase
from ajet.monitor.guarded_sinks import GuardedSinks
from ajet.monitor.metrics_log import MetricsLog, read_metrics
from ajet.monitor.rollout_store import RolloutStore
from ajet.monitor.step_transcripts import StepTranscripts
from ajet.monitor.task_results import TaskResultLog
from ajet.schema.episode import Episode, Group, TaskResult

logger = logging.getLogger(__name__)


class Records:
    """The files that a run appends to, and its metric sinks.

    Args:
        run_folder: the run's folder.
        config: the resolved configuration; `trainer_common.logger` names the sinks.
        resumed_step: records of later steps are removed (-1: of all steps); None: a new run.
    """

    def __init__(self, run_folder: Path, config: RootConfig, *, resumed_step: int | None) -> None:
        self._run_folder = run_folder
        if resumed_step is not None:
            _tell_what_runs_again(run_folder, max(resumed_step, 0))
        self._metrics = MetricsLog(run_folder, resumed_step=resumed_step)
        self._episodes = EpisodeLog(
            run_folder,
            resumed_step=resumed_step,
            # Episodes are written before metrics: a run killed in between must evaluate again.
            was_evaluated=resumed_step is None or self.was_evaluated(resumed_step),
        )
        self._samples = RolloutStore(run_folder, resumed_step=resumed_step)
        self._calls = CallStore(run_folder, resumed_step=resumed_step)
        self._transcripts = StepTranscripts(run_folder, resumed_step=resumed_step)
        self._results = TaskResultLog(run_folder, resumed_step=resumed_step)
        self._sinks = GuardedSinks(config, run_folder, resumed_step=resumed_step)

    def was_evaluated(self, step: int) -> bool:
        """Whether the validation results of this step are on disk."""
        return any(
            line["step"] == step and "eval/success_rate" in line
            for line in read_metrics(self._run_folder)
        )

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """Write the metrics to `metrics.jsonl` and to every sink."""
        self._metrics.write(step, metrics)
        self._sinks.write(step, metrics)

    def write_episodes(self, step: int, phase: EpisodePhase, episodes: Sequence[Episode]) -> None:
        """Write one line per episode; for training episodes also all samples."""
        self._episodes.write(step, phase, episodes)
        if phase == "train":
            self._samples.write(step, episodes)

    def write_step(
        self,
        step: int,
        groups: Sequence[Group],
        discarded: Sequence[Group] = (),
        results: Sequence[TaskResult] = (),
    ) -> None:
        """Write all that a replay of a training step and a resumed curriculum need.

        Args:
            step: the number of the step.
            groups: the trained groups, in the order in which they got their advantages.
            discarded: groups that dynamic sampling discarded.
            results: of the step's tasks, where the choice of tasks uses them.
        """
        self._results.write(step, results)
        self._calls.write(step, groups, discarded)
        episodes = [e for g in [*groups, *discarded] for e in g.episodes]
        self.write_episodes(step, "train", episodes)
        self._transcripts.write(step, episodes)

    def close(self) -> None:
        """Close the sinks at the end of the run."""
        self._sinks.close()


def _tell_what_runs_again(run_folder: Path, resumed_step: int) -> None:
    last = max((line["step"] for line in read_metrics(run_folder)), default=0)
    if last > resumed_step:
        where = f"the checkpoint of step {resumed_step}" if resumed_step else "a start without one"
        logger.info("steps that run again after %s: %d", where, last - resumed_step)
