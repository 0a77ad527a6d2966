"""What `benchmarks/track.py` records.

1. The result of a whole run, under its revision and machine; a second one replaces the first.
2. Nothing is written for a run that is not whole, was made by unknown code, or measured nonsense.
3. A file that was damaged or renamed is refused, and stays as it is.
4. The page in the repository is the one that the recorded files give.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.track import (
    DOCS,
    ROOT,
    Nonsense,
    Result,
    add,
    machine,
    read,
    read_all,
    result_of_run,
)
from benchmarks.track_page import write_page

REVISION = subprocess.run(
    ["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
).stdout.strip()
PROCESS = {
    "host": platform.node(),
    "outcome": "finished",
    "git_revision": REVISION,
    "started_at": "2026-01-01T10:00:00+00:00",
    "ended_at": "2026-01-01T10:01:30+00:00",
}
STEP = {
    "time/step_s": 2.0,
    "cpu/step_s": 1.5,
    "policy/logprob_diff_max": 1e-5,
    "eval/success_rate": 0.5,
    "eval/greedy_success_rate": 0.75,
}


def run_folder(
    folder: Path,
    *,
    process: dict[str, Any] | None = None,
    steps: list[dict[str, Any]] | None = None,
) -> Path:
    """A run of two steps; `process` and `steps` replace what is normal."""
    lines = [{"step": 0, "eval/success_rate": 0.25}, {"step": 1, **STEP}, {"step": 2, **STEP}]
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"processes": [{**PROCESS, **(process or {})}]}))
    settings = "ajet: {backbone: local, trainer_common: {seed: 3}}\n"
    (folder / "config.yaml").write_text(settings)
    text = "".join(json.dumps(line) + "\n" for line in (steps if steps is not None else lines))
    (folder / "metrics.jsonl").write_text(text)
    return folder


def a_result(**changes: Any) -> Result:
    fields = {
        "example": "demo",
        "backbone": "local",
        "seed": 0,
        "steps": 2,
        "success_start": None,
        "success_end": 0.5,
        "greedy_end": None,
        "minutes": 1.0,
        "step_s": 2.0,
        "cpu_step_s": None,
        "logprob_diff_max": 0.0,
    }
    return Result(**{**fields, **changes})


# 1


def test_a_whole_run_is_recorded(tmp_path: Path) -> None:
    revision, result = result_of_run(run_folder(tmp_path / "run"), "demo")
    assert revision == REVISION
    assert (result.seed, result.steps, result.minutes) == (3, 2, 1.5)
    assert (result.success_start, result.success_end, result.greedy_end) == (0.25, 0.5, 0.75)
    assert (result.step_s, result.cpu_step_s, result.logprob_diff_max) == (2.0, 1.5, 1e-5)
    path = add(result, revision, tmp_path / "tracked")
    assert read(path).machine == machine()
    assert read_all(tmp_path / "tracked")[0].results == (result,)


def test_results_of_one_revision_are_one_file_and_a_newer_one_replaces(tmp_path: Path) -> None:
    for result in (a_result(seed=1), a_result(seed=0), a_result(seed=1, success_end=0.75)):
        add(result, REVISION, tmp_path)
    (path,) = tmp_path.iterdir()
    assert [(one.seed, one.success_end) for one in read(path).results] == [(0, 0.5), (1, 0.75)]


def test_a_share_of_the_largest_reward_where_an_example_has_no_success(tmp_path: Path) -> None:
    steps = [{"step": 1, **STEP, "eval/reward_mean": 3.0}]
    _, result = result_of_run(run_folder(tmp_path / "run", steps=steps), "learn_to_ask")
    assert result.success_end == 0.75
    assert result.success_start is None


# 2


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"outcome": "interrupted"}, "began and finished"),
        ({"outcome": None}, "began and finished"),
        ({"git_revision": f"{REVISION}-dirty"}, "commit first"),
        ({"git_revision": None}, "commit first"),
        ({"host": "another"}, "another machine"),
        ({"ended_at": PROCESS["started_at"]}, "minutes"),
    ],
)
def test_a_run_that_is_not_whole_is_refused(
    tmp_path: Path, process: dict[str, Any], words: str
) -> None:
    with pytest.raises(Nonsense, match=words):
        result_of_run(run_folder(tmp_path / "run", process=process), "demo")


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in STEP.items() if key != name}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "each step once"),
        ([{"step": 2, **STEP}], "each step once"),
        ([{"step": 1, **STEP}, {"step": 1, **STEP}], "each step once"),
        ([{"step": 1, **STEP, "eval/success_rate": 1.5}], "success_end"),
        ([{"step": 1, **STEP, "eval/success_rate": float("nan")}], "success_end"),
        ([{"step": 1, **without("eval/success_rate")}], "success_end"),
        ([{"step": 1, **without("policy/logprob_diff_max")}], "logprob_diff_max"),
        ([{"step": 1, **STEP, "policy/logprob_diff_max": float("nan")}], "logprob_diff_max"),
        ([{"step": 1, **STEP, "policy/logprob_diff_max": -1.0}], "logprob_diff_max"),
        ([{"step": 1, **STEP, "time/step_s": 0.0}], "step_s"),
        ([{"step": 1, **STEP, "cpu/step_s": float("inf")}], "cpu_step_s"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_name(
    tmp_path: Path, steps: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(Nonsense, match=words):
        result_of_run(run_folder(tmp_path / "run", steps=steps), "demo")


def test_a_largest_difference_does_not_hide_a_nan(tmp_path: Path) -> None:
    steps = [{"step": 1, **STEP, "policy/logprob_diff_max": float("nan")}, {"step": 2, **STEP}]
    with pytest.raises(Nonsense, match="logprob_diff_max"):
        result_of_run(run_folder(tmp_path / "run", steps=steps), "demo")


def test_an_unknown_revision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Nonsense, match="no commit of this repository"):
        add(a_result(), "0" * 40, tmp_path)
    assert list(tmp_path.iterdir()) == []


# 3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: text.replace('"seed": 0', '"seed": "0"'), "seed"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format"),
        (lambda text: text.replace('"minutes": 1.0', '"minutes": NaN'), "damaged"),
        (lambda text: text.replace(REVISION, "0" * 40), "belongs into"),
        (lambda text: text.replace('"step_s"', '"steps_s"'), "step"),
    ],
)
def test_a_damaged_file_is_refused_and_kept(tmp_path: Path, change: Any, words: str) -> None:
    path = add(a_result(), REVISION, tmp_path)
    path.write_text(change(path.read_text()))
    before = path.read_bytes()
    for attempt in (lambda: read_all(tmp_path), lambda: add(a_result(seed=1), REVISION, tmp_path)):
        with pytest.raises(Nonsense, match=words):
            attempt()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_command_writes_nothing_for_a_run_that_is_not_whole(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run", process={"outcome": "failed"})
    command = [sys.executable, "benchmarks/track.py", "--record", str(run), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "began and finished" in done.stderr
    assert not (tmp_path / "tracked").exists()
    assert not (tmp_path / "index.md").exists()


# 4


def test_the_page_has_a_curve_for_whatever_is_compared(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for result in (a_result(), a_result(seed=1, cpu_step_s=1.0), a_result(backbone="verl")):
        add(result, REVISION, tmp_path / "tracked")
    text = write_page(read_all(tmp_path / "tracked"), tmp_path).read_text()
    assert "## demo, local, 2 steps" in text
    assert f"| `{REVISION[:8]}` | 0, 1 | 0.50 | – | – | 1.0 | 0.0e+00 |" in text
    assert {path.name for path in tmp_path.glob("*.svg")} == {"tracked_1.svg", "tracked_2.svg"}
    write_page([], tmp_path)
    assert list(tmp_path.glob("*.svg")) == []


def test_the_page_of_the_repository_is_up_to_date(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for other in DOCS.glob("*.md"):
        (tmp_path / other.name).write_bytes(other.read_bytes())
    page = write_page(read_all(DOCS / "tracked"), tmp_path)
    made, kept = (path.read_text().partition("## Other")[0] for path in (page, DOCS / "index.md"))
    assert made == kept, "run benchmarks/track.py --page"
    for curve in tmp_path.glob("*.svg"):
        assert (DOCS / curve.name).is_file()
