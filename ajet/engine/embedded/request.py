"""One `generate` call on its way through the embedded engine."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ajet.engine.base import OnToken
from ajet.schema.generation import Generation, SamplingParams


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A prompt that grows, token by token, into a completion."""

    session: str
    params: SamplingParams
    ids: list[int]
    """The prompt, then what has been sampled."""
    max_new: int
    """Tokens to sample at most: `params.max_tokens`, or less where the context ends."""
    call_index: int = 0
    """How many requests its session made before."""
    round: int = 0
    """When a lockstep first saw it; 0 is not yet."""
    uniforms: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[max_new] float64 in [0, 1): the randomness of each token."""
    row: int = -1
    """Its row of the cache; -1 is none."""
    on_token: OnToken | None = None
    """Told of each sampled token and its logprob."""
    generation: Generation = field(default_factory=Generation)
    future: Future[Generation] = field(default_factory=Future)

    def draw(self, engine_seed: int) -> None:
        """Fix its randomness, from its seed or else from its session and place in it."""
        seed = self.params.seed
        name = f"{engine_seed}/{self.session}/{self.call_index}" if seed is None else f"{seed}"
        self.uniforms = uniforms(name, self.max_new)

    def append(self, token: int, logprob: float, policy_version: int) -> None:
        """Add a sampled token."""
        self.ids.append(token)
        self.generation.token_ids.append(token)
        self.generation.logprobs.append(logprob)
        self.generation.policy_versions.append(policy_version)
        if self.on_token is not None:
            self.on_token(token, logprob)


def uniforms(name: str, count: int) -> np.ndarray:
    """[count] float64 in [0, 1), a function of `name` alone (Philox, a counter-based generator)."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random(count)
