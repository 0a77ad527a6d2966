"""Rules of `trainer_common.logger`: known names only; TensorBoard where it is, without torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ajet.errors import ConfigError, MissingExtraError
from ajet.monitor.sinks import open_sinks
from ajet.monitor.tensorboard_sink import TensorBoardSink


def test_console_alone_opens_nothing(tmp_path: Path) -> None:
    assert open_sinks(["console"], tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["console", "wandb"], "wandb"])
def test_an_unknown_name_is_refused_with_those_that_there_are(
    tmp_path: Path, names: str | list[str]
) -> None:
    with pytest.raises(ConfigError, match='unknown logger "wandb".*auto, console, tensorboard'):
        open_sinks(names, tmp_path)


def test_auto_does_without_tensorboard_and_its_name_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ajet.monitor.sinks.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    assert open_sinks("auto", tmp_path) == []
    with pytest.raises(MissingExtraError, match="tensorboard is not installed"):
        open_sinks(["tensorboard"], tmp_path)


def test_tensorboard_reads_what_was_written_before_the_run_ends(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (sink,) = open_sinks("auto", tmp_path)
    sink.write(1, {"reward/mean": 0.25, "policy/loss": -1.5})
    sink.write(2, {"reward/mean": 0.5})
    assert curve(tmp_path, "reward/mean") == [(1, 0.25), (2, 0.5)]
    assert curve(tmp_path, "policy/loss") == [(1, -1.5)]
    sink.close()


def test_tensorboard_forgets_what_a_resumed_run_writes_again(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(TensorBoardSink(tmp_path), {1: 0.125, 2: 0.25, 3: 0.5, 4: 1.0})
    write(TensorBoardSink(tmp_path, resumed_step=2), {3: 0.75})
    assert curve(tmp_path, "reward/mean") == [(1, 0.125), (2, 0.25), (3, 0.75)]


def test_control_a_second_run_that_is_no_resume_keeps_both(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(TensorBoardSink(tmp_path), {1: 0.1, 2: 0.2, 3: 0.3})
    write(TensorBoardSink(tmp_path), {3: 0.75})
    assert [step for step, _ in curve(tmp_path, "reward/mean")] == [1, 2, 3, 3]


def test_the_sink_imports_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    code = (
        "import sys, pathlib\n"
        "from ajet.monitor.sinks import open_sinks\n"
        "assert 'tensorboard' not in sys.modules\n"
        "open_sinks('auto', pathlib.Path(sys.argv[1]))[0].close()\n"
        "assert 'tensorboard' in sys.modules\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def write(sink: TensorBoardSink, rewards: dict[int, float]) -> None:
    for step, reward in rewards.items():
        sink.write(step, {"reward/mean": reward})
    sink.close()


def curve(run_dir: Path, metric: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(metric)]
