"""Ctrl-C, and SIGTERM, which is the same.

1. In a rollout, an update or an evaluation: exit code 130, no traceback, how to go on, and a
   checkpoint of the last step that is done, with its metrics.
2. Resumed, it is the run that was not interrupted, bit for bit.
3. A second Ctrl-C, in the middle of an update, saves nothing that is half new.
"""

from __future__ import annotations

from pathlib import Path

import pytest

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
