"""Everything that a run writes into its folder while it goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ajet.config.sections.root import RootConfig
from ajet.monitor.call_store import CallStore
from ajet.monitor.episode_log import EpisodeLog, EpisodePhase
from ajet.monitor.metrics_log import MetricsLog, read_metrics
from ajet.monitor.rollout_store import RolloutStore
from ajet.monitor.sinks import open_sinks
from ajet.schema.episode import Episode, Group


class Records:
    """Metrics, episodes, samples and calls of a run.

    Args:
        run_folder: where they go.
        config: the resolved configuration; `trainer_common.logger` names the sinks.
        resumed_step: what is there of later steps is removed, of all steps if it is -1;
            None for a new run.
    """

    def __init__(self, run_folder: Path, config: RootConfig, *, resumed_step: int | None) -> None:
        self._run_folder = run_folder
        self._metrics = MetricsLog(run_folder, resumed_step=resumed_step)
        self._episodes = EpisodeLog(
            run_folder,
            resumed_step=resumed_step,
            was_evaluated=resumed_step is None or self.was_evaluated(resumed_step),
        )
        self._samples = RolloutStore(run_folder, resumed_step=resumed_step)
        self._calls = CallStore(run_folder, resumed_step=resumed_step)
        self._sinks = open_sinks(config, run_folder, resumed_step=resumed_step)

    def was_evaluated(self, step: int) -> bool:
        """Validation results of this step are on disk."""
        return any(
            line["step"] == step and "eval/success_rate" in line
            for line in read_metrics(self._run_folder)
        )

    def write_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """One line of `metrics.jsonl`, and the same to every sink."""
        self._metrics.write(step, metrics)
        for sink in self._sinks:
            sink.write(step, metrics)

    def write_episodes(self, step: int, phase: EpisodePhase, episodes: Sequence[Episode]) -> None:
        """One line an episode; the samples of training episodes with all their tokens."""
        self._episodes.write(step, phase, episodes)
        if phase == "train":
            self._samples.write(step, episodes)

    def write_step(
        self, step: int, groups: Sequence[Group], discarded: Sequence[Group] = ()
    ) -> None:
        """Everything of the episodes of a training step, so that it can be replayed.

        Args:
            step: that was trained.
            groups: in the order in which they were credited.
            discarded: those that dynamic sampling replaced.
        """
        self._calls.write(step, groups, discarded)
        self.write_episodes(step, "train", [e for g in [*groups, *discarded] for e in g.episodes])

    def close(self) -> None:
        """The run is over."""
        for sink in self._sinks:
            sink.close()
