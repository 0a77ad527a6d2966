"""How benchmarks/math_agent.py reads what its contestants leave behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.math_agent import (
    AJET_KEYS,
    RECIPE,
    Run,
    Used,
    read_ajet_run,
    run_process,
    summarise,
)


def make_run(heldout: list[float], step_cpu_s: list[float]) -> Run:
    return Run(
        seed=0,
        process_cpu_s=10.0 + sum(step_cpu_s),
        step_cpu_s=step_cpu_s,
        parts={"rollout": 1.0},
        peak_memory_mb=100.0,
        checkpoints=[],
        heldout=heldout,
    )


def test_the_target_is_reached_at_the_first_step_that_reaches_it() -> None:
    run = make_run([0.5, 0.8, 0.7, 0.9], [1.0, 2.0, 4.0, 8.0])
    assert run.steps_to_target == 2
    assert run.cpu_s_to_target == 3.0


def test_a_target_that_one_seed_never_reaches_has_no_mean() -> None:
    summary = summarise([make_run([0.9], [2.0]), make_run([0.7], [4.0])])
    assert summary["steps_to_080"] is None
    assert summary["cpu_s_to_080"] is None
    assert summary["cpu_s_per_step"] == 3.0
    assert summary["cpu_s_outside_steps"] == 10.0


def test_a_run_is_read_from_its_metrics_without_the_line_of_the_first_evaluation() -> None:
    metrics = [
        {"step": 0, "eval/success_rate": 0.2, "cpu/eval_s": 1.0},
        {"step": 1, "cpu/rollout_s": 1.0, "cpu/train_s": 0.5, "cpu/step_s": 1.6, "cpu/eval_s": 1.0},
        {"step": 2, "cpu/rollout_s": 2.0, "cpu/step_s": 2.1},
    ]
    run = read_ajet_run(Path("run"), metrics, {"seed": 7}, Used(cpu_s=9.0, peak_memory_mb=1.0))
    assert run.step_cpu_s == [1.6, 2.1]
    assert run.parts == {"rollout": 1.5, "train": 0.25}
    assert [path.name for path in run.checkpoints] == ["step_000001", "step_000002"]


def test_every_hyper_parameter_reaches_both_sides() -> None:
    assert AJET_KEYS.keys() == {*RECIPE, "steps", "seed"}


def test_a_contestant_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="exit status 3"):
        run_process([sys.executable, "-c", "raise SystemExit(3)"])


def test_cpu_time_of_a_process_is_what_it_burned_not_what_it_slept() -> None:
    python = [sys.executable, "-I", "-S", "-c"]  # starts with the least work
    slept = run_process([*python, "import time; time.sleep(0.5)"])[1]
    busy = "import time\nwhile time.process_time() < 0.5: pass"
    burned = run_process([*python, busy])[1]
    assert slept.cpu_s < 0.4 < burned.cpu_s
