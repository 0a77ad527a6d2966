"""Where rewards come from when the workflow gives none."""

from __future__ import annotations

from typing import Any

from ajet.class_path import load_class
from ajet.task_judge.base_judge import BaseJudge


def make_judge(judge_protocol: str | None, config: Any) -> BaseJudge | None:
    """The judge of `ajet.task_judge.judge_protocol`; None where the workflow gives the reward.

    Args:
        judge_protocol: a class path, or None.
        config: handed to the judge.

    Raises:
        ConfigError: the class cannot be loaded or is no `BaseJudge`.
    """
    if judge_protocol is None:
        return None
    cls: type[BaseJudge] = load_class(judge_protocol, BaseJudge, "ajet.task_judge.judge_protocol")
    return cls(config)
