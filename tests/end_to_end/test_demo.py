"""The demo as the README has it: 20 steps, with the AgentScope agent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.end_to_end.command import start
from tests.end_to_end.run_folders import NAME, lines_of


@pytest.mark.slow
def test_the_demo_learns_within_two_gigabytes(tmp_path: Path) -> None:
    with (tmp_path / "output").open("w") as output:
        process = start("--exp-dir", str(tmp_path), output=output)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, (tmp_path / "output").read_text()
    assert usage.ru_maxrss / 2**20 < 2.0  # KiB, on Linux

    metrics = lines_of(tmp_path / NAME / "metrics.jsonl")
    success = {
        line["step"]: line["eval/success_rate"] for line in metrics if "eval/success_rate" in line
    }
    assert success[0] <= 0.45
    assert success[20] >= 0.80
    assert all(line["policy/logprob_diff_max"] <= 1e-4 for line in metrics[1:])


@pytest.mark.cuda
@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 0.05), ("float32", 1e-3)])
def test_the_demo_learns_on_a_gpu(tmp_path: Path, dtype: str, most: float) -> None:
    with (tmp_path / "output").open("w") as output:
        process = start(
            *("--exp-dir", str(tmp_path), "model.device=cuda", f"model.dtype={dtype}"),
            output=output,
        )
        assert process.wait() == 0, (tmp_path / "output").read_text()
    metrics = lines_of(tmp_path / NAME / "metrics.jsonl")
    assert metrics[-1]["eval/success_rate"] >= 0.80
    assert all(line["policy/logprob_diff_mean"] <= most for line in metrics[1:])
