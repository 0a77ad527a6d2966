"""`ajet.data`: how much is read and trained at a time."""

from __future__ import annotations

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count


class DataConfig(BaseConfig):
    """How much is read and trained at a time."""

    train_batch_size: Count = 16
    """Tasks in a step; each is tried `rollout.num_repeat` times."""
    max_prompt_length: Count | None = None
    """Tokens of a sample before its first trained one at most; a sample with more is dropped and
    counted in `tokens/dropped`. Null: no limit but the model's."""
    max_response_length: Count | None = None
    """Tokens of a sample from its first trained one on at most; what lies beyond is cut off and
    counted in `tokens/dropped`. Null: no limit but the model's."""
    shuffle: bool = True
    """Take the training tasks in a new order each epoch, drawn from `trainer_common.seed`."""
