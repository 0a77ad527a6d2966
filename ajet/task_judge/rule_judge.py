"""Judges by a rule: no model is asked, and the same answer always gets the same reward."""

from __future__ import annotations

import ast
import json
import math
import queue
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from ajet.config.sections.task_judge import RuleJudgeConfig
from ajet.errors import EpisodeError
from ajet.sandbox import Limits, PythonSandbox
from ajet.schema.task import WorkflowOutput, WorkflowTask
from ajet.task_judge.countdown_judge import Arithmetic
from ajet.task_judge.judge_prompt import answer_of, as_text, ended_by
from ajet.task_judge.math_answer_as_judge import MathAnswerAsJudge
from ajet.task_judge.verdicts import ReasonedJudge, Verdict

_FENCE = re.compile(r"```[\w+-]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
RELATIVE, ABSOLUTE = 1e-6, 1e-9
"""Tolerance in comparisons of numbers that a program computed."""


class RuleJudge(ReasonedJudge):
    """Compares the agent's answer with the task's, in one of six ways (`rule.kind`)."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.any_loop = type(self) is RuleJudge
        self._settings: RuleJudgeConfig = config.ajet.task_judge.rule
        self._math = MathAnswerAsJudge(config)
        self._programs = _Programs(self._settings)
        self._rules: dict[str, Callable[[str, Any], Verdict]] = {
            "math": self._by_math,
            "exact": self._exact,
            "regex": self._regex,
            "json_fields": self._json_fields,
            "expression": self._expression,
            "code": self._code,
        }

    def verdict(self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput) -> Verdict:
        """Apply the rule; an episode without an answer is wrong.

        Raises:
            EpisodeError: the task has no right answer, or one that the rule cannot use.
        """
        settings, task = self._settings, workflow_task.task
        right = task.metadata.get(settings.answer_key)
        is_search = settings.kind == "regex" and not re.compile(settings.pattern or "").groups
        if right is None and not is_search:
            raise EpisodeError(
                f'the judge "rule" needs metadata["{settings.answer_key}"] in every task; task '
                f"{task.task_id} has {', '.join(task.metadata) or 'no metadata'}"
            )
        answer = answer_of(workflow_output, settings.output_key)
        if answer is None:
            return _said(0.0, f"no answer: {ended_by(workflow_output)}")
        return self._rules[settings.kind](answer, right)

    def _by_math(self, answer: str, right: Any) -> Verdict:
        return _is(self._math.is_right(as_text(right), answer), right)

    def _exact(self, answer: str, right: Any) -> Verdict:
        return _is(self._same(answer, as_text(right)), right)

    def _same(self, one: str, other: str) -> bool:
        if not self._settings.ignore_case:
            return one.strip() == other.strip()
        return one.casefold().split() == other.casefold().split()

    def _regex(self, answer: str, right: Any) -> Verdict:
        import regex

        settings = self._settings
        flags = regex.IGNORECASE if settings.ignore_case else 0
        try:
            # `regex`, because `re` cannot be stopped, and the text is the agent's.
            found = regex.compile(settings.pattern, flags).findall(
                answer, timeout=settings.time_limit_s
            )
        except TimeoutError:
            return _said(0.0, f"the search took more than {settings.time_limit_s:g} s")
        if not found:
            return _said(0.0, "the pattern is not in the answer")
        if not re.compile(settings.pattern or "").groups:
            return _said(1.0, "the pattern is in the answer")
        last = found[-1] if isinstance(found[-1], str) else found[-1][0]
        return _is(self._same(last, as_text(right)), right, said=last)

    def _json_fields(self, answer: str, right: Any) -> Verdict:
        expected = _json_object(right if isinstance(right, dict) else as_text(right))
        if expected is None:
            raise EpisodeError(
                f'the judge "rule" with kind json_fields needs an object in metadata['
                f'"{self._settings.answer_key}"], got {as_text(right)[:100]}'
            )
        fields = self._settings.fields or list(expected)
        given = _json_object(answer)
        if given is None:
            return _said(0.0, "the answer is no JSON object")
        wrong = [
            name
            for name in fields
            if name not in given or not _equal_json(given[name], expected.get(name))
        ]
        words = f"wrong fields: {', '.join(wrong)}" if wrong else "all fields are right"
        return self._share(len(fields) - len(wrong), len(fields), words)

    def _expression(self, answer: str, right: Any) -> Verdict:
        try:
            wanted = Fraction(as_text(right))
        except (ValueError, ZeroDivisionError):
            raise EpisodeError(
                f'the judge "rule" with kind expression needs a number in metadata['
                f'"{self._settings.answer_key}"], got {as_text(right)[:100]}'
            ) from None
        try:
            value = Arithmetic(_in_fence(answer), powers=True).value
        except ValueError as error:
            return _said(0.0, str(error))
        is_right = math.isclose(value, wanted, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        return _is(is_right, right, said=str(float(value)))

    def _code(self, answer: str, right: Any) -> Verdict:
        tests = right if isinstance(right, list) else [right]
        source = _in_fence(answer)
        said = [self._programs.failure_of(source, test) for test in tests]
        failed = [words for words in said if words]
        words = f"{len(tests) - len(failed)} of {len(tests)} tests pass"
        if failed:
            words += f"; the first that fails: {failed[0]}"
        return self._share(len(tests) - len(failed), len(tests), words)

    def _share(self, right: int, total: int, words: str) -> Verdict:
        is_success = right == total
        share = right / total if self._settings.partial else float(is_success)
        return _said(share, words, is_success=is_success)


def _said(reward: float, words: str, *, is_success: bool | None = None) -> Verdict:
    success = reward >= 1.0 if is_success is None else is_success
    return Verdict(reward=reward, is_success=success, reasons={"words": words})


def _is(is_right: bool, right: Any, said: str | None = None) -> Verdict:
    if is_right:
        return _said(1.0, "right")
    found = "" if said is None else f" {said[:100]!r}"
    return _said(0.0, f"the answer{found} is not {as_text(right)[:100]}")


def _in_fence(answer: str) -> str:
    """The inside of the last code fence; without one, the whole text."""
    fences: list[str] = _FENCE.findall(answer)
    return fences[-1] if fences else answer


def _json_object(value: Any) -> dict[str, Any] | None:
    if isinstance(value, dict):
        return value
    try:
        parsed = json.loads(_in_fence(value).strip())
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _equal_json(one: Any, other: Any) -> bool:
    """True if two values are equal: numbers within a tolerance, texts without outer white space."""
    is_number = [isinstance(v, int | float) and not isinstance(v, bool) for v in (one, other)]
    if all(is_number):
        try:
            return math.isclose(one, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        except OverflowError:  # an integer beyond all floats
            return bool(one == other)
    if type(one) is not type(other):
        return False
    if isinstance(one, str):
        return one.strip() == str(other).strip()
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal_json, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal_json(one[k], other[k]) for k in one)
    return bool(one == other)


def _tuples_as_lists(value: Any) -> Any:
    """The value as JSON could hold it, which has no tuples."""
    if isinstance(value, list | tuple):
        return [_tuples_as_lists(each) for each in value]
    if isinstance(value, dict):
        return {key: _tuples_as_lists(each) for key, each in value.items()}
    return value


def _comparison(test: str) -> tuple[str, Any] | None:
    """Call and expected value of `assert CALL == VALUE`; None for any other test."""
    try:
        (statement,) = ast.parse(test).body
    except (SyntaxError, ValueError):
        return None
    found = statement.test if isinstance(statement, ast.Assert) else None
    if not isinstance(found, ast.Compare) or not isinstance(found.ops[0], ast.Eq):
        return None
    if len(found.comparators) != 1:
        return None
    try:
        return ast.unparse(found.left), ast.literal_eval(found.comparators[0])
    except (ValueError, TypeError):  # no literal, or a list as a key
        return None


_RUNNER = """
import io, sys
_out, _printed = sys.stdout, io.BytesIO()
sys.stdin = io.TextIOWrapper(io.BytesIO({stdin!r}.encode(errors="replace")), "utf-8")
sys.stdout = io.TextIOWrapper(_printed, "utf-8", errors="replace", write_through=True)
_names = {{"__name__": "__main__", "exit": sys.exit, "quit": sys.exit}}
try:
    try:
        exec(compile({source!r}, "<program>", "exec"), _names)
    except SystemExit as _end:
        if {call!r} or _end.code not in (None, 0):  # before the end of its tests, or as a failure
            raise RuntimeError(f"the program ended with exit code {{_end.code}}") from None
    _value = repr(eval({call!r}, _names)) if {call!r} else _printed.getvalue().decode()
finally:
    sys.stdout = _out
print(_value, end="")
"""
"""Runs a program with an input, and prints what it printed, or the value of one call. What is
expected is not in it, so that the program cannot read it."""


class _Programs:
    """Runs programs in sandboxes, several at the same time; any thread."""

    NUM_SANDBOXES = 4

    def __init__(self, settings: RuleJudgeConfig) -> None:
        limits = Limits(
            cpu_s=max(1, math.ceil(settings.time_limit_s)),
            wall_s=settings.time_limit_s,
            memory_mb=settings.memory_mb,
        )
        self._free: queue.SimpleQueue[PythonSandbox] = queue.SimpleQueue()
        for _ in range(self.NUM_SANDBOXES):
            self._free.put(PythonSandbox(limits))  # its process starts with the first program

    def failure_of(self, source: str, test: Any) -> str | None:
        """Why a program fails a test, in words; None: it passes."""
        if isinstance(test, dict) and "output" in test:
            printed, error = self._run(source, stdin=as_text(test.get("input", "")))
            if error is None and printed.split() == as_text(test["output"]).split():
                return None
            return error or f"it printed {printed[:100]!r}"
        if isinstance(test, dict) and "call" in test:
            returns = test.get("returns")
            return self._wrong_value(source, str(test["call"]), returns, is_json=True)
        if not isinstance(test, str):
            raise EpisodeError(
                f"a test is {as_text(test)[:100]}; expected a text with asserts, or an object with "
                "input and output, or with call and returns"
            )
        if (comparison := _comparison(test)) is not None:
            return self._wrong_value(source, *comparison)
        # Its names are those of the program, which could replace them: see the page of judges.
        printed, error = self._run(f"{source}\n\n{test}", call="True")
        return error or (None if printed == "True" else "it ended early")

    def _wrong_value(
        self, source: str, call: str, expected: Any, *, is_json: bool = False
    ) -> str | None:
        printed, error = self._run(source, call=call)
        if error is not None:
            return f"{call}: {error}"
        try:
            value = ast.literal_eval(printed)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return f"{call} is {printed[:100]}"
        value = _tuples_as_lists(value) if is_json else value
        if value == expected or _equal_json(value, expected):
            return None
        return f"{call} is {printed[:100]}, not {expected!r}"

    def _run(self, source: str, *, stdin: str = "", call: str = "") -> tuple[str, str | None]:
        """What it printed, or the value of the call; and how it ended if not by itself."""
        sandbox = self._free.get()
        try:
            result = sandbox.run(_RUNNER.format(source=source, stdin=stdin, call=call))
        finally:
            self._free.put(sandbox)
        if result.ended_by == "end":
            return result.output, None
        last = result.output.strip().rpartition("\n")[2][:200]
        return "", last if result.ended_by == "error" else f"ended by its limit: {result.ended_by}"
