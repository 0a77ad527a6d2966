"""Ctrl-C, and SIGTERM, which is the same.

1. In a rollout, an update or an evaluation: exit code 130, no traceback, how to go on, and a
   checkpoint of the last step that is done, with its metrics.
2. Resumed, it is the run that was not interrupted, bit for bit.
3. A second Ctrl-C, in the middle of an update, saves nothing that is half new.
4. A checkpoint that is being written is finished first, and is whole, however often it comes.
5. A run that is finished ends as finished.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ajet.training.checkpoints import read_position
from tests.end_to_end.command import OPENAI_AGENT, train
from tests.end_to_end.run_folders import NAME, assert_same_run, checkpoints_of, metrics_of

INTERRUPTED = "tests/end_to_end/interrupted.py"


@pytest.mark.parametrize(
    ("where", "step"),
    [("InRollout", 3), ("TerminatedInRollout", 3), ("InUpdate", 3), ("InEvaluation", 2)],
)
def test_ctrl_c_keeps_every_step_that_is_done(
    tmp_path: Path, uninterrupted: Path, where: str, step: int
) -> None:
    folder = tmp_path / NAME
    ended = train(tmp_path, f"{INTERRUPTED}->{where}")
    assert ended.code == 130
    assert "Traceback" not in ended.stdout + ended.stderr
    hint = "interrupted; to continue, run the same command with --resume"
    assert ended.stderr.splitlines()[-1] == hint
    assert [line["step"] for line in metrics_of(folder)] == list(range(step + 1))
    assert checkpoints_of(folder)[-1].name == f"step_{step:06d}"

    assert train(tmp_path, OPENAI_AGENT, "--resume").code == 0
    assert_same_run(folder, uninterrupted)


def test_weights_that_are_half_updated_are_not_saved(tmp_path: Path) -> None:
    ended = train(tmp_path, f"{INTERRUPTED}->TwiceInUpdate", "trainer_common.save_freq=-1")
    assert ended.code == 130
    assert [line["step"] for line in metrics_of(tmp_path / NAME)] == [0, 1, 2]
    assert not (tmp_path / NAME / "checkpoints").exists()


@pytest.mark.parametrize("where", ["InCheckpoint", "TwiceInCheckpoint"])
def test_a_checkpoint_that_is_being_written_is_finished_first(tmp_path: Path, where: str) -> None:
    short = ("trainer_common.test_freq=-1", "trainer_common.val_before_train=false")
    ended = train(tmp_path, f"{INTERRUPTED}->{where}", *short, "trainer_common.save_freq=1")
    assert ended.code == 130, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("interrupted; to continue")
    (checkpoint,) = checkpoints_of(tmp_path / NAME)
    assert read_position(checkpoint).step == 1


def test_a_run_that_is_finished_ends_as_finished(tmp_path: Path) -> None:
    short = ("trainer_common.test_freq=-1", "trainer_common.val_before_train=false")
    one_step = "trainer_common.total_training_steps=1"
    ended = train(tmp_path, f"{INTERRUPTED}->WhenFinished", *short, one_step)
    assert ended.code == 0, ended.stderr
    folder = tmp_path / NAME
    assert ended.stdout.splitlines()[-1] == str(folder)
    assert (folder / "reward_curve.svg").is_file()
    (process,) = json.loads((folder / "run.json").read_text())["processes"]
    assert process["outcome"] == "finished"
