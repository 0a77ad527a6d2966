"""verl's trainer and replicas behind the protocols of the shared training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ajet.backbone.verl.engine import VerlEngine
from ajet.backbone.verl.timeouts import call_with_timeout
from ajet.backbone.verl.trainer import VerlTrainer
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import TrainingError
from ajet.schema.episode import Sample
from ajet.training.checkpoints import Position, written_checkpoint
from ajet.training.updates import plan_updates, staleness

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRAIN_TIMEOUT_S = 3600.0
"""Limit for training a step and for writing a checkpoint; far above any reasonable duration."""

PUBLIC = {
    "actor/loss": "policy/loss",
    "actor/grad_norm": "policy/grad_norm",
    "actor/entropy": "policy/entropy",
    "logprob_diff_max": "policy/logprob_diff_max",
    "logprob_diff_mean": "policy/logprob_diff_mean",
}
"""Maps verl's metrics that every backbone has to their public names."""


class VerlPolicy:
    """Trains, serves and saves the policy through verl.

    Args:
        trainer: verl's trainer, initialized.
        engine: the engine over the trainer's replicas.
        settings: section `ajet.trainer_common`.
        update_timeout_s: limit for sending the weights to the replicas.
    """

    lockstep_missed = 0

    def __init__(
        self,
        trainer: VerlTrainer,
        engine: VerlEngine,
        settings: TrainerCommonConfig,
        *,
        update_timeout_s: float,
    ) -> None:
        self.engine = engine
        self._trainer = trainer
        self._settings = settings
        self._update_timeout_s = update_timeout_s
        self._is_broken = False
        self.updates = 0

    def update(
        self, samples: Sequence[Sample], *, step: int, policy_version: int
    ) -> dict[str, float]:
        """Train on a step's samples and return public metrics; verl's own are under `verl/`.

        Raises:
            TrainingError: engine and trainer disagree, or the run cannot continue.
        """
        self.updates += 1  # what verl has done when it fails is not known
        parts = [part for part in plan_updates(samples, self._settings, step=step) if part]
        metrics = self._call(
            TRAIN_TIMEOUT_S,
            f"the training of step {step}",
            lambda: self._trainer.train(parts, step=step),
        )
        return _named(metrics, with_kl=self._settings.use_kl_loss) | staleness(
            samples, policy_version
        )

    def begin_phase(self) -> None:
        """Do nothing: the replicas drop their key-values whenever new weights arrive."""

    def publish(self, policy_version: int) -> dict[str, float]:
        """Send the weights to the replicas and number them `policy_version`.

        Raises:
            TrainingError: the weights did not arrive in time.
        """
        self._call(
            self._update_timeout_s,
            "the update of vLLM's weights",
            lambda: self._trainer.publish(policy_version),
        )
        self.engine.policy_version = policy_version
        return {}

    def save(self, checkpoints: Path, position: Position) -> None:
        """Write the checkpoint folder of a step, completely or not at all.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        # After a call that failed or timed out, the workers may never answer again. The error of
        # that call ends the run; waiting for the same workers here would only delay it.
        if self._is_broken:
            logger.warning("the steps since the last checkpoint are lost: verl does not answer")
            return
        keep = self._settings.max_checkpoints_to_keep
        with written_checkpoint(checkpoints, position, max_to_keep=keep) as partial:
            self._call(TRAIN_TIMEOUT_S, "the checkpoint", lambda: self._trainer.save(partial))

    def close(self) -> None:
        """Do nothing: all processes end with the run's Ray."""

    def _call(self, seconds: float, what: str, call: Callable[[], T]) -> T:
        try:
            return call_with_timeout(seconds, what, call)
        except TrainingError:
            self._is_broken = True
            raise


def _named(metrics: dict[str, float], *, with_kl: bool) -> dict[str, float]:
    """Rename verl's metrics to public names; those without one go under `verl/`.

    Raises:
        TrainingError: the gradient is not finite; verl skipped that update.
    """
    tokens = metrics.pop("actor/tokens")
    named = {"policy/clip_fraction": metrics.pop("actor/clipped") / tokens}
    kl = metrics.pop("actor/kl") / tokens
    if with_kl:
        named["policy/kl"] = kl
    named |= {PUBLIC[name]: float(metrics.pop(name)) for name in PUBLIC}
    # verl reports NaN where there was nothing to measure.
    metrics.pop("actor/lr", None)  # the loop reports it as policy/lr
    named |= {f"verl/{name}": float(v) for name, v in metrics.items() if math.isfinite(v)}
    if not math.isfinite(named["policy/grad_norm"]):
        raise TrainingError(
            f"the norm of the gradient is {named['policy/grad_norm']}, expected a finite number. "
            "Lower ajet.trainer_common.optim.lr"
        )
    return named
