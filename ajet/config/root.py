"""The whole configuration: `ajet:` and, beside it, the user's own sections."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict

from ajet.config.context_tracker import ContextTracker
from ajet.config.data import Data
from ajet.config.debug import Debug
from ajet.config.free_section import FreeSection, free
from ajet.config.interchange_server import InterchangeServer
from ajet.config.kinds import Words
from ajet.config.model import Model
from ajet.config.refusal import refusal
from ajet.config.rollout import Rollout
from ajet.config.section import Section
from ajet.config.task_judge import TaskJudge
from ajet.config.task_reader import TaskReader
from ajet.config.task_runner import TaskRunner
from ajet.config.trainer_common import TrainerCommon

Backbone = Literal["local", "debug", "verl", "trinity"]
BACKBONES = get_args(Backbone)
FOLDER_NAME = Words("a folder's name, of letters, digits, blanks and _+=@%,.-")


def _folder_name(value: str) -> str:
    if re.fullmatch(r"\w[\w+=@%,. -]*", value):
        return value
    raise refusal(f'got "{value}", expected {FOLDER_NAME.text}')


FolderName = Annotated[str, FOLDER_NAME, AfterValidator(_folder_name)]


class AjetConfig(Section):
    """Everything under `ajet:`."""

    project_name: str = "ajet"
    """Groups experiments in trackers that know projects."""
    experiment_name: FolderName = "default"
    """The run folder's name; left out, it is the YAML file's name."""
    experiment_dir: str = "saved_experiments"
    """Where run folders are kept."""
    backbone: Backbone = "local"
    """What trains; left out, it is `trinity` where Trinity-RFT is installed."""
    model: Model
    data: Data = Data()
    rollout: Rollout
    task_reader: TaskReader
    task_judge: TaskJudge = TaskJudge()
    context_tracker: ContextTracker = ContextTracker()
    trainer_common: TrainerCommon = TrainerCommon()
    debug: Debug = Debug()
    task_runner: TaskRunner = TaskRunner()
    interchange_server: InterchangeServer = InterchangeServer()
    trinity: FreeSection = FreeSection()
    """Handed to Trinity-RFT as it is; may also stand beside `ajet:`."""
    verl: FreeSection = FreeSection()
    """Handed to verl as it is; may also stand beside `ajet:`."""


class RootConfig(BaseModel):
    """The resolved configuration. The user's own sections are attributes beside `ajet`."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(free)]]

    ajet: AjetConfig
