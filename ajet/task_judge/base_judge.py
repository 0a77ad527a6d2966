"""The base classes of judges: of single episodes, and of whole groups."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
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

    holds_place = False
    """True: the episode keeps its place and the engine's session while it is judged, because the
    judge asks the policy. By default another episode starts meanwhile."""

    any_loop = False
    """True: what it awaits belongs to no event loop, so it runs on that of the episode."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool] | Awaitable[tuple[float, bool]]:
        """Return the reward and whether the task is solved; may be an `async def`.

        After a context overflow, the workflow output contains only
        `metadata["ended_by"] == "context_length_exceeded"`. `workflow_output.trajectory` has the
        episode's messages. What the judge puts into `workflow_output.metadata["judge"]` is recorded
        and shown as its reasons.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no compute_reward(): a subclass of BaseJudge "
            "(ajet.task_judge.base_judge) needs "
            "`def compute_reward(self, workflow_task, workflow_output)`"
        )


class BaseGroupJudge:
    """Gives the rewards of all episodes of a task at once, for judges that compare them.

    It is called once for each group, when the last episode of the group has ended. Otherwise it is
    used like `BaseJudge`; an `async def` is possible here as well.

    Args:
        config: the whole resolved configuration, with attribute access.
    """

    def __init__(self, config: Any) -> None:
        self.config = config

    def compute_rewards(
        self, workflow_task: WorkflowTask, workflow_outputs: Sequence[WorkflowOutput]
    ) -> list[tuple[float, bool]] | Awaitable[list[tuple[float, bool]]]:
        """Return reward and success of each output, in the same order; may be an `async def`.

        Only episodes that wait for their reward are in the list, in the order of their repeats.
        Those that failed, or whose workflow returned a reward, are not. In validation a group
        usually is a single episode.
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no compute_rewards(): a subclass of BaseGroupJudge "
            "(ajet.task_judge.base_judge) needs "
            "`def compute_rewards(self, workflow_task, workflow_outputs)`"
        )


Judge = BaseJudge | BaseGroupJudge
