"""Whole runs with the real verl under Ray, through the real command.

1. A run has the records of every backbone, under the same names; engine and trainer agree.
2. Episodes, whole groups and a whole batch that fail are counted, and the run continues.
3. Where weights do not arrive in vLLM (negative control), the run stops and says so.
4. Killed and resumed, it continues after its last checkpoint.
5. Ctrl-C saves what was trained.
6. A worker that dies ends the run with a message; no process is left.
7. Two ranks with an engine each compute the same.
8. A run can be on a Ray that is there already, which it leaves as it was.
9. The exported model computes what the run's engine, transformers and vLLM compute.
10. A recorded step, replayed by the local trainer, comes out again but for rounding.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("verl")


from ajet.monitor.rollout_store import read_rollouts, rollout_path
from ajet.replay.replay import replay
from tests.end_to_end.command import ROOT
from tests.end_to_end.run_folders import NAME, checkpoints_of, lines_of
from tests.processes.service_processes import eventually
from tests.verl.runs import AGENTS, assert_agreed, assert_done, steps_of, train
from tests.vllm.exported import assert_export_agrees

pytestmark = [pytest.mark.verl, pytest.mark.timeout(1000)]

EVERY_STEP = {
    *("reward/mean", "reward/std", "episode/success_rate", "episode/num_calls", "episode/failed"),
    *("episode/count", "group/zero_variance", "policy/loss", "policy/entropy", "policy/grad_norm"),
    *("policy/clip_fraction", "policy/logprob_diff_max", "policy/logprob_diff_mean"),
    *("staleness/mean", "staleness/max", "tokens/calls", "tokens/trained_sequence"),
    *("tokens/sampled", "tokens/dropped", "tokens/merge_ratio", "rollout/tokens_per_s"),
    *("train/tokens_per_s", "time/step_s", "time/rollout_s", "time/train_s", "time/sync_s"),
    "verl/training/rollout_actor_probs_pearson_corr",
}


def test_failing_episodes_groups_and_batches_are_counted_and_the_run_goes_on(tmp_path):
    ended = train(
        tmp_path,
        "trainer_common.total_training_steps=4",
        "trainer_common.optim.num_updates_per_step=2",
        "trainer_common.algorithm.loss_agg=episodes",
        "rollout.max_failure_share=1.0",
        agent=f"{AGENTS}->Failing",
    )
    assert_done(ended)
    folder = tmp_path / NAME
    steps = steps_of(folder)
    trained = [e for e in lines_of(folder / "episodes.jsonl") if e["phase"] == "train"]
    assert sorted(steps) == [1, 2, 3, 4]
    assert steps[2]["episode/failed"] == 16
    assert "policy/loss" not in steps[2]
    for step in (1, 3, 4):
        assert steps[step].keys() >= EVERY_STEP
        episodes = [e for e in trained if e["step"] == step]
        failed = [e for e in episodes if e["outcome"] == "workflow_error"]
        assert len(episodes) == 16
        assert 0 < len(failed) == steps[step]["episode/failed"] < 16
    assert_agreed(steps)
    assert {e["outcome"] for e in trained if e["step"] == 2} == {"workflow_error"}
    samples = read_rollouts(rollout_path(folder, 4))
    assert {int(v) for s in samples for v in s.policy_versions[s.loss_mask]} == {2}
    assert (checkpoints_of(folder)[-1] / "model.safetensors").is_file()
    assert_export_agrees(folder, 4, tmp_path)


def test_weights_that_do_not_arrive_stop_the_run(tmp_path):
    ended = train(
        tmp_path,
        "trainer_common.total_training_steps=3",
        "trainer_common.optim.lr=3e-3",
        env={"VERL_USE_EXTERNAL_MODULES": "tests.verl.skip_sync"},
    )
    assert ended.code == 1, ended.stdout + ended.stderr
    assert "vLLM and the trainer disagree" in ended.errors[0]
    assert sorted(steps_of(tmp_path / NAME)) == [1]


@pytest.mark.slow
def test_a_killed_run_goes_on_after_its_last_checkpoint(tmp_path):
    options = ("trainer_common.total_training_steps=4", "trainer_common.save_freq=1")
    killed = train(tmp_path, *options, agent=f"{AGENTS}->Killed")
    assert killed.code == -signal.SIGKILL, killed.stdout + killed.stderr
    folder = tmp_path / NAME
    assert checkpoints_of(folder)[-1].name == "step_000002"
    resumed = train(tmp_path, *options, "--resume")
    assert_done(resumed)
    assert "resumed after step 2 of 4" in resumed.stdout
    steps = steps_of(folder)
    assert sorted(steps) == [1, 2, 3, 4]
    assert_agreed(steps)
    tasks = [e["task_id"] for e in lines_of(folder / "episodes.jsonl") if e["phase"] == "train"]
    assert len(set(tasks)) == 16, "each step has tasks of its own"


@pytest.mark.slow
def test_ctrl_c_saves_what_was_trained(tmp_path):
    ended = train(tmp_path, "trainer_common.total_training_steps=4", agent=f"{AGENTS}->Interrupted")
    assert ended.code == 130, ended.stdout + ended.stderr
    assert checkpoints_of(tmp_path / NAME)[-1].name == "step_000002"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("agent", "message"), [("WithoutVllm", "vLLM"), ("WithoutRank", "training of step 2 failed")]
)
def test_a_worker_that_dies_ends_the_run_with_a_message(tmp_path, agent, message):
    ended = train(tmp_path, "trainer_common.total_training_steps=3", agent=f"{AGENTS}->{agent}")
    assert ended.code == 1, ended.stdout + ended.stderr
    assert message in "\n".join(ended.errors)
    assert 1 in steps_of(tmp_path / NAME)


RAY_OWNER = """
import json, os, sys, time
from pathlib import Path
from ajet.launcher.ray_cluster import RaySize, own_ray
from ajet.monitor.run_record import recorded
folder = Path(sys.argv[1])
size = RaySize(num_gpus=1, num_cpus=7)
with recorded(folder, ["ajet"]), own_ray(size) as around, around(folder):
    found = {k: v for k, v in os.environ.items() if k.startswith("RAY_")}
    (folder / "part").write_text(json.dumps(found))
    (folder / "part").rename(folder / "ready")
    sys.stdin.read()
"""
LEFT_IN_RAY = """
import ray
ray.init(log_to_driver=False)
print(len(ray.util.list_named_actors(all_namespaces=True)), ray.available_resources()["GPU"])
"""


@pytest.mark.slow
def test_a_run_joins_a_ray_that_is_there_and_leaves_it_as_it_was(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    code = [sys.executable, "-c", RAY_OWNER, str(tmp_path)]
    with subprocess.Popen(code, env=env, stdin=subprocess.PIPE) as owner:
        assert eventually((tmp_path / "ready").is_file, 120)
        where = json.loads((tmp_path / "ready").read_text())
        ended = train(
            tmp_path / "runs",
            "trainer_common.total_training_steps=1",
            "--with-ray-cluster",
            env=where,
        )
        assert_done(ended)
        assert_agreed(steps_of(tmp_path / "runs" / NAME))
        left = subprocess.run(
            [sys.executable, "-c", LEFT_IN_RAY],
            env={**env, **where},
            capture_output=True,
            text=True,
        )
        assert left.stdout.split() == ["0", "1.0"], left
        owner.stdin.close()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps on two ranks with an engine each: two updates a step, a KL, checkpoints."""
    folder = tmp_path_factory.mktemp("two_ranks")
    ended = train(
        folder,
        "trainer_common.total_training_steps=2",
        "trainer_common.n_gpus_per_node=2",
        "trainer_common.use_kl_loss=true",
        "trainer_common.optim.num_updates_per_step=2",
        "trainer_common.save_freq=1",
    )
    assert_done(ended)
    return folder / NAME


@pytest.mark.slow
def test_two_ranks_with_an_engine_each_agree(two_ranks):
    steps = steps_of(two_ranks)
    assert_agreed(steps)
    assert steps[2]["policy/kl"] > 0


@pytest.mark.slow
def test_the_exported_model_of_two_ranks_computes_the_same_everywhere(two_ranks, tmp_path):
    assert_export_agrees(two_ranks, 1, tmp_path, in_vllm=True, recorded_by_engine=True)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2])
def test_a_step_is_trained_again_by_the_local_trainer(two_ranks, step):
    result = replay(two_ranks, step=step, trust=True)
    assert {stage.name: stage.outcome for stage in result.stages} == {
        "merge": "equal",
        "rewards": "equal",
        "advantages": "equal",
        "training": "equal",
    }, result.stages
    training = result.stages[3].data
    names = {row["name"] for row in training["metrics"]}
    assert names >= {"policy/loss", "policy/grad_norm", "policy/kl", "policy/clip_fraction"}
    assert 0 < training["update_difference"] < 0.05


@pytest.mark.slow
def test_control_a_step_that_was_trained_otherwise_is_found(two_ranks, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(two_ranks, run)
    ranks = (run / "checkpoints" / "step_000001" / "actor").glob("optim_world_size_2_rank_*.pt")
    for path in ranks:  # AdamW forgets the first step
        state = torch.load(path, weights_only=False)
        for averages in state["state"].values():
            averages["exp_avg"].zero_()
        torch.save(state, path)
    metrics = run / "metrics.jsonl"
    lines = [json.loads(line) for line in metrics.read_text().splitlines()]
    lines[-1]["policy/loss"] += 1e-3
    metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    training = replay(run, step=2, trust=True).stages[3]
    assert training.outcome == "differs"
    assert {line.split()[0] for line in training.differences} >= {"policy/loss:", "weights"}
