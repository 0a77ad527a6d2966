"""Whole runs with the real verl in its other modes: a critic, LoRA, episodes in Ray actors.

1. PPO's critic learns, is saved and resumed.
2. With LoRA the adapter is trained; vLLM and checkpoints have the merged weights.
3. Episodes may run in Ray actors: the same ones; of an actor that is killed, elsewhere.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("verl")

from ajet.export.export import export
from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.replay.replay import replay
from tests.end_to_end.run_folders import NAME, checkpoints_of, lines_of
from tests.verl.logprobs import largest_difference
from tests.verl.runs import AGENTS, assert_agreed, assert_done, steps_of, train
from tests.vllm.exported import assert_export_agrees

pytestmark = [pytest.mark.verl, pytest.mark.timeout(1000), pytest.mark.slow]

MODEL = Path("ajet/tiny_model/calculator")


def test_ppo_trains_a_critic_beside_the_policy(tmp_path):
    options = (
        "trainer_common.algorithm.adv_estimator=gae",
        "trainer_common.critic.lr=1e-3",
        "trainer_common.total_training_steps=4",
        "trainer_common.save_freq=1",
    )
    assert_done(train(tmp_path, *options))
    folder = tmp_path / NAME
    steps = steps_of(folder)
    assert_agreed(steps)
    losses = [steps[step]["verl/critic/vf_loss"] for step in sorted(steps)]
    assert losses[-1] < losses[0], losses
    samples = read_rollouts(rollout_path(folder, 4))
    advantages = np.concatenate([s.advantages[s.loss_mask] for s in samples])
    assert abs(advantages.mean()) < 1e-4
    assert advantages.std() == pytest.approx(1, abs=0.01)
    training = replay(folder, step=4, trust=True).stages[3]
    assert training.outcome == "equal", training
    shutil.rmtree(checkpoints_of(folder)[-1])  # as if it was killed before
    resumed = train(tmp_path, *options, "--resume")
    assert_done(resumed)
    assert "resumed after step 3 of 4" in resumed.stdout
    again = steps_of(folder)[4]["verl/critic/vf_loss"]
    assert again < losses[0], "the critic continues with what it has learnt"


def test_an_adapter_is_trained_and_the_others_get_the_merged_weights(tmp_path):
    options = (
        "lora.lora_rank=8",
        "trainer_common.use_kl_loss=true",
        "trainer_common.optim.lr=3e-3",
        "trainer_common.total_training_steps=3",
        "trainer_common.save_freq=1",
    )
    assert_done(train(tmp_path, *options))
    folder = tmp_path / NAME
    steps = steps_of(folder)
    assert_agreed(steps)
    assert steps[3]["policy/kl"] > 1e-3, "the weights changed"
    saved = checkpoints_of(folder)[1]  # what the third step was sampled from
    difference = largest_difference(saved, read_rollouts(rollout_path(folder, 3)))
    base = largest_difference(MODEL, read_rollouts(rollout_path(folder, 3)))
    assert difference < 1e-3 < base
    assert_export_agrees(folder, 2, tmp_path, in_vllm=True, recorded_by_engine=True)
    kept = export(folder, step="2", to=tmp_path / "adapter", dtype=None, lora="keep")
    assert kept.difference < 1e-4
    assert kept.recorded is not None
    assert kept.recorded < 1e-4
    shutil.rmtree(checkpoints_of(folder)[2])
    assert_done(train(tmp_path, *options, "--resume"))
    assert_agreed(steps_of(folder))


def test_episodes_in_actors_are_those_of_one_process(tmp_path):
    options = ("trainer_common.total_training_steps=2", "trainer_common.optim.lr=1e-9")
    assert_done(train(tmp_path / "one", *options))
    assert_done(train(tmp_path / "two", *options, "rollout.ray_actors=2"))
    steps = steps_of(tmp_path / "two" / NAME)
    assert_agreed(steps)
    assert steps[2]["episode/count"] == 16
    one, two = (
        {
            (sample.episode_id, sample.call_index.max()): sample.ids.tolist()
            for sample in read_rollouts(rollout_path(tmp_path / name / NAME, 1))
        }
        for name in ("one", "two")
    )
    assert one.keys() == two.keys()
    # vLLM's rounding depends on what else it computes, and may turn a token that was nearly even.
    same = [one[key] == two[key] for key in one]
    assert sum(same) >= len(same) - 1


def test_a_process_that_ran_episodes_is_replaced(tmp_path):
    ended = train(
        tmp_path,
        "trainer_common.total_training_steps=3",
        "rollout.ray_actors=2",
        agent=f"{AGENTS}->KillsItsProcess",
        env={"AJET_TEST_KILLED": str(tmp_path / "killed")},
    )
    assert_done(ended)
    assert "starting another one" in ended.stderr + ended.stdout
    folder = tmp_path / NAME
    assert_agreed(steps_of(folder))
    trained = [e for e in lines_of(folder / "episodes.jsonl") if e["phase"] == "train"]
    assert [len([e for e in trained if e["step"] == step]) for step in (1, 2, 3)] == [16] * 3
    assert {e["outcome"] for e in trained} == {"ok"}
