"""Whole runs of the tiny model in which a judge gives the reward.

1. A second run with the same seed makes no judge call, and is equal to the last bit.
2. Its episodes have the judge's reasons in the records; its calls are on record.
3. A finished run can be replayed with its judge and with another one, and its judge be measured,
   offline.
4. With each judge, the tiny model learns: by a rule that the training never sees, success rises
   from at most 0.45 to at least 0.75 (slow).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ajet.config.loading.load import load_config
from ajet.launcher.launch import launch
from ajet.replay.judge_report import judge_report, read_run
from ajet.replay.replay import replay
from tests.judges.knowing_model import knowing
from tests.judges.learning import (
    MODEL_JUDGES,
    NOTES,
    RULES,
    configuration,
    right_answers,
    train,
    write_tasks,
)
from tests.judges.model_server import serving

STEPS = 2
SMALL = ["data.train_batch_size=4", "rollout.num_repeat=4"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_judged_run_is_repeated_from_disk_and_replayed(tmp_path, monkeypatch):
    monkeypatch.setenv(NOTES, str(tmp_path / "notes.jsonl"))
    write_tasks(tmp_path, "relative")
    with serving(knowing(right_answers())) as server:
        conf = configuration(tmp_path, "relative", server.url, STEPS, num_tasks=4)
        overrides = [f"experiment_dir={tmp_path}/runs", *SMALL]
        first = launch(load_config(conf, overrides), command=["ajet"])
        calls = len(server.requests)
        second = launch(load_config(conf, overrides), command=["ajet"])
        assert len(server.requests) == calls > 0

        for step in range(1, STEPS + 1):
            name = f"step_{step:06d}.parquet"
            assert (first / "calls" / name).read_bytes() == (second / "calls" / name).read_bytes()
            rewards = [
                [(e["reward"], e["judge"]["reasons"]) for e in lines(run / "episodes.jsonl")]
                for run in (first, second)
            ]
            assert rewards[0] == rewards[1]
        assert [m["policy/grad_norm"] for m in lines(first / "metrics.jsonl") if m["step"]] == [
            m["policy/grad_norm"] for m in lines(second / "metrics.jsonl") if m["step"]
        ]
        (rollouts, *_) = sorted((first / "rollouts").glob("*.parquet"))
        (reasons, *_) = pq.read_table(rollouts).column("judge").to_pylist()
        assert "The answer is" in reasons
        recorded = lines(first / "model_calls.jsonl")
        assert sum(not record["is_kept"] for record in recorded) == calls

        same = replay(first, step=1, with_training=False)
        assert same.agrees and [stage.outcome for stage in same.stages[1:2]] == ["equal"]
        other = replay(
            first,
            step=1,
            judge="ajet.task_judge.llm_judge->LlmJudge",
            with_training=False,
        )
        assert other.agrees
        asked = len(server.requests)
        config = load_config(first / "config.yaml", [])
        report = judge_report(config, read_run(first, 1), repeats=1, offline=True)
        assert len(server.requests) == asked
    assert report.estimates["accuracy"].value == 1 and report.failures == {}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("judge", [*MODEL_JUDGES, *RULES])
def test_the_tiny_model_learns_from_each_judge(tmp_path, monkeypatch, judge, seed):
    monkeypatch.setenv(NOTES, "")  # restored after the test; `train` sets it
    result = train(judge, seed, steps=12, num_tasks=128, folder=tmp_path / "run")
    assert result["held_out_start"] <= 0.45, result
    assert result["held_out_end"] >= 0.75, result
