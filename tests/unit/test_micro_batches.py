"""Micro-batches: a cut of a mini-batch that computes few positions, packed without loss.

1. A plan contains every sequence once and stays under the bound, but for sequences above it.
2. Sequences that share a prefix pay for it once; sequences of one length pay for no padding.
3. Packing keeps every trained token with the position that predicts it.
"""

from __future__ import annotations

import numpy as np
import pytest

from ajet.backbone.local.micro_batches import MicroBatch
from ajet.backbone.local.packed_rows import pack, plan_micro_batches
from ajet.schema.episode import Sample
from tests.make_samples import make_sample


def packed(*samples: Sample) -> MicroBatch:
    return pack([(sample, np.ones(len(sample), np.float32)) for sample in samples])


def positions(sequences: list[np.ndarray], rows: list[int]) -> int:
    trained = [make_sample(sequences[row].tolist(), [len(sequences[row]) - 1]) for row in rows]
    inputs = packed(*trained).inputs
    return len(inputs.prefix_ids) + inputs.suffix_ids.size


def random_sequences(count: int, *, prefix: int = 0, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    head = rng.integers(1, 500, prefix)
    tails = [rng.integers(1, 500, rng.integers(2, 60)) for _ in range(count)]
    return [np.concatenate([head, tail]) for tail in tails]


@pytest.mark.parametrize("bound", [1, 100, 1000, 10**6])
@pytest.mark.parametrize("prefix", [0, 30])
def test_every_sequence_is_in_one_micro_batch_under_the_bound(bound: int, prefix: int) -> None:
    sequences = random_sequences(40, prefix=prefix)
    plan = plan_micro_batches(sequences, max_positions=bound)
    assert sorted(row for rows in plan for row in rows) == list(range(40))
    assert all(len(rows) == 1 or positions(sequences, rows) <= bound for rows in plan)


def test_a_shared_prefix_is_computed_once() -> None:
    sequences = random_sequences(40, prefix=200)
    plan = plan_micro_batches(sequences, max_positions=10**6)
    computed = sum(positions(sequences, rows) for rows in plan)
    suffixes = sum(len(ids) - 1 - 200 for ids in sequences)
    assert computed < suffixes + 200 * 4 + 0.2 * suffixes


def test_sequences_of_very_different_lengths_are_not_padded_to_one() -> None:
    sequences = [np.arange(1, 1 + n) * k for n in (10, 1000) for k in (1, 2, 3, 5)]
    plan = plan_micro_batches(sequences, max_positions=10**6)
    assert sorted(sorted(rows) for rows in plan) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_groups_with_prompts_of_their_own_are_kept_together() -> None:
    prompts = [np.arange(1, 400) + 1000 * k for k in range(3)]
    tails = random_sequences(8)
    sequences = [np.concatenate([prompt, tail]) for tail in tails for prompt in prompts]
    plan = plan_micro_batches(sequences, max_positions=10**6)
    assert sorted(sorted({row % 3 for row in rows}) for rows in plan) == [[0], [1], [2]]


def test_starting_a_micro_batch_has_a_price() -> None:
    sequences = random_sequences(40)
    many = plan_micro_batches(sequences, max_positions=10**6, fixed_cost=0)
    one = plan_micro_batches(sequences, max_positions=10**6, fixed_cost=10**6)
    assert len(one) == 1 < len(many)


def test_the_plan_is_a_function_of_its_input() -> None:
    plans = [plan_micro_batches(random_sequences(30), max_positions=300) for _ in range(2)]
    assert plans[0] == plans[1]
    assert plan_micro_batches([], max_positions=10) == []


def test_packing_keeps_the_predictor_of_every_trained_token() -> None:
    a = make_sample([7, 8, 9, 1, 2, 3], [2, 3, 5], advantage=1.0)
    b = make_sample([7, 8, 9, 4, 5], [3, 4], advantage=-1.0)
    batch = packed(a, b)
    np.testing.assert_array_equal(batch.inputs.prefix_ids, [7, 8, 9])
    np.testing.assert_array_equal(batch.inputs.suffix_ids, [[1, 2], [4, 0]])
    # Token 9 and both first suffix tokens are predicted from the prefix.
    np.testing.assert_array_equal(batch.inputs.predictor, [1, 2, 4, 2, 5])
    np.testing.assert_array_equal(batch.targets, [9, 1, 3, 4, 5])
    np.testing.assert_array_equal(batch.advantages, [1, 1, 1, -1, -1])


def test_a_predictor_holds_the_token_before_its_target() -> None:
    rng = np.random.default_rng(0)
    samples = [
        make_sample(ids.tolist(), rng.choice(np.arange(1, len(ids)), 3, replace=False).tolist())
        for ids in (np.append(ids, [7, 8, 9]) for ids in random_sequences(20, prefix=10))
    ]
    batch = packed(*samples)
    inputs = np.concatenate([batch.inputs.prefix_ids, batch.inputs.suffix_ids.ravel()])
    before = np.concatenate(
        [sample.ids[np.flatnonzero(sample.loss_mask) - 1] for sample in samples]
    )
    np.testing.assert_array_equal(inputs[batch.inputs.predictor], before)


def test_the_last_token_is_no_input() -> None:
    batch = packed(make_sample([1, 2, 3], [2]), make_sample([1, 2, 4], [2]))
    np.testing.assert_array_equal(batch.inputs.prefix_ids, [1, 2])
    assert batch.inputs.suffix_ids.shape == (2, 0)


def test_a_greedy_call_counts_as_temperature_one() -> None:
    batch = packed(make_sample([1, 2], [1], temperature=0.0), make_sample([1, 3], [1]))
    np.testing.assert_array_equal(batch.temperature, [1, 1])


def test_a_trained_first_token_is_our_bug() -> None:
    with pytest.raises(AssertionError):
        packed(make_sample([1, 2], [0]))
