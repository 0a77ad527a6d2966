"""Loss weights: what counts alike.

1. The weights of one update sum to 1, and are 0 where nothing is trained.
2. tokens: every token alike. samples: every sample alike. episodes: every episode alike.
"""

from __future__ import annotations

import numpy as np
import pytest

from ajet.training.updates import Aggregation, loss_weights
from tests.make_samples import make_sample

SAMPLES = [
    make_sample(range(6), [2, 3, 4, 5], episode_id="a"),
    make_sample(range(4), [3], episode_id="b"),
    make_sample(range(9), [4, 5, 8], episode_id="b"),
]


def totals(aggregation: Aggregation) -> list[float]:
    return [float(weights.sum()) for weights in loss_weights(SAMPLES, aggregation)]


@pytest.mark.parametrize("aggregation", ["tokens", "samples", "episodes"])
def test_weights_sum_to_one_and_lie_on_trained_tokens(aggregation: Aggregation) -> None:
    assert sum(totals(aggregation)) == pytest.approx(1)
    for sample, weights in zip(SAMPLES, loss_weights(SAMPLES, aggregation), strict=True):
        assert weights.dtype == np.float32
        np.testing.assert_array_equal(weights > 0, sample.loss_mask)


def test_tokens_count_alike() -> None:
    assert totals("tokens") == pytest.approx([4 / 8, 1 / 8, 3 / 8])


def test_samples_count_alike() -> None:
    assert totals("samples") == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_episodes_count_alike_and_tokens_within_them() -> None:
    assert totals("episodes") == pytest.approx([1 / 2, 1 / 8, 3 / 8])


@pytest.mark.parametrize("aggregation", ["tokens", "episodes"])
def test_splitting_a_sample_does_not_change_a_tokens_weight(aggregation: Aggregation) -> None:
    whole = [make_sample(range(6), [2, 5], episode_id="a"), SAMPLES[1]]
    parts = [
        make_sample(range(3), [2], episode_id="a"),
        make_sample(range(6), [5], episode_id="a"),
        SAMPLES[1],
    ]
    before, after = loss_weights(whole, aggregation), loss_weights(parts, aggregation)
    assert before[0][2] == after[0][2]
    assert before[0][5] == after[1][5]
    assert before[1][3] == after[2][3]
    # Negative control: counting samples alike does change it.
    assert loss_weights(whole, "samples")[0][2] != loss_weights(parts, "samples")[0][2]
