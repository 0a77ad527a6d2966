"""`ajet eval`, as a user types it.

1. Killed at any moment and started again, it gives the same numbers as without the kill.
2. The same command of a finished evaluation only prints the results again.
3. A folder of another evaluation, or of a run, is refused.
4. Another evaluation is compared task by task.
5. A server behind a URL is evaluated, too.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.gateway.openai_server import serving

CONF = "tutorial/example_math_agent/math_agent_cpu.yaml"
AJET = [sys.executable, "-m", "ajet.cli"]
SMALL = ["--num-tasks", "24", "-k", "2", "rollout.max_env_worker=8"]


def eval_command(model: str, out: Path, *more: str) -> list[str]:
    return [*AJET, "eval", model, "--conf", CONF, "--out", str(out), *more]


def run(command: list[str], code: int = 0) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return found


def episodes(folder: Path) -> list[tuple[Any, ...]]:
    lines = [json.loads(line) for line in (folder / "episodes.jsonl").read_text().splitlines()]
    names = ("step", "episode_id", "task_id", "repeat_index", "reward", "is_success", "tokens")
    return sorted(tuple(str(line[name]) for name in names) for line in lines)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluations") / "undisturbed"
    run(eval_command("base", folder, *SMALL))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_evaluation_gives_the_same_numbers(
    undisturbed: Path, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "killed"
    command = eval_command("base", folder, *SMALL)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = folder / "episodes.jsonl"
    moment = random.Random(seed)
    num_lines = moment.randrange(0, 48, 8)  # in any of the six parts
    while process.poll() is None and (
        not log.is_file() or log.read_bytes().count(b"\n") < num_lines
    ):
        time.sleep(0.002)
    time.sleep(moment.uniform(0, 0.2))
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was killed in the middle"
    with log.open("a") as file:  # a line that was cut
        file.write('{"step": 9')
    run(command)
    assert episodes(folder) == episodes(undisturbed)
    assert results(folder) == results(undisturbed)


def test_the_same_command_prints_the_results_again(undisturbed: Path) -> None:
    before = (undisturbed / "episodes.jsonl").read_bytes()
    again = json.loads(run(eval_command("base", undisturbed, *SMALL, "--json")))
    assert again == results(undisturbed)
    assert (undisturbed / "episodes.jsonl").read_bytes() == before


def test_a_folder_of_another_evaluation_is_refused(undisturbed: Path) -> None:
    told = run(eval_command("base", undisturbed, *SMALL, "--greedy"), code=2)
    assert "has another evaluation, with other sampling" in told


def test_two_evaluations_are_compared_task_by_task(undisturbed: Path, tmp_path: Path) -> None:
    shown = run(
        eval_command("base", tmp_path / "greedy", *SMALL, "--greedy", "--against", str(undisturbed))
    )
    assert "against base, task by task (24 tasks in both)" in shown
    found = results(tmp_path / "greedy")
    before = {task["task_id"]: task["num_solved"] for task in results(undisturbed)["tasks"]}
    changes = [(task["num_solved"] - before[task["task_id"]]) / 2 for task in found["tasks"]]
    assert found["comparison"]["success"]["value"] == pytest.approx(sum(changes) / 24)
    assert len(found["comparison"]["better"]) == sum(change > 0 for change in changes)


def test_the_records_are_those_of_a_run(undisturbed: Path) -> None:
    there = {path.name for path in undisturbed.iterdir()}
    assert {"config.yaml", "run.json", "metrics.jsonl", "episodes.jsonl", "calls", "rollouts"} <= (
        there
    )
    from ajet.viewer.run_view import RunView

    view = RunView(undisturbed)
    view.episodes.refresh(10.0)
    steps = view.detail(10.0)["steps"]
    assert [(row["phase"], row["count"], row["has_calls"]) for row in steps] == [
        ("eval", 8, True)
    ] * 6


def test_a_server_behind_a_url(tmp_path: Path) -> None:
    with serving() as server:
        told = run(
            [*eval_command(server.url, tmp_path / "remote", "--num-tasks", "2"), "--json"],
        )
        bodies = [body for path, _, body in server.requests if path.endswith("completions")]
    assert json.loads(told)["num_episodes"] == 2
    assert os.path.isdir(tmp_path / "remote" / "calls")
    assert all(body["temperature"] == 1.0 for body in bodies)
