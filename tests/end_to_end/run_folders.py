"""What a run left in its folder, without what depends on the clock."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

NAME = "math_agent_cpu"
"""The experiment's, by its YAML file."""


def metrics_of(folder: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, one a step, without times and speeds.

    Where an evaluation was interrupted, the resumed run writes a line of its own for it.
    """
    steps: dict[int, dict[str, Any]] = {}
    for line in lines_of(folder / "metrics.jsonl"):
        kept = {name: value for name, value in line.items() if not _is_of_the_clock(name)}
        steps.setdefault(line["step"], {}).update(kept)
    return list(steps.values())


def episodes_of(folder: Path) -> list[dict[str, Any]]:
    """Every line of `episodes.jsonl` without times."""
    return [_without_times(line) for line in lines_of(folder / "episodes.jsonl")]


def _without_times(line: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in line.items() if not name.endswith("_s")}
    if kept.get("judge"):
        kept["judge"] = {**kept["judge"], "seconds": None}
    return kept


def rollouts_of(folder: Path) -> dict[str, pa.Table]:
    """Every column of every file of `rollouts/`."""
    return {path.name: pq.read_table(path) for path in sorted((folder / "rollouts").iterdir())}


def calls_of(folder: Path) -> dict[str, bytes]:
    """Every file of `calls/`, byte for byte."""
    return {path.name: path.read_bytes() for path in sorted((folder / "calls").iterdir())}


def weights_of(folder: Path) -> bytes:
    """The model of the newest checkpoint."""
    return (checkpoints_of(folder)[-1] / "model.safetensors").read_bytes()


def checkpoints_of(folder: Path) -> list[Path]:
    """What stands in `checkpoints/`, leftovers included."""
    return sorted((folder / "checkpoints").iterdir())


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    """Everything that two runs computed is equal, bit for bit; one may have more checkpoints."""
    for step, (line, other_line) in enumerate(zip(metrics_of(one), metrics_of(other), strict=True)):
        differ = {k: (line.get(k), other_line.get(k)) for k in line.keys() | other_line.keys()}
        differ = {k: pair for k, pair in differ.items() if pair[0] != pair[1]}
        assert not differ, f"line {step}: {differ}"
    assert episodes_of(one) == episodes_of(other)
    rollouts, other_rollouts = rollouts_of(one), rollouts_of(other)
    assert rollouts.keys() == other_rollouts.keys()
    for name, table in rollouts.items():
        assert table.equals(other_rollouts[name]), name
    assert calls_of(one) == calls_of(other)
    assert weights_of(one) == weights_of(other)


def _is_of_the_clock(name: str) -> bool:
    return (
        name in ("time", "train/s_per_trained_token", "judge/seconds")
        or name.startswith(("time/", "cpu/", "process/"))
        or name.endswith("tokens_per_s")
    )
