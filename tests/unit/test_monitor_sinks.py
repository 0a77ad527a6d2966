"""Metric sinks.

1. `trainer_common.logger` takes one name or a list: registered names, class paths, or sections with
   `type` and settings. Those of AgentJet's own sinks are checked. `auto` is TensorBoard if it is
   installed.
2. A sink is made with the run's identity, its configuration and the sink's own settings. The run id
   is the same after a resume.
3. TensorBoard needs no torch, and forgets the steps that a resumed run writes again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ajet.config.sections.root import RootConfig
from ajet.config.sections.trainer_common import METRIC_SINKS
from ajet.errors import MissingExtraError
from ajet.monitor.run_record import recorded
from ajet.monitor.sinks import MetricSink, SinkContext, open_sinks, sink_makers
from ajet.monitor.tensorboard_sink import TensorBoardSink
from tests.unit.config_files import MINIMAL, load, problems

OWN = """
class Sink:
    def __init__(self, context):
        self.context = context
        self.written = []

    def write(self, step, metrics):
        self.written.append((step, dict(metrics)))

    def close(self):
        pass
"""


def config_of(folder: Path, logger: str = "auto", *overrides: str) -> RootConfig:
    return load(folder, MINIMAL, f"trainer_common.logger={logger}", *overrides)


def opened(folder: Path, logger: str = "auto", *overrides: str) -> list[MetricSink]:
    return open_sinks(config_of(folder, logger, *overrides), folder)


def test_console_alone_opens_nothing(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[console]")
    before = sorted(tmp_path.iterdir())
    assert open_sinks(config, tmp_path) == []
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("names", ["[console, comet]", "comet"])
def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path: Path, names: str) -> None:
    [problem] = problems(tmp_path, MINIMAL, f"trainer_common.logger={names}")
    assert 'got "comet", expected one of "console", "tensorboard", "wandb", ' in problem
    assert ', or "path/to/file.py' in problem


def test_a_mistyped_name_gets_a_suggestion(tmp_path: Path) -> None:
    [problem] = problems(tmp_path, MINIMAL, "trainer_common.logger=tensorbord")
    assert problem.endswith('did you mean "tensorboard"?')


def test_only_a_class_path_may_have_settings(tmp_path: Path) -> None:
    (tmp_path / "my_sink.py").write_text(OWN)
    logger = "[console, {type: my_sink.py->Sink, url: there, tags: {a: 1}}]"
    (sink,) = opened(tmp_path, logger)
    context: SinkContext = sink.context  # type: ignore[attr-defined]
    assert context.settings == {"url": "there", "tags": {"a": 1}}
    found = problems(tmp_path, MINIMAL, "trainer_common.logger=[{type: tensorboard, url: there}]")
    assert "unknown key" in found[0]


def test_a_registered_sink_of_yours_has_settings(tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "toy_sink.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METRIC_SINKS, "toy_2", "toy_sink->Sink")
    (sink,) = opened(tmp_path, "[{type: toy_2, url: there, tags: {a: 1}}]")
    context: SinkContext = sink.context  # type: ignore[attr-defined]
    assert (context.settings["url"], context.settings["tags"].a) == ("there", 1)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("{type: wandb, mod: offline}", 'sink "wandb": unknown key "mod"; did you mean "mode"?'),
        ("{type: wandb, mode: of}", "sink \"wandb\", mode: Input should be 'auto', 'online'"),
        ("{type: tensorboard, a: 1}", 'unknown key "a"; this sink has no settings'),
    ],
)
def test_settings_of_our_sinks_are_checked(tmp_path: Path, entry: str, message: str) -> None:
    [problem] = problems(tmp_path, MINIMAL, f"trainer_common.logger=[{entry}]")
    assert message in problem


def test_a_sink_gets_the_defaults_of_its_settings(tmp_path: Path) -> None:
    config = config_of(tmp_path, "[wandb, {type: wandb, tags: [a]}]")
    contexts = [make.args[1] for _, make in sink_makers(config, tmp_path)]  # type: ignore[attr-defined]
    assert [context.settings["mode"] for context in contexts] == ["auto", "auto"]
    assert [context.settings["tags"] for context in contexts] == [[], ["a"]]


def test_a_sink_knows_its_run_and_configuration(tmp_path: Path) -> None:
    (tmp_path / "my_sink.py").write_text(OWN)
    (sink,) = opened(tmp_path, "my_sink.py->Sink", "project_name=agents", "experiment_name=first")
    context: SinkContext = sink.context  # type: ignore[attr-defined]
    assert context.config.ajet.project_name == "agents"
    assert context.config.ajet.experiment_name == "first"
    assert context.run_folder == tmp_path
    assert context.settings == {}


def test_a_resumed_run_keeps_its_run_id(tmp_path: Path) -> None:
    (tmp_path / "my_sink.py").write_text(OWN)

    def run_id(name: str) -> Any:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        with recorded(folder, ["ajet"]):
            (sink,) = open_sinks(config_of(tmp_path, "my_sink.py->Sink"), folder)
        return sink.context.run_id  # type: ignore[attr-defined]

    first = run_id("one")
    assert run_id("one") == first
    (tmp_path / "one").rename(tmp_path / "moved")
    assert run_id("moved") == first


def test_a_new_sink_is_one_file_and_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_sink.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(METRIC_SINKS, "toy", "toy_sink->Sink")
    (sink,) = opened(tmp_path, "[toy]")
    sink.write(1, {"reward/mean": 0.5})
    assert sink.written == [(1, {"reward/mean": 0.5})]  # type: ignore[attr-defined]


def test_auto_works_without_tensorboard_but_its_name_needs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ajet.monitor.sinks.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    assert opened(tmp_path, "auto") == []
    with pytest.raises(MissingExtraError, match="tensorboard is not installed"):
        opened(tmp_path, "[tensorboard]")


def test_tensorboard_can_read_metrics_during_the_run(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (sink,) = opened(tmp_path, "auto")
    sink.write(1, {"reward/mean": 0.25, "policy/loss": -1.5})
    sink.write(2, {"reward/mean": 0.5})
    assert curve(tmp_path, "reward/mean") == [(1, 0.25), (2, 0.5)]
    assert curve(tmp_path, "policy/loss") == [(1, -1.5)]
    sink.close()


def test_tensorboard_drops_steps_that_a_resumed_run_repeats(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tensorboard(tmp_path), {1: 0.125, 2: 0.25, 3: 0.5, 4: 1.0})
    write(tensorboard(tmp_path, resumed_step=2), {3: 0.75})
    assert curve(tmp_path, "reward/mean") == [(1, 0.125), (2, 0.25), (3, 0.75)]


def test_control_a_second_run_without_resume_keeps_both(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    write(tensorboard(tmp_path), {1: 0.1, 2: 0.2, 3: 0.3})
    write(tensorboard(tmp_path), {3: 0.75})
    assert [step for step, _ in curve(tmp_path, "reward/mean")] == [1, 2, 3, 3]


def test_the_sink_imports_neither_torch_nor_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    code = (
        "import sys, pathlib\n"
        "from ajet.config.loading.load import load_config\n"
        "from ajet.monitor.sinks import open_sinks\n"
        "assert 'tensorboard' not in sys.modules\n"
        "config = load_config(pathlib.Path(sys.argv[1]) / 'math.yaml')\n"
        "open_sinks(config, pathlib.Path(sys.argv[1]))[0].close()\n"
        "assert 'tensorboard' in sys.modules\n"
        "assert not {'torch', 'tensorflow'} & set(sys.modules)\n"
    )
    config_of(tmp_path)  # writes math.yaml
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


def tensorboard(folder: Path, resumed_step: int | None = None) -> TensorBoardSink:
    config = config_of(folder)
    context = SinkContext(run_folder=folder, run_id="one", resumed_step=resumed_step, config=config)
    return TensorBoardSink(context)


def write(sink: TensorBoardSink, rewards: dict[int, float]) -> None:
    for step, reward in rewards.items():
        sink.write(step, {"reward/mean": reward})
    sink.close()


def curve(run_dir: Path, metric: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run_dir / "tensorboard")).Reload()
    return [(event.step, event.value) for event in events.Scalars(metric)]
