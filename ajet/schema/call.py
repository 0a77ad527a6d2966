"""One model call: its parameters, its tokens, and the rules of when a completion ends."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ajet.errors import ContextLengthError, RequestError

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


@dataclass(slots=True, kw_only=True, frozen=True)
class Conversation:
    """All messages of one timeline of an agent, the last answer included."""

    agent: str
    messages: list[dict[str, Any]]
    """In the form of the OpenAI API, with tool calls."""


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


MIN_TEMPERATURE = 0.01
"""The smallest temperature besides 0. Below it, logits overflow when they are divided, and vLLM
replaces the value by this one without telling, so that the trainer would compute other logprobs."""

FinishReason = Literal["stop", "length"]


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
