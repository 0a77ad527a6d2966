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

`first_call`: the first of its agent. `new_conversation`: nothing but system messages is known.
`repeated_request`: the same messages were sent before (best-of-n, a retry). `another_agent`: the
messages continue a call of another agent. `history_edited`: they leave every recorded history
somewhere. `tools_changed`: they continue a call, the tools differ. `template_rewrote_history`:
they continue a call, but the chat format cannot extend its ids.
"""


@dataclass(slots=True, kw_only=True)
class Call:
    """One LLM request and its completion.

    The prompt is stored once: a call that continues another holds only what it adds.
    """

    call_id: str
    """Unique within the episode."""
    index: int
    """Position in the order in which requests arrived, from 0."""
    agent_name: str
    target_tag: str
    trained: bool
    """False: answered by the policy, recorded, and never trained."""
    parent_id: str | None
    """The call whose prompt plus completion is exactly the head of this prompt."""
    new_timeline: NewTimelineReason | None
    """None where `parent_id` is set."""
    prompt_length: int
    """Tokens of the whole prompt."""
    delta_ids: np.ndarray
    """[prompt_length - length of the parent's prompt and completion] int32: what the prompt adds
    to the parent; the whole prompt where there is no parent."""
    completion_ids: np.ndarray
    """[C] int32, as the engine returned them."""
    logprobs: np.ndarray
    """[C] float32, natural log, under the sampling policy."""
    policy_versions: np.ndarray
    """[C] int32."""
    temperature: float
    finish_reason: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The request's messages beyond the parent's request and answer; all where no parent."""
    tools: list[dict[str, Any]] | None = None
    response: dict[str, Any] = field(default_factory=dict)
    """The assistant message that the agent got."""
    started_s: float = 0.0
    """Unix time at which the request arrived."""
    ended_s: float = 0.0
