"""A step's samples cut into optimizer updates, with the weight of each token in the loss."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ajet.config.sections.algorithm import OptimConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.schema.episode import Sample

WeightedSample = tuple[Sample, np.ndarray]
"""A sample and the weights [L] float32 of its tokens in the loss."""


def plan_updates(
    samples: Sequence[Sample], settings: TrainerCommonConfig, *, step: int
) -> list[list[WeightedSample]]:
    """Split a step into optimizer updates, each on its own part of the episodes."""
    algorithm = settings.algorithm
    parts = split_by_episode(
        samples, settings.optim.num_updates_per_step, seed=f"{settings.seed}/{step}"
    )
    weighted = [
        list(zip(part, loss_weights(part, algorithm.loss_agg), strict=True)) for part in parts
    ]
    has_other_loss = settings.use_kl_loss and settings.kl_loss_coef or algorithm.entropy_coeff
    if has_other_loss:
        return weighted
    # A sample without advantage has no gradient: it counts in the weights and is not computed.
    # Where rewards were placed for a critic, advantages are not known yet.
    return [
        [
            (sample, weights)
            for sample, weights in part
            if sample.rewards is not None or np.any(sample.advantages)
        ]
        for part in weighted
    ]


def split_by_episode(samples: Sequence[Sample], count: int, *, seed: str) -> list[list[Sample]]:
    """Shuffle the episodes and split them into at most `count` parts; samples stay together."""
    by_episode: dict[str, list[Sample]] = {}
    for sample in samples:
        by_episode.setdefault(sample.episode_id, []).append(sample)
    episodes = list(by_episode.values())
    random.Random(seed).shuffle(episodes)
    parts = [episodes[number::count] for number in range(min(count, len(episodes)))]
    return [[sample for episode in part for sample in episode] for part in parts]


def staleness(samples: Sequence[Sample], policy_version: int) -> dict[str, float]:
    """Metrics of how many versions the trained tokens are behind the policy."""
    versions = np.concatenate([sample.policy_versions[sample.loss_mask] for sample in samples])
    behind = policy_version - versions
    return {"staleness/mean": float(behind.mean()), "staleness/max": float(behind.max())}


def learning_rate(step: int, settings: OptimConfig, total_steps: int) -> float:
    """The learning rate of a step, counted from 1. It has no state, so none must be saved."""
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    if settings.lr_schedule == "constant":
        return settings.lr
    steps_to_last = max(1, total_steps - settings.warmup_steps - 1)
    progress = min(1.0, (step - settings.warmup_steps - 1) / steps_to_last)
    if settings.lr_schedule == "cosine":
        progress = (1 - math.cos(math.pi * progress)) / 2
    return settings.lr * (1 - (1 - settings.lr_min_ratio) * progress)


Aggregation = Literal["tokens", "samples", "episodes"]


def loss_weights(samples: Sequence[Sample], aggregation: Aggregation) -> list[np.ndarray]:
    """One array [L] float32 per sample, 0 where nothing is trained; all weights sum to 1.

    `tokens`: equal weight for all tokens (DAPO, arXiv:2503.14476). `samples`: equal weight for all
    samples, split equally between a sample's tokens (GRPO, arXiv:2402.03300). `episodes`: equal
    weight for all episodes, split between an episode's tokens, so that more calls or forks do not
    give an episode more weight.

    The loss is a plain weighted sum, so the cut into micro-batches cannot change it.

    Args:
        samples: of one optimizer update, each with at least one trained token.
        aggregation: which unit has equal weight.
    """
    assert aggregation in get_args(Aggregation)
    trained = [sample.num_trained for sample in samples]
    if aggregation == "tokens":
        share = [1 / sum(trained)] * len(samples)
    elif aggregation == "samples":
        share = [1 / (len(samples) * tokens) for tokens in trained]
    else:
        per_episode: Counter[str] = Counter()
        for sample, tokens in zip(samples, trained, strict=True):
            per_episode[sample.episode_id] += tokens
        share = [1 / (len(per_episode) * per_episode[sample.episode_id]) for sample in samples]
    return [
        np.where(sample.loss_mask, np.float32(weight), np.float32(0))
        for sample, weight in zip(samples, share, strict=True)
    ]
