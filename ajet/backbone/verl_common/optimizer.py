"""The optimizer of verl's workers: AdamW as in every backbone."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn


class AdamWOnMatrices(torch.optim.AdamW):
    """AdamW that applies weight decay to matrices only, not to norms and biases."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
    ) -> None:
        weights = [weight for weight in params if weight.requires_grad]
        groups = [
            {"params": [w for w in weights if w.ndim >= 2], "weight_decay": weight_decay},
            {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0},
        ]
        # verl passes a list on, as its configuration has it; torch wants a tuple.
        super().__init__(groups, lr=lr, betas=(betas[0], betas[1]))
