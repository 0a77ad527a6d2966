"""What is evaluated: the weights of a run, with the chat format that they were trained with.

1. `renderer: auto` goes by the name of the model. A checkpoint's folder has another name, so the
   renderer of the base model is named for it.
2. A renderer that the user names goes before that one.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ajet.config.loading.load import load_config, to_yaml
from ajet.evaluation.subject import find_subject

CONFIG = """
ajet:
  model: {path: Qwen/Qwen3-0.6B}
  rollout: {user_workflow: package.module->Agent}
  task_reader: {type: random_dummy}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    given = tmp_path / "given.yaml"
    given.write_text(CONFIG)
    run = tmp_path / "run"
    checkpoint = run / "checkpoints" / "step_000003"
    checkpoint.mkdir(parents=True)
    (run / "config.yaml").write_text(to_yaml(load_config(given, [])))
    (checkpoint / "config.json").write_text("{}")
    (checkpoint / "manifest.json").write_text(json.dumps({"step": 3}))
    return run


def test_a_checkpoint_has_the_chat_format_of_its_base_model(run: Path) -> None:
    model = find_subject(str(run), None, []).config.ajet.model
    assert model.path.endswith("step_000003")
    assert model.renderer == "qwen3"
    base = find_subject(f"{run}@base", None, []).config.ajet.model
    assert (base.path, base.renderer) == ("Qwen/Qwen3-0.6B", "auto")


def test_a_renderer_that_the_user_names_is_used(run: Path) -> None:
    model = find_subject(str(run), None, ["model.renderer=default"]).config.ajet.model
    assert model.renderer == "default"
