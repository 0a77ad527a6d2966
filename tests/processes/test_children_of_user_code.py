"""Processes that user code starts are ordinary ones.

1. A forked child ends on SIGTERM, whatever the run has made of that signal.
2. A function of a workflow's file can be sent to a spawned child.
3. A forked child that returns from user code, or raises, ends there: it is no second run.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ajet.launcher.signals import sigterm_as_ctrl_c
from tests.processes.service_processes import ROOT

SCRIPT = """
import multiprocessing
from ajet.class_path import load_function

if __name__ == "__main__":
    double = load_function("tool.py->double", "key")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""
FORKS = """
import os, sys
from ajet.launcher.signals import hard_exits_raise
from tests.unit.episode_fakes import rollout_of, tasks_of
from ajet import Workflow, WorkflowOutput

class Forks(Workflow):
    async def execute(self, workflow_task, tuner):
        if os.fork() == 0 and sys.argv[1] == "raises":
            raise ValueError("of the child")
        return WorkflowOutput(reward=1.0)

with hard_exits_raise():
    [group] = rollout_of(Forks).run(tasks_of(1), num_repeat=1, tag="x")
os.waitpid(-1, 0)
print("finished", group.episodes[0].reward)
"""


@pytest.mark.parametrize("what", ["returns", "raises"])
def test_a_forked_child_that_leaves_user_code_ends(what: str) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FORKS, what]
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert run.stdout == "finished 1.0\n", run.stderr
    said = " with ValueError: of the child;" if what == "raises" else ";"
    assert f"error: a forked process has left the code that forked it{said}" in run.stderr


def test_a_forked_child_ends_on_sigterm() -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with sigterm_as_ctrl_c():
        child.start()
        child.terminate()
        child.join(50)
    assert child.exitcode == -15


def test_a_function_of_a_workflows_file_can_be_spawned(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("def double(number):\n    return 2 * number\n")
    (tmp_path / "main.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.stdout == "[2, 4]\n", result.stderr
