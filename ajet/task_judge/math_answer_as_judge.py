"""Reward 1 for the right answer, compared with the math-verify library."""

from __future__ import annotations

from typing import Any

from ajet.errors import EpisodeError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.answer_text import (
    in_math_mode,
    is_unevaluated,
    plain_number,
    stated_answer,
)
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_judge.math_verify_process import MathVerifyProcess


class MathAnswerAsJudge(BaseJudge):
    """Compares `metadata["final_answer"]` of the output with `metadata["answer"]` of the task.

    An answer is a number, a formula (in LaTeX or not) or a word, with or without "Answer:", "####"
    (GSM8K) or a box around it. These are wrong: a final answer of None, a context overflow, and a
    calculation such as "7 - 3" if the right answer is a number.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._math_verify = MathVerifyProcess()

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        """Return (1.0, True) for the right answer, otherwise (0.0, False).

        Raises:
            EpisodeError: the task has no `answer` or the output no `final_answer`.
        """
        task, said = workflow_task.task.metadata, workflow_output.metadata
        if "answer" not in task:
            raise EpisodeError(
                f'MathAnswerAsJudge needs metadata["answer"] in every task; task '
                f"{workflow_task.task.task_id} has {_keys(task)}"
            )
        if "final_answer" not in said and "ended_by" not in said:
            raise EpisodeError(
                'MathAnswerAsJudge needs WorkflowOutput(metadata={"final_answer": ...}) from the '
                f"workflow; it returned {_keys(said)}"
            )
        final_answer = said.get("final_answer")
        right = final_answer is not None and self._is_right(str(task["answer"]), str(final_answer))
        return float(right), right

    def _is_right(self, gold_text: str, answer_text: str) -> bool:
        gold, answer = stated_answer(gold_text), stated_answer(answer_text)
        if gold.casefold().split() == answer.casefold().split():
            return True
        gold_number, number = plain_number(gold), plain_number(answer)
        if gold_number is not None and number is not None:
            return gold_number == number
        if gold_number is not None and is_unevaluated(answer):
            return False
        return self._math_verify.equal([in_math_mode(gold)], [in_math_mode(answer), answer_text])


def _keys(metadata: dict[str, Any]) -> str:
    return f"the keys {', '.join(metadata)}" if metadata else "no key"
