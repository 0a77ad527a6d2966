"""What a judge says, from judges that are asynchronous and from those that are not."""

from __future__ import annotations

import inspect
from typing import Any

from ajet.errors import EpisodeError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge


async def ask_judge(
    judge: BaseJudge, workflow_task: WorkflowTask, output: WorkflowOutput
) -> tuple[Any, Any]:
    """Reward and success, not checked yet.

    Raises:
        EpisodeError: the judge returned something else.
    """
    verdict = judge.compute_reward(workflow_task, output)
    if inspect.isawaitable(verdict):
        verdict = await verdict
    if not isinstance(verdict, tuple) or len(verdict) != 2:
        raise EpisodeError(f"the judge returned {verdict!r}, expected (reward, is_success)")
    return verdict
