"""AdamW with a learning-rate schedule and gradient clipping."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from ajet.config.sections.algorithm import OptimConfig
from ajet.errors import ModelError, TrainingError
from ajet.training.updates import learning_rate


class PolicyOptimizer:
    """AdamW on the weights, or on float32 copies where the weights are bfloat16.

    At the learning rates of RL, most updates are smaller than the spacing of bfloat16 numbers. The
    float32 copies accumulate them.

    Args:
        parameters: those that require a gradient are trained.
        settings: section `ajet.trainer_common.optim`.
        total_steps: of the run, where the schedule ends.

    Raises:
        ModelError: the weights are float16.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], settings: OptimConfig, *, total_steps: int
    ) -> None:
        self._settings = settings
        self._total_steps = total_steps
        self._weights = [weight for weight in parameters if weight.requires_grad]
        if any(weight.dtype == torch.float16 for weight in self._weights):
            raise ModelError(
                "ajet.model.dtype: float16 cannot be trained, its gradients underflow; "
                "use bfloat16 or float32"
            )
        self._masters = [
            weight if weight.dtype == torch.float32 else nn.Parameter(weight.detach().float())
            for weight in self._weights
        ]
        matrices = [master for master in self._masters if master.ndim >= 2]
        others = [master for master in self._masters if master.ndim < 2]
        self.updates = 0
        """Number of updates that were begun: after an error, it tells whether weights changed."""
        self._adamw = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            betas=settings.betas,
            fused=True,
        )

    def update(self, step: int) -> float:
        """Apply the gradients and clear them; returns their norm before clipping.

        Raises:
            TrainingError: the gradient is not finite; the weights are unchanged.
        """
        for weight, master in self._coarse():
            master.grad = None if weight.grad is None else weight.grad.float()
        norm = float(nn.utils.clip_grad_norm_(self._masters, self._settings.grad_clip))
        if not math.isfinite(norm):
            raise TrainingError(f"step {step}: the gradient's norm is {norm}; nothing was updated")
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate(step, self._settings, self._total_steps)
        self.updates += 1
        self._adamw.step()
        with torch.no_grad():
            for weight, master in self._coarse():
                weight.copy_(master)
        for weight in (*self._weights, *self._masters):
            weight.grad = None
        return norm

    def state_dict(self) -> dict[str, Any]:
        """The state of AdamW and the float32 copies."""
        masters = [master.detach() for _, master in self._coarse()]
        return {"adamw": self._adamw.state_dict(), "masters": masters}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned for the same model."""
        self._adamw.load_state_dict(state["adamw"])
        with torch.no_grad():
            for (_, master), saved in zip(self._coarse(), state["masters"], strict=True):
                master.copy_(saved)

    def _coarse(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """The weights that are not float32, each with its float32 copy."""
        pairs = zip(self._weights, self._masters, strict=True)
        return [(weight, master) for weight, master in pairs if weight is not master]
