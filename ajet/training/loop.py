"""The training loop: rollout, credit, update, weight sync, evaluation, checkpoint.

Ctrl-C, and the signals that count as Ctrl-C, leave nothing half done:

1. In an update of the weights, the first one waits for the end of the step; a second one does not.
2. In a checkpoint, each of them waits: a step that is done is never lost to impatience.
3. When the last step is saved, none of them changes how the run ends.
"""

from __future__ import annotations

import errno
import gc
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from ajet.algorithm.credit import CreditRule
from ajet.config.sections.root import AjetConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import AjetError, CheckpointError, TrainingError
from ajet.monitor.process_gauge import process_gauge
from ajet.monitor.progress import Progress, Stopwatch
from ajet.monitor.records import Records
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import print_summary
from ajet.schema.episode import Group, Sample, Waiting
from ajet.schema.task import Task
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_rollout.rollout import Phases, report_divergence, rollout_metrics
from ajet.training.checkpoints import Position
from ajet.training.evaluation import Evaluation
from ajet.training.goals import Goals
from ajet.training.no_gradient import require_trained_calls, resample, why_no_gradient
from ajet.training.protocols import Serving, Trainer
from ajet.training.quiet_watch import QuietWatch
from ajet.training.schedule import (
    first_evaluation_is_due,
    is_due,
    warn_of_logprobs,
    warn_of_nothing_to_train,
)
from ajet.training.updates import learning_rate

logger = logging.getLogger(__name__)

_OF_A_LIMIT = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN)


@dataclass(slots=True, kw_only=True)
class TrainingLoop:
    """One training run. Every backbone that trains step by step uses this loop."""

    config: AjetConfig
    run_folder: Path
    serving: Serving
    trainer: Trainer
    credit: CreditRule
    save: Callable[[Position], None]
    """Writes a checkpoint. Raises CheckpointError."""
    logprob_diff_bound: float | None
    """See `Policy.logprob_diff_bound`."""
    batches: TaskBatches
    validation_tasks: list[Task]
    phases: Phases
    records: Records
    progress: Progress
    total_steps: int
    step: int = 0
    """Number of finished steps."""
    policy_version: int = 0
    """Version of the trainer's weights."""
    saved_step: int = 0
    """Step of the newest checkpoint; 0: there is none."""
    reader_state: dict[str, Any] = field(default_factory=dict)
    """Position in the data after `step`. `batches` is ahead of it while the next step runs."""
    is_unfinished: bool = False
    """True within an update: weights, records and `step` do not match, so nothing is saved."""
    is_done: bool = False
    """Whether the last step is over and evaluated."""
    doing: Waiting | None = None
    """What the run itself waits for, apart from episodes."""
    goals: Goals = field(init=False)

    def __post_init__(self) -> None:
        validates = bool(self.validation_tasks)
        self.goals = Goals(self._common, self.run_folder, validates=validates)

    def run_to_the_end(self) -> None:
        """Do `run`, close what the loop uses, draw the reward curve and print the summary.

        Raises:
            AjetError: the run cannot continue.
            KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
        """
        try:
            with QuietWatch(self.run_folder, self.progress, self.waiting):
                self.run()
        except OSError as error:
            if error.errno in _OF_A_LIMIT:  # the launcher names the limit
                raise
            raise TrainingError(f"{self.run_folder}: the run cannot continue: {error}") from error
        finally:
            self.serving.close()
            self.records.close()
        ignore_interrupts()
        draw_reward_curve(self.run_folder)
        print_summary(self.progress.console, self.run_folder)

    def run(self) -> None:
        """Train until the last step is done. Whatever ends it earlier, finished steps are saved.

        Raises:
            TrainingError: the run cannot continue.
            EngineError: the engine cannot serve the new weights.
            CheckpointError: a checkpoint cannot be written.
            KeyboardInterrupt: Ctrl-C.
        """
        self.progress.start(self.total_steps, self.step)
        if self._common.val_only:
            self._evaluate_only()
            return
        try:
            self._evaluate_before()
            is_reached = self.goals.was_reached(self.step)
            first_step = self.step + 1
            while self.step < self.total_steps and not is_reached:
                metrics = self._run_step()
                if self.step == first_step:
                    _freeze()
                earns_checkpoint = self.goals.note(self.step, metrics)
                if is_due(self.step, self._common.save_freq) or earns_checkpoint:
                    self._save()
                is_reached = self.goals.is_reached(self.step, metrics)
            if is_reached:
                self.progress.line(self.goals.reached_text(self.step))
            self.is_done = True
            self._save()
            self.goals.link_best()
        except CheckpointError:
            raise  # it could not be written: trying again would hide the reason
        except KeyboardInterrupt:
            with suppress(KeyboardInterrupt):  # one more does not change what is to be done
                self._save()
            if not self.is_done:
                raise
            logger.info("the last step was done and is saved, so the run is finished")
        except BaseException as error:  # also what nobody expects: a fault of a library, or ours
            self._save_before(error)
            raise
        finally:
            gc.unfreeze()

    def waiting(self) -> list[Waiting]:
        """What the run waits for now. Any thread."""
        doing = self.doing
        return [doing] if doing else self.phases.rollout.waiting()

    @contextmanager
    def _doing(self, what: str, who: str) -> Iterator[None]:
        """Say what the run waits for until the block ends."""
        self.doing = Waiting(what=what, who=who, since_s=time.time())
        try:
            yield
        finally:
            self.doing = None

    def _save_before(self, error: BaseException) -> None:
        """Save finished steps; if that fails, too, `error` is still what the user is told."""
        try:
            self._save()
        except CheckpointError as second:
            logger.error("%s", second)
        if not isinstance(error, AjetError) and self.saved_step:
            logger.error("step %d is saved; --resume continues after it", self.saved_step)

    def _run_step(self) -> dict[str, float]:
        """Run the next step, with its evaluation if that is due; returns its metrics."""
        step = self.step + 1
        watch = Stopwatch()
        with watch.part("rollout"):
            groups, discarded, metrics = self._sample(step)
        report = self.credit(groups)
        metrics |= rollout_metrics(groups)
        metrics["group/zero_variance"] = report.zero_variance_groups / report.num_groups
        try:
            with deferred_interrupt(), self.progress.phase("training"):
                self.is_unfinished = True
                updates = self.trainer.updates
                try:
                    metrics |= self._update(report.samples, groups, step, watch)
                except BaseException:
                    # With the weights of the step before, that step can still be saved.
                    self.is_unfinished = self.trainer.updates != updates
                    raise
                results = self.batches.results_of([*groups, *discarded])
                self.records.write_step(step, groups, discarded, results)
                metrics |= self.batches.observe(step, results)
                self.step, self.reader_state = step, self.batches.state()
                # After `step` is set: if the sync fails, the finished step is still saved.
                if report.samples:
                    with watch.part("sync"), self._doing("sync", f"weights of step {step}"):
                        metrics |= self.serving.publish(self.policy_version)
                metrics |= _timings(metrics, watch) | process_gauge()
            if self.config.context_tracker.detect_timeline_snap:
                report_divergence([*groups, *discarded], step)
            is_last = step == self.total_steps or self.goals.is_reached(step, metrics)
            if is_last or is_due(step, self._common.test_freq):
                metrics |= self._evaluate()
        finally:  # an interrupt after the update must not lose the step's metrics
            if self.step == step:
                # First: the step is done and can be saved even if its metrics cannot be written.
                self.is_unfinished = False
                self.records.write_metrics(step, metrics)
        self.progress.step_done(step, metrics)
        if step == 1:
            require_trained_calls(groups)
        return metrics

    def _sample(self, step: int) -> tuple[list[Group], list[Group], dict[str, float]]:
        """The step's groups, those that dynamic sampling replaced, and metrics of the rollout."""
        missed = self.serving.lockstep_missed
        size = self.config.data.train_batch_size
        groups = self.phases.train(self.batches.next_batch(size, step), step)
        discarded: list[Group] = []
        metrics: dict[str, float] = {}
        settings = self.config.rollout
        if settings.dynamic_sampling:
            result = resample(
                groups,
                gives_gradient=self._gives_gradient,
                run_more=lambda part, count: self.phases.train(
                    self.batches.next_batch(count, step), step, part
                ),
                max_rounds=settings.dynamic_sampling_max_rounds,
            )
            groups, discarded, metrics = result.groups, result.discarded, result.metrics()
        metrics["rollout/lockstep_missed"] = self.serving.lockstep_missed - missed
        return groups, discarded, metrics

    def _gives_gradient(self, group: Group) -> bool:
        return self.credit([group]).zero_variance_groups == 0

    def _update(
        self, samples: Sequence[Sample], groups: Sequence[Group], step: int, watch: Stopwatch
    ) -> dict[str, float]:
        """Train on the step's samples and return metrics; empty where there is nothing to train."""
        if not samples:
            warn_of_nothing_to_train(step, why_no_gradient(groups))
            return {}
        with watch.part("train"), self._doing("trainer", f"update of step {step}"):
            metrics = self.trainer.update(samples, step=step, policy_version=self.policy_version)
        optim = self._common.optim
        metrics["policy/lr"] = learning_rate(step, optim, self.total_steps)
        self.policy_version += 1
        warn_of_logprobs(metrics, step=step, bound=self.logprob_diff_bound)
        return metrics

    def _evaluate_before(self) -> None:
        """Evaluate before the first new step, where that is due."""
        if first_evaluation_is_due(
            self.step,
            test_freq=self._common.test_freq,
            val_before_train=self._common.val_before_train,
            was_evaluated=self.records.was_evaluated(self.step),
            total_steps=self.total_steps,
        ):
            metrics = self._evaluate()
            if metrics or self.step == 0:
                self.goals.note(self.step, metrics)
                self.records.write_metrics(self.step, metrics)
                self.progress.step_done(self.step, metrics)

    def _evaluate_only(self) -> None:
        metrics = self._evaluate()
        if not metrics:
            raise TrainingError("trainer_common.val_only: there are no validation tasks")
        self.records.write_metrics(self.step, metrics)
        self.progress.step_done(self.step, metrics)

    def _evaluate(self) -> dict[str, float]:
        evaluation = Evaluation(
            phases=self.phases,
            tasks=self.validation_tasks,
            greedy=self.config.rollout.validation.greedy,
            run_folder=self.run_folder,
        )
        return evaluation.run(self.step)

    def _save(self) -> None:
        if self.step == self.saved_step or self.is_unfinished:
            return
        position = Position(
            step=self.step, policy_version=self.policy_version, reader_state=self.reader_state
        )
        with deferred_interrupt(to_the_end=True):
            with self.progress.phase("checkpoint"), self._doing("disk", f"step {self.step}"):
                self.save(position)
            self.saved_step = self.step
            self.goals.link_best()

    @property
    def _common(self) -> TrainerCommonConfig:
        return self.config.trainer_common


def _freeze() -> None:
    """Leave the objects that live as long as the run out of Python's garbage collection.

    The libraries alone have half a million. Python collects cycles of old objects when a quarter as
    many new ones have come, which takes thousands of short steps; without them it does so in time.
    It counts the old ones when it collects, so the second collection makes it forget those of the
    first.
    """
    gc.collect()
    gc.freeze()
    gc.collect()


def _timings(metrics: dict[str, float], watch: Stopwatch) -> dict[str, float]:
    """Seconds of the step and its parts, and tokens per second.

    Called before evaluation and checkpoint, so the step's time includes neither.
    """
    timings = watch.metrics() | {"time/step_s": watch.total_wall_s, "cpu/step_s": watch.total_cpu_s}
    timings["rollout/tokens_per_s"] = metrics["tokens/sampled"] / watch.wall_s["rollout"]
    if "train" in watch.wall_s:
        timings["train/tokens_per_s"] = metrics["tokens/trained_sequence"] / watch.wall_s["train"]
        trained = metrics["tokens/sampled"]
        timings["train/s_per_trained_token"] = watch.wall_s["train"] / trained if trained else 0.0
    return timings


@contextmanager
def deferred_interrupt(*, to_the_end: bool = False) -> Iterator[None]:
    """Delay the first Ctrl-C until the block has ended; a second one interrupts at once.

    Where Ctrl-C is ignored, as in a program that a shell script starts with `&`, it stays ignored;
    the other signals that end a run come here with their own number.

    Args:
        to_the_end: delay every Ctrl-C. For blocks that are worth the wait, and that SIGKILL may
            end at any time, such as the writing of a checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets KeyboardInterrupt, and only it may set handlers
        return
    previous = signal.getsignal(signal.SIGINT)
    interrupted = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if number == signal.SIGINT and previous == signal.SIG_IGN:
            return
        if to_the_end:
            if interrupted:
                logger.warning(
                    "the run ends as soon as the checkpoint is written; "
                    "kill -9 %d ends it now, with the checkpoint before",
                    os.getpid(),
                )
        else:
            # The second Ctrl-C meets the previous handler: a block that hangs can be left.
            signal.signal(signal.SIGINT, previous)
        interrupted = True

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    # Only where the block succeeded: an exception of its own says more than the interrupt.
    if interrupted:
        raise KeyboardInterrupt


def ignore_interrupts() -> None:
    """From here on, Ctrl-C does nothing; the launcher restores its handler.

    For the last seconds of a run that is finished: what is left to do is a plot and a summary, and
    `finished` is the truth about the run.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _ignore)


def _ignore(number: int, frame: FrameType | None) -> None:
    logger.info("the run is finished and ends in a moment")
