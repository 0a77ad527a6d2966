"""Reward of a countdown answer: 1 if it makes the target, 0.1 if there is a boxed answer at all."""

from ajet import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_judge.countdown_judge import boxed
from tutorial.example_countdown.expression import solves

PARTIAL_CREDIT = 0.1


class CountdownAnswerAsJudge(BaseJudge):
    """Compares `metadata["final_answer"]` with the task's `nums` and `target`."""

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        """Return 1, 0.1 or 0, and whether the answer is right."""
        task = workflow_task.task.metadata
        expression = boxed(str(workflow_output.metadata.get("final_answer") or ""))
        if expression is None:
            return 0.0, False
        is_right = solves(expression, list(task["nums"]), int(task["target"]))
        return (1.0 if is_right else PARTIAL_CREDIT), is_right
