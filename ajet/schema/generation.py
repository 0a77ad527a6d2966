"""What an engine is asked for, and what it gives back: token ids only, never text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

FinishReason = Literal["stop", "length"]


@dataclass(slots=True, kw_only=True, frozen=True)
class SamplingParams:
    """How to sample one completion. Every field is honoured by every engine, or refused."""

    max_tokens: int
    """Upper bound on the completion's length; positive."""
    temperature: float = 1.0
    """Divides the logits; 0 is greedy."""
    top_p: float = 1.0
    """Sample from the smallest set of tokens with at least this probability."""
    top_k: int = 0
    """Sample from this many most probable tokens; 0 is all."""
    seed: int | None = None
    """Same seed, prompt, weights and batch: same completion. None: a fresh one."""
    stop_token_ids: tuple[int, ...] = ()
    """Ids that end the completion; the one sampled is its last token."""
    stop: tuple[str, ...] = ()
    """Strings that end the completion as soon as its decoded text contains one of them."""


@dataclass(slots=True, kw_only=True)
class Generation:
    """One completion."""

    token_ids: list[int] = field(default_factory=list)
    """[C] as sampled, the stop token included if it was sampled."""
    logprobs: list[float] = field(default_factory=list)
    """[C] natural log of the softmax of logits / temperature (of the logits themselves where the
    temperature is 0), before top-k and top-p cut the tail: what a trainer can compute again."""
    policy_versions: list[int] = field(default_factory=list)
    """[C] version of the weights that sampled each token."""
    finish_reason: FinishReason = "stop"
