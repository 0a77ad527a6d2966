"""`ajet.data` and `ajet.context_tracker`: batches, limits of samples, how calls become samples."""

from __future__ import annotations

from typing import Literal

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


class TimelineMergingPolicyConfig(BaseConfig):
    """When calls share history. Token ids alone decide; the names are those of older files."""

    timeline_compare_level: Literal["token", "text"] = "token"
    """`token`: histories are one where their ids are. `text` is accepted and merges no more: text
    that looks equal may be other tokens."""
    ignore_tools: bool = False
    """Accepted; tools stand in the prompt, so calls with other tools have other ids."""


class ContextTrackerConfig(BaseConfig):
    """How calls become training samples."""

    timeline_merging_policy: TimelineMergingPolicyConfig = TimelineMergingPolicyConfig()
    detect_timeline_snap: bool = False
    """Log, after each step, which calls could not continue a recorded one and why. The counts are
    in the metrics `timeline/…` in any case."""
    fix_retokenization_drift: Literal[True] = True
    """Always so: what was sampled is never turned into text and back."""
