"""When a run evaluates, saves and warns.

1. A multiple of the interval is due once, also where steps were skipped.
2. The last step is evaluated, whatever the interval.
3. A new run evaluates first where configured; a resumed run makes up for an evaluation it owes.
4. A difference of logprobs above the bound is warned about; without a bound, or a value, it is not.
"""

from __future__ import annotations

import logging

import pytest

from ajet.training.schedule import (
    evaluation_is_due,
    first_evaluation_is_due,
    is_due,
    warn_of_logprobs,
    warn_of_nothing_to_train,
)


def test_a_multiple_of_the_interval_is_due() -> None:
    assert [step for step in range(1, 10) if is_due(step, 3)] == [3, 6, 9]
    assert not any(is_due(step, None) for step in range(1, 10))


def test_a_multiple_that_was_skipped_is_due_at_the_next_step() -> None:
    assert is_due(7, 3, previous=5)
    assert not is_due(8, 3, previous=7)
    assert is_due(3, 3, previous=-1)


def test_the_last_step_is_evaluated() -> None:
    due = [n for n in range(1, 6) if evaluation_is_due(n, test_freq=2, total_steps=5)]
    assert due == [2, 4, 5]
    assert [n for n in range(6) if evaluation_is_due(n, test_freq=None, total_steps=5)] == [5]


@pytest.mark.parametrize(
    ("step", "val_before_train", "was_evaluated", "expected"),
    [
        (0, True, False, True),
        (0, False, False, False),
        (0, True, True, False),
        (4, False, False, True),
        (4, True, True, False),
        (5, True, False, False),
    ],
)
def test_before_the_first_new_step(
    step: int, val_before_train: bool, was_evaluated: bool, expected: bool
) -> None:
    due = first_evaluation_is_due(
        step, test_freq=4, val_before_train=val_before_train, was_evaluated=was_evaluated
    )
    assert due is expected


@pytest.mark.parametrize(
    ("difference", "bound", "warns"),
    [(0.2, 0.1, True), (0.05, 0.1, False), (0.2, None, False), (None, 0.1, False)],
)
def test_logprobs_beyond_the_bound_are_warned_about(
    difference: float | None, bound: float | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    metrics = {} if difference is None else {"policy/logprob_diff_max": difference}
    warn_of_logprobs(metrics, step=3, bound=bound)
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * warns


def test_a_step_without_anything_to_train_is_warned_about(
    caplog: pytest.LogCaptureFixture,
) -> None:
    warn_of_nothing_to_train(7)
    assert "step 7" in caplog.text and "group/zero_variance" in caplog.text
