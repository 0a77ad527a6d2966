"""Several attempts at each validation task.

1. `pass@K` is the chance that K of the attempts, drawn without replacement, contain a solved one.
2. It is estimated for K = 2, 4, 8 ... and for all attempts; one attempt has no such metric.
3. `all_pass@N` is the share of tasks whose attempts are all solved.
"""

from itertools import combinations

import pytest

from ajet.task_rollout.rollout import pass_at, pass_rates


@pytest.mark.parametrize("solved", range(6))
@pytest.mark.parametrize("k", [1, 2, 4, 5])
def test_pass_at_k_counts_the_draws_with_a_solved_attempt(solved: int, k: int) -> None:
    attempts = [True] * solved + [False] * (5 - solved)
    draws = list(combinations(attempts, k))
    assert pass_at(k, 5, solved) == pytest.approx(sum(map(any, draws)) / len(draws))


def test_the_metrics_are_averages_over_tasks() -> None:
    metrics = pass_rates([0, 2, 6], attempts=6)
    assert list(metrics) == ["eval/pass@2", "eval/pass@4", "eval/pass@6", "eval/all_pass@6"]
    assert metrics["eval/pass@2"] == pytest.approx((0 + (1 - 6 / 15) + 1) / 3)
    assert metrics["eval/pass@6"] == pytest.approx(2 / 3)
    assert metrics["eval/all_pass@6"] == pytest.approx(1 / 3)


def test_one_attempt_has_no_such_metric() -> None:
    assert pass_rates([0, 1], attempts=1) == {}
    assert list(pass_rates([0, 2], attempts=2)) == ["eval/pass@2", "eval/all_pass@2"]
