"""The whole configuration: `ajet:` and the user's own sections next to it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Discriminator, PrivateAttr, Tag

from ajet.config.backbones import BACKBONES
from ajet.config.loading.class_paths import ClassPath
from ajet.config.messages import value_error
from ajet.config.sections.data import ContextTrackerConfig, DataConfig
from ajet.config.sections.debug import DebugConfig
from ajet.config.sections.environment import EnvironmentConfig
from ajet.config.sections.interchange_server import InterchangeServerConfig
from ajet.config.sections.model import LoraConfig, ModelConfig
from ajet.config.sections.rollout import RolloutConfig
from ajet.config.sections.section import BaseConfig, FreeConfig, KeyAccess, free
from ajet.config.sections.task_judge import TaskJudgeConfig
from ajet.config.sections.task_reader import TaskReaderConfig
from ajet.config.sections.task_runner import TaskRunnerConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.config.sections.types import Words

if TYPE_CHECKING:
    RegisteredName = str
else:
    RegisteredName = Literal[tuple(BACKBONES)]

OWN_BACKBONE = Words('"path/to/file.py->function" or "package.module->function"')


def _name_or_function(value: object) -> str:
    return "function" if isinstance(value, str) and "->" in value else "name"


Backbone = Annotated[
    Annotated[RegisteredName, Tag("name")] | Annotated[ClassPath, OWN_BACKBONE, Tag("function")],
    Discriminator(_name_or_function),
]
FOLDER_NAME = Words("a folder's name, of letters, digits, blanks and _+=@%,.-")


def _folder_name(value: str) -> str:
    if re.fullmatch(r"\w[\w+=@%,. -]*", value):
        return value
    raise value_error(f'got "{value}", expected {FOLDER_NAME.text}')


FolderName = Annotated[str, FOLDER_NAME, AfterValidator(_folder_name)]


class AjetConfig(BaseConfig):
    """Everything under `ajet:`."""

    project_name: str = "ajet"
    """Name of the project, for metric trackers that group experiments."""
    experiment_name: FolderName = "default"
    """Name of the run folder; by default the YAML file's name."""
    experiment_dir: str = "saved_experiments"
    """Directory of the run folders."""
    backbone: Backbone = "local"
    """The training backbone; by default `trinity` if Trinity-RFT is installed. Your own function is
    called as `run(config, run_folder, resume, inputs)`."""
    model: ModelConfig
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    rollout: RolloutConfig
    task_reader: TaskReaderConfig
    task_judge: TaskJudgeConfig = TaskJudgeConfig()
    environment: EnvironmentConfig = EnvironmentConfig()
    context_tracker: ContextTrackerConfig = ContextTrackerConfig()
    trainer_common: TrainerCommonConfig = TrainerCommonConfig()
    debug: DebugConfig = DebugConfig()
    task_runner: TaskRunnerConfig = TaskRunnerConfig()
    interchange_server: InterchangeServerConfig = InterchangeServerConfig()
    trinity: FreeConfig = FreeConfig()
    """Settings passed unchanged to Trinity-RFT; may also be a top-level section next to `ajet:`."""
    verl: FreeConfig = FreeConfig()
    """Settings passed unchanged to verl; may also be a top-level section next to `ajet:`."""


class RootConfig(KeyAccess):
    """The resolved configuration. The user's own sections are attributes next to `ajet`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(free)]]

    ajet: AjetConfig
    _unavailable: tuple[str, ...] = PrivateAttr(())

    @property
    def unavailable(self) -> tuple[str, ...]:
        """What the configuration names and is not there, one line each; a run needs all of it."""
        return self._unavailable
