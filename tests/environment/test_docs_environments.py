"""docs/environments.md: each of its YAMLs is a run of two steps, with its files as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ajet.service.probes import free_ports
from tests.end_to_end.command import COMMAND, ROOT
from tests.end_to_end.run_folders import lines_of

PAGE = (ROOT / "docs" / "environments.md").read_text()
FILES = re.findall(
    r"`(\w+\.(?:py|yaml|jsonl))`[^`\n]*:?[^`]*?:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL
)
TWO_STEPS = (
    "trainer_common.total_training_steps=2",
    "trainer_common.val_before_train=false",
    "rollout.validation.greedy=false",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The page's files; the service has a port of its own."""
    port = str(free_ports(1)[0])
    for name, text in FILES:
        (tmp_path / name).write_text(text.replace("8080", port))
    return tmp_path


def run(folder: Path, conf: str, *args: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(
        [*COMMAND, "--conf", conf, "--backbone=local", *TWO_STEPS, *args],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=240,
    )


def test_the_page_has_the_files_that_it_names() -> None:
    names = {name for name, _ in FILES}
    assert names == {
        "play.py",
        "guess_service.py",
        "guess.yaml",
        "lake.py",
        "lake.yaml",
        "lakes.jsonl",
    }
    assert PAGE.count("```yaml") == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count"), [("guess", 16), ("lake", 8)])
def test_a_yaml_of_the_page_trains(folder: Path, name: str, count: int) -> None:
    ended = run(folder, f"{name}.yaml")
    assert ended.returncode == 0, ended.stderr
    run_folder = folder / "saved_experiments" / name
    steps = {line["step"]: line for line in lines_of(run_folder / "metrics.jsonl")}
    assert [steps[step]["episode/count"] for step in (1, 2)] == [count, count]
    assert [steps[step]["episode/failed"] for step in (1, 2)] == [0, 0]
    episodes = lines_of(run_folder / "episodes.jsonl")
    assert all(line["outcome"] == "ok" and line["num_calls"] > 0 for line in episodes)
    assert not list((run_folder / "environments").glob("*"))
    if name == "guess":
        assert {line["reward"] for line in episodes} - {0.0}
        record = json.loads((run_folder / "run.json").read_text())
        assert record["processes"][0]["services"][0]["name"] == "service guess"


@pytest.mark.slow
def test_without_its_service_the_run_says_what_to_do(folder: Path) -> None:
    ended = run(folder, "guess.yaml", "task_runner.services=[]")
    assert ended.returncode == 1
    assert "cannot list the tasks" in ended.stderr
    assert "task_runner.services" in ended.stderr
