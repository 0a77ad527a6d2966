"""Trinity's vLLM actors behind AgentJet's `Engine` protocol."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError

from ajet.backbone.ray_common.cluster import cause_of, refused_by_vllm
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.engine.base import OnToken
from ajet.errors import EngineError
from ajet.schema.episode import Generation, SamplingParams, max_new_tokens


def rollout_models(context: TrinityRunContext) -> list[ActorHandle]:
    """Find the run's vLLM actors by the names that Trinity's allocator gives them."""
    return [
        ray.get_actor(f"explorer_rollout_model_{number}_0", namespace=context.namespace)
        for number in range(context.ajet.rollout.vllm.num_engines)
    ]


class TrinityEngine:
    """Sends all calls of an episode to one actor, which caches the episode's key-values.

    Args:
        models: actors of class `PolicyModel`.
        max_model_len: longest prompt plus completion, in tokens.
    """

    def __init__(self, models: Sequence[ActorHandle], *, max_model_len: int) -> None:
        self._models = models
        self._max_model_len = max_model_len
        self.policy_version = 0
        """Newest version of the weights that sampled a token."""

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus completion, in tokens."""
        return self._max_model_len

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Sample one completion. Trinity does not stream: `on_token` is called at the end.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            RequestError: vLLM refuses these parameters.
            EngineError: the actor failed.
        """
        max_new = max_new_tokens(len(prompt_ids), params, self._max_model_len)
        model = self._models[zlib.crc32(session.encode()) % len(self._models)]
        call = model.complete.remote(list(prompt_ids), params, max_new)
        try:
            generation: Generation = await asyncio.wrap_future(call.future())
        except asyncio.CancelledError:
            ray.cancel(call)
            raise
        except (RayError, RuntimeError) as error:
            if refusal := refused_by_vllm(error):
                raise refusal from error
            raise EngineError(f"Trinity's vLLM actor failed: {cause_of(error)}") from error
        self.policy_version = max([self.policy_version, *generation.policy_versions])
        if on_token is not None:
            for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True):
                on_token(token, logprob)
        return generation

    def open_session(self, session: str) -> None:
        """Do nothing: the actor of a session follows from its name."""

    def close_session(self, session: str) -> None:
        """Do nothing: the actor keeps no state of a session."""

    async def aclose(self) -> None:
        """Do nothing: the actors end with the run."""
