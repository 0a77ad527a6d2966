"""A training sample, a workflow run (episode), and the runs of one task (group)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ajet.schema.call import Call
from ajet.schema.task import Task, WorkflowOutput

FailureKind = Literal[
    "workflow_error",
    "invalid_output",
    "judge_error",
    "timeout",
    "engine_error",
    "environment_error",
    "cancelled",
]

INFRASTRUCTURE_FAULTS: tuple[FailureKind, ...] = ("engine_error", "environment_error")
"""Kinds after which an episode is tried again."""


@dataclass(slots=True, kw_only=True)
class Failure:
    """Why an episode has no reward."""

    kind: FailureKind
    message: str
    """One line for people: exception type and text, or the limit that was exceeded."""
    traceback: str = ""


@dataclass(slots=True, kw_only=True)
class Episode:
    """One workflow run on one task, with all of its agents. A failed episode is data too."""

    episode_id: str
    task: Task
    repeat_index: int
    """Which attempt of its group, from 0."""
    calls: list[Call] = field(default_factory=list)
    """In order of arrival."""
    debug_calls: dict[str, int | None] = field(default_factory=dict)
    """Requests that debug models answered, by agent; None: a client whose calls are unseen."""
    samples: list[Sample] = field(default_factory=list)
    reward: float | None = None
    """The episode's reward; where the workflow gave finer ones, their mean. None: failed."""
    call_rewards: np.ndarray | None = None
    """[len(calls)] float64: the reward that each call is credited with. None: failed."""
    reward_per: Literal["episode", "agent", "call"] = "episode"
    """The unit that the workflow or judge gave rewards for."""
    is_success: bool | None = None
    failure: Failure | None = None
    retries: int = 0
    """Earlier attempts that ended with an infrastructure fault."""
    final_task: Task | None = None
    """The task as the workflow left it, which a judge reads. None: the workflow never started."""
    output: WorkflowOutput = field(default_factory=WorkflowOutput)
    """The workflow's output; empty if it returned nothing usable."""
    metadata: dict[str, Any] = field(default_factory=dict)
    log_metrics: dict[str, float] = field(default_factory=dict)
    context_overflows: int = 0
    """Requests that were refused because the context was full."""
    failed_checks: dict[str, int] = field(default_factory=dict)
    """Number of completions that fail each rule of `rollout.compute_madness_checklist`; 0 where
    none does, empty without such rules."""
    dropped_tokens: dict[str, int] = field(default_factory=dict)
    """Sampled tokens that are not trained, by the name of the rule that dropped them."""
    started_s: float = 0.0
    """Unix time."""
    ended_s: float = 0.0
    awaits_group: bool = False
    """The reward comes when all episodes of the group have ended, from a group judge."""
    judge_s: float | None = None
    """Seconds that the judge took; of a group judge for the whole group. None: no judge."""

    @property
    def judge_reasons(self) -> Any:
        """What the judge noted in `metadata["judge"]`, as plain JSON values; None: nothing."""
        reasons = self.metadata.get("judge")
        try:
            return json.loads(json.dumps(reasons, default=str))
        except (TypeError, ValueError, RecursionError):  # keys of other types, or a circle
            return repr(reasons)[:2000]


@dataclass(slots=True, kw_only=True)
class Group:
    """The episodes of one task in one step, which are the baseline for advantages."""

    task: Task
    episodes: list[Episode] = field(default_factory=list)

    @property
    def valid(self) -> list[Episode]:
        """The episodes that have a reward."""
        return [episode for episode in self.episodes if episode.failure is None]


@dataclass(slots=True, kw_only=True)
class GrammarSpan:
    """A completion whose tokens were sampled under a grammar; see `SamplingParams.grammar`."""

    grammar: str
    start: int
    """Position of the completion's first token in the sample."""
    stop: int
    """Position after the last token."""


@dataclass(slots=True, kw_only=True)
class Sample:
    """A flat training sequence of one episode; arrays are parallel, with one entry per token."""

    episode_id: str
    task_id: str
    agent_names: tuple[str, ...]
    """Agents whose tokens are trained here, in order of appearance."""
    ids: np.ndarray
    """[L] int32."""
    loss_mask: np.ndarray
    """[L] bool: the policy sampled this token, and it is trained here and nowhere else."""
    logprobs: np.ndarray
    """[L] float32, natural log, under the sampling policy; 0 where loss_mask is False."""
    call_index: np.ndarray
    """[L] int32: `Call.index` of the call that sampled the token; -1 where loss_mask is False."""
    policy_versions: np.ndarray
    """[L] int32; -1 where loss_mask is False."""
    temperature: np.ndarray
    """[L] float32: of the call that sampled the token; 1 where loss_mask is False."""
    grammars: tuple[GrammarSpan, ...] = ()
    """The completions with a grammar; usually none."""
    advantages: np.ndarray | None = None
    """[L] float32, set when advantages are computed; 0 where loss_mask is False."""
    rewards: np.ndarray | None = None
    """[L] float32, only with a critic: the reward given at this token; mostly 0."""
    trainer_logprobs: np.ndarray | None = None
    """[L] float32: the trainer's logprobs of the same tokens before the step's first update; 0
    where loss_mask is False. None: they were not computed, as for a sample without gradient."""

    def keep_trainer_logprobs(self, trained: np.ndarray) -> None:
        """Set `trainer_logprobs` from those of the trained tokens alone, in their order."""
        self.trainer_logprobs = np.zeros(len(self), np.float32)
        self.trainer_logprobs[self.loss_mask] = trained

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_trained(self) -> int:
        """Number of tokens with loss."""
        return int(self.loss_mask.sum())


@dataclass(slots=True, kw_only=True, frozen=True)
class TaskResult:
    """How often one task was solved in a step."""

    task_id: str
    index: int
    """Its place among the training tasks, in the reader's order."""
    episodes: int
    """Episodes that have a reward; a failed episode says nothing about the task."""
    solved: int
    """Those of them that were successful."""

    @classmethod
    def of(cls, group: Group, index: int) -> TaskResult:
        """The result of a group."""
        return cls(
            task_id=group.task.task_id,
            index=index,
            episodes=len(group.valid),
            solved=sum(bool(episode.is_success) for episode in group.valid),
        )


@dataclass(slots=True, kw_only=True, frozen=True)
class Waiting:
    """One thing that is waited for."""

    what: str
    """`engine`, `environment`, `judge`, `workflow`, or what a backbone waits for."""
    who: str
    """Who waits, in words: task, episode, agent, call."""
    since_s: float
    """Unix time, seconds."""
    where: str = ""
    """File and line of the user's code, if it is known."""

    def text(self, now_s: float) -> str:
        """One line: `engine: task t1, call 2 of agent solver, for 61 s`."""
        where = f" at {self.where}" if self.where else ""
        return f"{self.what}: {self.who}{where}, for {max(0.0, now_s - self.since_s):.0f} s"
