"""Records that users fill in and read: tasks and workflow outputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

LoggedMetric = float | list[float] | dict[str, float | list[float] | dict[str, float]]
"""A value in `WorkflowOutput.log_metrics`."""


class Task(BaseModel):
    """One problem: a query, and what a judge or environment needs to know about it."""

    main_query: str = ""
    init_messages: list[dict[str, Any]] = Field(default_factory=list)
    task_id: str = ""
    """Unique within a data set. Readers fill an empty one with `content_id()`."""
    env_type: str = ""
    metadata: dict[str, Any] = Field(default_factory=dict)

    def content_id(self) -> str:
        """A stable id: 16 hex digits of the SHA-256 of everything but the id itself."""
        content = self.model_copy(update={"task_id": ""}).model_dump_json()
        return hashlib.sha256(content.encode()).hexdigest()[:16]


class WorkflowTask(BaseModel):
    """The input of one episode: the task, and what belongs to this attempt only."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    task: Task
    task_id: str = ""
    episode_uuid: str = ""
    env_type: str = ""
    task_tag: str = ""
    gym_env: Any = None
    """The episode's environment, an `EpisodeEnvironment` with `step` and `evaluate`; or None."""
    tokenizer: Any = None
    """The model's tokenizer, if the backbone has one."""
    observation_window: Any = None
    """Not filled here; workflows written against AgentJet may read it."""
    llm_inference_fn: Any = None
    """Not filled here; as above."""
    task_thread_index: int = 0
    """Not filled here; as above."""
    task_batch_index: int = 0
    """Not filled here; as above."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Conversation:
    """All messages of one timeline of an agent, the last answer included."""

    agent: str
    messages: list[dict[str, Any]]
    """In the form of the OpenAI API, with tool calls."""


class WorkflowOutput(BaseModel):
    """The result of a workflow.

    `reward` is a float for the episode, a list with one float per tracked call in call order, or
    a dict from agent name to float. None sends the output to the judge.
    """

    reward: float | list[float] | dict[str, float] | None = None
    is_success: bool | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)
    log_metrics: dict[str, LoggedMetric] = Field(default_factory=dict)
    _trajectory: list[Conversation] = PrivateAttr(default_factory=list)
    _judge_usage: dict[str, float] = PrivateAttr(default_factory=dict)

    @property
    def trajectory(self) -> list[Conversation]:
        """For a judge: the episode's conversations, one for each timeline of each agent."""
        return self._trajectory

    def set_trajectory(self, conversations: list[Conversation]) -> None:
        """Set what a judge sees as the trajectory; it is not stored with the output."""
        self._trajectory = conversations

    @property
    def judge_usage(self) -> dict[str, float]:
        """What judging it cost, for metrics: a judge adds to it. Not stored with the output."""
        return self._judge_usage

    @property
    def flat_metrics(self) -> dict[str, float]:
        """`log_metrics` with one number for each name.

        A dict gives one metric for each of its keys, named `NAME/KEY`; a list gives its mean, and
        nothing if it is empty.
        """
        return dict(_flat("", self.log_metrics))


def exceeds(value: Any, num_bytes: int) -> bool:
    """True if the texts, arrays and entries of a value take more than `num_bytes`.

    This is an estimate. An object that is found in several places counts each time, because it is
    written each time, so a structure that contains itself exceeds every limit.
    """
    waiting, total = [value], 0
    while waiting and total <= num_bytes:
        item = waiting.pop()
        total += 8 + getattr(item, "nbytes", 0)
        if isinstance(item, str | bytes | bytearray):
            total += len(item)
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list | tuple | set | frozenset):
            waiting += item
    return total > num_bytes


def _flat(prefix: str, metrics: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for key, value in metrics.items():
        if isinstance(value, dict):
            yield from _flat(f"{prefix}{key}/", value)
        elif not isinstance(value, list):
            yield f"{prefix}{key}", value
        elif value:
            yield f"{prefix}{key}", fmean(value)
