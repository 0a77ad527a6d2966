"""Packs samples into micro-batches, as a tree or as rows behind one shared prefix. numpy only.

The last token of a sequence predicts nothing that is trained, so a sequence of L tokens is L - 1
inputs. Trees are the rule (`packed_trees.py`). Rows are for models whose attention cannot run over
a tree: they compute the longest common prefix of their inputs once and pad what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ajet.backbone.local.packed_trees import (
    PackedTree,
    TreePlan,
    common_prefix_length,
    pack_tree,
)
from ajet.schema.episode import Sample


@dataclass(slots=True, kw_only=True)
class SharedPrefix:
    """The inputs of B sequences whose first P tokens are the same."""

    prefix_ids: np.ndarray
    """[P] int64: the tokens that all sequences begin with."""
    suffix_ids: np.ndarray
    """[B, S] int64: the tokens that follow in each sequence, padded on the right with 0."""
    predictor: np.ndarray
    """[N] int64: the positions that predict a trained token, counted through the prefix and then
    through the rows of `suffix_ids`: in [0, P + B * S)."""
    num_padding: int = 0
    """Positions of `suffix_ids` that are padding."""


@dataclass(slots=True, kw_only=True)
class ConstrainedCompletion:
    """A completion that had to match a grammar, and where its trained tokens are."""

    grammar: str
    ids: np.ndarray
    """[C]: the completion, from its first token on."""
    columns: np.ndarray
    """[T] int64: positions of the trained tokens in `ids`."""
    rows: np.ndarray
    """[T] int64: positions of the same tokens among the N of the micro-batch."""


@dataclass(slots=True, kw_only=True)
class MicroBatch:
    """Sequences for one forward pass, and their N trained tokens in the order of `predictor`."""

    inputs: SharedPrefix | PackedTree
    samples: list[Sample]
    """The packed samples, in the order of `sample_index`."""
    targets: np.ndarray
    """[N] int64: the trained tokens."""
    old_logprobs: np.ndarray
    """[N] float32: under the sampling policy."""
    advantages: np.ndarray
    """[N] float32."""
    weights: np.ndarray
    """[N] float32: weight of each token in the loss."""
    temperature: np.ndarray
    """[N] float32, above 0: divides the logits."""
    policy_versions: np.ndarray
    """[N] int32."""
    sample_index: np.ndarray
    """[N] int64, from 0: which of the packed samples a token belongs to."""
    constrained: list[ConstrainedCompletion]
    """The completions with a grammar; usually none."""
    forbidden: np.ndarray | None = None
    """[N, V] bool: the tokens that the engine could not sample; None: it could sample all."""

    @property
    def num_positions(self) -> int:
        """Positions that are computed, padding included."""
        if isinstance(self.inputs, PackedTree):
            return len(self.inputs.ids)
        return len(self.inputs.prefix_ids) + self.inputs.suffix_ids.size

    @property
    def num_padding(self) -> int:
        """Positions that are computed for no token; a tree has none."""
        return 0 if isinstance(self.inputs, PackedTree) else self.inputs.num_padding


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
    for row, (ids, position) in enumerate(zip(inputs, _predictors(weighted), strict=True)):
        suffix_ids[row, : len(ids) - prefix] = ids[prefix:]
        predictor.append(np.where(position < prefix, position, position + row * width))
    rows = SharedPrefix(
        prefix_ids=inputs[0][:prefix].astype(np.int64),
        suffix_ids=suffix_ids,
        predictor=np.concatenate(predictor),
        num_padding=suffix_ids.size - sum(len(ids) - prefix for ids in inputs),
    )
    return _with_targets(rows, weighted)


def pack_as_tree(weighted: Sequence[tuple[Sample, np.ndarray]], plan: TreePlan) -> MicroBatch:
    """Put the samples of a plan, each with its loss weights [L], into one micro-batch."""
    chosen = [weighted[row] for row in plan.rows]
    inputs = [sample.ids[:-1] for sample, _ in chosen]
    return _with_targets(pack_tree(inputs, plan.shared, _predictors(chosen)), chosen)


def _predictors(weighted: Sequence[tuple[Sample, np.ndarray]]) -> list[np.ndarray]:
    """For each sample, the inputs that predict a trained token."""
    assert not any(sample.loss_mask[0] for sample, _ in weighted), "nothing predicts a first token"
    return [np.flatnonzero(sample.loss_mask) - 1 for sample, _ in weighted]


def _with_targets(
    inputs: SharedPrefix | PackedTree, weighted: Sequence[tuple[Sample, np.ndarray]]
) -> MicroBatch:
    samples = [sample for sample, _ in weighted]

    def trained(arrays: Sequence[np.ndarray]) -> np.ndarray:
        rows = zip(arrays, samples, strict=True)
        return np.concatenate([array[sample.loss_mask] for array, sample in rows])

    temperature = trained([sample.temperature for sample in samples])
    return MicroBatch(
        inputs=inputs,
        samples=samples,
        targets=trained([sample.ids for sample in samples]).astype(np.int64),
        old_logprobs=trained([sample.logprobs for sample in samples]),
        advantages=trained([_advantages(sample) for sample in samples]),
        weights=trained([weights for _, weights in weighted]),
        # A greedy completion's logprobs are those of the logits themselves.
        temperature=np.where(temperature == 0, np.float32(1), temperature),
        policy_versions=trained([sample.policy_versions for sample in samples]),
        sample_index=np.repeat(np.arange(len(samples)), [s.num_trained for s in samples]),
        constrained=list(_constrained(samples)),
    )


def _constrained(samples: Sequence[Sample]) -> Iterator[ConstrainedCompletion]:
    first_row = 0
    for sample in samples:
        row_of = first_row + np.cumsum(sample.loss_mask) - 1
        for span in sample.grammars:
            part = slice(span.start, span.stop)
            columns = np.flatnonzero(sample.loss_mask[part])
            yield ConstrainedCompletion(
                grammar=span.grammar,
                ids=sample.ids[part],
                columns=columns,
                rows=row_of[part][columns],
            )
        first_row += sample.num_trained


def _advantages(sample: Sample) -> np.ndarray:
    assert sample.advantages is not None, "credit comes before training"
    return sample.advantages
