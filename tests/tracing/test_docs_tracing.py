"""docs/tracing.md: its YAML is a run of two steps, with its files as they stand.

The run's own calls are then a source of tasks.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.command import COMMAND, ROOT
from tests.end_to_end.run_folders import lines_of
from tests.tracing.logs import imported

PAGE = (ROOT / "docs" / "tracing.md").read_text("utf-8")
FILES = dict(re.findall(r"```\w+\n# (\w+\.\w+)\n(.*?)```", PAGE, re.DOTALL))
TWO_STEPS = (
    "trainer_common.total_training_steps=2",
    "trainer_common.val_before_train=false",
    "rollout.validation.greedy=false",
)


@pytest.mark.slow
def test_the_yaml_of_the_page_trains_and_the_run_is_a_source(tmp_path: Path) -> None:
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    ended = subprocess.run(
        [*COMMAND, "--conf", "traces.yaml", "--backbone=local", *TWO_STEPS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    shown = re.search(r"```\n(traced_tasks\.jsonl: .*?)\n```", PAGE, re.DOTALL)
    assert shown and all(line in ended.stderr for line in shown[1].splitlines())
    run_folder = tmp_path / "saved_experiments" / "traces"
    steps = {line["step"]: line for line in lines_of(run_folder / "metrics.jsonl")}
    assert [steps[step]["episode/count"] for step in (1, 2)] == [4, 4]
    assert [steps[step]["episode/failed"] for step in (1, 2)] == [0, 0]
    written = [json.loads(x) for x in (tmp_path / "traced_tasks.jsonl").read_text().splitlines()]
    trained = {
        line["task_id"]
        for line in lines_of(run_folder / "episodes.jsonl")
        if line["phase"].startswith("train")
    }
    assert trained and trained <= {task["task_id"] for task in written}

    tasks, report = imported(tmp_path, run_folder)
    assert {task.task_id for task in tasks} == trained
    assert report.calls == 8 and all("logged_reward" in task.metadata for task in tasks)
    assert imported(tmp_path, run_folder)[1].calls == 0
