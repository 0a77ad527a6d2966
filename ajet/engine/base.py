"""The interface of all inference engines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from ajet.schema.episode import Generation, SamplingParams

OnToken = Callable[[int, float], None]
"""Called with each sampled token and its logprob."""


class Engine(Protocol):
    """Token ids in, token ids and logprobs out.

    `generate` may be awaited from any thread and any event loop, many calls at the same time.
    Cancelling the awaited call cancels the request. A session is an episode: an engine may keep its
    keys and values from call to call, and an engine in lockstep waits for the open sessions.
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
            prompt_ids: token ids of the whole context.
            params: how to sample.
            session: the id of the episode.
            on_token: called with each token and its logprob, in order, as soon as it is sampled.
                The caller is a thread of the engine, so the function must return at once.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: the engine failed.
        """
        ...

    def open_session(self, session: str) -> None:
        """Announce an episode before its first `generate`; may be called from any thread."""
        ...

    def close_session(self, session: str) -> None:
        """End an episode and drop what is kept for it; any thread, and unknown ids are ignored."""
        ...

    async def aclose(self) -> None:
        """Stop the engine and release everything. Pending requests end in `EngineError`."""
        ...
