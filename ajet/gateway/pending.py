"""A request that was checked and rendered to token ids, and is not answered yet."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.context_tracker.tracker import Prompt
from ajet.gateway.apis.chat_completions.request import ChatRequest
from ajet.schema.call import SamplingParams


@dataclass(slots=True, kw_only=True)
class PendingCompletion:
    """One of the completions that a request asks for."""

    prompt: Prompt
    params: SamplingParams
    name: str
    """Unique in the episode. The ids of tool calls are derived from it, so that a message that
    returns in a later request is recognised with certainty."""
    prefill: str
    """Text with which the request begins the assistant's turn; empty if it does not."""
    max_calls: int | None
    """Number of tool calls to report at most; None is no limit."""
    with_logprobs: bool


@dataclass(slots=True, kw_only=True)
class PendingRequest:
    """A request and the completions that it asks for."""

    request: ChatRequest
    name: str
    """Unique in the run."""
    completions: list[PendingCompletion]
    """One per choice; never empty."""
    started_s: float
    """Unix time."""

    @property
    def created(self) -> int:
        """Unix time in whole seconds."""
        return int(self.started_s)

    @property
    def prompt_tokens(self) -> int:
        """Number of prompt tokens, counted once for all choices."""
        return len(self.completions[0].prompt.ids)
