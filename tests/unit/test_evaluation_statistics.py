"""Numbers of an evaluation.

1. pass@k and pass^k are the exact averages over all choices of k attempts.
2. Intervals contain the mean, and shrink with the number of tasks; none has width 0 for a share.
3. A comparison pairs the tasks: what both models find hard says nothing about their difference.
"""

from __future__ import annotations

from itertools import combinations
from statistics import fmean

import numpy as np
import pytest

from ajet.evaluation.compare import compare
from ajet.evaluation.statistics import (
    TaskScores,
    estimate,
    estimates_of,
    pass_all,
    pass_at,
    scores_of,
    sizes,
    wilson,
)


def scores(task_id: str, solved: int, attempts: int, reward: float | None = None) -> TaskScores:
    return TaskScores(
        task_id=task_id,
        rewards=() if reward is None else (reward,) * attempts,
        num_attempts=attempts,
        num_solved=solved,
        num_failed=0,
    )


@pytest.mark.parametrize("attempts", range(1, 8))
def test_pass_at_k_and_pass_all_are_averages_over_all_choices(attempts: int) -> None:
    for solved in range(attempts + 1):
        outcomes = [True] * solved + [False] * (attempts - solved)
        for k in range(1, attempts + 1):
            choices = list(combinations(outcomes, k))
            assert pass_at(k, attempts, solved) == pytest.approx(fmean(map(any, choices)))
            assert pass_all(k, attempts, solved) == pytest.approx(fmean(map(all, choices)))


def test_pass_at_k_is_unbiased() -> None:
    rng, share = np.random.default_rng(0), 0.3
    solved = rng.binomial(5, share, 20_000)
    assert fmean(pass_at(3, 5, int(c)) for c in solved) == pytest.approx(1 - 0.7**3, abs=0.01)
    assert fmean(pass_all(3, 5, int(c)) for c in solved) == pytest.approx(0.3**3, abs=0.01)


def test_sizes_end_with_the_number_of_attempts() -> None:
    assert [sizes(n) for n in (1, 2, 3, 4, 6, 8)] == [[], [2], [2, 3], [2, 4], [2, 4, 6], [2, 4, 8]]


def test_wilson_is_the_published_interval() -> None:
    # Newcombe 1998, table I: 81 of 263.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


def test_equal_values_have_an_interval_with_a_width() -> None:
    found = estimate([1.0] * 20)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.8389, abs=1e-4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(60):
        found = estimate(list(rng.binomial(4, 0.4, 50) / 4))
        hits += found.low <= 0.4 <= found.high
    assert hits >= 52


def test_more_tasks_give_a_narrower_interval() -> None:
    few, many = (estimate([0.0, 1.0] * n) for n in (10, 250))
    assert many.high - many.low < (few.high - few.low) / 3


def test_a_failed_attempt_solves_nothing_and_has_no_reward() -> None:
    lines = [
        {"task_id": "a", "reward": 1.0, "is_success": True, "outcome": "ok"},
        {"task_id": "a", "reward": None, "is_success": None, "outcome": "timeout"},
    ]
    [task] = scores_of(lines)
    assert (task.num_attempts, task.num_solved, task.num_failed) == (2, 1, 1)
    found = estimates_of([task])
    assert (found["reward"].value, found["success"].value) == (1.0, 0.5)
    assert (found["pass@2"].value, found["pass^2"].value) == (1.0, 0.0)


def test_a_comparison_is_paired() -> None:
    # Hard and easy tasks; ours solves one attempt more of each.
    solved = [0, 1, 2, 3] * 10
    ours = [scores(str(i), c + 1, 4, c / 4) for i, c in enumerate(solved)]
    theirs = [scores(str(i), c, 4, c / 4) for i, c in enumerate(solved)]
    found = compare(ours, theirs)
    assert found is not None
    assert (found.success.value, found.success.low, found.success.high) == (0.25, 0.25, 0.25)
    assert found.reward is not None
    assert found.reward.value == 0.0
    assert (len(found.better), found.worse) == (40, [])


def test_tasks_of_one_evaluation_only_are_left_out_and_counted() -> None:
    ours = [scores("a", 1, 1), scores("b", 0, 1)]
    found = compare(ours, [scores("a", 0, 1), scores("c", 1, 1)])
    assert found is not None
    assert (found.num_tasks, found.num_missing, found.better) == (1, 2, ["a"])
    assert compare(ours, [scores("d", 1, 1)]) is None
