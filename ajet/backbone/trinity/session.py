"""A run as its main process sees it: letters come in, the run's folder is written."""

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

from ajet.backbone.ray_common.failures import cause_of
from ajet.backbone.trinity.actors import Actors
from ajet.backbone.trinity.mailbox import loads
from ajet.backbone.trinity.mailbox_messages import (
    Arrived,
    Explored,
    Failed,
    Letter,
    Published,
    Trained,
)
from ajet.backbone.trinity.plan import TrinityRunContext
from ajet.errors import TrainingError
from ajet.monitor.progress import Progress
from ajet.monitor.records import Records
from ajet.monitor.run_record import add_to_record
from ajet.task_rollout.divergence import report_divergence
from ajet.training.evaluation import Evaluation
from ajet.training.interrupts import deferred_interrupt
from ajet.training.weight_sync_check import check_weights

logger = logging.getLogger(__name__)

STOP_TIMEOUT_S = 120.0
"""For the step that is under way when a run is stopped, and its checkpoint."""
GROUPS, SAMPLES = "experience_pipeline/experience_count", "experience_pipeline/samples"
"""Trinity's names for what entered the buffer."""


@dataclass(slots=True, kw_only=True)
class TrinitySession:
    """Follows explorer and trainer to the end."""

    plan: TrinityRunContext
    actors: Actors
    evaluation: Evaluation
    records: Records
    progress: Progress
    step: int
    """Steps that are done."""
    arrived: int = -1
    """Version of the engines' weights."""
    counts: Counter[str] = field(default_factory=Counter)
    """Groups and samples, by what became of them."""
    _probes: dict[int, np.ndarray] = field(default_factory=dict)
    _early: Arrived | None = None
    _of_explorer: dict[str, float] = field(default_factory=dict)
    _line: tuple[int, dict[str, float]] | None = None
    """The newest step and its metrics; those of its evaluation may still come."""

    def run(self) -> None:
        """Train to the last step; what was done before Ctrl-C or a failure is saved.

        Raises:
            TrainingError: the run cannot go on.
            EngineError: an engine does not have the trainer's weights.
            KeyboardInterrupt: Ctrl-C.
        """
        self.progress.start(self.plan.total_steps, self.step)
        explorer, trainer = self.actors.explorer, self.actors.trainer
        try:
            self._follow([trainer.sync_weight.remote()])
            self._follow([explorer.sync_weight.remote()])
            exploring, training = explorer.explore.remote(), trainer.train.remote()
            try:
                self._follow([training], beside=[exploring])
            except BaseException:
                with deferred_interrupt():
                    self._stop(training)
                raise
            self._await_last_weights(exploring)
        finally:
            self._write_line()
            self._write_summary()
        self._check_end()

    def _await_last_weights(self, exploring: ObjectRef) -> None:
        """So that what is evaluated last is what was trained last."""
        deadline = time.monotonic() + self.plan.ajet.rollout.vllm.update_timeout_s
        while self.arrived < self.step:
            self._follow([], beside=[exploring])
            if time.monotonic() > deadline and self.arrived < self.step:
                raise TrainingError(f"the engines did not take version {self.step} in time")

    def _follow(self, until: Sequence[ObjectRef], beside: Sequence[ObjectRef] = ()) -> None:
        """Read letters until these are done and there are no more."""
        while True:
            letter = self._result(self.actors.desk.next.remote(0.2))
            if letter is not None:
                self._read(loads(letter))
                continue
            under_way = [*until, *beside]
            done, _ = ray.wait(under_way, num_returns=len(under_way), timeout=0)
            for reference in done:
                self._result(reference)
            if all(reference in done for reference in until):
                return

    def _result(self, reference: ObjectRef) -> bytes | None:
        try:
            result: bytes | None = ray.get(reference)
        except RayError as error:
            logs = self.plan.run_folder / "logs"
            raise TrainingError(f"Trinity-RFT: {cause_of(error)}; see {logs}") from error
        return result

    def _read(self, letter: Letter) -> None:
        if isinstance(letter, Explored):
            self._explored(letter)
        elif isinstance(letter, Trained):
            self._trained(letter)
        elif isinstance(letter, Published):
            self._probes[letter.version] = np.array(letter.probe)
        elif isinstance(letter, Arrived):
            self._early = letter
        else:
            assert isinstance(letter, Failed)
            raise TrainingError(letter.message)
        if self._early is not None and self._early.version <= self.step:  # its step is recorded
            arrived, self._early = self._early, None
            self._weights_arrived(arrived)

    def _explored(self, letter: Explored) -> None:
        self._of_explorer |= {f"trinity/{name}": v for name, v in letter.metrics.items()}
        if "rollout/finished_task_count" not in letter.metrics:
            return
        groups = int(letter.metrics.get(GROUPS, 0))
        self.counts["groups produced"] += groups
        self.counts["samples produced"] += int(letter.metrics.get(SAMPLES, 0))
        if groups < self.plan.ajet.data.train_batch_size:
            for model in self.actors.models:  # without its engine a runner gives nothing
                self._result(model.get_model_version.remote())
            raise TrainingError(
                f"batch {letter.step}: {groups} of {self.plan.ajet.data.train_batch_size} groups "
                f"came; a runner ended? See {self.plan.run_folder / 'logs'}"
            )

    def _trained(self, letter: Trained) -> None:
        with deferred_interrupt():
            self.counts["groups trained"] += len(letter.groups)
            self.counts["groups stale"] += len(letter.stale)
            self.counts["samples trained"] += letter.num_samples
            self.counts["samples stale"] += letter.num_stale_samples
            self.records.write_step(letter.step, letter.groups, letter.stale)
            if self.plan.ajet.context_tracker.detect_timeline_snap:
                report_divergence([*letter.groups, *letter.stale], letter.step)
            self._write_line()
            self._line = letter.step, letter.metrics | self._of_explorer
            self.step, self._of_explorer = letter.step, {}
            self._write_summary()

    def _weights_arrived(self, letter: Arrived) -> None:
        """Compare them, evaluate them where that is due, and let the explorer go on."""
        before = self._probes.pop(self.arrived, None)
        self._probes = {v: probe for v, probe in self._probes.items() if v >= letter.version}
        bound = self.plan.ajet.trainer_common.logprob_diff_bound if self.plan.is_exact else 0.5
        difference = max(
            check_weights(
                row, self._probes[letter.version], before, bound=bound, name=f"vLLM engine {number}"
            )
            for number, row in enumerate(letter.probes)
        )
        is_due = self._is_due(letter.version)
        self.arrived = letter.version
        metrics = self.evaluation.run(letter.version) if is_due else {}
        if metrics and (self._line is None or self._line[0] != letter.version):
            self._write_line()
            self._line = letter.version, {}
        if self._line is not None and self._line[0] == letter.version:
            self._line[1].update(metrics, **{"sync/probe_diff_max": difference})
            self._write_line()
        self._result(self.actors.desk.give_leave.remote(letter.version))

    def _write_line(self) -> None:
        """The step's line of metrics is complete."""
        if self._line is not None:
            step, metrics = self._line
            self._line = None
            self.records.write_metrics(step, metrics)
            self.progress.step_done(step, metrics)

    def _is_due(self, version: int) -> bool:
        """Also where the version that an evaluation was due at was passed over."""
        common = self.plan.ajet.trainer_common
        if self.arrived < 0:
            if version == 0:
                return common.val_before_train
            at_it = bool(common.test_freq) and version % common.test_freq == 0
            return at_it and not self.records.was_evaluated(version)
        if version == self.plan.total_steps:
            return True
        return bool(common.test_freq) and (
            version // common.test_freq > self.arrived // common.test_freq
        )

    def _stop(self, training: ObjectRef) -> None:
        """Let the step that is under way end, be saved and recorded."""
        logger.info("stopping; a step that is under way is finished and saved")
        try:
            self.actors.trainer.stop.remote()
            ray.wait([training], timeout=STOP_TIMEOUT_S)
            while letter := ray.get(self.actors.desk.next.remote(0.1)):
                if isinstance(content := loads(letter), Trained):
                    self._trained(content)
        except RayError as error:
            logger.warning("what was done since the last checkpoint is lost: %s", error)

    def _write_summary(self) -> None:
        """At each step: a run that is killed leaves it as well."""
        counts = self.counts
        never = counts["samples produced"] - counts["samples trained"] - counts["samples stale"]
        summary = {
            "steps asked": self.plan.total_steps,
            "steps made": self.step,
            "version served": self.arrived,
            **counts,
            "samples left in the buffer": max(0, never),
        }
        add_to_record(self.plan.run_folder, {"trinity": summary})

    def _check_end(self) -> None:
        if not self.step == self.arrived == self.plan.total_steps:
            raise TrainingError(
                f"{self.step} of {self.plan.total_steps} steps were made, and the engines have "
                f"version {self.arrived}"
            )
