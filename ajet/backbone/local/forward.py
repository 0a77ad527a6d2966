"""Forward passes of the trainer (torch): hidden states and logprobs where a token is trained."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import numpy as np
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from ajet.algorithm.policy_loss import token_logprobs
from ajet.backbone.local.fused_loss import FusedLoss
from ajet.backbone.local.micro_batches import (
    MAX_LOGITS,
    MAX_LOGITS_ON_GPU,
    MicroBatch,
    PackedTree,
    SharedPrefix,
    pack_tree,
)
from ajet.backbone.local.tree_attention import KeyValues, TreeWork, tree_attention
from ajet.engine.embedded.model_runner import keeps_states
from ajet.errors import ModelError

logger = logging.getLogger(__name__)

FORBIDDEN = -1e30
"""The logit of a token that a grammar forbids."""

CPU_BLOCK = 128
"""Queries of a causal span on a CPU. torch's kernel computes keys in blocks of 512, those that a
causal span does not see included; for 1,000 tokens, smaller spans take 30% less time."""


def trained_logprobs(
    model: PreTrainedModel,
    hidden: torch.Tensor,
    batch: MicroBatch,
    which: np.ndarray | slice = slice(None),
    *,
    with_entropy_gradient: bool = False,
    fused: FusedLoss | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs [M] and entropies [M] of trained tokens, from the hidden states [M, H] before them.

    If there are many, the logits are computed in parts, and computed again in the backward pass.

    Args:
        model: its output head is used.
        hidden: last hidden states that predict the tokens.
        batch: the tokens and their temperatures.
        which: the M of the micro-batch's tokens that `hidden` belongs to.
        with_entropy_gradient: keep the entropy in the graph.
        fused: computes what it supports without logits.
    """
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    targets = torch.from_numpy(batch.targets[which]).to(model.device)
    temperature = torch.from_numpy(batch.temperature[which]).to(model.device)

    if fused is not None and batch.forbidden is None and not with_entropy_gradient:
        values = batch.temperature[which]
        if fused.supports(head, values):
            return fused.logprobs(head, hidden, targets, values)

    forbidden = None if batch.forbidden is None else torch.from_numpy(batch.forbidden[which])

    def part(hidden: torch.Tensor, here: slice) -> tuple[torch.Tensor, torch.Tensor]:
        logits = head(hidden)
        if forbidden is not None:
            # Not minus infinity, of which the entropy would be NaN.
            logits = logits.float().masked_fill(forbidden[here].to(model.device), FORBIDDEN)
        return token_logprobs(
            logits,
            targets[here],
            temperature[here],
            with_entropy_gradient=with_entropy_gradient,
        )

    most = MAX_LOGITS if model.device.type == "cpu" else MAX_LOGITS_ON_GPU
    size = max(1, most // model.config.get_text_config().vocab_size)
    if len(hidden) <= size:
        return part(hidden, slice(None))
    parts = []
    for start in range(0, len(hidden), size):
        here = slice(start, start + size)
        if torch.is_grad_enabled():
            parts.append(
                checkpoint(part, hidden[here], here, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            parts.append(part(hidden[here], here))
    logprobs, entropy = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropy)


def attention_for(
    model: PreTrainedModel, inputs: SharedPrefix | PackedTree
) -> AbstractContextManager[None]:
    """Within it, forward and backward passes use the attention that the inputs need."""
    return tree_attention(model) if isinstance(inputs, PackedTree) else nullcontext()


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Prepare the layers for `checkpointed`.

    Raises:
        ModelError: transformers has no gradient checkpointing for this model.
    """
    try:
        with warnings.catch_warnings():
            # transformers 5.23 wants a new name for it, which 5.9 does not have yet.
            warnings.simplefilter("ignore", FutureWarning)
            model.gradient_checkpointing_enable({"use_reentrant": False})  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise ModelError(
            f"ajet.trainer_common.gradient_checkpointing: {type(model).__name__} does not support "
            "it; set it to false and lower ajet.trainer_common.micro_batch_tokens instead"
        ) from error


@contextmanager
def checkpointed(model: PreTrainedModel) -> Iterator[None]:
    """Layers that were prepared keep only their inputs for the backward pass.

    transformers does that only for layers in training mode. The modules inside the layers stay in
    evaluation mode, without dropout.
    """
    layers = [m for m in model.modules() if isinstance(m, GradientCheckpointingLayer)]
    for layer in layers:
        layer.training = layer.gradient_checkpointing
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def trained_hidden(model: PreTrainedModel, inputs: SharedPrefix | PackedTree) -> torch.Tensor:
    """Last hidden states [M, H] at the positions that predict a trained token.

    A tree needs `attention_for` around this and around the backward pass.
    """
    if isinstance(inputs, PackedTree):
        hidden = tree_hidden(model, inputs, 0, len(inputs.ids))
    else:
        hidden, inputs = _row_hidden(model, inputs)
    return hidden[torch.from_numpy(inputs.predictor).to(model.device)]


def tree_hidden(
    model: PreTrainedModel,
    tree: PackedTree,
    start: int,
    end: int,
    *,
    memory: dict[int, KeyValues] | None = None,
    windows: set[int] | None = None,
) -> torch.Tensor:
    """Last hidden states [end - start, H] of a part of a tree.

    Args:
        model: must be within `tree_attention(model)`.
        tree: the packed sequences.
        start: first position.
        end: one beyond the last position.
        memory: keys and values of the positions before `start`; those of this part are added.
        windows: gets the sliding windows of the layers.
    """
    is_cpu = model.device.type == "cpu"
    work = TreeWork(
        start=start,
        spans=tree.spans(start, end, causal_block=CPU_BLOCK if is_cpu else None),
        num_positions=len(tree.ids),
        memory=memory,
        windows=set() if windows is None else windows,
    )
    output = model.base_model(
        input_ids=torch.from_numpy(tree.ids[None, start:end]).to(model.device),
        position_ids=torch.from_numpy(tree.depths[None, start:end]).to(model.device),
        use_cache=False,
        tree=work,
    )
    states: torch.Tensor = output.last_hidden_state
    return states[0]


def _row_hidden(model: PreTrainedModel, inputs: SharedPrefix) -> tuple[torch.Tensor, SharedPrefix]:
    """Last hidden states [P + B * S, H] of rows, and the inputs that they belong to.

    The prefix is computed once. Its keys and values stay in the graph and are used by every row, so
    its gradients are the sum over the rows, as if the sequences were separate.
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
    return torch.cat(hidden), inputs


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


def trained_logits(model: PreTrainedModel, inputs: SharedPrefix | PackedTree) -> torch.Tensor:
    """Logits [M, V] at the positions that predict a trained token."""
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    logits: torch.Tensor = head(trained_hidden(model, inputs))
    return logits


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


@torch.no_grad()
def longest_in_tree(model: PreTrainedModel) -> int:
    """How long a sequence may be to be trained in a tree; 0: the model cannot be trained so.

    A small tree must give the model's own logits. A sequence longer than a sliding window would
    need a mask, which the attention over trees does not have.
    """
    if keeps_states(model):
        return 0
    rows = [np.array([1, 2, 3, 4, 5]), np.array([1, 2, 3, 6, 7]), np.array([1, 2, 3, 6, 8])]
    tree = pack_tree(rows, np.array([0, 3, 4]), [np.arange(5)] * 3)
    windows: set[int] = set()
    try:
        with tree_attention(model):
            states = tree_hidden(model, tree, 0, len(tree.ids), windows=windows)
    except (ModelError, TypeError, NotImplementedError, RuntimeError) as error:
        logger.info("%s is trained without trees: %s", type(model).__name__, error)
        return 0
    head: nn.Module = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    logits = head(states[torch.from_numpy(tree.predictor).to(model.device)]).float()
    plain = _plain_logits(model, rows)
    if not (logits - plain).abs().max() <= 0.1 * plain.std():
        return 0
    return min(windows, default=sys.maxsize)


def _plain_logits(model: PreTrainedModel, rows: Sequence[np.ndarray]) -> torch.Tensor:
    """Logits [sum of L_i, V] of rows of equal length, by the model's own forward."""
    ids = torch.from_numpy(np.stack(rows)).to(model.device)
    logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    return logits.float().flatten(0, 1)
