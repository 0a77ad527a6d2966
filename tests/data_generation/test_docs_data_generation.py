"""docs/data_generation.md: its YAML makes tasks by a scripted model and is a run of two steps."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data_generation.writer import is_check, is_imitation, said
from tests.end_to_end.command import COMMAND, ROOT
from tests.end_to_end.run_folders import lines_of
from tests.judges.model_server import Body, Reply, serving

PAGE = (ROOT / "docs" / "data_generation.md").read_text("utf-8")
FILES = dict(re.findall(r"```\w+\n# (\w+\.\w+)\n(.*?)```", PAGE, re.DOTALL))
TWO_STEPS = (
    "trainer_common.total_training_steps=2",
    "trainer_common.val_before_train=false",
    "rollout.validation.greedy=false",
)
EXCERPT = "The harbour of Lund has 12 cranes."


def write(body: Body, number: int) -> Reply:
    if is_check(body):
        verdict = {"reason": "so it says", "is_answerable": True, "is_right": True}
        return Reply(content=json.dumps(verdict))
    if not is_imitation(body):
        query = "How many cranes does the harbour of Lund have?"
        written = {"question": query, "answer": "12", "excerpt": EXCERPT}
        return Reply(content=json.dumps({"questions": [written]}))
    asked = int(re.findall(r"request number (\d+)", said(body))[0])
    query = f"The harbour has 12 cranes and gets {asked} more. How many are there?"
    written = {"question": query, "answer": str(12 + asked), "excerpt": EXCERPT}
    return Reply(content=json.dumps(written))


@pytest.mark.slow
def test_the_yaml_of_the_page_makes_tasks_and_trains_on_them(tmp_path: Path) -> None:
    for file, text in FILES.items():
        (tmp_path / file).write_text(text)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    with serving(write) as server:
        url = f"task_reader.data_generation.model_client.base_url={server.url}"
        command = [*COMMAND, "--conf", "documents.yaml", "--backbone=local", url, *TWO_STEPS]
        ended = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert ended.returncode == 0, ended.stderr
        assert len(server.requests) == 1 + 1 + 4 + 4
    run_folder = tmp_path / "saved_experiments" / "documents"
    steps = {line["step"]: line for line in lines_of(run_folder / "metrics.jsonl")}
    assert [steps[step]["episode/count"] for step in (1, 2)] == [4, 4]
    assert [steps[step]["episode/failed"] for step in (1, 2)] == [0, 0]
    made = tmp_path / "harbour_tasks"
    lengths = {path.name: len(path.read_text().splitlines()) for path in made.glob("*.jsonl")}
    assert lengths == {"tasks.jsonl": 4, "validation_tasks.jsonl": 3, "model_calls.jsonl": 10}
    episodes = lines_of(run_folder / "episodes.jsonl")
    assert all(line["outcome"] == "ok" for line in episodes)
