"""A run that was killed and resumed is the run that was not, bit for bit.

1. Killed in a rollout, between two updates, in a checkpoint, or before the first checkpoint:
   metrics, episodes, calls, samples with their logprobs, and weights are equal.
2. A killed run leaves no half of a checkpoint under a checkpoint's name.
   A curriculum makes the same choices.
3. Negative control: another seed is another run.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.end_to_end.command import AGENTSCOPE_AGENT, OPENAI_AGENT, train
from tests.end_to_end.run_folders import (
    NAME,
    assert_same_run,
    checkpoints_of,
    metrics_of,
    weights_of,
)

KILLED = "tests/end_to_end/killed.py"


@pytest.mark.parametrize(
    ("where", "resumed_from", "leftovers"),
    [("InRollout", 2, 0), ("InUpdate", 2, 0), ("InCheckpoint", 2, 1), ("InFirstRollout", 0, 0)],
)
def test_a_killed_run_resumes_bit_for_bit(
    tmp_path: Path, uninterrupted: Path, where: str, resumed_from: int, leftovers: int
) -> None:
    folder = tmp_path / NAME
    assert train(tmp_path, f"{KILLED}->{where}").code == -signal.SIGKILL
    if resumed_from:
        there = [path.name for path in checkpoints_of(folder)]
        assert [name for name in there if name[0] != "."] == [f"step_{resumed_from:06d}"]
        assert len(there) == 1 + leftovers
    resumed = train(tmp_path, OPENAI_AGENT, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert (f"resumed after step {resumed_from} of 4" in resumed.stdout) == (resumed_from > 0)
    assert_same_run(folder, uninterrupted)
    assert all(line["rollout/lockstep_missed"] == 0 for line in metrics_of(folder)[1:])


@pytest.mark.slow
def test_an_agentscope_agent_resumes_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(whole, AGENTSCOPE_AGENT).code == 0
    agent = "tests/end_to_end/killed_agentscope.py->InRollout"
    assert train(killed, agent).code == -signal.SIGKILL
    resumed = train(killed, AGENTSCOPE_AGENT, "--resume")
    assert resumed.code == 0, resumed.stderr
    assert_same_run(killed / NAME, whole / NAME)


@pytest.mark.slow
def test_a_curriculum_resumes_bit_for_bit(tmp_path: Path, uninterrupted: Path) -> None:
    settings = (
        "task_reader.curriculum.policy=difficulty_pools",
        "task_reader.curriculum.new_share=0.5",
    )
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(whole, OPENAI_AGENT, *settings).code == 0
    assert train(killed, f"{KILLED}->InRollout", *settings).code == -signal.SIGKILL
    assert train(killed, OPENAI_AGENT, "--resume", *settings).code == 0
    assert_same_run(killed / NAME, whole / NAME)
    results = [(folder / NAME / "task_success.jsonl").read_bytes() for folder in (whole, killed)]
    assert results[0] == results[1]
    assert weights_of(whole / NAME) != weights_of(uninterrupted), "tasks were chosen by it"


def test_another_seed_is_another_run(tmp_path: Path, uninterrupted: Path) -> None:
    assert train(tmp_path, OPENAI_AGENT, "--seed=1").code == 0
    assert weights_of(tmp_path / NAME) != weights_of(uninterrupted)
    assert metrics_of(tmp_path / NAME) != metrics_of(uninterrupted)
