"""Processes that user code starts are ordinary ones.

1. A forked child ends on SIGTERM, whatever the run has made of that signal.
2. A function of a workflow's file can be sent to a spawned child.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from pathlib import Path

from ajet.launcher.signals import sigterm_as_ctrl_c

SCRIPT = """
import multiprocessing
from ajet.class_path import load_function

if __name__ == "__main__":
    double = load_function("tool.py->double", "key")
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(double, [1, 2]))
"""


def test_a_forked_child_ends_on_sigterm() -> None:
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    with sigterm_as_ctrl_c():
        child.start()
        child.terminate()
        child.join(20)
    assert child.exitcode == -15


def test_a_function_of_a_workflows_file_can_be_spawned(tmp_path: Path) -> None:
    (tmp_path / "tool.py").write_text("def double(number):\n    return 2 * number\n")
    (tmp_path / "main.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, "main.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert result.stdout == "[2, 4]\n", result.stderr
