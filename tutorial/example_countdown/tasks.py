r"""Countdown tasks in the format of the data set Countdown-Tasks-3to4: `target` and `nums`.

    {"main_query": "Numbers: 7 5 3\nTarget: 36", "target": 36, "nums": [7, 5, 3]}

Three numbers from 1 to 9; the target and what is computed on the way are from 1 to 60. A task
belongs to the split of its numbers, so no two splits share a multiset of numbers. This command
writes the example's data, byte for byte the same:

    python -m tutorial.example_countdown.tasks tutorial/example_countdown/data
"""

import argparse
import json
import random
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import combinations
from pathlib import Path
from typing import Any

from tutorial.example_countdown.countdown import question

LARGEST_NUMBER = 9
LARGEST_VALUE = 60
NUM_TRAIN = 1200
NUM_VALIDATION = 256


class Split(Enum):
    """The use of a task; the value is the range of its multiset's hash, modulo 10."""

    WARM_UP = range(0, 5)
    TRAIN = range(5, 8)
    VALIDATION = range(8, 10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One way to combine three numbers: two operations, one after the other."""

    first: tuple[int, str, int]
    second: tuple[int, str, int]
    """One side is the value of the first operation."""
    is_left: bool
    """Whether that is the left side."""

    @property
    def value(self) -> int:
        """What the numbers make."""
        return compute(*self.second)

    @property
    def steps(self) -> str:
        """The calculation, for example `7 + 5 = 12, 12 * 3 = 36`."""
        return ", ".join(
            f"{left} {operator} {right} = {compute(left, operator, right)}"
            for left, operator, right in (self.first, self.second)
        )

    @property
    def expression(self) -> str:
        """The same as one expression, for example `(7 + 5) * 3`."""
        inner = "({} {} {})".format(*self.first)
        left, operator, right = self.second
        return f"{inner} {operator} {right}" if self.is_left else f"{left} {operator} {inner}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountdownTask:
    """Numbers and a target that they can make."""

    numbers: tuple[int, ...]
    target: int

    def as_row(self) -> dict[str, Any]:
        """The task as one JSON line."""
        query = question(list(self.numbers), self.target)
        return {"main_query": query, "target": self.target, "nums": list(self.numbers)}


def compute(left: int, operator: str, right: int) -> int:
    """Compute `left operator right`; KeyError for an operator other than + - *."""
    return {"+": left + right, "-": left - right, "*": left * right}[operator]


def attempts(numbers: tuple[int, ...]) -> list[Attempt]:
    """All ways to combine three numbers whose values stay from 1 to 60."""
    found = []
    for i, j in combinations(range(3), 2):
        rest = numbers[3 - i - j]
        for operator in "+-*":
            left, right = numbers[i], numbers[j]
            if operator == "-" and left < right:
                left, right = right, left
            value = compute(left, operator, right)
            if not 1 <= value <= LARGEST_VALUE:
                continue
            first = (left, operator, right)
            for second_operator in "+-*":
                is_left = second_operator != "-" or value > rest
                pair = (value, rest) if is_left else (rest, value)
                second = (pair[0], second_operator, pair[1])
                if 1 <= compute(*second) <= LARGEST_VALUE:
                    found.append(Attempt(first=first, second=second, is_left=is_left))
    return found


def split_of(numbers: tuple[int, ...]) -> Split:
    """The split of these numbers, in any order."""
    key = zlib.crc32(repr(sorted(numbers)).encode()) % 10
    return next(split for split in Split if key in split.value)


def generate(split: Split) -> Iterator[CountdownTask]:
    """Tasks of a split without end, the same ones each time; they may repeat."""
    rng = random.Random(f"countdown {split.name}")
    while True:
        numbers = tuple(rng.randint(1, LARGEST_NUMBER) for _ in range(3))
        if split_of(numbers) is split:
            target = rng.choice(attempts(numbers)).value
            yield CountdownTask(numbers=numbers, target=target)


def unique(split: Split, count: int) -> list[CountdownTask]:
    """The first tasks of a split that are all different."""
    found: dict[CountdownTask, None] = {}
    for task in generate(split):
        found[task] = None
        if len(found) == count:
            return list(found)
    raise AssertionError("generate() has no end")


def main() -> None:
    """Write `train.jsonl` and `validation.jsonl` into a folder."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for split, count in ((Split.TRAIN, NUM_TRAIN), (Split.VALIDATION, NUM_VALIDATION)):
        lines = [json.dumps(task.as_row()) + "\n" for task in unique(split, count)]
        path = args.folder / f"{split.name.lower()}.jsonl"
        path.write_text("".join(lines), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
