"""A whole run with each episode in a process (`task_runner.isolation: process`).

It computes the same as a run with threads, bit for bit: metrics, episodes, samples, calls, weights.
"""

from __future__ import annotations

from pathlib import Path

from tests.end_to_end.command import OPENAI_AGENT, train
from tests.end_to_end.run_folders import NAME, assert_same_run


def test_a_run_with_processes_is_the_run_with_threads(tmp_path: Path, uninterrupted: Path) -> None:
    ended = train(tmp_path, OPENAI_AGENT, "task_runner.isolation=process")
    assert ended.code == 0, ended.stderr
    assert_same_run(tmp_path / NAME, uninterrupted)
