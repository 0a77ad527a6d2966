"""Cuts a mini-batch into micro-batches with a shared prefix and packs them into arrays. numpy only.

The last token of a sequence predicts nothing that is trained, so a sequence of L tokens is L - 1
inputs. A micro-batch runs the longest common prefix of its inputs once and pads what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from ajet.engine.embedded.model_runner import keeps_states
from ajet.errors import ModelError
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

    inputs: SharedPrefix
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


def common_prefix_length(a: np.ndarray, b: np.ndarray) -> int:
    """How many ids two sequences have in common from their start."""
    length = min(len(a), len(b))
    differs = np.flatnonzero(a[:length] != b[:length])
    return int(differs[0]) if len(differs) else length


def pack(weighted: Sequence[tuple[Sample, np.ndarray]]) -> MicroBatch:
    """Put samples, each with its loss weights [L], into one micro-batch."""
    samples = [sample for sample, _ in weighted]
    inputs = [sample.ids[:-1] for sample in samples]
    prefix = min(common_prefix_length(inputs[0], ids) for ids in inputs)
    width = max(len(ids) for ids in inputs) - prefix
    suffix_ids = np.zeros((len(samples), width), dtype=np.int64)
    predictor = []
    for row, (sample, ids) in enumerate(zip(samples, inputs, strict=True)):
        assert not sample.loss_mask[0], "nothing predicts a first token"
        suffix_ids[row, : len(ids) - prefix] = ids[prefix:]
        position = np.flatnonzero(sample.loss_mask) - 1
        predictor.append(np.where(position < prefix, position, position + row * width))

    def trained(arrays: Sequence[np.ndarray]) -> np.ndarray:
        rows = zip(arrays, samples, strict=True)
        return np.concatenate([array[sample.loss_mask] for array, sample in rows])

    temperature = trained([sample.temperature for sample in samples])
    return MicroBatch(
        inputs=SharedPrefix(
            prefix_ids=inputs[0][:prefix].astype(np.int64),
            suffix_ids=suffix_ids,
            predictor=np.concatenate(predictor),
        ),
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


def trained_logits(model: PreTrainedModel, inputs: SharedPrefix) -> torch.Tensor:
    """Logits [N, V] at the positions that predict a trained token.

    The prefix is computed once. Its keys and values stay in the graph and are used by every row, so
    its gradients are the sum over the rows, as if the sequences were separate. The output head is
    computed only for the N positions.
    """
    if keeps_states(model):
        inputs = _without_prefix(inputs)
    hidden = []
    cache = None
    if len(inputs.prefix_ids):
        cache = DynamicCache(config=model.config)
        hidden.append(_hidden_states(model, inputs.prefix_ids[None], cache))
        cache.batch_repeat_interleave(len(inputs.suffix_ids))
    if inputs.suffix_ids.size:
        hidden.append(_hidden_states(model, inputs.suffix_ids, cache))
    predictor = torch.from_numpy(inputs.predictor).to(model.device)
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    logits: torch.Tensor = head(torch.cat(hidden)[predictor])
    return logits


def _without_prefix(inputs: SharedPrefix) -> SharedPrefix:
    """The same sequences as separate rows.

    Layers that keep states overwrite them in place, so gradients could not pass through a prefix.
    """
    prefix, width = len(inputs.prefix_ids), inputs.suffix_ids.shape[1]
    row, column = np.divmod(inputs.predictor - prefix, max(width, 1))
    moved = row * (prefix + width) + prefix + column
    head = np.broadcast_to(inputs.prefix_ids, (len(inputs.suffix_ids), prefix))
    return SharedPrefix(
        prefix_ids=inputs.prefix_ids[:0],
        suffix_ids=np.concatenate([head, inputs.suffix_ids], axis=1),
        predictor=np.where(inputs.predictor < prefix, inputs.predictor, moved),
    )


def _hidden_states(
    model: PreTrainedModel, ids: np.ndarray, cache: DynamicCache | None
) -> torch.Tensor:
    """Last hidden states [B * S, H] of ids [B, S] that follow the tokens in the cache.

    There is no mask: under causal attention no token sees the padding to its right.
    """
    output = model.base_model(
        input_ids=torch.from_numpy(ids).to(model.device),
        past_key_values=cache,
        use_cache=cache is not None,
    )
    states: torch.Tensor = output.last_hidden_state
    return states.flatten(0, 1)


@torch.no_grad()
def check_forward(model: PreTrainedModel) -> None:
    """Check that `trained_logits` gives the model's own logits.

    It does not for models that change the logits after the output head, or without a KV cache.

    Raises:
        ModelError: the logits differ.
    """
    rows = np.array([[1, 2, 3, 4, 5], [1, 2, 3, 6, 7]])
    plain = model(input_ids=torch.from_numpy(rows).to(model.device), use_cache=False).logits.float()
    shared = trained_logits(
        model,
        SharedPrefix(prefix_ids=rows[0, :3], suffix_ids=rows[:, 3:], predictor=np.arange(7)),
    )
    difference = (shared.float() - torch.cat([plain[0], plain[1, 3:]])).abs().max()
    # Far above rounding errors of bfloat16, far below the distance of wrong logits.
    if not difference <= 0.1 * plain.std():
        raise ModelError(
            f"{type(model).__name__} computes its logits in a way that the local backbone cannot "
            f"reproduce (they differ by {float(difference):.3g}); use another backbone"
        )
