"""Packs samples as rows, for models whose attention cannot run over a tree. numpy only.

Rows compute the longest common prefix of their inputs once, and pad what follows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ajet.backbone.local.micro_batches import (
    MicroBatch,
    SharedPrefix,
    common_prefix_length,
    predictors,
    with_targets,
)
from ajet.schema.episode import Sample


def plan_micro_batches(
    sequences: Sequence[np.ndarray], *, max_positions: int, fixed_cost: int = 64
) -> list[list[int]]:
    """Plan the micro-batches; returns the indices of the sequences in each.

    A micro-batch costs its computed positions, padding included, plus `fixed_cost`. Each of two
    orders, by length (little padding) and by token ids (long prefixes), is cut at its best places.

    Args:
        sequences: token ids [L_i], each of at least 2 tokens.
        max_positions: bound on the positions of a micro-batch; a longer sequence runs alone.
        fixed_cost: overhead of one more micro-batch, in positions.
    """
    by_length = sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i))
    by_ids = sorted(range(len(sequences)), key=lambda i: (sequences[i].tobytes(), i))
    plans = [_cut(order, sequences, max_positions, fixed_cost) for order in (by_length, by_ids)]
    return min(plans, key=lambda plan: plan[0])[1]


def _cut(
    order: list[int], sequences: Sequence[np.ndarray], max_positions: int, fixed_cost: int
) -> tuple[int, list[list[int]]]:
    """The cheapest way to cut an order into runs: (cost, runs), by dynamic programming."""
    inputs = [sequences[i][:-1] for i in order]
    lengths = np.array([len(ids) for ids in inputs])
    # shared[k]: what inputs k and k + 1 have in common; the minimum over a run is the run's prefix.
    shared = np.array(
        [common_prefix_length(a, b) for a, b in zip(inputs, inputs[1:], strict=False)],
        dtype=np.int64,
    )
    best = np.zeros(len(order) + 1, dtype=np.int64)
    start = np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        # Runs that end here, the shortest first: entry k starts at end - 1 - k.
        longest = np.maximum.accumulate(lengths[:end][::-1])
        prefix = np.minimum.accumulate(np.append(shared[: end - 1], lengths[end - 1])[::-1])
        positions = prefix + np.arange(1, end + 1) * (longest - prefix)
        allowed = positions <= max_positions
        allowed[0] = True
        cost = np.where(allowed, best[:end][::-1] + positions + fixed_cost, np.iinfo(np.int64).max)
        best[end] = cost.min()
        start[end] = end - 1 - int(cost.argmin())
    runs = []
    end = len(order)
    while end:
        runs.append(order[start[end] : end])
        end = int(start[end])
    return int(best[-1]), runs[::-1]


def pack(weighted: Sequence[tuple[Sample, np.ndarray]]) -> MicroBatch:
    """Put samples, each with its loss weights [L], into one micro-batch of rows."""
    inputs = [sample.ids[:-1] for sample, _ in weighted]
    prefix = min(common_prefix_length(inputs[0], ids) for ids in inputs)
    width = max(len(ids) for ids in inputs) - prefix
    suffix_ids = np.zeros((len(inputs), width), dtype=np.int64)
    predictor = []
    for row, (ids, position) in enumerate(zip(inputs, predictors(weighted), strict=True)):
        suffix_ids[row, : len(ids) - prefix] = ids[prefix:]
        predictor.append(np.where(position < prefix, position, position + row * width))
    rows = SharedPrefix(
        prefix_ids=inputs[0][:prefix].astype(np.int64),
        suffix_ids=suffix_ids,
        predictor=np.concatenate(predictor),
        num_padding=suffix_ids.size - sum(len(ids) - prefix for ids in inputs),
    )
    return with_targets(rows, weighted)
