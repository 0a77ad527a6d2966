"""Samples tokens from logits, one row per sequence, each with its own parameters."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ajet.schema.call import SamplingParams


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample one token per row.

    A row's token depends only on its own logits, parameters and random number: it is the first
    token in vocabulary order at which the cumulative probability (float64) exceeds that number.

    Args:
        logits: [N, V], any float type.
        params: [N] parameters of each row.
        uniforms: [N] random numbers in [0, 1).

    Returns:
        Tokens [N] int64, and logprobs [N] float32 as `Generation.logprobs` defines them.
    """
    logits = logits.float()
    temperatures = [p.temperature or 1.0 for p in params]
    if any(t != 1.0 for t in temperatures):
        logits = logits / logits.new_tensor(temperatures)[:, None]
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.double().exp()
    _cut_tails(probabilities, params)
    cumulated = probabilities.cumsum(-1)
    cumulated /= cumulated[:, -1:].clone()
    targets = cumulated.new_tensor(uniforms)[:, None]
    tokens = torch.searchsorted(cumulated, targets, right=True)
    # Only NaN exceeds the vocabulary. It must not fail here: the engine sees it in the logprobs.
    tokens = tokens.clamp_(max=logits.shape[-1] - 1)
    greedy = [p.temperature == 0 for p in params]
    if any(greedy):
        is_greedy = torch.tensor(greedy, device=logits.device)[:, None]
        tokens = torch.where(is_greedy, logits.argmax(-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def _cut_tails(probabilities: torch.Tensor, params: Sequence[SamplingParams]) -> None:
    """Set to 0, in place, the probabilities of tokens that top-k and top-p exclude."""
    vocabulary = probabilities.shape[-1]
    cut = [i for i, p in enumerate(params) if p.top_p < 1 or 0 < p.top_k < vocabulary]
    if not cut:
        return
    top_p = probabilities.new_tensor([params[i].top_p for i in cut])[:, None]
    top_k = probabilities.new_tensor([params[i].top_k or vocabulary for i in cut])[:, None]
    rows = torch.tensor(cut, device=probabilities.device)
    ordered, order = probabilities[rows].sort(dim=-1, descending=True, stable=True)
    ordered = ordered * (torch.arange(vocabulary, device=order.device) < top_k)
    # top-p applies to the tokens that top-k left, renormalised. A token stays if the tokens before
    # it have less than top_p together, so the first token always stays.
    ordered /= ordered.sum(-1, keepdim=True)
    ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
    probabilities[rows] = torch.zeros_like(ordered).scatter_(-1, order, ordered)
