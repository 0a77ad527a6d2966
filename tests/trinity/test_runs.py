"""Whole runs with the real Trinity-RFT under Ray, through the real command.

1. On policy, a run has the records of every backbone under the same names, and engine and trainer
   compute the same: |ppo_kl| is at most 1e-6 at every step. It resumes from its last checkpoint,
   whether weights reach the engines through memory or through files.
2. Fully asynchronous, no group is trained that is older than the bound, every sample is accounted
   for, and validation is as in any run. One step off, every step but the first is trained on what
   the version before sampled.
3. Engines that do not take their weights (negative control) end the run before they sample.
4. Whatever process of a run is killed, the run ends soon, with a message that names it, and goes
   on after its last checkpoint. So it does when it is killed itself, and after Ctrl-C, which saves
   what was trained.
5. The local trainer trains a step on policy again and gets the same but for rounding; of one off
   policy, replay says why it cannot.
6. The exported model computes what the run's engine, transformers and vLLM compute.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.monitor.run_record import read_processes
from ajet.replay.replay import replay
from tests.end_to_end.command import Ended
from tests.end_to_end.run_folders import NAME, checkpoints_of, lines_of
from tests.trinity.runs import SKIPPED_SYNC, running, train
from tests.vllm.exported import assert_export_agrees

pytestmark = [pytest.mark.trinity, pytest.mark.timeout(1000)]

EVERY_STEP = {
    *("reward/mean", "reward/std", "episode/success_rate", "episode/num_calls", "episode/failed"),
    *("episode/count", "group/zero_variance", "policy/loss", "policy/entropy", "policy/grad_norm"),
    *("policy/clip_fraction", "staleness/mean", "staleness/max", "tokens/calls"),
    *("tokens/trained_sequence", "tokens/sampled", "tokens/dropped", "tokens/merge_ratio"),
    *("rollout/tokens_per_s", "train/tokens_per_s", "time/step_s", "time/rollout_s"),
    *("time/train_s", "time/sync_s"),
}
LONG = ("trainer_common.total_training_steps=60", "trainer_common.save_freq=1")
END_S = 240
"""A run must have ended this long after what ends it, its own patience included."""


def assert_done(ended: Ended) -> None:
    assert ended.code == 0, ended.stdout + ended.stderr


def steps_of(folder: Path) -> dict[int, dict[str, float]]:
    steps: dict[int, dict[str, float]] = {}
    for line in lines_of(folder / "metrics.jsonl"):
        steps.setdefault(line["step"], {}).update(line)
    return steps


def assert_on_policy(folder: Path, steps: dict[int, dict[str, float]]) -> None:
    for step, line in steps.items():
        if "policy/loss" not in line:
            continue
        assert line.keys() >= EVERY_STEP
        assert abs(line["trinity/ppo_kl"]) <= 1e-6
        assert line["policy/logprob_diff_max"] < 1e-4 and line["sync/probe_diff_max"] < 1e-4
        assert line["staleness/max"] == 0
        samples = read_rollouts(rollout_path(folder, step))
        assert {int(v) for s in samples for v in s.policy_versions[s.loss_mask]} == {step - 1}


def assert_it_goes_on(exp_dir: Path, *args: str) -> None:
    """For two steps more than were saved."""
    folder = exp_dir / NAME
    saved = int(checkpoints_of(folder)[-1].name.removeprefix("step_"))
    total = f"trainer_common.total_training_steps={saved + 2}"
    ended = train(exp_dir, "--resume", total, *args)
    assert_done(ended)
    steps = steps_of(folder)
    assert sorted(steps) == list(range(1, saved + 3))
    assert_on_policy(folder, steps)
    facts = read_processes(folder)[-1]["trinity"]
    assert facts["steps made"] == facts["version served"] == saved + 2


def test_on_policy_engine_and_trainer_agree_and_a_resumed_run_goes_on(tmp_path):
    args = ("trainer_common.save_freq=2", "trainer_common.test_freq=2")
    assert_done(train(tmp_path, *args, "trainer_common.total_training_steps=3"))
    folder = tmp_path / NAME
    assert [path.name for path in checkpoints_of(folder)] == ["step_000002", "step_000003"]
    facts = read_processes(folder)[-1]["trinity"]
    assert facts["steps asked"] == facts["steps made"] == facts["version served"] == 3
    assert facts["groups produced"] == facts["groups trained"] == 12
    assert facts["samples produced"] == facts["samples trained"]
    assert facts["groups stale"] == facts["samples left in the buffer"] == 0
    again = replay(folder, step=3, trust=True).stages
    assert [stage.outcome for stage in again] == ["equal"] * 4, again
    assert 0 < again[3].data["update_difference"] < 0.05
    assert_export_agrees(folder, 2, tmp_path, recorded_by_engine=True)
    assert_it_goes_on(tmp_path, "trinity.synchronizer.sync_method=checkpoint")
    evaluated = [step for step, line in steps_of(folder).items() if "eval/success_rate" in line]
    assert evaluated == [2, 3, 5], "the last step's, and every second"


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
    off_policy = next(step for step in sorted(steps) if steps[step].get("staleness/max"))
    training = replay(folder, step=off_policy, trust=True).stages[3]
    assert training.is_skipped and "older weights sampled this step" in training.summary
    assert "eval/success_rate" in steps[8]
    assert [e["phase"] for e in lines_of(folder / "episodes.jsonl")].count("eval") >= 8
    facts = read_processes(folder)[-1]["trinity"]
    assert facts["steps made"] == facts["version served"] == 8
    accounted = facts["samples trained"] + facts["samples stale"]
    assert facts["samples produced"] == accounted + facts["samples left in the buffer"]


def test_engines_that_do_not_take_their_weights_end_the_run(tmp_path):
    ended = train(tmp_path, "trainer_common.total_training_steps=3", command=SKIPPED_SYNC)
    assert ended.code == 1, ended.stdout + ended.stderr
    assert "still computes with the weights before the update" in ended.errors[0]
    assert sorted(steps_of(tmp_path / NAME)) == [1]
    assert checkpoints_of(tmp_path / NAME)[-1].name == "step_000001"


@pytest.mark.slow
def test_one_step_off_rollout_is_one_version_behind(tmp_path):
    offset = "trinity.synchronizer.sync_offset=1"
    assert_done(train(tmp_path, offset, "trainer_common.total_training_steps=4"))
    steps = steps_of(tmp_path / NAME)
    assert [line["staleness/max"] for line in steps.values()] == [0, 1, 1, 1]
    assert all("trinity/importance_weight" in steps[step] for step in (2, 3, 4))
    assert_export_agrees(tmp_path / NAME, 4, tmp_path, in_vllm=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    "victims",
    [
        {
            "ray::PolicyExplorer": "PolicyExplorer",
            "ray::TrinityPolicyTrainer": "TrinityPolicyTrainer",
        },
        {"VLLM::EngineCore": "vLLM", "ray::CpuPolicyModel": "PolicyModel"},
        {"ray::WorkerDict": "WorkerDict", "ray::WorkflowRunner": "runner"},
    ],
    ids=["actors", "engine", "workers"],
)
def test_whatever_is_killed_the_run_ends_with_a_message_and_goes_on(tmp_path, victims):
    resume: tuple[str, ...] = ()
    for number, (victim, named) in enumerate(victims.items()):
        with running(tmp_path, *LONG, *resume) as run:
            run.wait_for_step(2 + 2 * number)
            run.kill(victim)
            ended = run.end(END_S)
        assert ended.code == 1, ended.stdout + ended.stderr
        assert named in "\n".join(ended.errors)
        resume = ("--resume",)
    assert_it_goes_on(tmp_path)


@pytest.mark.slow
def test_a_run_that_is_killed_or_interrupted_goes_on(tmp_path):
    with running(tmp_path, *LONG) as run:
        run.wait_for_step(2)
        run.process.kill()
        assert run.end(END_S).code == -signal.SIGKILL
    facts = read_processes(tmp_path / NAME)[-1]["trinity"]
    assert facts["steps made"] >= 2 and facts["samples trained"] > 0
    with running(tmp_path, "trainer_common.total_training_steps=60", "--resume") as run:
        run.wait_for_step(4)
        os.killpg(run.process.pid, signal.SIGINT)  # the terminal sends it to every process
        ended = run.end(END_S)
    assert ended.code == 130, ended.stdout + ended.stderr
    saved = int(checkpoints_of(tmp_path / NAME)[-1].name.removeprefix("step_"))
    assert saved == max(steps_of(tmp_path / NAME)) >= 4, "nothing that was trained is lost"
    assert_it_goes_on(tmp_path)
