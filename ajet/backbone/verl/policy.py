"""verl's trainer and replicas in the words of the training loop."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ajet.backbone.verl.engine import VerlEngine
from ajet.backbone.verl.trainer import VerlTrainer
from ajet.backbone.verl.waiting import call_with_timeout
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import TrainingError
from ajet.schema.sample import Sample
from ajet.training.checkpoints import Position, written_checkpoint
from ajet.training.updates import plan_updates, staleness

logger = logging.getLogger(__name__)
T = TypeVar("T")

TRAIN_TIMEOUT_S = 3600.0
"""Of a step's training, and of a checkpoint: by far more than any that makes sense."""

PUBLIC = {
    "actor/loss": "policy/loss",
    "actor/grad_norm": "policy/grad_norm",
    "actor/entropy": "policy/entropy",
    "logprob_diff_max": "policy/logprob_diff_max",
    "logprob_diff_mean": "policy/logprob_diff_mean",
}
"""verl's metrics that every backbone has, under the name that they have everywhere."""


class VerlPolicy:
    """What is trained, served and saved.

    Args:
        trainer: verl's, ready.
        engine: its replicas.
        settings: section `ajet.trainer_common`.
        update_timeout_s: of the way of the weights into the replicas.
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

    def update(
        self, samples: Sequence[Sample], *, step: int, policy_version: int
    ) -> dict[str, float]:
        """Train on a step's samples; metrics under their public names, verl's under `verl/`.

        Raises:
            TrainingError: engine and trainer disagree, or the run cannot go on.
        """
        parts = [part for part in plan_updates(samples, self._settings, step=step) if part]
        metrics = self._within(
            TRAIN_TIMEOUT_S,
            f"the training of step {step}",
            lambda: self._trainer.train(parts, step=step),
        )
        return _named(metrics, with_kl=self._settings.use_kl_loss) | staleness(
            samples, policy_version
        )

    def begin_phase(self) -> None:
        """The replicas forgot what they kept when the weights came."""

    def publish(self, policy_version: int) -> dict[str, float]:
        """Send the weights to the replicas, as this version.

        Raises:
            TrainingError: they did not arrive in time.
        """
        self._within(
            self._update_timeout_s,
            "the update of vLLM's weights",
            lambda: self._trainer.publish(policy_version),
        )
        self.engine.policy_version = policy_version
        return {}

    def save(self, checkpoints: Path, position: Position) -> None:
        """Write `checkpoints/step_...` in full or not at all.

        Raises:
            CheckpointError: it cannot be written.
        """
        if self._is_broken:  # what broke it is being told already
            logger.warning("the steps since the last checkpoint are lost: verl does not answer")
            return
        keep = self._settings.max_checkpoints_to_keep
        with written_checkpoint(checkpoints, position, max_to_keep=keep) as partial:
            self._within(TRAIN_TIMEOUT_S, "the checkpoint", lambda: self._trainer.save(partial))

    def close(self) -> None:
        """Everything ends with the run's Ray."""

    def _within(self, seconds: float, what: str, call: Callable[[], T]) -> T:
        try:
            return call_with_timeout(seconds, what, call)
        except TrainingError:
            self._is_broken = True
            raise


def _named(metrics: dict[str, float], *, with_kl: bool) -> dict[str, float]:
    """The names of every backbone, and verl's own under `verl/`.

    Raises:
        TrainingError: the gradient is not finite; verl left that update out.
    """
    tokens = metrics.pop("actor/tokens")
    named = {"policy/clip_fraction": metrics.pop("actor/clipped") / tokens}
    kl = metrics.pop("actor/kl") / tokens
    if with_kl:
        named["policy/kl"] = kl
    named |= {PUBLIC[name]: float(metrics.pop(name)) for name in PUBLIC}
    # verl's NaN says that there was nothing to measure.
    named |= {f"verl/{name}": float(v) for name, v in metrics.items() if math.isfinite(v)}
    if not math.isfinite(named["policy/grad_norm"]):
        raise TrainingError(f"the gradient's norm is {named['policy/grad_norm']}")
    return named
