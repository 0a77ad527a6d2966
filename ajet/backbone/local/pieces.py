"""Trains a tree in pieces (torch), so that memory follows the size of a piece and not of the tree.

First all pieces are computed without a graph: that gives the logprobs of all trained tokens, and
the keys and values that later pieces attend to. The loss then says how it changes with each
logprob. Last, from the last piece to the first, each is computed again with a graph, which gets the
loss's share and the gradients that later pieces had for its keys and values. The sum over the
pieces is the gradient of the whole tree. Only keys, values and their gradients grow with the tree.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.algorithm.policy_loss import PolicyLoss
from ajet.backbone.local.forward import trained_logprobs, tree_hidden
from ajet.backbone.local.fused_loss import FusedLoss
from ajet.backbone.local.micro_batches import MicroBatch, PackedTree
from ajet.backbone.local.tree_attention import KeyValues

LossOfTokens = Callable[[torch.Tensor, torch.Tensor], PolicyLoss]
"""From the logprobs [N] and entropies [N] of a micro-batch's trained tokens to their loss."""


_SMALLEST_PIECE = 16


def piece_bounds(num_positions: int, max_positions: int) -> list[tuple[int, int]]:
    """Start and end of pieces of equal size, which leave half of the memory for keys and values."""
    count = -(-num_positions // max(_SMALLEST_PIECE, max_positions // 2))
    edges = np.linspace(0, num_positions, count + 1).astype(int).tolist()
    return list(zip(edges, edges[1:], strict=False))


def backward_in_pieces(
    model: PreTrainedModel,
    batch: MicroBatch,
    loss_of: LossOfTokens,
    *,
    bounds: list[tuple[int, int]],
    with_entropy_gradient: bool,
    fused: FusedLoss | None = None,
) -> tuple[torch.Tensor, PolicyLoss]:
    """Add the gradient of a tree's loss to the weights; returns logprobs [N] and the loss.

    Must be called within `tree_attention(model)`.
    """
    tree = _tree_of(batch)
    memory: dict[int, KeyValues] = {}
    with torch.no_grad():
        logprobs, entropy = logprobs_in_pieces(
            model, batch, bounds=bounds, memory=memory, fused=fused
        )
    outputs = [logprobs.requires_grad_(), entropy.requires_grad_(with_entropy_gradient)]
    result = loss_of(*outputs)
    result.loss.backward()  # type: ignore[no-untyped-call]
    for start, end in reversed(bounds):
        hidden = tree_hidden(model, tree, start, end, memory=memory)
        which = _tokens_of(tree, start, end)
        # A piece without trained tokens still has gradients for its keys and values.
        # With an adapter of later layers only, nothing here may need a gradient.
        roots, grads = ([hidden], [torch.zeros_like(hidden)]) if hidden.requires_grad else ([], [])
        if len(which):
            position = torch.from_numpy(tree.predictor[which] - start).to(model.device)
            piece = trained_logprobs(
                model,
                hidden[position],
                batch,
                which,
                with_entropy_gradient=with_entropy_gradient,
                fused=fused,
            )
            for own, whole in zip(piece, outputs, strict=True):
                if own.requires_grad and whole.grad is not None:
                    roots.append(own)
                    grads.append(whole.grad[torch.from_numpy(which).to(model.device)])
        if roots:
            torch.autograd.backward(roots, grads)
    return logprobs.detach(), result


def logprobs_in_pieces(
    model: PreTrainedModel,
    batch: MicroBatch,
    *,
    bounds: list[tuple[int, int]],
    memory: dict[int, KeyValues] | None = None,
    fused: FusedLoss | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs [N] and entropies [N] of a tree's trained tokens; call it without gradients."""
    tree = _tree_of(batch)
    memory = {} if memory is None else memory
    logprobs = torch.empty(len(batch.targets), device=model.device)
    entropy = torch.empty_like(logprobs)
    for start, end in bounds:
        hidden = tree_hidden(model, tree, start, end, memory=memory)
        which = _tokens_of(tree, start, end)
        position = torch.from_numpy(tree.predictor[which] - start).to(model.device)
        index = torch.from_numpy(which).to(model.device)
        logprobs[index], entropy[index] = trained_logprobs(
            model, hidden[position], batch, which, fused=fused
        )
    return logprobs, entropy


def _tree_of(batch: MicroBatch) -> PackedTree:
    assert isinstance(batch.inputs, PackedTree), "rows are not computed in pieces"
    return batch.inputs


def _tokens_of(tree: PackedTree, start: int, end: int) -> np.ndarray:
    """Which trained tokens are predicted from a piece, as indices into the micro-batch."""
    return np.flatnonzero((tree.predictor >= start) & (tree.predictor < end))
