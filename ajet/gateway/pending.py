"""A request on its way: checked, and as token ids."""

from __future__ import annotations

from dataclasses import dataclass

from ajet.context_tracker.tracker import Prompt
from ajet.gateway.apis.chat_completions.request import ChatRequest
from ajet.schema.generation import SamplingParams


@dataclass(slots=True, kw_only=True)
class PendingCompletion:
    """One completion that a request asks for."""

    prompt: Prompt
    params: SamplingParams
    name: str
    """Unique in the episode. Ids of tool calls are made of it, so that a message which comes back
    in a later request is recognised for certain."""
    prefill: str
    """Text with which the request begins the turn."""
    max_calls: int | None
    """Tool calls to tell of at most."""
    with_logprobs: bool


@dataclass(slots=True, kw_only=True)
class PendingRequest:
    """A request and the completions that it asks for."""

    request: ChatRequest
    name: str
    """Unique in the run."""
    wanted: list[PendingCompletion]
    started_s: float
    """Unix time."""

    @property
    def created(self) -> int:
        """Unix time, whole."""
        return int(self.started_s)

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt, counted once."""
        return len(self.wanted[0].prompt.ids)
