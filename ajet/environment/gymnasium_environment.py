"""Gymnasium environments behind text: observation to message, message to action."""

from __future__ import annotations

import json
import re
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ajet.environment.environment import Environment, InvalidActionError
from ajet.environment.messages import Message, Observation
from ajet.errors import MissingExtraError
from ajet.schema.task import Task

if TYPE_CHECKING:
    import gymnasium

MAX_DIGITS = 21
"""Longest number that is read as an action: actions have 64 bits."""


class GymnasiumEnvironment(Environment):
    """A Gymnasium environment. Override the two text methods where the defaults do not serve.

    Args:
        task: the episode's task.
        id: of `gymnasium.make`.
        options: keyword arguments of `gymnasium.make`.
    """

    id = ""
    """For `gymnasium.make`, where the configuration names none."""

    def __init__(self, task: Task, *, id: str | None = None, **options: Any) -> None:
        super().__init__(task, **options)
        self.id = id or self.id
        self.env: gymnasium.Env[Any, Any] = self.make()

    def make(self) -> gymnasium.Env[Any, Any]:
        """Make the environment.

        Raises:
            MissingExtraError: Gymnasium is not installed.
        """
        try:
            import gymnasium
        except ImportError:
            raise MissingExtraError("gymnasium", "environment") from None
        return gymnasium.make(self.id, **self.options)

    def seed(self) -> int:
        """For `reset`: all episodes of a task start in the same state.

        It is `metadata["seed"]` or `metadata["random_number"]` where the task has one, and is
        computed from the task's id otherwise.
        """
        metadata = self.task.metadata
        number = metadata.get("seed", metadata.get("random_number"))
        return zlib.crc32(self.task.task_id.encode()) if number is None else int(number)

    def observation_to_message(self, observation: Any, info: dict[str, Any]) -> Observation:
        """What the agent sees; the default is the observation as text."""
        return _text(observation)

    def message_to_action(self, message: Message) -> Any:
        """The action in the agent's message.

        The default takes the last integer of the text for a `Discrete` space, the text itself for
        a `Text` space, and a JSON value for others: an object for a `Dict`, a list for a
        `Tuple` or an array.

        Raises:
            InvalidActionError: there is none.
        """
        from gymnasium import spaces

        text, space = str(message["content"]), self.env.action_space
        if isinstance(space, spaces.Text):
            return text
        if isinstance(space, spaces.Discrete):
            first, last = int(space.start), int(space.start + space.n - 1)
            numbers = re.findall(r"-?\d+", text)
            # Python refuses to read a number of thousands of digits.
            if numbers and len(numbers[-1]) <= MAX_DIGITS and first <= int(numbers[-1]) <= last:
                return int(numbers[-1])
            raise InvalidActionError(f"No action found. Answer with a number, {first} to {last}.")
        try:
            action = _in_space(json.loads(text), space)
        except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
            raise InvalidActionError(f"No action found. Answer with JSON for {space}.") from None
        if not space.contains(action):
            raise InvalidActionError(f"The action is outside of {space}.")
        return action

    def reset(self) -> Observation:
        """Start in the state of the task's seed; the task's query stands before a first text."""
        observation, info = self.env.reset(seed=self.seed())
        first = self.observation_to_message(observation, info)
        query = self.task.main_query
        return f"{query}\n\n{first}" if query and isinstance(first, str) else first

    def step(self, action: Message) -> tuple[Observation, float, bool, dict[str, Any]]:
        """One step; an episode that Gymnasium truncates is over as well."""
        observation, reward, terminated, truncated, info = self.env.step(
            self.message_to_action(action)
        )
        seen = self.observation_to_message(observation, info)
        return seen, float(reward), bool(terminated or truncated), info

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


def _text(observation: Any) -> str:
    """An observation in words: numbers and arrays of numpy as they print, also inside of others."""
    if isinstance(observation, dict):
        return "{" + ", ".join(f"{key}: {_text(x)}" for key, x in observation.items()) + "}"
    if isinstance(observation, tuple):
        return "(" + ", ".join(map(_text, observation)) + ")"
    return str(observation)


def _in_space(value: Any, space: gymnasium.Space[Any]) -> Any:
    """A JSON value as an element of a space; whether it is inside is not checked.

    Raises:
        ValueError, TypeError, LookupError, OverflowError: it has another form.
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Dict):
        if not isinstance(value, dict) or value.keys() - space.spaces.keys():
            raise ValueError("other keys than those of the space")
        return {key: _in_space(value[key], part) for key, part in space.spaces.items()}
    if isinstance(space, spaces.Tuple):
        return tuple(_in_space(item, part) for item, part in zip(value, space.spaces, strict=True))
    if isinstance(space, spaces.Sequence):
        items = [_in_space(item, space.feature_space) for item in value]
        return np.asarray(items, dtype=space.feature_space.dtype) if space.stack else tuple(items)
    if isinstance(space, spaces.OneOf):
        number, item = value
        return np.int64(number), _in_space(item, space.spaces[number])
    if isinstance(space, spaces.Text | spaces.Discrete):
        return value
    action = np.asarray(value, dtype=space.dtype)
    if action.dtype.kind in "iu" and not np.array_equal(action, np.asarray(value)):
        raise ValueError("numbers that are not whole")  # numpy cuts them off
    return action
