"""docs/data.md: each of its YAMLs is a run of two steps, with its files as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import COMMAND, ROOT
from tests.end_to_end.run_folders import lines_of

PAGE = (ROOT / "docs" / "data.md").read_text("utf-8")
FILES = dict(re.findall(r"```\w+\n# (\w+\.\w+)\n(.*?)```", PAGE, re.DOTALL))
TWO_STEPS = (
    "trainer_common.total_training_steps=2",
    "trainer_common.val_before_train=false",
    "rollout.validation.greedy=false",
)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count", "num_tasks"),
    [
        ("lines", 4, 3),
        ("table", 4, 2),
        ("chosen", 4, 3),
        ("mixed", 8, 5),  # three stories, twice each, and two sums
        ("logs", 4, 2),
        ("pools", 8, 8),
        ("sums", 8, 8),
    ],
)
def test_a_yaml_of_the_page_trains(name: str, count: int, num_tasks: int, tmp_path: Path) -> None:
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ended = subprocess.run(
        [*COMMAND, "--conf", f"{name}.yaml", "--backbone=local", *TWO_STEPS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path, "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    run_folder = tmp_path / "saved_experiments" / name
    steps = {line["step"]: line for line in lines_of(run_folder / "metrics.jsonl")}
    assert [steps[step]["episode/count"] for step in (1, 2)] == [count, count]
    assert [steps[step]["episode/failed"] for step in (1, 2)] == [0, 0]
    episodes = lines_of(run_folder / "episodes.jsonl")
    assert all(line["outcome"] == "ok" and line["num_calls"] > 0 for line in episodes)
    trained = {line["task_id"] for line in episodes if line["phase"].startswith("train")}
    assert len(trained) == num_tasks
    if name in ("mixed", "pools"):
        results = lines_of(run_folder / "task_success.jsonl")
        assert [(line["step"], line["episodes"]) for line in results] == [(1, 2)] * 4 + [(2, 2)] * 4
    if name == "mixed":
        assert sum(steps[step]["curriculum/from/stories"] for step in (1, 2)) == 2 * 0.75
    if name == "pools":
        assert steps[2]["curriculum/new"] == 996 and steps[1]["curriculum/drawn_new"] == 1
