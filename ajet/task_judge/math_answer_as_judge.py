"""Finds the answer in a text, and compares it with the right one by the math-verify library."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, localcontext
from typing import Any

from ajet.errors import EpisodeError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_judge.math_verify_process import MathVerifyPool


class MathAnswerAsJudge(BaseJudge):
    """Compares `metadata["final_answer"]` of the output with `metadata["answer"]` of the task.

    An answer is a number, a formula (in LaTeX or not) or a word, with or without "Answer:", "####"
    (GSM8K) or a box around it. These are wrong: a final answer of None, a context overflow, and a
    calculation such as "7 - 3" if the right answer is a number.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._math_verify = MathVerifyPool()

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
        right = final_answer is not None and self.is_right(str(task["answer"]), str(final_answer))
        return float(right), right

    def is_right(self, gold_text: str, answer_text: str) -> bool:
        """Whether an answer is the right one, both as people write them."""
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


_SYMBOLS = str.maketrans(
    {
        "π": r"\pi ",
        "∞": r"\infty ",
        "√": r"\sqrt ",
        "×": r"\times ",
        "·": r"\cdot ",
        "÷": r"\div ",
        "≤": r"\le ",
        "≥": r"\ge ",
        "²": "^2",
        "³": "^3",
        "−": "-",
        "–": "-",
        "\u00a0": " ",
        "\u202f": " ",
    }
)
# At the start only: a search that fails would begin again at each of its characters.
_LEAD_IN = re.compile(r"\A.*(?:####|\banswer\s+is\b|\banswer\s*:)[\s:]*", re.DOTALL | re.IGNORECASE)
_NUMBER = re.compile(r"\$?\s*(?:(-)\s*)?(\d+|\d{1,3}(?:[, ]\d{3})+)(\.\d+)?")
_CALCULATION = re.compile(r"[\d)]\s*(?:[-+*]|\\times|\\cdot)\s*(?!10\s*\^)[\d(]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}")
_IN_MATH_MODE = re.compile(r"\$|\\\(|\\\[|\\boxed")


def stated_answer(text: str) -> str:
    r"""The text after the last "####", "Answer:" or "answer is", without decoration.

    Symbols are replaced by their LaTeX names: "π" and "\pi" are the same answer.
    """
    text = unicodedata.normalize("NFC", text).translate(_SYMBOLS)
    return _LEAD_IN.sub("", text, count=1).strip().strip("*").rstrip(".").strip()


def plain_number(answer: str) -> Decimal | None:
    """The value of an answer that is only a decimal number, to six decimal places; else None."""
    match = _NUMBER.fullmatch(answer)
    if match is None:
        return None
    sign, whole, fraction = match.groups(default="")
    text = sign + re.sub("[, ]", "", whole) + fraction
    with localcontext(prec=len(text) + 6):  # the usual 28 digits do not hold every answer
        return round(Decimal(text), 6)


def is_unevaluated(answer: str) -> bool:
    """Whether it still has to be calculated: "7 - 3", but not "7 - 3 = 4" or "2 * 10^3"."""
    return "=" not in answer and _CALCULATION.search(answer) is not None


def in_math_mode(answer: str) -> str:
    r"""Put a bare formula in dollar signs: without them, math-verify reads `2\pi` as 2."""
    if _IN_MATH_MODE.search(answer) or _WORD.search(answer):
        return answer
    return f"${answer}$"
