"""Whole runs with the real Trinity-RFT under Ray, through the real command.

1. On policy, a run has the records of every backbone under the same names, and engine and trainer
   compute the same: |ppo_kl| is at most 1e-6 at every step.
2. It goes on after its last checkpoint.
3. Fully asynchronous, no group is trained that is older than the bound, and every sample is
   accounted for.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ajet.config.root import BACKBONES
from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.monitor.run_record import read_processes
from tests.end_to_end.command import Ended
from tests.end_to_end.run_folders import NAME, checkpoints_of, lines_of
from tests.trinity.runs import train

pytestmark = [
    pytest.mark.trinity,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif("trinity" not in BACKBONES, reason="the backbone is not offered yet"),
]

EVERY_STEP = {
    *("reward/mean", "reward/std", "episode/success_rate", "episode/num_calls", "episode/failed"),
    *("episode/count", "group/zero_variance", "policy/loss", "policy/entropy", "policy/grad_norm"),
    *("policy/clip_fraction", "staleness/mean", "staleness/max", "tokens/calls"),
    *("tokens/trained_sequence", "tokens/sampled", "tokens/dropped", "tokens/merge_ratio"),
    *("rollout/tokens_per_s", "train/tokens_per_s", "time/step_s", "time/rollout_s"),
    *("time/train_s", "time/sync_s"),
}


def assert_done(ended: Ended) -> None:
    assert ended.code == 0, ended.stdout + ended.stderr


def steps_of(folder: Path) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for line in lines_of(folder / "metrics.jsonl"):
        steps.setdefault(line["step"], {}).update(line)
    return steps


def test_on_policy_engine_and_trainer_agree_and_a_resumed_run_goes_on(tmp_path):
    args = ("trainer_common.save_freq=2", "trainer_common.test_freq=2")
    assert_done(train(tmp_path, *args, "trainer_common.total_training_steps=3"))
    folder = tmp_path / NAME
    assert checkpoints_of(folder) == ["step_000002", "step_000003"]
    assert_done(train(tmp_path, "--resume", *args, "trainer_common.total_training_steps=5"))
    steps = steps_of(folder)
    assert sorted(steps) == [1, 2, 3, 4, 5]
    for step, line in steps.items():
        assert line.keys() >= EVERY_STEP
        assert abs(line["trinity/ppo_kl"]) <= 1e-6
        assert line["policy/logprob_diff_max"] < 1e-4 and line["sync/probe_diff_max"] < 1e-4
        assert line["staleness/max"] == 0
        samples = read_rollouts(rollout_path(folder, step))
        assert {int(v) for s in samples for v in s.policy_versions[s.loss_mask]} == {step - 1}
    assert [step for step, line in steps.items() if "eval/success_rate" in line] == [2, 3, 4, 5]
    facts = read_processes(folder)[-1]["trinity"]
    assert facts["steps asked"] == facts["steps made"] == facts["version served"] == 5
    assert facts["samples produced"] == facts["samples trained"]


def test_fully_asynchronous_no_group_is_too_old_and_every_sample_is_accounted_for(tmp_path):
    ended = train(
        tmp_path,
        "trinity.synchronizer.sync_style=fully_async",
        "trinity.algorithm.sample_strategy_args.max_staleness=2",
        "trainer_common.total_training_steps=8",
        "trainer_common.test_freq=4",
    )
    assert_done(ended)
    folder = tmp_path / NAME
    steps = steps_of(folder)
    assert set(range(1, 9)) <= steps.keys()
    trained = [line for line in steps.values() if "policy/loss" in line]
    assert all(line["staleness/max"] <= 2 for line in trained)
    assert any(line["staleness/max"] > 0 for line in trained)
    assert "eval/success_rate" in steps[8]
    facts = read_processes(folder)[-1]["trinity"]
    assert facts["steps made"] == facts["version served"] == 8
    accounted = facts["samples trained"] + facts["samples stale"]
    assert facts["samples produced"] == accounted + facts["samples left in the buffer"]
