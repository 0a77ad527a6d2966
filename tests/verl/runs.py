"""Small runs with verl through the real command."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil

from tests.end_to_end.command import COMMAND, CONF, OPENAI_AGENT, ROOT, Ended
from tests.end_to_end.listening import assert_private, listening
from tests.end_to_end.run_folders import lines_of
from tests.end_to_end.temporary import assert_only_named_left, temporary_folder

TIMEOUT_S = 900
AGENTS = "tests/verl/agents.py"
MARK = "AJET_TEST_RUN"
SMALL = (
    "data.train_batch_size=4",
    "rollout.num_repeat=4",
    "rollout.max_model_len=512",
    "rollout.validation.num_tasks=8",
    "rollout.validation.greedy=false",
    "trainer_common.val_before_train=false",
    "trainer_common.test_freq=null",
)


def train(
    exp_dir: Path, *args: str, agent: str = OPENAI_AGENT, env: dict[str, str] | None = None
) -> Ended:
    """A small run to its end.

    Nothing of it may be left, no process and no temporary file, or listen to strangers.
    """
    with temporary_folder() as temporary:
        ended = _train(exp_dir, [*args], agent, {"TMPDIR": str(temporary), **(env or {})})
        assert_only_named_left(temporary, ended.code)
    return ended


def _train(exp_dir: Path, args: list[str], agent: str, env: dict[str, str]) -> Ended:
    given = ["--backbone=verl", "--exp-dir", str(exp_dir), f"rollout.user_workflow={agent}"]
    mark = uuid4().hex
    process = subprocess.Popen(
        [*COMMAND, "--conf", str(CONF), *given, *SMALL, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark, **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with listening(MARK, mark) as found, process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    assert_nothing_left(mark)
    assert_private(found)
    return Ended(code=process.returncode, stdout=stdout, stderr=stderr)


def assert_nothing_left(mark: str, patience_s: float = 120) -> None:
    """No process is left that has the mark in its environment."""
    deadline = time.monotonic() + patience_s
    while left := _marked(mark):
        assert time.monotonic() < deadline, left
        time.sleep(0.5)


def _marked(mark: str) -> list[str]:
    found = []
    for process in psutil.process_iter(["name"]):
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.info["name"])
    return found


def steps_of(folder: Path) -> dict[int, dict[str, float]]:
    """The metrics of each step."""
    return {line["step"]: line for line in lines_of(folder / "metrics.jsonl")}


def assert_done(ended: Ended) -> None:
    """It came to its end."""
    assert ended.code == 0, ended.stdout + ended.stderr


def assert_agreed(steps: dict[int, dict[str, float]]) -> None:
    """Engine and trainer, in each step that trained."""
    for line in steps.values():
        if "policy/loss" in line:
            assert line["verl/training/rollout_actor_probs_pearson_corr"] > 0.99
            assert line["policy/logprob_diff_max"] < 1e-3
