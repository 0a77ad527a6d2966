"""Word problems for the calculator agent: a start number and two or three operations.

    Sam has 19 apples, gives 4, sells 10, buys 78. How many now?

A seed determines a problem, and the splits draw their seeds from ranges that do not overlap. Two
seeds can still make the same question, so `generate` also skips every question that was made
before, in its own split or in an earlier split of `Split`. Only the standard library is used.

This command writes the tutorial's data, byte for byte the same:

    python -m tutorial.example_math_agent.problems tutorial/example_math_agent/data
"""

import argparse
import json
import random
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

NAMES = ("Ann", "Bob", "Eve", "Tom", "Mia", "Sam", "Leo", "Zoe")
ITEMS = ("apples", "coins", "books", "pens", "cards", "eggs")
PHRASES = {
    "+": ("buys {k}", "finds {k}", "gets {k}"),
    "-": ("gives {k}", "loses {k}", "sells {k}"),
    "*": ("multiplies them by {k}",),
}

NUM_TRAIN = 640
NUM_VALIDATION = 256


class Split(Enum):
    """The use of a problem; the value is the range of its seeds."""

    WARM_UP = range(0, 1_000_000)
    TRAIN = range(1_000_000, 2_000_000)
    VALIDATION = range(2_000_000, 3_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One use of the calculator."""

    left: int
    operator: str
    """One of + - *."""
    right: int

    @property
    def result(self) -> int:
        """The value of the operation."""
        return apply(self.left, self.operator, self.right)

    def __str__(self) -> str:
        """The expression as the calculator takes it, for example `19 - 4`."""
        return f"{self.left} {self.operator} {self.right}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """A question, and the operations that solve it."""

    seed: int
    question: str
    operations: tuple[Operation, ...]
    """Each operation's left side is the result of the one before."""

    @property
    def answer(self) -> int:
        """The result of the last operation; always positive."""
        return self.operations[-1].result

    def as_task(self) -> dict[str, Any]:
        """The problem as one JSON line of a task file."""
        return {
            "task_id": f"calculator-{self.seed}",
            "main_query": self.question,
            "metadata": {"answer": str(self.answer)},
        }


def apply(left: int, operator: str, right: int) -> int:
    """Compute `left operator right`; KeyError for an operator other than + - *."""
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def read_answer(text: str) -> str | None:
    """The number of a final `Answer: N`, or None where the text is anything else."""
    match = re.fullmatch(r"\s*Answer:\s*(-?\d+)\s*", text)
    return match[1] if match else None


def make_problem(seed: int) -> Problem:
    """The problem of this seed; every number in it stays positive."""
    rng = random.Random(f"calculator {seed}")
    name, item, value = rng.choice(NAMES), rng.choice(ITEMS), rng.randint(5, 99)
    clauses = [f"{name} has {value} {item}"]
    operations = []
    for _ in range(rng.choice((2, 2, 3))):
        operation = _make_operation(rng, value)
        operations.append(operation)
        clauses.append(rng.choice(PHRASES[operation.operator]).format(k=operation.right))
        value = operation.result
    question = ", ".join(clauses) + ". How many now?"
    return Problem(seed=seed, question=question, operations=tuple(operations))


def _make_operation(rng: random.Random, left: int) -> Operation:
    operator = rng.choice("++--*")
    if operator == "-" and left < 6:
        operator = "+"
    low, high = {"+": (2, 99), "-": (2, min(99, left - 1)), "*": (2, 9)}[operator]
    return Operation(left=left, operator=operator, right=rng.randint(low, high))


def generate(counts: dict[Split, int]) -> dict[Split, list[Problem]]:
    """That many problems for each split; no question occurs twice in the result."""
    seen: set[str] = set()
    return {split: list(_unseen(split, counts[split], seen)) for split in Split if split in counts}


def _unseen(split: Split, count: int, seen: set[str]) -> Iterator[Problem]:
    for problem in map(make_problem, split.value):
        if count == 0:
            return
        if problem.question not in seen:
            seen.add(problem.question)
            count -= 1
            yield problem


def write_jsonl(path: Path, problems: Iterable[Problem]) -> None:
    """Write one task per line."""
    lines = [json.dumps(problem.as_task()) + "\n" for problem in problems]
    path.write_text("".join(lines), encoding="utf-8", newline="\n")


def main() -> None:
    """Write `train.jsonl` and `validation.jsonl` into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, default=NUM_TRAIN, help="tasks for RL training")
    parser.add_argument("--validation", type=int, default=NUM_VALIDATION, help="held-out tasks")
    args = parser.parse_args()
    problems = generate({Split.TRAIN: args.train, Split.VALIDATION: args.validation})
    args.folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(args.folder / "train.jsonl", problems[Split.TRAIN])
    write_jsonl(args.folder / "validation.jsonl", problems[Split.VALIDATION])


if __name__ == "__main__":
    main()
