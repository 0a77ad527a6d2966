"""What a run takes from its user: code and tasks, loaded once by the launcher and handed on."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ajet.boundary import caught_error, text_of
from ajet.config.sections.root import RootConfig
from ajet.errors import AjetError, ConfigError
from ajet.task_judge import make_judge
from ajet.task_judge.base_judge import Judge
from ajet.task_reader.read_tasks import TrainingData
from ajet.task_runner.failures import MAX_MESSAGE, user_frames
from ajet.workflow import Workflow, load_workflow


@dataclass(slots=True, kw_only=True, frozen=True)
class UserCode:
    """The user's classes. A process that runs episodes elsewhere loads its own."""

    workflow_class: type[Workflow]
    judge: Judge | None
    """Gives the reward when the workflow returns none."""

    @classmethod
    def load(cls, config: RootConfig) -> UserCode:
        """Import the classes that the configuration names.

        Raises:
            ConfigError: a class cannot be loaded.
            MissingExtraError: one imports a library that one of our extras installs.
        """
        workflow, judge = config.ajet.rollout.user_workflow, config.ajet.task_judge.judge_class
        with _loading("ajet.rollout.user_workflow", workflow):
            workflow_class = load_workflow(workflow)
        with _loading("ajet.task_judge.judge_protocol", judge):
            return cls(workflow_class=workflow_class, judge=make_judge(judge, config))


@contextmanager
def _loading(key: str, class_path: str | None) -> Iterator[None]:
    """The boundary around code of the user that runs when its class is loaded or a judge is made.

    Raises:
        ConfigError: it raised an error that is not one of ours; the message has the user's line.
    """
    with caught_error() as caught:
        yield
    error = caught.error
    if isinstance(error, AjetError):
        raise error
    if error:
        frames = traceback.extract_tb(user_frames(error))
        users = [frame for frame in frames if frame.filename[0] != "<"]  # none of importlib's
        place = f"{users[0].filename}:{users[0].lineno}: " if users else ""
        text = " ".join(f"{type(error).__name__}: {text_of(error)}".split())[:MAX_MESSAGE]
        raise ConfigError(
            f"{key}: {class_path} cannot be loaded: {place}{text} "
            "(`ajet check` shows the whole traceback)"
        ) from error


@dataclass(slots=True, kw_only=True, frozen=True)
class RunInputs:
    """What a backbone gets besides the configuration."""

    code: UserCode
    data: TrainingData
