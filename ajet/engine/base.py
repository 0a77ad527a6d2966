"""The one interface behind which every inference engine stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ajet.schema.generation import Generation, SamplingParams

OnToken = Callable[[int, float], None]
"""Told of a sampled token and its logprob."""


class Engine(Protocol):
    """Token ids in, token ids and logprobs out.

    `generate` may be awaited from any thread and any event loop, many at a time. Cancelling it
    cancels the request. Sessions let an engine keep an episode's key-values from call to call
    (and, where it schedules in lockstep, tell whom it must wait for).
    """

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus completion, in tokens."""
        ...

    @property
    def policy_version(self) -> int:
        """0 for the base model; one more after each weight update."""
        ...

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Sample one completion.

        Args:
            prompt_ids: the whole context.
            params: how to sample.
            session: the episode.
            on_token: called with each token and its logprob as they are sampled, in order, from
                a thread of the engine's: it must return at once.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: the engine failed.
        """
        ...

    def open_session(self, session: str) -> None:
        """Announce an episode. Any thread; called before its first `generate`."""
        ...

    def close_session(self, session: str) -> None:
        """The episode is over: forget what was kept for it. Any thread; unknown ids are fine."""
        ...

    async def aclose(self) -> None:
        """Stop and release everything. Pending requests end in `EngineError`."""
        ...
