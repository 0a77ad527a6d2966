"""A recorded training step once more, from the weights that it began with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from ajet.backbone.local.checkpoint import load_checkpoint
from ajet.backbone.local.policy import load_policy
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.root import AjetConfig
from ajet.schema.sample import Sample


@dataclass(slots=True, kw_only=True)
class TrainedAgain:
    """What one step of training gave."""

    metrics: dict[str, float]
    """As `PolicyTrainer.update` names them."""
    weights_difference: float | None
    """The largest of any weight, against the checkpoint after the step; None: there is none."""


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
        position = load_checkpoint(before, model=policy.model, optimizer=trainer.optimizer)
        policy_version = position.policy_version
    metrics = trainer.update(samples, step=step, policy_version=policy_version)
    difference = None if after is None else _largest_difference(policy.model, after)
    return TrainedAgain(metrics=metrics, weights_difference=difference)


def _largest_difference(model: PreTrainedModel, checkpoint: Path) -> float:
    saved = type(model).from_pretrained(checkpoint, dtype=model.dtype).state_dict()
    differences = [
        (weight.cpu().float() - saved[name].float()).abs().max()
        for name, weight in model.state_dict().items()
    ]
    return float(torch.stack(differences).max())
