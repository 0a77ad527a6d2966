"""A disk that is full while a checkpoint is written.

The run ends with an error that says so; the checkpoint before is whole, nothing is left of the
other one, and with space on the disk the run goes on as if nothing had happened.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.end_to_end.command import OPENAI_AGENT, SMALL, start, train, wait
from tests.end_to_end.run_folders import NAME, assert_same_run, checkpoints_of, lines_of

ONE_CHECKPOINT_MB, TWO_CHECKPOINTS_MB = 9, 32


def mount(folder: Path, *options: str) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=True, capture_output=True
    )


@contextmanager
def small_disk(folder: Path, size_mb: int = ONE_CHECKPOINT_MB) -> Iterator[None]:
    """The folder, which is made, is a disk of its own."""
    folder.mkdir()
    try:
        mount(folder, "-o", f"size={size_mb}M")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no tmpfs can be mounted here: {error}")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_costs_no_checkpoint(tmp_path: Path, uninterrupted: Path) -> None:
    folder = tmp_path / NAME
    agent = f"rollout.user_workflow={OPENAI_AGENT}"
    process = start("--exp-dir", str(tmp_path), agent, *SMALL)
    while not (folder / "logs").exists():  # there is no checkpoint for seconds to come
        assert process.poll() is None
        time.sleep(0.02)
    with small_disk(folder / "checkpoints"):
        ended = wait(process)
        assert ended.code == 1
        assert "Traceback" not in ended.stderr
        told = f"{folder}/checkpoints/step_000004: the checkpoint cannot be written: "
        assert ended.errors[0].startswith(told)
        assert "Earlier checkpoints are unchanged." in ended.errors[-1]
        assert [path.name for path in checkpoints_of(folder)] == ["step_000002"]
        assert lines_of(folder / "metrics.jsonl")[-1]["step"] == 4

        mount(folder / "checkpoints", "-o", f"remount,size={TWO_CHECKPOINTS_MB}M")
        resumed = train(tmp_path, OPENAI_AGENT, "--resume")
        assert resumed.code == 0, resumed.stderr
        assert_same_run(folder, uninterrupted)
