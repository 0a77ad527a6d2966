"""The AgentScope agent that kills its own process in a rollout."""

from __future__ import annotations

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from tests.end_to_end.killed import _counter, die
from tutorial.example_math_agent.math_agent import MathAgent


class InRollout(MathAgent):
    """When the fifth episode of step 4 is over, and others are under way."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        if workflow_task.task_tag == "train/000004" and next(_counter) == 5:
            die()
        return output
