"""The small world as an environment: in the run's process, or as a service.

python -m tutorial.example_appworld.app_environment --port 8086
"""

from typing import Any

from ajet import Task
from ajet.environment import Environment, EnvironmentService
from ajet.task_reader.task_reader_base import BaseTaskReader
from tutorial.example_appworld.tasks import (
    NUM_TRAIN,
    NUM_VALIDATION,
    AppTask,
    Split,
    first_tasks,
    make_task,
)
from tutorial.example_appworld.world import CallError, World


class SmallAppWorld(Environment):
    """One world for one episode; each message of the agent is one call."""

    app_task: AppTask
    world: World

    def reset(self) -> str:
        """Start the world of the task; the query is the first observation."""
        self.app_task = make_task(int(self.task.task_id))
        self.world = self.app_task.start()
        return self.app_task.query

    def step(self, action: dict[str, Any]) -> tuple[str, float, bool, dict[str, Any]]:
        """Run the call; the score is the reward of the call that completes the task."""
        try:
            seen, is_refused = self.world.call(str(action["content"])), False
        except CallError as error:
            seen, is_refused = str(error), True
        reward = self.evaluate({}) if self.world.is_complete else 0.0
        return seen, reward, self.world.is_complete, {"is_refused": is_refused}

    def evaluate(self, params: dict[str, Any]) -> float:
        """Whether the world looks as the task wants it."""
        return self.app_task.score(self.world)


class AppTaskReader(BaseTaskReader):
    """The tasks of the small world; the environment shows their queries."""

    def get_training_tasks(self) -> list[Task]:
        """The first tasks of the training split."""
        return _as_tasks(Split.TRAIN, NUM_TRAIN)

    def get_validation_tasks(self) -> list[Task]:
        """The first tasks of the validation split."""
        return _as_tasks(Split.VALIDATION, NUM_VALIDATION)


def _as_tasks(split: Split, count: int) -> list[Task]:
    return [Task(task_id=str(task.number)) for task in first_tasks(split, count)]


class SmallAppWorldService(EnvironmentService):
    """The small world behind HTTP, with the routes of the real AppWorld's service."""

    env_type = "appworld"

    def task_ids(self, split: str) -> list[int]:
        """Numbers of the tasks of `train` or `dev`."""
        if split == "train":
            return [task.number for task in first_tasks(Split.TRAIN, NUM_TRAIN)]
        return [task.number for task in first_tasks(Split.VALIDATION, NUM_VALIDATION)]

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[SmallAppWorld, str]:
        """Start a world; the id is its number."""
        if not task_id.isdecimal():
            raise ValueError(f"there is no task {task_id!r}; expected a number")
        world = SmallAppWorld(Task(task_id=task_id))
        return world, world.reset()

    def step(self, instance: SmallAppWorld, action: dict[str, Any]) -> tuple[Any, ...]:
        """Run a call."""
        return instance.step(action)

    def evaluate(self, instance: SmallAppWorld, params: dict[str, Any]) -> float:
        """1 or 0."""
        return instance.evaluate(params)


if __name__ == "__main__":
    SmallAppWorldService.main()
