"""What is different about starting a debug run.

1. Its folder has a name of its own, so that training is resumed from training.
2. Settings that only training has are named once; what it honours is not.
3. `debug.engine` is one of its words or a URL.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from ajet.config.loading.hints import ignored_settings
from ajet.errors import ConfigError
from ajet.launcher.launch import launch
from ajet.launcher.run_folder import find_run_folder
from tests.unit.config_files import MINIMAL, load, problems


@pytest.fixture(autouse=True)
def no_work(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("ajet.launcher.launch.load_backbone", lambda name: lambda *_: None)
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def start(tmp_path: Path, backbone: str, resume: bool = False) -> str:
    settings = [f"experiment_dir={tmp_path}/runs", f"backbone={backbone}"]
    return launch(load(tmp_path, MINIMAL, *settings), command=["ajet"], resume=resume).name


def test_training_is_resumed_from_training(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    names = [start(tmp_path, backbone) for backbone in ("local", "debug", "debug")]
    assert names == ["math", "math-debug", "math-debug-2"]
    assert "--resume" not in caplog.text
    assert find_run_folder(tmp_path / "runs", "math").name == "math"


def test_a_debug_run_has_nothing_to_resume(tmp_path):
    start(tmp_path, "local")
    config = tmp_path / "runs" / "math" / "config.yaml"
    before = config.read_text()
    message = "^--backbone=debug saves no checkpoint, so it cannot resume$"
    with pytest.raises(ConfigError, match=message):
        start(tmp_path, "debug", resume=True)
    assert config.read_text() == before


def test_settings_of_training_are_named_and_no_others(tmp_path):
    honoured = [
        "debug.num_repeat=2",
        "rollout.temperature=0.5",
        "data.max_prompt_length=9",
        "trainer_common.seed=3",
        "trainer_common.algorithm.adv_estimator=rloo",
    ]
    ignored = ["rollout.num_repeat=2", "trainer_common.optim.lr=0.1", "data.shuffle=false"]
    config = load(tmp_path, MINIMAL, *honoured, *ignored)
    named = set(ignored_settings(config, "debug"))
    assert named == {"ajet.rollout.num_repeat", "ajet.trainer_common.optim", "ajet.data.shuffle"}


@pytest.mark.parametrize("engine", ["auto", "warm", "embedded", "https://host/v1"])
def test_an_engine_may_be_named_or_be_a_url(tmp_path, engine):
    assert load(tmp_path, MINIMAL, f"debug.engine={engine}").ajet.debug.engine == engine


@pytest.mark.parametrize("engine", ["wram", "host:8000", "ftp://host"])
def test_another_engine_is_refused(tmp_path, engine):
    [problem] = problems(tmp_path, MINIMAL, f"debug.engine={engine}")
    assert f'got "{engine}", expected "auto", "warm", "embedded", or a URL' in problem
