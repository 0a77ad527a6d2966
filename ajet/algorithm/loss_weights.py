"""The weight of each trained token in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ajet.schema.sample import Sample

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
