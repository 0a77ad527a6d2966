r"""Arithmetic by a parser, and the judge of the countdown game: numbers, and a target to reach."""

from __future__ import annotations

import ast
import operator
import re
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ajet.errors import EpisodeError
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.judge_prompt import answer_of
from ajet.task_judge.verdicts import ReasonedJudge, Verdict

MAX_CHARACTERS, MAX_NUMBER = 500, 10**12
MAX_POWER = 64
_OPERATORS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_AS_PYTHON = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "∗": "*"})
_LATEX = ((r"\times", "*"), (r"\cdot", "*"), (r"\div", "/"), (r"\left", ""), (r"\right", ""))
_BRACE = re.compile(r"\\boxed\s*\{|\\?[{}]")
"""The start of a box, or a brace, which may be escaped."""
_FRACTION = re.compile(r"\\d?frac\{([^{}]*)\}\{([^{}]*)\}")


class Arithmetic:
    """An expression of numbers, + - * / and parentheses; nothing in it is executed.

    Args:
        text: in Python or in simple LaTeX; what follows an equals sign is left out.
        powers: allow `**` with a small whole exponent.

    Raises:
        ValueError: it is something else, or a number in it grows too large.
    """

    def __init__(self, text: str, *, powers: bool = False) -> None:
        self.numbers: list[int | float] = []
        """As written, from left to right."""
        self._powers = powers
        try:
            tree = ast.parse(_as_python(text), mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise ValueError(f"{text[:80]!r} is no arithmetic") from None
        self.value = self._value(tree.body)

    def _value(self, node: ast.expr) -> Fraction:
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, int | float)
            and not isinstance(node.value, bool)
        ):
            self.numbers.append(node.value)
            return _bounded(Fraction(str(node.value)))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            inner = self._value(node.operand)
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp):
            left, right = self._value(node.left), self._value(node.right)
            if isinstance(node.op, ast.Pow) and self._powers:
                return _power(left, right)
            apply = _OPERATORS.get(type(node.op))
            if apply is not None:
                if apply is operator.truediv and right == 0:
                    raise ValueError("a division by zero")
                return _bounded(apply(left, right))
        raise ValueError(f"{ast.unparse(node)[:80]!r} is more than + - * / of numbers")


def _as_python(text: str) -> str:
    text = text.strip().strip("$").split("=")[0].translate(_AS_PYTHON)
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"an expression of {len(text):,} characters")
    for latex, python in _LATEX:
        text = text.replace(latex, python)
    text = _FRACTION.sub(r"((\1)/(\2))", text)
    return text.strip().replace("^", "**")


def _bounded(value: Fraction) -> Fraction:
    if abs(value.numerator) > MAX_NUMBER or value.denominator > MAX_NUMBER:
        raise ValueError("a number that is too large")
    return value


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator != 1 or abs(exponent) > MAX_POWER or (base == 0 and exponent < 0):
        raise ValueError("a power that is too large")
    return _bounded(base ** int(exponent))


def boxed(text: str) -> str | None:
    r"""The content of the `\boxed{...}` that begins last; None if no box is closed."""
    last, last_start = None, -1
    open_braces: list[int] = []  # where the content begins, and -1 for other braces
    for brace in _BRACE.finditer(text):
        if brace[0] == "}":
            start = open_braces.pop() if open_braces else -1
            if start > last_start:
                last, last_start = text[start : brace.start()], start
        elif brace[0] not in ("\\{", "\\}"):
            open_braces.append(-1 if brace[0] == "{" else brace.end())
    return last


class CountdownAnswerAsJudge(ReasonedJudge):
    r"""Reward 1 for an expression in `\boxed{}` with every number once and the right value.

    A wrong expression in `\boxed{}` gets `format_reward`; an answer without one gets 0.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._settings = config.ajet.task_judge.countdown

    def verdict(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Verdict:
        """Parse the expression and compare its numbers and its value.

        Raises:
            EpisodeError: the task has no numbers or no target.
        """
        settings, task = self._settings, workflow_task.task.metadata
        try:
            numbers = [Fraction(str(number)) for number in task[settings.numbers_key]]
            target = Fraction(str(task[settings.target_key]))
        except (KeyError, TypeError, ValueError):
            raise EpisodeError(
                f'the judge "countdown" needs metadata["{settings.numbers_key}"], a list of '
                f'numbers, and metadata["{settings.target_key}"]; task '
                f"{workflow_task.task.task_id} has {', '.join(task) or 'no metadata'}"
            ) from None
        inside = boxed(answer_of(workflow_output, "final_answer") or "")
        if inside is None:
            return _said(0.0, r"no \boxed{} in the answer")
        try:
            expression = Arithmetic(inside)
        except ValueError as error:
            return _said(settings.format_reward, str(error))
        used = Counter(Fraction(str(number)) for number in expression.numbers)
        if used != Counter(numbers):
            return _said(settings.format_reward, "it does not use every number exactly once")
        if expression.value != target:
            return _said(settings.format_reward, f"it is {expression.value}, not {target}")
        return _said(1.0, "every number once, and the target", is_success=True)


def _said(reward: float, words: str, *, is_success: bool = False) -> Verdict:
    return Verdict(reward=reward, is_success=is_success, reasons={"words": words})
