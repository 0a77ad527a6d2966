"""What `ajet export` writes of a run of the local backbone, in the real vLLM."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.command import OPENAI_AGENT, SMALL, command, train
from tests.end_to_end.run_folders import NAME
from tests.vllm.exported import BOUND, largest_difference_in_vllm

pytestmark = [pytest.mark.vllm, pytest.mark.slow]


def test_vllm_computes_what_transformers_computes(tmp_path: Path) -> None:
    short = ("trainer_common.total_training_steps=2", "trainer_common.val_before_train=false")
    ended = train(tmp_path, OPENAI_AGENT, *SMALL, *short)
    assert ended.code == 0, ended.stderr
    made = command("export", str(tmp_path / NAME), "--to", str(tmp_path / "model"))
    assert made.code == 0, made.stderr
    assert largest_difference_in_vllm(tmp_path / "model", tmp_path / "vllm.log") < BOUND
