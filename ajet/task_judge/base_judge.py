"""The base class of judges."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ajet.schema.task import WorkflowOutput, WorkflowTask


class BaseJudge:
    """Gives the reward if a workflow gives none. Set its class path as `task_judge.judge_protocol`.

    One instance serves the whole run and many episodes at once: keep no state of an episode in it.
    An `async def compute_reward` runs on one event loop for the whole run, so a client made in
    `__init__` works. A plain `def` may block: it runs in the episode's own thread.

    Args:
        config: the whole resolved configuration, with attribute access.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool] | Awaitable[tuple[float, bool]]:
        """Return the reward and whether the task is solved; may be an `async def`.

        After a context overflow, the workflow output contains only
        `metadata["ended_by"] == "context_length_exceeded"`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no compute_reward(): a subclass of BaseJudge "
            "(ajet.task_judge.base_judge) needs "
            "`def compute_reward(self, workflow_task, workflow_output)`"
        )
