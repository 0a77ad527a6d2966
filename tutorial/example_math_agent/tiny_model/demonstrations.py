"""Synthetic demonstrations of the calculator agent, good and bad ones in chosen shares."""

import json
import random
from dataclasses import asdict, dataclass
from typing import Any

from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT
from tutorial.example_math_agent.problems import Operation, Problem
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.tokenizer import Messages

GUESS_ERRORS = (-11, -10, -9, -2, -1, 1, 2, 9, 10, 11)
WRONG_OPERATOR_PER_CALL = 0.6
"""In a `wrong_operator` demonstration, the share of calls whose operator is drawn at random."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Shares of the ways in which the teacher works; they sum to 1."""

    right: float
    """Every operation with the calculator, then its last result."""
    guess: float
    """No call; an answer near the right one, never the right one."""
    stop_early: float
    """Right, but the last operations are left out."""
    wrong_operator: float
    """All operations, some with another operator than the question asks for."""


def demonstrate(problem: Problem, habits: Habits, rng: random.Random) -> Conversation:
    """Demonstrate a problem in a way that is drawn from the habits."""
    shares = asdict(habits)
    way = rng.choices(list(shares), list(shares.values()))[0]
    messages = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": problem.question},
    ]
    if way == "guess":
        guess = max(0, problem.answer + rng.choice(GUESS_ERRORS))
        return _conversation([*messages, _answer(guess)])
    number = len(problem.operations)
    stop = rng.randint(1, number - 1) if way == "stop_early" else number
    value = problem.operations[0].left
    for planned in problem.operations[:stop]:
        operator = planned.operator
        if way == "wrong_operator" and rng.random() < WRONG_OPERATOR_PER_CALL:
            operator = rng.choice("+-*")
        operation = Operation(left=value, operator=operator, right=planned.right)
        value = operation.result
        messages += [_call(str(operation)), {"role": "tool", "content": str(value)}]
        if value < 0:
            break
    return _conversation([*messages, _answer(value)])


def _conversation(messages: Messages) -> Conversation:
    return Conversation(messages=messages, tools=[CALCULATOR_TOOL])


def _answer(value: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"Answer: {value}"}


def _call(expression: str) -> dict[str, Any]:
    arguments = json.dumps({"expression": expression})
    function = {"name": "calculator", "arguments": arguments}
    call = {"type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
