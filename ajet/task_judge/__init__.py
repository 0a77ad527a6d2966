"""Sources of reward, one class per file; the registry is in `config/sections/task_judge.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ajet.class_path import find_function, load_class, require_call
from ajet.errors import ConfigError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseGroupJudge, BaseJudge, Judge

KEY = "ajet.task_judge.judge_protocol"


class FunctionJudge(BaseJudge):
    """A judge made from a function `(workflow_task, workflow_output)`, which may be async."""

    def __init__(self, function: Callable[[WorkflowTask, WorkflowOutput], Any]) -> None:
        super().__init__(None)
        self._function = function

    def compute_reward(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Any:
        """Call the function; its result is checked like that of any judge."""
        return self._function(workflow_task, workflow_output)


def make_judge(class_path: str | None, config: Any) -> Judge | None:
    """Make the judge that a class path names; None if the workflow gives the reward.

    Args:
        class_path: `ajet.task_judge.judge_class`: a judge's class, or a plain function.
        config: the whole configuration, passed to the judge.

    Raises:
        ConfigError: the judge cannot be loaded, or its class is neither a `BaseJudge` nor a
            `BaseGroupJudge`, or does not take the configuration.
    """
    if class_path is None:
        return None
    if function := find_function(class_path, KEY):
        return FunctionJudge(function)
    cls: type[Judge] = load_class(class_path, None, KEY)
    if not issubclass(cls, BaseJudge | BaseGroupJudge):
        raise ConfigError(f"{KEY}: {class_path} is not a subclass of BaseJudge or BaseGroupJudge")
    require_call(cls, (config,), f"{KEY}: {class_path}(config)")
    return cls(config)
