"""A request to an engine and its result: token ids only, never text."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ajet.errors import RequestError

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
    temperature is 0), before top-k and top-p: a trainer can compute the same values again."""
    policy_versions: list[int] = field(default_factory=list)
    """[C] version of the weights that sampled each token."""
    finish_reason: FinishReason = "stop"
