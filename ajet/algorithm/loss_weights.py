"""How much each trained token counts in the loss."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from ajet.schema.sample import Sample

Aggregation = Literal["tokens", "samples", "episodes"]


def loss_weights(samples: Sequence[Sample], aggregation: Aggregation) -> list[np.ndarray]:
    """One [L] float32 array a sample: 0 where nothing is trained; all weights together sum to 1.

    `tokens`: all tokens alike (DAPO, arXiv:2503.14476). `samples`: all samples alike, and the
    tokens within one (GRPO, arXiv:2402.03300). `episodes`: all episodes alike, and the tokens
    within one, so that an agent that makes more calls or forks more does not count more.

    The loss is then a plain weighted sum, which no cut into micro-batches can change.

    Args:
        samples: of one optimizer update, each with at least one trained token.
        aggregation: what counts alike.
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
