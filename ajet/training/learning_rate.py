"""The learning rate of a step."""

from __future__ import annotations

import math

from ajet.config.sections.optim import OptimConfig


def learning_rate(step: int, settings: OptimConfig, total_steps: int) -> float:
    """The learning rate of a step, the first being 1: a function of nothing that needs saving."""
    if step <= settings.warmup_steps:
        return settings.lr * step / settings.warmup_steps
    if settings.lr_schedule == "constant":
        return settings.lr
    steps_to_last = max(1, total_steps - settings.warmup_steps - 1)
    progress = min(1.0, (step - settings.warmup_steps - 1) / steps_to_last)
    if settings.lr_schedule == "cosine":
        progress = (1 - math.cos(math.pi * progress)) / 2
    return settings.lr * (1 - (1 - settings.lr_min_ratio) * progress)
