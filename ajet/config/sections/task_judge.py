"""`ajet.task_judge`: what gives the reward where the workflow gives none."""

from __future__ import annotations

from typing import Literal

from ajet.config.loading.paths import ClassPath
from ajet.config.sections.section import BaseConfig


class TaskJudgeConfig(BaseConfig):
    """What gives the reward where the workflow gives none."""

    judge_type: Literal["customized_protocol"] = "customized_protocol"
    """A class of yours or of `ajet.task_judge`."""
    judge_protocol: ClassPath | None = None
    """The judge's class; null: every workflow output must carry a reward."""
