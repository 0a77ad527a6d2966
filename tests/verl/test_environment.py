"""An environment service and a curriculum with verl.

1. Every episode has an instance of its own, which gives its reward and is released.
2. The curriculum chooses by the results so far, and a resumed run would choose the same.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.environment.whole_runs import (
    assert_a_resumed_curriculum_chooses_the_same,
    assert_all_instances_served_and_released,
    assert_metrics_of_the_curriculum,
    run_guess,
)

pytestmark = [pytest.mark.verl, pytest.mark.timeout(1000)]


@pytest.mark.slow
def test_environments_and_the_curriculum_work_as_with_every_backbone(tmp_path: Path) -> None:
    ended = run_guess(tmp_path, "verl", "rollout.max_model_len=512")
    assert ended.code == 0, ended.stdout + ended.stderr
    run_folder = tmp_path / "saved_experiments" / "guess"
    assert_all_instances_served_and_released(run_folder)
    assert_metrics_of_the_curriculum(run_folder)
    assert_a_resumed_curriculum_chooses_the_same(run_folder)
