"""Rules of `metrics.jsonl`: one line of finite numbers per step, exact on resume."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ajet.errors import DataError, TrainingError
from ajet.monitor.metrics_log import FILE_NAME, MetricsLog, read_metrics


def write_steps(run_dir: Path, *steps: int) -> Path:
    log = MetricsLog(run_dir)
    for step in steps:
        log.write(step, {"reward/mean": step / 10})
    return run_dir / FILE_NAME


def test_each_step_is_one_json_object_with_step_and_time(tmp_path: Path) -> None:
    path = write_steps(tmp_path, 1, 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]
    assert [line["reward/mean"] for line in lines] == [0.1, 0.2]
    assert lines[0]["time"] <= lines[1]["time"]


def test_numpy_numbers_become_plain_ones_and_counts_stay_integers(tmp_path: Path) -> None:
    MetricsLog(tmp_path).write(1, {"a": np.float32(0.5), "b": np.int64(3), "c": 4})
    line = (tmp_path / FILE_NAME).read_text()
    assert '"a": 0.5, "b": 3.0, "c": 4}' in line


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("nan")])
def test_a_metric_that_is_not_finite_stops_the_run_and_is_not_written(
    tmp_path: Path, value: float
) -> None:
    log = MetricsLog(tmp_path)
    with pytest.raises(TrainingError, match="step 3.*policy/loss"):
        log.write(3, {"reward/mean": 0.5, "policy/loss": value})
    assert read_metrics(tmp_path) == []


def test_a_new_run_does_not_write_into_the_file_of_another(tmp_path: Path) -> None:
    path = write_steps(tmp_path, 1)
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        MetricsLog(tmp_path)
    assert path.read_bytes() == before


def test_resuming_drops_the_lines_of_later_steps_and_keeps_the_bytes_of_the_rest(
    tmp_path: Path,
) -> None:
    path = write_steps(tmp_path, 0, 1, 2, 3, 4)
    kept = b"".join(path.read_bytes().splitlines(keepends=True)[:3])
    MetricsLog(tmp_path, resumed_step=2).write(3, {"reward/mean": 0.9})
    assert path.read_bytes().startswith(kept)
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1, 2, 3]
    assert read_metrics(tmp_path)[-1]["reward/mean"] == 0.9
    assert [file.name for file in tmp_path.iterdir()] == [FILE_NAME]


def test_resuming_says_that_it_drops_an_incomplete_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_steps(tmp_path, 0, 1)
    MetricsLog(tmp_path, resumed_step=1)
    assert caplog.messages == []
    path.write_bytes(path.read_bytes() + b'{"step": 2, "tim')
    MetricsLog(tmp_path, resumed_step=1)
    [message] = caplog.messages
    assert message == f'{path}: the last line is incomplete and dropped: {{"step": 2, "tim'
    assert [line["step"] for line in read_metrics(tmp_path)] == [0, 1]


def test_resuming_before_the_first_step_drops_every_line(tmp_path: Path) -> None:
    write_steps(tmp_path, 0, 1)
    MetricsLog(tmp_path, resumed_step=-1)
    assert read_metrics(tmp_path) == []


def test_resuming_a_run_without_records_creates_the_file(tmp_path: Path) -> None:
    MetricsLog(tmp_path, resumed_step=0).write(1, {"a": 1})
    assert len(read_metrics(tmp_path)) == 1


def test_a_line_torn_anywhere_is_neither_read_nor_kept(tmp_path: Path) -> None:
    path = write_steps(tmp_path, 1, 2)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in range(first, len(whole)):
        path.write_bytes(whole[:cut])
        assert [line["step"] for line in read_metrics(tmp_path)] == [1]
        MetricsLog(tmp_path, resumed_step=2).write(2, {"again": 1})
        assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2]
        assert "again" in read_metrics(tmp_path)[-1]


def test_a_broken_line_that_is_not_the_last_is_an_error_with_its_number(tmp_path: Path) -> None:
    path = write_steps(tmp_path, 1, 2, 3)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], lines[1][:5] + "\n", lines[2]]))
    before = path.read_bytes()
    for read in (read_metrics, lambda folder: MetricsLog(folder, resumed_step=3)):
        with pytest.raises(DataError, match="line 2: not JSON"):
            read(tmp_path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("line", ['{"a": 1}', '{"step": "1"}', '{"step": null}', "[]", "[" * 9000])
def test_a_line_without_a_step_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    path = write_steps(tmp_path, 1)
    path.write_text(path.read_text() + line + "\n")
    for read in (read_metrics, lambda folder: MetricsLog(folder, resumed_step=3)):
        with pytest.raises(DataError, match=r"metrics.jsonl, line 2: .*; remove the line$"):
            read(tmp_path)


def test_a_run_without_metrics_has_no_lines(tmp_path: Path) -> None:
    assert read_metrics(tmp_path) == []
