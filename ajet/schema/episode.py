"""What is recorded of an episode: its calls to the model, its samples, its result and its group.

Also how a completion is sampled, and the rules of when it ends, which all engines share.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ajet.errors import ContextLengthError, RequestError
from ajet.schema.task import Conversation, Task, WorkflowOutput

NewTimelineReason = Literal[
    "first_call",
    "new_conversation",
    "repeated_request",
    "another_agent",
    "history_edited",
    "tools_changed",
    "template_rewrote_history",
]
"""Why a call does not continue a recorded one.

`first_call`: the first call of its agent. `new_conversation`: only system messages are known.
`repeated_request`: the same messages were sent before (best-of-n, a retry). `another_agent`: the
messages continue a call of another agent. `history_edited`: the messages differ from every recorded
history at some point. `tools_changed`: the messages continue a call, but with other tools.
`template_rewrote_history`: the messages continue a call, but the chat format cannot extend its ids.
"""

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

MIN_TEMPERATURE = 0.01
"""The smallest temperature besides 0. Below it, logits overflow when they are divided, and vLLM
replaces the value by this one without telling, so that the trainer would compute other logprobs."""

FinishReason = Literal["stop", "length"]


@dataclass(slots=True, kw_only=True)
class Call:
    """One LLM request and its completion.

    A call that continues another stores only the ids that it adds to that call's prompt.
    """

    call_id: str
    """Unique within the episode."""
    index: int
    """Position among the episode's calls in the order of requests, from 0."""
    agent_name: str
    target_tag: str
    trained: bool
    """False: the policy answered and the call is recorded, but it is never trained."""
    parent_id: str | None
    """The call whose prompt and completion are exactly the beginning of this prompt."""
    new_timeline: NewTimelineReason | None
    """Why the call has no parent; None if `parent_id` is set."""
    prompt_length: int
    """Number of tokens in the whole prompt."""
    delta_ids: np.ndarray
    """[prompt_length - length of the parent's prompt and completion] int32: the ids that the prompt
    adds to the parent; the whole prompt without a parent."""
    completion_ids: np.ndarray
    """[C] int32, as the engine returned them."""
    logprobs: np.ndarray
    """[C] float32, natural log under the sampling policy."""
    policy_versions: np.ndarray
    """[C] int32: version of the weights that sampled each token."""
    temperature: float
    finish_reason: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The messages that the request adds to the parent's request and answer; all without one."""
    tools: list[dict[str, Any]] | None = None
    response: dict[str, Any] = field(default_factory=dict)
    """The assistant message that the agent got."""
    grammar: str = ""
    """What the completion had to match, as in `SamplingParams`; empty: any text."""
    failed_checks: list[str] = field(default_factory=list)
    """Rules of `rollout.compute_madness_checklist` that the completion fails; only of trained
    agents."""
    started_s: float = 0.0
    """Unix time at which the request arrived."""
    ended_s: float = 0.0


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


def conversation(calls: Iterable[Call], last: Call) -> list[dict[str, Any]]:
    """All messages of a call's history, its own response included.

    A call stores only the messages that it adds to its parent, so the chain of parents is joined.
    """
    by_id = {call.call_id: call for call in calls}
    chain = [last]
    while chain[-1].parent_id is not None:
        chain.append(by_id[chain[-1].parent_id])
    return [message for call in reversed(chain) for message in (*call.messages, call.response)]


def conversations(calls: list[Call]) -> list[Conversation]:
    """What an episode's agents said and were told: one conversation for each timeline."""
    continued = {call.parent_id for call in calls}
    return [
        Conversation(agent=call.agent_name, messages=conversation(calls, call))
        for call in calls
        if call.call_id not in continued
    ]


@dataclass(slots=True, kw_only=True, frozen=True)
class SamplingParams:
    """How to sample one completion. Every engine honours every field or refuses it."""

    max_tokens: int
    """Largest length of the completion; positive."""
    temperature: float = 1.0
    """Divides the logits; 0 is greedy, any other is at least `MIN_TEMPERATURE`."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with at least this probability."""
    top_k: int = 0
    """Sample from this many of the most probable tokens; 0 is no limit."""
    seed: int | None = None
    """The same seed, prompt, weights and batch give the same completion. None: a random seed."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the completion; the id that was sampled is its last token."""
    stop: tuple[str, ...] = ()
    """Strings that end the completion as soon as its decoded text contains one of them."""
    grammar: str | None = None
    """What the completion must match, in llguidance's variant of Lark; None: any text."""

    def __post_init__(self) -> None:
        """Refuse what no engine can compute.

        Raises:
            RequestError: the temperature or top_p is out of range or not a number.
        """
        # Written such that NaN is refused, too.
        if not (self.temperature == 0 or MIN_TEMPERATURE <= self.temperature < math.inf):
            raise RequestError(
                f"temperature is {self.temperature}; expected 0 (greedy), or {MIN_TEMPERATURE} "
                "or more",
                param="temperature",
                code="invalid_value",
            )
        if not 0 < self.top_p <= 1:
            raise RequestError(
                f"top_p is {self.top_p}; expected more than 0, and at most 1",
                param="top_p",
                code="invalid_value",
            )


@dataclass(slots=True, kw_only=True)
class Generation:
    """One sampled completion."""

    token_ids: list[int] = field(default_factory=list)
    """[C] ids as sampled, including the stop token if it was sampled."""
    logprobs: list[float] = field(default_factory=list)
    """[C] natural log of the softmax of logits / temperature (of the logits themselves if the
    temperature is 0), before top-k and top-p: a trainer can compute the same values again. With a
    grammar, the softmax is over the tokens that it allows."""
    policy_versions: list[int] = field(default_factory=list)
    """[C] version of the weights that sampled each token."""
    finish_reason: FinishReason = "stop"


def max_new_tokens(prompt_length: int, params: SamplingParams, max_model_len: int) -> int:
    """How many tokens may be sampled: `params.max_tokens`, or less if the context ends before.

    Returns:
        At least 1.

    Raises:
        ContextLengthError: the prompt leaves no room for a token.
    """
    room = max_model_len - prompt_length
    if room < 1:
        raise ContextLengthError(prompt_length, max_model_len)
    return min(params.max_tokens, room)


def finish_reason(
    sampled: Sequence[int],
    params: SamplingParams,
    max_new: int,
    decode: Callable[[list[int]], str],
) -> FinishReason | None:
    """Why a completion ends with its last token, or None if it continues.

    Args:
        sampled: the completion so far, at least one token.
        params: the stop tokens and stop strings.
        max_new: the greatest length of the completion, from `max_new_tokens`.
        decode: turns token ids into text; called only if there are stop strings.
    """
    if sampled[-1] in params.stop_token_ids:
        return "stop"
    if params.stop:
        # A token is at least one byte, so a stop string that the last token completes begins
        # within this many tokens. 8 more tokens keep a character that is cut in two out of it.
        window = max(len(stop.encode()) for stop in params.stop) + 8
        text = decode(list(sampled[-window:]))
        if any(stop in text for stop in params.stop):
            return "stop"
    return "length" if len(sampled) == max_new else None
