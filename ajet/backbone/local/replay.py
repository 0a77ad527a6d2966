"""Trains a recorded step again, from the weights with which it began.

Steps that verl trained (backbones verl and trinity) work too: the two trainers compute the same up
to rounding.
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
from ajet.schema.episode import Sample
from ajet.training.checkpoints import read_position


@dataclass(slots=True, kw_only=True)
class WeightsDifference:
    """How the weights differ from those of the checkpoint after the step."""

    largest: float
    """Largest difference of a single weight."""
    of_update: float
    """Norm of the differences, divided by the norm of the step's own change of the weights."""


@dataclass(slots=True, kw_only=True)
class TrainedAgain:
    """Result of training one step again."""

    metrics: dict[str, float]
    """Metrics with the names that `PolicyTrainer.update` gives them."""
    weights: WeightsDifference | None
    """None if there is no checkpoint after the step."""


def train_again(
    ajet: AjetConfig,
    samples: Sequence[Sample],
    *,
    step: int,
    total_steps: int,
    before: Path | None,
    after: Path | None,
) -> TrainedAgain:
    """Train one step in this process as a run does; nothing is saved.

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
    trainer = PolicyTrainer(
        policy.model, ajet.trainer_common, total_steps=total_steps, grammars=policy.grammars
    )
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
    """Load weights and optimizer from a checkpoint; returns the policy version."""
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
    """All weights as one float32 vector, sorted by name."""
    state = model.state_dict()
    return torch.cat([state[name].detach().cpu().float().flatten() for name in sorted(state)])
