"""A small configuration for tests to change."""

from pathlib import Path

import pytest

from ajet.config.loading.load import load_config, require_available
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError

MINIMAL = """\
ajet:
  model:
    path: ajet:calculator
  rollout:
    user_workflow: agent.py->Agent
  task_reader:
    type: random_dummy
"""


def write(folder: Path, text: str = MINIMAL, name: str = "math.yaml") -> Path:
    """The file, beside the workflow that it names."""
    (folder / "agent.py").write_text(
        "from ajet import Workflow\n"
        "class Agent(Workflow):\n    def execute(self, workflow_task, tuner): ...\n"
    )
    (folder / name).write_text(text)
    return folder / name


def load(folder: Path, text: str = MINIMAL, *overrides: str) -> RootConfig:
    return load_config(write(folder, text), overrides)


def problems(folder: Path, text: str = MINIMAL, *overrides: str) -> list[str]:
    """The lines of the configuration error, without the folder's name."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as error:
        require_available(load_config(path, overrides))
    return str(error.value).replace(f"{folder}/", "").splitlines()
