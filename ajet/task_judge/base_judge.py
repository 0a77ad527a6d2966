"""What every source of reward is."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ajet.schema.task import WorkflowOutput, WorkflowTask


class BaseJudge:
    """Gives the reward where a workflow gives none. Named in `ajet.task_judge.judge_protocol`.

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
        """Reward, and whether the task is solved; may be an `async def`.

        An episode whose context overflowed comes with
        `workflow_output.metadata["ended_by"] == "context_length_exceeded"` and nothing else.
        """
        raise NotImplementedError(f"{type(self).__name__} has no compute_reward()")
