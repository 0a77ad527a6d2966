"""`ajet.context_tracker`: how calls become training samples."""

from __future__ import annotations

from typing import Literal

from ajet.config.sections.section import BaseConfig


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
