"""Whole runs on an environment service with a curriculum, for tests of every backbone.

The files are those of docs/environments.md: a service that the run starts lists the tasks, and
gives each episode an instance and its reward.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from ajet.config.loading.load import load_config
from ajet.monitor.task_results import read_task_results
from ajet.schema.task import Task
from ajet.service.probes import free_ports
from ajet.task_reader.task_batches import TaskBatches
from ajet.training.checkpoints import read_position
from tests.end_to_end.command import COMMAND, ROOT, Ended
from tests.end_to_end.run_folders import checkpoints_of, lines_of

PAGE = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
FILES = re.findall(
    r"`(\w+\.(?:py|yaml|jsonl))`[^`\n]*:?[^`]*?:\n\n```\w+\n(.*?)```", PAGE, re.DOTALL
)
SETTINGS = (
    "task_reader.curriculum.policy=target_success",
    "trainer_common.total_training_steps=3",
    "trainer_common.save_freq=1",
    "trainer_common.val_before_train=false",
    "trainer_common.test_freq=null",
    "rollout.validation.num_tasks=2",
    "rollout.validation.greedy=false",
)


def run_guess(folder: Path, backbone: str, *settings: str, timeout_s: float = 900) -> Ended:
    """A run of three steps in a folder; the service has a port of its own."""
    port = str(free_ports(1)[0])
    for name, text in FILES:
        (folder / name).write_text(text.replace("8080", port))
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    process = subprocess.run(
        [*COMMAND, "--conf", "guess.yaml", f"--backbone={backbone}", *SETTINGS, *settings],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    return Ended(code=process.returncode, stdout=process.stdout, stderr=process.stderr)


def assert_all_instances_served_and_released(run_folder: Path) -> None:
    """Each episode had an instance that gave its reward, and none is noted as open."""
    episodes = [e for e in lines_of(run_folder / "episodes.jsonl") if e["phase"] == "train"]
    assert len(episodes) == 3 * 16
    assert all(episode["outcome"] == "ok" and episode["num_calls"] > 0 for episode in episodes)
    assert {episode["reward"] for episode in episodes} - {0.0}
    assert not list((run_folder / "environments").glob("*"))


def assert_a_resumed_curriculum_chooses_the_same(run_folder: Path) -> None:
    """What each checkpoint and the results up to it choose is what the run chose next."""
    ajet = load_config(run_folder / "config.yaml").ajet
    results = list(read_task_results(run_folder))
    assert [step for step, _ in results] == [1] * 4 + [2] * 4 + [3] * 4
    for checkpoint in checkpoints_of(run_folder)[:-1]:
        position = read_position(checkpoint)
        batches = TaskBatches(
            [Task(task_id=str(number)) for number in range(100)],  # what the service lists
            seed=ajet.trainer_common.seed,
            curriculum=ajet.task_reader.curriculum,
        )
        before = [(step, result) for step, result in results if step <= position.step]
        batches.restore(position.reader_state, before)
        chosen = {task.task_id for task in batches.next_batch(4, position.step + 1)}
        assert chosen == {r.task_id for step, r in results if step == position.step + 1}


def assert_metrics_of_the_curriculum(run_folder: Path) -> None:
    """They are in the line of each step."""
    steps = {line["step"]: line for line in lines_of(run_folder / "metrics.jsonl")}
    assert [steps[step]["curriculum/drawn_new"] for step in (1, 2)] == [1.0, 0.25]
    assert [steps[step]["curriculum/new"] for step in (1, 2, 3)] == [100, 96, 95]
