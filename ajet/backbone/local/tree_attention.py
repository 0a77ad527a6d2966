"""Attention over a packed tree (torch): exact, without masks, padding or copies of keys.

Each span of queries and keys is one call of the flash-attention kernel. A query with several spans
gets the average of their outputs, weighted by their softmax sums, as if all keys had been one run.
In the backward pass the kernel gets the output and the softmax sum of the whole query, so each span
returns its exact share of the gradients.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ajet.backbone.local.micro_batches import AttentionSpan
from ajet.errors import ModelError

NAME = "ajet_tree"
"""Under this name transformers finds the attention of this file."""
_MOST_KEYS = 2048
"""Keys whose gradients the kernel computes at once, if they are not those of the queries."""


@dataclass(slots=True, kw_only=True)
class KeyValues:
    """Keys and values of one layer for all N positions of a tree that is computed in pieces.

    Their gradients are summed up by later pieces, and taken by the piece that computed the keys.
    """

    keys: torch.Tensor
    """[1, heads, N, D]."""
    values: torch.Tensor
    """[1, heads, N, D]."""
    key_grads: torch.Tensor
    """[1, heads, N, D], in the dtype of sums."""
    value_grads: torch.Tensor
    """[1, heads, N, D], in the dtype of sums."""


@dataclass(slots=True, kw_only=True)
class TreeWork:
    """What the attention layers need to know about the positions of one forward pass."""

    start: int
    """Position of the first query in the tree."""
    spans: Sequence[AttentionSpan]
    """Spans of the queries, in positions of the tree."""
    num_positions: int
    """Positions of the whole tree."""
    memory: dict[int, KeyValues] | None = None
    """Layer -> its keys and values; None: the whole tree is one forward pass."""
    windows: set[int] = field(default_factory=set)
    """Sliding windows of the layers, noted during the forward pass."""


@contextmanager
def tree_attention(model: PreTrainedModel) -> Iterator[None]:
    """The model's layers use the attention of this file, in backward passes, too."""
    configs = {id(c): c for c in (model.config, model.config.get_text_config())}.values()
    before = [config._attn_implementation for config in configs]
    ALL_ATTENTION_FUNCTIONS.register(NAME, _attend)
    for config in configs:
        config._attn_implementation = NAME
    try:
        yield
    finally:
        for config, name in zip(configs, before, strict=True):
            config._attn_implementation = name


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    tree: TreeWork | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What transformers calls in each layer; returns [1, n, heads, D].

    Raises:
        ModelError: the layer needs something that this attention does not have.
    """
    unknown = [name for name in ("softcap", "s_aux") if others.get(name) is not None]
    if tree is None or unknown or attention_mask is not None or query.shape[-1] != value.shape[-1]:
        raise ModelError("its attention is not a plain softmax over all keys")
    if sliding_window:
        tree.windows.add(sliding_window)
    memory = None
    if tree.memory is not None:
        layer = module.layer_idx
        assert isinstance(layer, int)
        if layer not in tree.memory:
            tree.memory[layer] = _empty_memory(key, tree.num_positions)
        memory = tree.memory[layer]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    output = _TreeAttention.apply(  # type: ignore[no-untyped-call]
        query, key, value, tree, memory, scale
    )
    return output.transpose(1, 2), None


def _empty_memory(key: torch.Tensor, num_positions: int) -> KeyValues:
    shape = (*key.shape[:2], num_positions, key.shape[3])
    return KeyValues(
        keys=key.new_empty(shape),
        values=key.new_empty(shape),
        key_grads=key.new_zeros(shape, dtype=_sum_dtype(key)),
        value_grads=key.new_zeros(shape, dtype=_sum_dtype(key)),
    )


def _sum_dtype(tensor: torch.Tensor) -> torch.dtype:
    """Sums over many spans would lose digits in bfloat16."""
    return torch.float32 if tensor.dtype.itemsize < 4 else tensor.dtype


class _TreeAttention(torch.autograd.Function):
    """Queries [1, H, n, D], keys and values [1, KV, n, D] of a piece -> outputs [1, H, n, D]."""

    @staticmethod
    def forward(
        ctx: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        tree: TreeWork,
        memory: KeyValues | None,
        scale: float,
    ) -> torch.Tensor:
        if memory is not None:
            here = slice(tree.start, tree.start + key.shape[2])
            memory.keys[:, :, here], memory.values[:, :, here] = key, value
        if len(tree.spans) == 1:
            output, sums = _kernel(query, key, value, tree.spans[0].is_causal, scale)
        else:
            output, sums = _forward_spans(query, key, value, tree, memory, scale)
        ctx.save_for_backward(query, key, value, output, sums)
        ctx.tree, ctx.memory, ctx.scale = tree, memory, scale
        return output

    @staticmethod
    def backward(ctx: Any, output_grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        query, key, value, output, sums = ctx.saved_tensors
        tree, memory = ctx.tree, ctx.memory
        if len(tree.spans) == 1 and memory is None:
            grads = _kernel_backward(
                output_grad, query, key, value, output, sums, tree.spans[0].is_causal, ctx.scale
            )
            return (*grads, None, None, None)
        dtype = _sum_dtype(query)
        query_grad = torch.zeros_like(query, dtype=dtype)
        key_grad = torch.zeros_like(key, dtype=dtype)
        value_grad = torch.zeros_like(value, dtype=dtype)
        for span in _of_few_keys(tree.spans):
            rows = slice(span.query_start - tree.start, span.query_end - tree.start)
            keys, values = _keys_of(span, key, value, tree, memory)
            part = _kernel_backward(
                output_grad[:, :, rows],
                query[:, :, rows],
                keys,
                values,
                output[:, :, rows],
                sums[:, :, rows],
                span.is_causal,
                ctx.scale,
            )
            query_grad[:, :, rows] += part[0]
            if span.key_start >= tree.start:
                columns = slice(span.key_start - tree.start, span.key_end - tree.start)
                key_grad[:, :, columns] += part[1]
                value_grad[:, :, columns] += part[2]
            else:
                assert memory is not None
                memory.key_grads[:, :, span.key_start : span.key_end] += part[1]
                memory.value_grads[:, :, span.key_start : span.key_end] += part[2]
        if memory is not None:
            # Pieces run backward from the last to the first, so all later ones have added theirs.
            here = slice(tree.start, tree.start + key.shape[2])
            key_grad += memory.key_grads[:, :, here]
            value_grad += memory.value_grads[:, :, here]
        grads = (query_grad, key_grad, value_grad)
        return (*[grad.to(query.dtype) for grad in grads], None, None, None)


def _of_few_keys(spans: Sequence[AttentionSpan]) -> Iterator[AttentionSpan]:
    """The spans with long runs of keys cut, which bounds the memory of the kernel's gradients."""
    for span in spans:
        if span.is_causal:
            yield span
            continue
        for start in range(span.key_start, span.key_end, _MOST_KEYS):
            end = min(start + _MOST_KEYS, span.key_end)
            yield span._replace(key_start=start, key_end=end)


def _forward_spans(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    tree: TreeWork,
    memory: KeyValues | None,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs and softmax sums of queries with several spans."""
    batch, heads, length, width = query.shape
    dtype = _sum_dtype(query)
    output = query.new_zeros((batch, length, heads, width), dtype=dtype).transpose(1, 2)
    sums = query.new_full((batch, length, heads), -torch.inf, dtype=dtype).transpose(1, 2)
    # The causal spans are the chains and cover every query once; the others are added to them.
    for span in sorted(tree.spans, key=lambda span: not span.is_causal):
        rows = slice(span.query_start - tree.start, span.query_end - tree.start)
        keys, values = _keys_of(span, key, value, tree, memory)
        part, part_sums = _kernel(query[:, :, rows], keys, values, span.is_causal, scale)
        if span.is_causal:
            output[:, :, rows], sums[:, :, rows] = part, part_sums
            continue
        before = sums[:, :, rows]
        after = torch.logaddexp(before, part_sums)
        so_far = output[:, :, rows]
        so_far *= (before - after).exp()[..., None]
        so_far.addcmul_(part.to(dtype), (part_sums - after).exp()[..., None])
        sums[:, :, rows] = after
    return output.to(query.dtype), sums


def _keys_of(
    span: AttentionSpan,
    key: torch.Tensor,
    value: torch.Tensor,
    tree: TreeWork,
    memory: KeyValues | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of a span: of this piece, or of an earlier one."""
    if span.key_start >= tree.start:
        columns = slice(span.key_start - tree.start, span.key_end - tree.start)
        return key[:, :, columns], value[:, :, columns]
    assert memory is not None
    columns = slice(span.key_start, span.key_end)
    return memory.keys[:, :, columns], memory.values[:, :, columns]


def _kernel(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, is_causal: bool, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Torch's flash attention: outputs [1, H, n, D] and logarithms of softmax sums [1, H, n]."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(  # type: ignore[no-any-return]
            query, key, value, 0.0, is_causal, scale=scale
        )
    output, sums, *_ = torch.ops.aten._scaled_dot_product_flash_attention(
        query, key, value, 0.0, is_causal, False, scale=scale
    )
    return output, sums


def _kernel_backward(
    output_grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    output: torch.Tensor,
    sums: torch.Tensor,
    is_causal: bool,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of queries, keys and values; `output` and `sums` may be those of more keys."""
    if query.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(  # type: ignore[no-any-return]
            output_grad, query, key, value, output, sums, 0.0, is_causal, scale=scale
        )
    no_state = torch.zeros(2, dtype=torch.uint64, device=query.device)  # of dropout, unused
    return torch.ops.aten._scaled_dot_product_flash_attention_backward(  # type: ignore[no-any-return]
        output_grad,
        query,
        key,
        value,
        output,
        sums.contiguous(),
        None,
        None,
        query.shape[2],
        key.shape[2],
        0.0,
        is_causal,
        no_state,
        no_state[0],
        scale=scale,
    )
