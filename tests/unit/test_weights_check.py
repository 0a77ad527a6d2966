"""An engine with other weights than the trainer never goes unseen.

1. Rounding passes.
2. An update that was skipped is caught, however small the update.
3. An engine that computes something else is caught.
"""

from __future__ import annotations

import numpy as np
import pytest

from ajet.errors import EngineError
from ajet.training.weight_sync_check import check_weights, probe_ids

TRAINED = np.linspace(-9.0, -0.1, 47)


def check(served: np.ndarray, before: np.ndarray | None = None) -> float:
    return check_weights(served.tolist(), TRAINED, before, bound=1e-3, name="engine 0")


def test_rounding_passes():
    noise = np.random.default_rng(0).uniform(-2e-5, 2e-5, 47)
    assert check(TRAINED + noise) <= 2e-5
    assert check(TRAINED + noise, before=TRAINED - 0.01) <= 2e-5


@pytest.mark.parametrize("size", [1e-4, 1e-2, 1.0])
def test_a_skipped_update_is_caught_however_small(size):
    before = TRAINED - size
    with pytest.raises(EngineError, match="weights before the update"):
        check(before, before=before)


def test_an_update_that_changes_nothing_is_no_skipped_one():
    assert check(TRAINED + 1e-5, before=TRAINED) == pytest.approx(1e-5)


@pytest.mark.parametrize("wrong", [TRAINED + 0.06, TRAINED * np.nan])
def test_other_weights_are_caught(wrong):
    with pytest.raises(EngineError, match="does not compute what the trainer does"):
        check(wrong)


def test_the_probe_is_the_same_for_a_seed_and_within_the_vocabulary():
    assert probe_ids(680, seed=1) == probe_ids(680, seed=1) != probe_ids(680, seed=2)
    assert min(probe_ids(680, seed=1)) >= 0 and max(probe_ids(680, seed=1)) < 680
