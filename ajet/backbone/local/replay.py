"""Trains a recorded step again, from the weights with which it began.

Steps that verl trained (backbones verl and trinity) work too: the two trainers compute the same up
to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ajet.backbone.local.checkpoint import load_checkpoint
from ajet.backbone.local.policy import LocalPolicy, load_policy
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
    is_verl = ajet.backbone != "local"
    common = ajet.trainer_common
    policy = load_policy(ajet.model, None if is_verl else ajet.lora, seed=common.seed)
    trainer = PolicyTrainer(
        policy.model,
        common,
        total_steps=total_steps,
        grammars=policy.grammars,
        adapter=policy.adapter,
    )
    policy_version = 0
    if before is not None:
        policy_version = _load(before, policy, trainer, is_verl=is_verl)
    start = _flat(policy)
    metrics = trainer.update(samples, step=step, policy_version=policy_version)
    weights = None
    if after is not None:
        now = _flat(policy)
        _take_weights(after, policy)
        saved = _flat(policy)
        differences = now - saved
        weights = WeightsDifference(
            largest=float(differences.abs().max()),
            of_update=float(differences.norm() / (saved - start).norm()),
        )
    return TrainedAgain(metrics=metrics, weights=weights)


def _load(checkpoint: Path, policy: LocalPolicy, trainer: PolicyTrainer, *, is_verl: bool) -> int:
    """Load weights and optimizer from a checkpoint; returns the policy version."""
    optimizer = trainer.optimizer
    if not is_verl:
        position = load_checkpoint(
            checkpoint, model=policy.model, optimizer=optimizer, adapter=policy.adapter
        )
        return position.policy_version
    position = read_position(checkpoint)
    _take_weights(checkpoint, policy)
    optimizer.load_state_dict(verl_optimizer_state(checkpoint))
    return position.policy_version


def _take_weights(checkpoint: Path, policy: LocalPolicy) -> None:
    model = policy.model
    if policy.adapter is not None:
        policy.adapter.load(checkpoint)
        return
    model.load_state_dict(type(model).from_pretrained(checkpoint, dtype=model.dtype).state_dict())


def _flat(policy: LocalPolicy) -> torch.Tensor:
    """All weights as one float32 vector, sorted by name; an adapter is merged."""
    state = policy.model.state_dict() if policy.adapter is None else policy.adapter.merged_state()
    return torch.cat([state[name].detach().cpu().float().flatten() for name in sorted(state)])
