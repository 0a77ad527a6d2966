"""`ajet.data` and `ajet.context_tracker`: batches, limits of samples, how calls become samples."""

from __future__ import annotations

from typing import Literal

from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count


class DataConfig(BaseConfig):
    """Batch size, order of the tasks and limits of training samples."""

    train_batch_size: Count = 16
    """Tasks per step; each task gets `rollout.num_repeat` episodes."""
    max_prompt_length: Count | None = None
    """Maximum tokens of a sample before its first trained token; a longer sample is dropped and
    counted in `tokens/dropped`. Null: only the model's own limit."""
    max_response_length: Count | None = None
    """Maximum tokens of a sample from its first trained token on; the rest is cut off and counted
    in `tokens/dropped`. Null: only the model's own limit."""
    shuffle: bool = True
    """Shuffle the training tasks in each epoch, with `trainer_common.seed`."""


class TimelineMergingPolicyConfig(BaseConfig):
    """Accepted for compatibility: calls share a timeline where their token ids are equal."""

    timeline_compare_level: Literal["token", "text"] = "token"
    """`text` is accepted and means the same as `token`: calls with equal text but different token
    ids are not merged."""
    ignore_tools: bool = False
    """Accepted without effect: tools are part of the prompt, so they change its token ids."""


class ContextTrackerConfig(BaseConfig):
    """How calls become training samples."""

    timeline_merging_policy: TimelineMergingPolicyConfig = TimelineMergingPolicyConfig()
    detect_timeline_snap: bool = False
    """Log after each step which calls could not continue an earlier call, and why. The metrics
    `timeline/…` always have the counts."""
    fix_retokenization_drift: Literal[True] = True
    """Always true: sampled tokens are never decoded and encoded again."""
