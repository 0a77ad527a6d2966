"""LoRA under the names of `ajet.lora` in a whole run with the real Trinity-RFT.

The adapter is trained; vLLM and checkpoints have the merged weights, and the run resumes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.replay.replay import replay
from tests.end_to_end.run_folders import NAME, checkpoints_of
from tests.trinity.runs import train
from tests.trinity.test_runs import assert_done, steps_of
from tests.verl.logprobs import largest_difference

pytestmark = [pytest.mark.trinity, pytest.mark.timeout(1000), pytest.mark.slow]

MODEL = Path("ajet/tiny_model/calculator")


def test_an_adapter_is_trained_and_the_others_get_the_merged_weights(tmp_path: Path) -> None:
    options = (
        "lora.lora_rank=8",
        "lora.target_modules=[q_proj,v_proj,down_proj]",
        "trainer_common.optim.lr=3e-3",
        "trainer_common.save_freq=1",
    )
    assert_done(train(tmp_path, *options, "trainer_common.total_training_steps=2"))
    folder = tmp_path / NAME
    saved = checkpoints_of(folder)[0]  # what the second step was sampled from
    samples = read_rollouts(rollout_path(folder, 2))
    assert largest_difference(saved, samples) < 1e-3 < largest_difference(MODEL, samples)
    assert all(line["sync/probe_diff_max"] < 1e-3 for line in steps_of(folder).values())
    training = replay(folder, step=2, trust=True).stages[3]
    assert training.is_skipped and "LoRA" in training.summary
    total = "trainer_common.total_training_steps=3"
    assert_done(train(tmp_path, "--resume", *options, total))
    assert steps_of(folder)[3]["policy/logprob_diff_max"] < 1e-3
