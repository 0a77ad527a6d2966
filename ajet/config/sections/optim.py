"""`ajet.trainer_common.optim`: the optimizer."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Lt
from pydantic import Field

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, NotNegative, Positive, Share

Beta = Annotated[float, Ge(0), Lt(1)]


class OptimConfig(BaseConfig):
    """The optimizer, AdamW."""

    lr: Positive = 1e-6
    """Learning rate after the warm-up."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Its course from the warm-up to the last step."""
    lr_min_ratio: Share = 0.1
    """The last step's learning rate, as a share of `lr`; `constant` does not use it."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Steps in which the learning rate rises from 0."""
    weight_decay: NotNegative = 0.01
    """On matrices; norms and biases have none."""
    betas: Annotated[tuple[Beta, Beta], Field(strict=False)] = (0.9, 0.95)
    """Decay of AdamW's two averages."""
    grad_clip: Positive = 1.0
    """Largest norm of the gradient."""
    num_updates_per_step: Count = 1
    """Optimizer updates on one step's samples, each on its own part of them."""
