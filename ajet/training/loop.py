"""The loop: rollout, advantages, update, the new weights to the engine, evaluation, checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ajet.algorithm import ADVANTAGE_ESTIMATORS
from ajet.algorithm.credit import CreditReport, credit
from ajet.algorithm.token_rewards import GAE, place_rewards
from ajet.config.sections.algorithm import AlgorithmConfig
from ajet.config.sections.root import AjetConfig
from ajet.errors import EngineError, TrainingError
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.stopwatch import Stopwatch
from ajet.schema.episode import Group
from ajet.schema.sample import Sample
from ajet.schema.task import Task
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_rollout.divergence import report_divergence
from ajet.task_rollout.dynamic_sampling import resample
from ajet.task_rollout.rollout_report import rollout_metrics
from ajet.training.checkpoints import Position
from ajet.training.evaluation import Evaluation
from ajet.training.interrupts import deferred_interrupt
from ajet.training.phases import Phases
from ajet.training.protocols import Serving

logger = logging.getLogger(__name__)


class Trainer(Protocol):
    """Changes the policy."""

    def update(
        self, samples: Sequence[Sample], *, step: int, policy_version: int
    ) -> dict[str, float]:
        """Train on a step's samples; metrics under their public names.

        Args:
            samples: with advantages, not all of them 0; each has trained tokens.
            step: number of the step, from 1.
            policy_version: of the weights as they are now.

        Raises:
            TrainingError: the run cannot go on; the weights were not made worse.
        """
        ...


@dataclass(slots=True, kw_only=True)
class TrainingLoop:
    """One run: the same for every backbone that trains on steps."""

    config: AjetConfig
    run_folder: Path
    serving: Serving
    trainer: Trainer
    save: Callable[[Position], None]
    """Write a checkpoint. Raises CheckpointError."""
    logprob_diff_bound: float | None
    """A larger difference between engine and trainer is warned about; None: the weights are too
    coarse for such a bound, or the trainer has one of its own."""
    batches: TaskBatches
    validation_tasks: list[Task]
    phases: Phases
    records: Records
    progress: Progress
    total_steps: int
    step: int = 0
    """Steps that are done."""
    policy_version: int = 0
    """Of the trainer's weights."""
    saved_step: int = 0
    """Of the newest checkpoint; 0: none."""
    reader_state: dict[str, Any] = field(default_factory=dict)
    """Position in the data after `step`; `batches` is ahead of it while the next step runs."""
    is_unfinished: bool = False
    """Weights, records and `step` do not belong together: nothing to save."""

    def run(self) -> None:
        """Train to the last step. What was done before Ctrl-C or a failed rollout is saved.

        Raises:
            TrainingError: the run cannot go on.
            EngineError: the engine cannot serve what was trained.
            CheckpointError: a checkpoint cannot be written.
            KeyboardInterrupt: Ctrl-C.
        """
        self.progress.start(self.total_steps, self.step)
        try:
            self._evaluate_before()
            while self.step < self.total_steps:
                self._run_step()
                if self._is_due(self.config.trainer_common.save_freq):
                    self._save()
        except (KeyboardInterrupt, TrainingError, EngineError):
            with deferred_interrupt():
                self._save()
            raise
        self._save()

    def _run_step(self) -> None:
        step = self.step + 1
        watch = Stopwatch()
        with watch.part("rollout"):
            groups, discarded, metrics = self._sample(step)
        report = self._credit(groups)
        metrics |= rollout_metrics(groups)
        metrics["group/zero_variance"] = report.zero_variance_groups / report.num_groups
        try:
            with deferred_interrupt(), self.progress.phase("training"):
                self.is_unfinished = True
                was_updated = self._update(report, step, watch, metrics)
                self.records.write_step(step, groups, discarded)
                self.step, self.reader_state = step, self.batches.state()
                if was_updated:  # where this fails, the step itself is done and can be saved
                    with watch.part("sync"):
                        metrics |= self.serving.publish(self.policy_version)
                metrics |= _timings(metrics, watch)
            if self.config.context_tracker.detect_timeline_snap:
                report_divergence([*groups, *discarded], step)
            if self._is_due(self.config.trainer_common.test_freq) or step == self.total_steps:
                metrics |= self._evaluate()
        finally:  # what is interrupted after the update does not take the step's metrics with it
            if self.step == step:
                self.records.write_metrics(step, metrics)
                self.is_unfinished = False
        self.progress.step_done(step, metrics)

    def _sample(self, step: int) -> tuple[list[Group], list[Group], dict[str, float]]:
        """The step's groups, those that dynamic sampling replaced, and what it cost."""
        missed = self.serving.lockstep_missed
        groups = self.phases.train(self.batches.next_batch(self.config.data.train_batch_size), step)
        settings = self.config.rollout
        result = resample(
            groups,
            gives_gradient=self._gives_gradient,
            run_more=lambda part, count: self.phases.train(
                self.batches.next_batch(count), step, part
            ),
            max_rounds=settings.dynamic_sampling_max_rounds if settings.dynamic_sampling else 0,
        )
        metrics = result.metrics() if settings.dynamic_sampling else {}
        metrics["rollout/lockstep_missed"] = self.serving.lockstep_missed - missed
        return result.groups, result.discarded, metrics

    def _gives_gradient(self, group: Group) -> bool:
        return self._credit([group]).zero_variance_groups == 0

    def _credit(self, groups: Sequence[Group]) -> CreditReport:
        name = self._algorithm.adv_estimator
        if name == GAE:
            return place_rewards(groups)
        return credit(groups, ADVANTAGE_ESTIMATORS[name])

    def _update(
        self, report: CreditReport, step: int, watch: Stopwatch, metrics: dict[str, float]
    ) -> bool:
        """Train and add the metrics of it; False where there is nothing to train on."""
        if not report.samples:
            logger.warning(
                "step %d: every group's rewards are all equal, so there is nothing to learn from; "
                "the weights stay as they are (see group/zero_variance)",
                step,
            )
            return False
        with watch.part("train"):
            metrics |= self.trainer.update(
                report.samples, step=step, policy_version=self.policy_version
            )
        self.policy_version += 1
        self._check_logprobs(metrics, step)
        return True

    def _check_logprobs(self, metrics: dict[str, float], step: int) -> None:
        bound = self.logprob_diff_bound
        difference = metrics.get("policy/logprob_diff_max", 0.0)
        if bound is not None and difference > bound:
            logger.warning(
                "step %d: engine and trainer differ by %.2g in a token's logprob (bound %.2g). "
                "With equal weights that is a fault: look for changes of the model between "
                "rollout and training, at the attention implementation, and at the dtype",
                step,
                difference,
                bound,
            )

    def _evaluate_before(self) -> None:
        """Before the first step; after a resume, what the interrupted run still owed."""
        due = self._is_due(self.config.trainer_common.test_freq)
        if self.step == 0:
            due = self.config.trainer_common.val_before_train
        if due and not self.records.was_evaluated(self.step):
            metrics = self._evaluate()
            self.records.write_metrics(self.step, metrics)
            self.progress.step_done(self.step, metrics)

    def _evaluate(self) -> dict[str, float]:
        evaluation = Evaluation(
            phases=self.phases,
            tasks=self.validation_tasks,
            greedy=self.config.rollout.validation.greedy,
            run_folder=self.run_folder,
            total_steps=self.total_steps,
        )
        return evaluation.run(self.step)

    def _save(self) -> None:
        if self.step == self.saved_step or self.is_unfinished:
            return
        with self.progress.phase("checkpoint"):
            self.save(
                Position(
                    step=self.step,
                    policy_version=self.policy_version,
                    reader_state=self.reader_state,
                )
            )
        self.saved_step = self.step

    def _is_due(self, every: int | None) -> bool:
        return every is not None and self.step % every == 0

    @property
    def _algorithm(self) -> AlgorithmConfig:
        return self.config.trainer_common.algorithm


def _timings(metrics: dict[str, float], watch: Stopwatch) -> dict[str, float]:
    """Seconds of the step and of its parts, and tokens per second.

    The step is everything since the watch was started: no evaluation, no checkpoint.
    """
    timings = watch.metrics() | {"time/step_s": watch.total_wall_s, "cpu/step_s": watch.total_cpu_s}
    timings["rollout/tokens_per_s"] = metrics["tokens/sampled"] / watch.wall_s["rollout"]
    if "train" in watch.wall_s:
        timings["train/tokens_per_s"] = metrics["tokens/trained_sequence"] / watch.wall_s["train"]
    return timings
