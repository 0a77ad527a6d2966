"""A recorded training step once more, from the weights that it began with.

Also a step that verl trained, as the backbone or for Trinity: what the two trainers compute is the
same but for rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ajet.backbone.local.checkpoint import load_checkpoint
from ajet.backbone.local.policy import load_policy
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.backbone.local.verl_state import verl_optimizer_state
from ajet.config.sections.root import AjetConfig
from ajet.schema.sample import Sample
from ajet.training.checkpoints import read_position


@dataclass(slots=True, kw_only=True)
class WeightsDifference:
    """Of the weights now and those of the checkpoint after the step."""

    largest: float
    """Of any weight."""
    of_update: float
    """Length of all differences, over the length of the step's change of the weights."""


@dataclass(slots=True, kw_only=True)
class TrainedAgain:
    """What one step of training gave."""

    metrics: dict[str, float]
    """As `PolicyTrainer.update` names them."""
    weights: WeightsDifference | None
    """None: there is no checkpoint after the step."""


def train_again(
    ajet: AjetConfig,
    samples: Sequence[Sample],
    *,
    step: int,
    total_steps: int,
    before: Path | None,
    after: Path | None,
) -> TrainedAgain:
    """Train one step as a run does, in this process; nothing is saved.

    Args:
        ajet: model and trainer.
        samples: with advantages.
        step: its number, from 1.
        total_steps: of the run, where the learning rate's schedule ends.
        before: the checkpoint to begin with; None: the base model.
        after: the checkpoint to compare with, if there is one.

    Raises:
        ModelError: the model cannot be loaded.
        CheckpointError: `before` is damaged.
        TrainingError: loss or gradient is not finite.
    """
    policy = load_policy(ajet.model)
    trainer = PolicyTrainer(policy.model, ajet.trainer_common, total_steps=total_steps)
    policy_version = 0
    if before is not None:
        policy_version = _load(before, policy.model, trainer, is_verl=ajet.backbone != "local")
    start = _flat(policy.model)
    metrics = trainer.update(samples, step=step, policy_version=policy_version)
    weights = None
    if after is not None:
        saved = _flat(_model(policy.model, after))
        differences = _flat(policy.model) - saved
        weights = WeightsDifference(
            largest=float(differences.abs().max()),
            of_update=float(differences.norm() / (saved - start).norm()),
        )
    return TrainedAgain(metrics=metrics, weights=weights)


def _load(
    checkpoint: Path, model: PreTrainedModel, trainer: PolicyTrainer, *, is_verl: bool
) -> int:
    """Weights and optimizer, and the policy's version."""
    if not is_verl:
        position = load_checkpoint(checkpoint, model=model, optimizer=trainer.optimizer)
        return position.policy_version
    position = read_position(checkpoint)
    model.load_state_dict(_model(model, checkpoint).state_dict())
    trainer.optimizer.load_state_dict(verl_optimizer_state(checkpoint))
    return position.policy_version


def _model(like: PreTrainedModel, checkpoint: Path) -> PreTrainedModel:
    return type(like).from_pretrained(checkpoint, dtype=like.dtype)


def _flat(model: PreTrainedModel) -> torch.Tensor:
    """[all weights] float32, by their names."""
    state = model.state_dict()
    return torch.cat([state[name].detach().cpu().float().flatten() for name in sorted(state)])
