"""What a run shows and leaves behind.

1. Plain lines where output is not a terminal; the last one is the run folder's path.
2. Everything that the run folder is said to hold.
3. Every metric that all backbones share.
4. Engine and trainer agree on every token, and nothing is stale.
"""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.end_to_end.command import OPENAI_AGENT, train
from tests.end_to_end.run_folders import NAME, calls_of, checkpoints_of, lines_of, rollouts_of

OF_EVERY_STEP = {
    *("reward/mean", "reward/std"),
    *("episode/success_rate", "episode/num_calls", "episode/failed", "episode/count"),
    "group/zero_variance",
    *("policy/loss", "policy/entropy", "policy/kl", "policy/grad_norm", "policy/clip_fraction"),
    *("policy/logprob_diff_max", "policy/logprob_diff_mean"),
    *("staleness/mean", "staleness/max"),
    *("tokens/calls", "tokens/trained_sequence", "tokens/sampled", "tokens/dropped"),
    "tokens/merge_ratio",
    *("rollout/tokens_per_s", "train/tokens_per_s"),
    *("time/step_s", "time/rollout_s", "time/train_s", "time/sync_s"),
}
OF_EVALUATION = {
    "eval/success_rate",
    "eval/reward_mean",
    "eval/greedy_success_rate",
    "time/eval_s",
}


def test_a_run_from_beginning_to_end(tmp_path: Path) -> None:
    ended = train(
        tmp_path,
        OPENAI_AGENT,
        "trainer_common.total_training_steps=3",
        "trainer_common.use_kl_loss=true",
        "rollout.validation.greedy=true",
        "rollout.validation.num_tasks=4",
    )
    assert ended.code == 0, ended.stderr
    folder = tmp_path / NAME

    lines = ended.stdout.splitlines()
    assert lines[-1] == str(folder)
    assert "\x1b" not in ended.stdout + ended.stderr
    assert "\r" not in ended.stdout + ended.stderr
    assert [line.split()[2] for line in lines if "] step " in line] == ["0/3", "1/3", "2/3", "3/3"]
    assert "Before training" in ended.stdout
    assert "After training" in ended.stdout

    metrics = lines_of(folder / "metrics.jsonl")
    assert [line["step"] for line in metrics] == [0, 1, 2, 3]
    for line in metrics:
        assert line.keys() >= {"step", "time"}
        assert line["step"] == 0 or line.keys() >= OF_EVERY_STEP
        assert (line["step"] in (0, 2, 3)) == (line.keys() >= OF_EVALUATION)
    for line in metrics[1:]:
        assert line["policy/logprob_diff_max"] <= 1e-4
        assert line["staleness/max"] == line["staleness/mean"] == 0

    assert_complete(folder)


def assert_complete(folder: Path) -> None:
    """The folder of a run of three steps."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["ajet"]["rollout"]["num_repeat"] == 4
    assert config["ajet"]["trainer_common"]["optim"]["betas"] == [0.9, 0.95]
    (process,) = json.loads((folder / "run.json").read_text())["processes"]
    assert process["outcome"] == "finished"
    for name in ("reward_curve.svg", "reward_curve.png", "logs/ajet.log"):
        assert (folder / name).stat().st_size > 0, name
    rollouts = rollouts_of(folder)
    assert list(rollouts) == [f"step_{step:06d}.parquet" for step in (1, 2, 3)]
    assert list(calls_of(folder)) == list(rollouts)
    episodes = lines_of(folder / "episodes.jsonl")
    phases = [(line["step"], line["phase"]) for line in episodes]
    assert all(phases.count((step, "train")) == 16 for step in (1, 2, 3))
    for step in (0, 2, 3):
        assert phases.count((step, "eval")) == phases.count((step, "eval_greedy")) == 4
    trained = {row for table in rollouts.values() for row in table["episode_id"].to_pylist()}
    assert trained == {line["episode_id"] for line in episodes if line["phase"] == "train"}
    assert [path.name for path in checkpoints_of(folder)] == ["step_000002", "step_000003"]
    for path in checkpoints_of(folder):
        names = {file.name for file in path.iterdir()}
        assert names >= {"config.json", "model.safetensors", "tokenizer.json", "manifest.json"}
