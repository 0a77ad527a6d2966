"""Chooses the next training task by what is known about each, and the next source by its weight.

A choice depends only on its arguments, on how many tasks were taken before, and on the results that
the record had at the end of the last step. So a resumed run makes the same choices.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping

from ajet.config.sections.task_reader import CurriculumConfig
from ajet.task_reader.success_record import EASY, HARD, MEDIUM, NEW, SET_ASIDE, SuccessRecord

KNOWN = "known"
"""Where the policy has one queue for all tasks that were tried and are not set aside."""
INSTEAD = (MEDIUM, KNOWN, NEW, EASY, HARD, SET_ASIDE)
"""From where a task is taken if the chosen pool has none."""


class ByCurriculum:
    """Chooses tasks by what the record says about them.

    Args:
        settings: the policy.
        record: of all tasks; its indices are those of this source plus `start`.
        start: the source's first index in the record.
        new_order: the source's own indices, in the order in which they are tried first.
        seed: of the draws.
    """

    def __init__(
        self,
        settings: CurriculumConfig,
        record: SuccessRecord,
        *,
        start: int,
        new_order: array[int],
        seed: str,
    ) -> None:
        self._settings = settings
        self._record = record
        self._start = start
        self._new_order = new_order
        self._seed = seed
        self._taken: set[int] = set()
        """Indices that were taken since the record last changed."""
        self._queues: dict[str, Iterator[int]] = {}

    def record_changed(self, finished: Iterable[int]) -> None:
        """Choose anew, from what the record says now.

        Args:
            finished: indices in the record whose results have come.
        """
        self._taken -= {index - self._start for index in finished}
        self._queues = {}

    def take(self, number: int) -> int:
        """The index of the next task. Errors: none, a task is always found."""
        if not self._queues:
            self._queues = self._make_queues(number)
        wanted = pick(self._shares(), number)
        for name in (wanted, *INSTEAD):
            for index in self._queues.get(name, ()):
                if index not in self._taken:
                    self._taken.add(index)
                    return index
        self._taken, self._queues = set(), {}  # every task is running: start over
        return self.take(number)

    def _shares(self) -> dict[str, float]:
        """How many tasks come from each queue."""
        settings = self._settings
        shares = {SET_ASIDE: settings.retry_share, NEW: settings.new_share}
        rest = 1 - sum(shares.values())
        if settings.policy != "difficulty_pools":
            return shares | {KNOWN: rest}
        pools = {HARD: settings.pools.hard, MEDIUM: settings.pools.medium}
        pools[EASY] = settings.pools.easy
        total = sum(pools.values())
        return shares | {name: rest * share / total for name, share in pools.items()}

    def _make_queues(self, number: int) -> dict[str, Iterator[int]]:
        draw = random.Random(f"curriculum {self._seed} {number}")
        pools: dict[str, list[int]] = {name: [] for name in (HARD, MEDIUM, EASY, SET_ASIDE)}
        tried = self._record.tried
        for index in sorted(tried):  # the order in which results came must not matter
            if 0 <= index - self._start < len(self._new_order):
                pools[self._record.pool_of(index)].append(index)
        aside = sorted(pools.pop(SET_ASIDE), key=lambda index: tried[index].step)
        if self._settings.policy == "difficulty_pools":
            for pool in pools.values():
                draw.shuffle(pool)
            known = pools
        else:
            keys = {index: self._key(index, draw) for pool in pools.values() for index in pool}
            known = {KNOWN: sorted(keys, key=keys.__getitem__)}
        known[SET_ASIDE] = aside
        queues = {name: iter([i - self._start for i in queue]) for name, queue in known.items()}
        return {**queues, NEW: self._new()}

    def _new(self) -> Iterator[int]:
        tried = self._record.tried
        return (index for index in self._new_order if index + self._start not in tried)

    def _key(self, index: int, draw: random.Random) -> tuple[float, ...]:
        """What tried tasks are sorted by, in ascending order."""
        known = self._record.tried[index]
        success = known.success or 0.0
        if self._settings.policy == "easy_first":
            return -success, known.step, draw.random()
        # A weighted draw without replacement is a sort by such keys (Efraimidis and Spirakis,
        # 2006): log(u) / weight, the greatest first.
        distance = (success - self._settings.target) / self._settings.target_width
        return (-math.log(1 - draw.random()) * math.exp(min(distance**2 / 2, 700)),)


GOLDEN = (math.sqrt(5) - 1) / 2


def pick(shares: Mapping[str, float], number: int) -> str:
    """One of the names, each as often as its share says, evenly spread over the numbers.

    Multiples of the golden ratio fill the interval from 0 to 1 evenly, so that 16 draws hold about
    as many of each name as their shares say, without a counter that would have to be saved.
    """
    place = (number * GOLDEN + 0.5) % 1 * sum(shares.values())
    for name, share in shares.items():
        place -= share
        if place < 0:
            return name
    return max(shares, key=shares.__getitem__)  # rounding


def number_order(count: int, number_of: Callable[[int], float], first: array[int]) -> array[int]:
    """Indices in ascending order of a number; equal ones in the order of `first`."""
    numbers = [number_of(index) for index in range(count)]
    return array("q", sorted(first, key=numbers.__getitem__))
