"""Gymnasium's FrozenLake behind text: in the run's process, or as an environment service.

python -m tutorial.example_frozen_lake.lake --port 8085
"""

import re
from typing import Any

import gymnasium

from ajet import Task
from ajet.environment import EnvironmentService, GymnasiumEnvironment, InvalidActionError
from ajet.task_reader.task_reader_base import BaseTaskReader
from tutorial.example_frozen_lake.maps import MOVES, Split, describe, make_map, numbers

SIZE = 4
NUM_TRAIN = 640
NUM_VALIDATION = 256
_MOVE = re.compile(rf"\b({'|'.join(MOVES)})\b", re.IGNORECASE)


class Lake(GymnasiumEnvironment):
    """A lake whose map is made from the task's number.

    Options: `size` of the map; `is_slippery` as Gymnasium means it, two of three moves go aside;
    `gap` between the cells of a row. Without one a row is one word, which a tiny model reads best.
    """

    field: list[str]

    def make(self) -> gymnasium.Env[Any, Any]:
        """Make the lake with the map of the task."""
        self.field = make_map(self.seed(), int(self.options.get("size", SIZE)))
        is_slippery = bool(self.options.get("is_slippery", False))
        return gymnasium.make("FrozenLake-v1", desc=self.field, is_slippery=is_slippery)

    def observation_to_message(self, observation: int, info: dict[str, Any]) -> str:
        """The map with the player on it, or how the walk ended."""
        row, column = divmod(int(observation), len(self.field))
        if self.field[row][column] == "H":
            return "You fell into a hole."
        if self.field[row][column] == "G":
            return "You reached the goal."
        return describe(self.field, (row, column), str(self.options.get("gap", " ")))

    def message_to_action(self, message: dict[str, Any]) -> int:
        """The last move that the agent names.

        Raises:
            InvalidActionError: it names none.
        """
        named = _MOVE.findall(str(message["content"]))
        if not named:
            raise InvalidActionError(f"You stay. Answer with one of {', '.join(MOVES)}.")
        return list(MOVES).index(named[-1].lower())


class LakeReader(BaseTaskReader):
    """One task per map. Settings: `size`, `num_train`, `num_validation`."""

    def get_training_tasks(self) -> list[Task]:
        """Tasks with maps of the training split."""
        return self._tasks(Split.TRAIN, self._setting("num_train", NUM_TRAIN))

    def get_validation_tasks(self) -> list[Task]:
        """Tasks with maps of the validation split."""
        return self._tasks(Split.VALIDATION, self._setting("num_validation", NUM_VALIDATION))

    def _tasks(self, split: Split, amount: int) -> list[Task]:
        return [
            Task(task_id=str(number), metadata={"random_number": number})
            for number in numbers(split, amount, self._setting("size", SIZE))
        ]

    def _setting(self, name: str, default: int) -> int:
        return int(getattr(self.reader_config, name, default))


class LakeService(EnvironmentService):
    """The same lake for agents in other processes: a task's id is the number of its map."""

    gap = ""
    """Between the cells of a row, as in the settings for a CPU."""

    def task_ids(self, split: str) -> list[int]:
        """The numbers of the maps of `train` or `dev`."""
        if split == "train":
            return numbers(Split.TRAIN, NUM_TRAIN, SIZE)
        return numbers(Split.VALIDATION, NUM_VALIDATION, SIZE)

    def create(self, task_id: str, params: dict[str, Any]) -> tuple[Lake, Any]:
        """Make a lake; the id is the number of its map."""
        if not task_id.isdecimal():
            raise ValueError(f"there is no task {task_id!r}; expected the number of a map")
        task = Task(task_id=task_id, metadata={"random_number": int(task_id)})
        lake = Lake(task, gap=self.gap)
        return lake, lake.reset()

    def step(self, instance: Lake, action: dict[str, Any]) -> tuple[Any, ...]:
        """Move the player."""
        try:
            seen, reward, is_over, info = instance.step(action)
        except InvalidActionError as error:
            return str(error), 0.0, False
        instance.total_reward += reward
        return seen, reward, is_over

    def evaluate(self, instance: Lake, params: dict[str, Any]) -> float:
        """1 if the goal was reached, else 0."""
        return instance.total_reward

    def release(self, instance: Lake) -> None:
        """Close the lake."""
        instance.close()


if __name__ == "__main__":
    LakeService.main()
