"""One request to the model and its completion, as token ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

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
    failed_checks: list[str] = field(default_factory=list)
    """Rules of `rollout.compute_madness_checklist` that the completion fails; only of trained
    agents."""
    started_s: float = 0.0
    """Unix time at which the request arrived."""
    ended_s: float = 0.0
