"""The main process of a Trinity run: reads the mailbox, evaluates, writes the run's folder."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import ray
from ray import ObjectRef
from ray.exceptions import RayError

from ajet.backbone.ray_common.cluster import cause_of
from ajet.backbone.trinity.mailbox import (
    Arrived,
    Explored,
    Failed,
    Message,
    Published,
    Trained,
    Waits,
    loads,
)
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.trinity.starting import Actors
from ajet.errors import TrainingError
from ajet.monitor.process_gauge import process_gauge
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.run_record import add_to_record
from ajet.schema.episode import Waiting
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_rollout.rollout import report_divergence
from ajet.training.evaluation import Evaluation
from ajet.training.goals import Goals
from ajet.training.loop import deferred_interrupt
from ajet.training.no_gradient import require_trained_calls
from ajet.training.quiet_watch import QuietWatch
from ajet.training.schedule import evaluation_is_due, first_evaluation_is_due
from ajet.training.weight_sync_check import check_weights

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 120.0
"""How long a stopped run waits for the current step and its checkpoint."""
INEXACT_BOUND = 0.5
"""Bound of a probe's logprob difference where engine and trainer need not agree exactly."""
GROUPS, SAMPLES = "experience_pipeline/experience_count", "experience_pipeline/samples"
"""Trinity's names for the numbers of groups and samples that entered the buffer."""


class _TargetReachedError(TrainingError):
    """A step reached `trainer_common.stop_at`: the run ends, and this is no failure."""


@dataclass(slots=True, kw_only=True)
class TrinitySession:
    """Follows explorer and trainer to the end of the run."""

    context: TrinityRunContext
    actors: Actors
    evaluation: Evaluation
    records: Records
    progress: Progress
    batches: TaskBatches
    """Counts results for the metrics of the curriculum; the explorer's copy chooses the tasks."""
    goals: Goals
    step: int
    """Number of steps that are done."""
    arrived: int = -1
    """Version of the engines' weights; -1: none were checked yet."""
    counts: Counter[str] = field(default_factory=Counter)
    """Numbers of groups and samples that were produced, trained or too old."""
    _probes: dict[int, np.ndarray] = field(default_factory=dict)
    """The trainer's logprobs of the probe, by version of the weights."""
    _pending_arrival: Arrived | None = None
    """Weights whose step is not recorded yet: the two messages may come in either order."""
    _explorer_metrics: dict[str, float] = field(default_factory=dict)
    _waits: dict[str, list[Waiting]] = field(default_factory=dict)
    """What episodes of each batch wait for, as far as their processes have told."""
    _moved_s: float = field(default_factory=time.time)
    """When the newest message came that is progress."""
    _is_at_target: bool = False
    _unwritten: tuple[int, dict[str, float]] | None = None
    """The newest step and its metrics, held back because its evaluation may add some."""

    def run(self) -> None:
        """Train to the last step. After Ctrl-C or a failure, finished steps are saved.

        Raises:
            TrainingError: the run cannot continue.
            EngineError: an engine does not have the trainer's weights.
            KeyboardInterrupt: Ctrl-C.
        """
        self.progress.start(self.context.total_steps, self.step)
        with QuietWatch(self.context.run_folder, self.progress, self.waiting):
            self._run()

    def waiting(self) -> list[Waiting]:
        """What the run waits for now. Any thread."""
        if own := self.evaluation.waiting():
            return own
        if of_runners := [one for waits in list(self._waits.values()) for one in waits]:
            return of_runners
        who = f"a batch of episodes or the end of step {self.step + 1}"
        return [Waiting(what="buffer", who=who, since_s=self._moved_s)]

    def _run(self) -> None:
        explorer, trainer = self.actors.explorer, self.actors.trainer
        try:
            # One after the other: the explorer asks the synchronizer for what the trainer sends.
            self._follow([trainer.sync_weight.remote()])
            self._follow([explorer.sync_weight.remote()])
            exploring, training = explorer.explore.remote(), trainer.train.remote()
            try:
                self._follow([training], also_watch=[exploring])
            except _TargetReachedError:
                with deferred_interrupt():
                    self._stop(training)
                self.progress.line(self.goals.reached_text(self.step))
                return
            except BaseException:
                with deferred_interrupt():
                    self._stop(training)
                raise
            self._await_last_weights(exploring)
        finally:
            self._write_metrics()
            self._write_summary()
            self.goals.link_best()
        self._check_end()

    def _await_last_weights(self, exploring: ObjectRef) -> None:
        """Wait until the engines have the last step's weights, which the last evaluation needs."""
        deadline = time.monotonic() + self.context.ajet.rollout.vllm.update_timeout_s
        while self.arrived < self.step:
            self._follow([], also_watch=[exploring])
            if time.monotonic() > deadline and self.arrived < self.step:
                raise TrainingError(
                    f"the engines did not take the weights of version {self.step} in time; they "
                    f"have version {self.arrived} (see ajet.rollout.vllm.update_timeout_s)"
                )

    def _follow(self, until: Sequence[ObjectRef], also_watch: Sequence[ObjectRef] = ()) -> None:
        """Handle messages until the calls `until` are done and the mailbox is empty.

        An error of any watched call is raised here.
        """
        running = [*until, *also_watch]
        while True:
            # Before the mailbox is read: all that a call sent is in the mailbox when it is done.
            done, _ = ray.wait(running, num_returns=len(running), timeout=0)
            message = self._result(self.actors.mailbox.next.remote(0.2))
            if message is not None:
                self._handle(loads(message))
                continue
            for reference in done:
                self._result(reference)
            if all(reference in done for reference in until):
                return

    def _result(self, reference: ObjectRef) -> bytes | None:
        try:
            result: bytes | None = ray.get(reference)
        except RayError as error:
            logs = self.context.run_folder / "logs"
            raise TrainingError(f"Trinity-RFT: {cause_of(error)}; see {logs}") from error
        return result

    def _handle(self, message: Message) -> None:
        if isinstance(message, Waits):
            self._waits[message.tag] = message.waits
            return
        self._moved_s = time.time()
        if isinstance(message, Explored):
            self._waits.clear()
            self._explored(message)
        elif isinstance(message, Trained):
            self._trained(message)
            if message.step == 1:
                require_trained_calls(message.groups)
        elif isinstance(message, Published):
            self._probes[message.version] = np.array(message.probe)
        elif isinstance(message, Arrived):
            self._pending_arrival = message
        else:
            assert isinstance(message, Failed)
            raise TrainingError(message.reason)
        # With a synchronous trainer the weights arrive before their step is reported. They are
        # evaluated only once the step is on record, so that the metrics join its line.
        if self._pending_arrival is not None and self._pending_arrival.version <= self.step:
            arrived, self._pending_arrival = self._pending_arrival, None
            self._weights_arrived(arrived)
        if self._is_at_target:
            raise _TargetReachedError

    def _explored(self, message: Explored) -> None:
        self._explorer_metrics |= {f"trinity/{name}": v for name, v in message.metrics.items()}
        if "rollout/finished_task_count" not in message.metrics:
            return
        groups = int(message.metrics.get(GROUPS, 0))
        self.counts["groups produced"] += groups
        self.counts["samples produced"] += int(message.metrics.get(SAMPLES, 0))
        expected = self.context.ajet.data.train_batch_size
        if groups < expected:
            # A runner whose engine died returns no groups; asking the engines names the dead one.
            for model in self.actors.models:
                self._result(model.get_model_version.remote())
            raise TrainingError(
                f"batch {message.step}: the runners returned {groups} of {expected} groups; did a "
                f"runner die? See {self.context.run_folder / 'logs'}"
            )

    def _trained(self, message: Trained) -> None:
        with deferred_interrupt():
            self.counts["groups trained"] += len(message.groups)
            self.counts["groups stale"] += len(message.stale)
            self.counts["samples trained"] += message.num_samples
            self.counts["samples stale"] += message.num_stale_samples
            self.records.write_step(message.step, message.groups, message.stale, message.results)
            if self.context.ajet.context_tracker.detect_timeline_snap:
                report_divergence([*message.groups, *message.stale], message.step)
            self._write_metrics()
            chosen = self.batches.observe(message.step, message.results)
            own = chosen | self._explorer_metrics | process_gauge()
            self._unwritten = message.step, message.metrics | own
            self.step, self._explorer_metrics = message.step, {}
            # Written at each step, so that it is there even if the run is killed.
            self._write_summary()

    def _weights_arrived(self, message: Arrived) -> None:
        """Check the engines' weights, evaluate them if that is due, and release them."""
        difference = self._check_weights(message)
        is_due = self._evaluation_is_due(message.version)
        self.arrived = message.version
        metrics = self.evaluation.run(message.version) if is_due else {}
        if metrics and (self._unwritten is None or self._unwritten[0] != message.version):
            self._write_metrics()
            self._unwritten = message.version, {}
        if self._unwritten is not None and self._unwritten[0] == message.version:
            self._unwritten[1].update(metrics, **{"sync/probe_diff_max": difference})
            self._write_metrics()
        self._result(self.actors.mailbox.release_weights.remote(message.version))

    def _check_weights(self, message: Arrived) -> float:
        """The largest difference between the engines' logprobs of the probe and the trainer's."""
        before = self._probes.pop(self.arrived, None)
        self._probes = {v: probe for v, probe in self._probes.items() if v >= message.version}
        trained = self._probes[message.version]
        common = self.context.ajet.trainer_common
        bound = common.logprob_diff_bound if self.context.is_exact else INEXACT_BOUND
        return max(
            check_weights(served, trained, before, bound=bound, name=f"vLLM engine {number}")
            for number, served in enumerate(message.probes)
        )

    def _evaluation_is_due(self, version: int) -> bool:
        common = self.context.ajet.trainer_common
        if self.arrived < 0:
            return first_evaluation_is_due(
                version,
                test_freq=common.test_freq,
                val_before_train=common.val_before_train,
                was_evaluated=self.records.was_evaluated(version),
                total_steps=self.context.total_steps,
            )
        return evaluation_is_due(
            version,
            test_freq=common.test_freq,
            total_steps=self.context.total_steps,
            previous=self.arrived,
        )

    def _write_metrics(self) -> None:
        """Write the metrics that were held back, if there are any."""
        if self._unwritten is not None:
            step, metrics = self._unwritten
            self._unwritten = None
            self.records.write_metrics(step, metrics)
            self.progress.step_done(step, metrics)
            self.goals.note(step, metrics)
            self.goals.link_best()
            self._is_at_target |= self.goals.is_reached(step, metrics)

    def _stop(self, training: ObjectRef) -> None:
        """Wait until the trainer has finished and saved its current step, and record it."""
        logger.info("stopping: the trainer finishes and saves its current step")
        try:
            self.actors.trainer.stop.remote()
            ray.wait([training], timeout=STOP_TIMEOUT_S)
            while message := ray.get(self.actors.mailbox.next.remote(0.1)):
                if isinstance(content := loads(message), Trained):
                    self._trained(content)
        except RayError as error:
            logger.warning("the steps since the last checkpoint are lost: %s", error)

    def _write_summary(self) -> None:
        counts = self.counts
        never = counts["samples produced"] - counts["samples trained"] - counts["samples stale"]
        summary = {
            "steps asked": self.context.total_steps,
            "steps made": self.step,
            "version served": self.arrived,
            **counts,
            "samples left in the buffer": max(0, never),
        }
        add_to_record(self.context.run_folder, {"trinity": summary})

    def _check_end(self) -> None:
        total = self.context.total_steps
        if not self.step == self.arrived == total:
            raise TrainingError(
                f"the run ended after {self.step} of {total} steps with version {self.arrived} in "
                f"the engines; expected {total} for both. See {self.context.run_folder / 'logs'}"
            )
