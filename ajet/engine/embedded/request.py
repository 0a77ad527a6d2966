"""The state of one `generate` call in the embedded engine."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np

from ajet.engine.base import OnToken
from ajet.errors import EngineError
from ajet.schema.call import Generation, SamplingParams


@dataclass(slots=True, kw_only=True, eq=False)
class Request:
    """A prompt that grows into a completion, token by token."""

    session: str
    params: SamplingParams
    ids: list[int]
    """Token ids of the prompt, followed by the sampled ones."""
    max_new: int
    """The most tokens to sample: `params.max_tokens`, or less if the context ends before."""
    call_index: int = 0
    """How many requests the session made before this one."""
    round: int = 0
    """The admission round in which a lockstep first saw the request; 0: none yet."""
    uniforms: np.ndarray = field(default_factory=lambda: np.empty(0))
    """[max_new] float64 in [0, 1): one random number per sampled token."""
    row: int = -1
    """The request's row in the cache; -1: none."""
    on_token: OnToken | None = None
    """Called with each sampled token and its logprob."""
    generation: Generation = field(default_factory=Generation)
    failure: EngineError | None = None
    """Why the request ended without a completion; the other requests are not affected."""
    future: Future[Generation] = field(default_factory=Future)

    def draw(self, engine_seed: int) -> None:
        """Draw the random numbers, from the request's seed or from its place in its session."""
        # Drawn in advance and per request, so that a completion does not depend on which other
        # requests run at the same time.
        seed = self.params.seed
        name = f"{engine_seed}/{self.session}/{self.call_index}" if seed is None else f"{seed}"
        self.uniforms = uniforms(name, self.max_new)

    def append(self, token: int, logprob: float, policy_version: int) -> None:
        """Add a sampled token to the completion."""
        self.ids.append(token)
        self.generation.token_ids.append(token)
        self.generation.logprobs.append(logprob)
        self.generation.policy_versions.append(policy_version)
        if self.on_token is not None:
            self.on_token(token, logprob)


def uniforms(name: str, count: int) -> np.ndarray:
    """Random numbers [count] float64 in [0, 1) that depend on `name` only (Philox generator)."""
    key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key)).random(count)
