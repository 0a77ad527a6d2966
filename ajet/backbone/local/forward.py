"""Differentiable forward pass of a transformers causal LM; a shared prefix is computed once."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from transformers import DynamicCache, PreTrainedModel

from ajet.backbone.local.micro_batches import SharedPrefix
from ajet.errors import ModelError


def trained_logits(model: PreTrainedModel, inputs: SharedPrefix) -> torch.Tensor:
    """Logits [N, V] at the positions that predict a trained token.

    The prefix is computed once. Its keys and values stay in the graph and are used by every row, so
    its gradients are the sum over the rows, as if the sequences were separate. The output head is
    computed only for the N positions.
    """
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
