"""Demonstrations of the agent that writes programs, and the recipe of its tiny model."""

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tutorial.example_math_agent.problems import Operation, Problem, Split, generate
from tutorial.example_math_agent.python_tool import NAME, NO_OUTPUT, PYTHON_TOOL, SYSTEM_PROMPT
from tutorial.tiny_models.build import Recipe
from tutorial.tiny_models.conversation import Conversation
from tutorial.tiny_models.warm_up import Stage

GUESS_ERRORS = (-11, -10, -9, -2, -1, 1, 2, 9, 10, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """Shares of the ways in which the teacher works; all but `second` sum to 1."""

    right: float
    """A program for all operations that prints its result, then that result."""
    no_print: float
    """The program prints nothing."""
    broken: float
    """The program lacks a parenthesis."""
    guess: float
    """No program; an answer near the right one."""
    wrong_operator: float
    """The program uses another operator than the question asks for."""
    second: float
    """Share of the programs without a result after which a right one follows; else a guess does."""


def demonstrate(count: int, *, skip: int, habits: Habits, seed: int) -> Iterator[Conversation]:
    """Conversations on the warm-up problems after the first `skip` ones."""
    rng = random.Random(seed)
    for problem in generate({Split.WARM_UP: skip + count})[Split.WARM_UP][skip:]:
        messages = [
            {"role": "system", "content": SYSTEM_PROMPT},
            {"role": "user", "content": problem.question},
            *_work(problem, habits, rng),
        ]
        yield Conversation(messages=messages, tools=[PYTHON_TOOL])


def _work(problem: Problem, habits: Habits, rng: random.Random) -> list[dict[str, Any]]:
    shares = asdict(habits)
    second = shares.pop("second")
    way = rng.choices(list(shares), list(shares.values()))[0]
    guess = _answer(max(0, problem.answer + rng.choice(GUESS_ERRORS)))
    right = [*_run(_program(problem) + "print(x)", str(problem.answer)), _answer(problem.answer)]
    if way == "guess":
        return [guess]
    if way == "no_print":
        first = _run(_program(problem) + "x", NO_OUTPUT)
        return first + (right if rng.random() < second else [guess])
    if way == "broken":
        error = "error: SyntaxError: '(' was never closed (<program>, line 1)"
        first = _run(_program(problem) + "print(x", error)
        return first + (right if rng.random() < second else [guess])
    if way == "wrong_operator":
        program, value = _wrong_program(problem, rng)
        return [*_run(program + "print(x)", str(value)), _answer(value)]
    return right


def _program(problem: Problem) -> str:
    steps = "".join(f"x {op.operator}= {op.right}; " for op in problem.operations)
    return f"x = {problem.operations[0].left}; {steps}"


def _wrong_program(problem: Problem, rng: random.Random) -> tuple[str, int]:
    value = problem.operations[0].left
    program = f"x = {value}; "
    for planned in problem.operations:
        operator = rng.choice("+-*") if rng.random() < 0.6 else planned.operator
        value = Operation(left=value, operator=operator, right=planned.right).result
        program += f"x {operator}= {planned.right}; "
    return program, value


def _run(code: str, result: str) -> list[dict[str, Any]]:
    function = {"name": NAME, "arguments": json.dumps({"code": code})}
    call = {"type": "function", "function": function}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": result},
    ]


def _answer(value: int) -> dict[str, str]:
    return {"role": "assistant", "content": f"Answer: {value}"}


_SKILLS = Stage(
    demonstrate=partial(
        demonstrate,
        skip=0,
        habits=Habits(
            right=0.6, no_print=0.1, broken=0.1, guess=0.1, wrong_operator=0.1, second=0.5
        ),
        seed=1,
    ),
    updates=500,
    batch_size=12,
    learning_rate=3e-3,
    ramp_updates=30,
    muon=True,
    context_weight=0.1,
)
_BAD_HABITS = Stage(
    demonstrate=partial(
        demonstrate,
        skip=_SKILLS.num_demonstrations,
        habits=Habits(
            right=0.13, no_print=0.42, broken=0.12, guess=0.22, wrong_operator=0.11, second=0.25
        ),
        seed=2,
    ),
    updates=120,
    batch_size=12,
    learning_rate=5e-4,
    ramp_updates=10,
    muon=False,
    context_weight=0.0,
)
RECIPE = Recipe(
    conf="tutorial/example_math_agent/math_agent_python_cpu.yaml",
    stages=(_SKILLS, _BAD_HABITS),
    min_competence=0.9,
    start=(0.15, 0.33),
)
