"""verl's vLLM replicas behind AgentJet's `Engine` protocol."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ray.exceptions import RayError, RayTaskError
from verl.workers.rollout.llm_server import LLMServerClient

from ajet.backbone.ray_common.cluster import refused_by_vllm
from ajet.engine.base import OnToken
from ajet.errors import EngineError
from ajet.schema.episode import FinishReason, Generation, SamplingParams, max_new_tokens


class VerlEngine:
    """Sends all calls of an episode to one replica, which caches the episode's key-values.

    A cancelled request continues in its replica to its last token: verl 0.9's client cannot
    abort it.

    Args:
        client: verl's client of all replicas.
        max_model_len: longest prompt plus completion, in tokens.
        policy_version: version of the current weights.
    """

    def __init__(self, client: LLMServerClient, *, max_model_len: int, policy_version: int) -> None:
        self._client = client
        self._max_model_len = max_model_len
        self.policy_version = policy_version
        """0 for the base model; one more after each weight update."""

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
        """Sample one completion. verl does not stream: `on_token` is called at the end.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            RequestError: vLLM refuses these parameters.
            EngineError: the replica failed.
        """
        max_new = max_new_tokens(len(prompt_ids), params, self._max_model_len)
        try:
            output = await self._client.generate(
                request_id=session,
                prompt_ids=list(prompt_ids),
                sampling_params={**_sampling_params(params), "max_tokens": max_new},
            )
        except RayTaskError as error:  # its text is a traceback; the cause says what happened
            if refusal := refused_by_vllm(error):
                raise refusal from error
            raise EngineError(f"verl's vLLM replica failed: {error.cause!r}") from error
        except RayError as error:
            raise EngineError(f"verl's vLLM replica failed: {error}") from error
        if output.stop_reason != "completed":
            raise EngineError(f"verl's vLLM replica ended a request: {output.stop_reason}")
        ids, logprobs = list(output.token_ids), list(output.log_probs)
        if on_token is not None:
            for token, logprob in zip(ids, logprobs, strict=True):
                on_token(token, logprob)
        return Generation(
            token_ids=ids,
            logprobs=logprobs,
            policy_versions=[output.extra_fields["global_steps"]] * len(ids),
            finish_reason=_finish_reason(ids, params, max_new),
        )

    def open_session(self, session: str) -> None:
        """Do nothing: verl's client assigns a session to a replica at its first call."""

    def close_session(self, session: str) -> None:
        """Do nothing: verl's client has no way to end a session."""

    async def aclose(self) -> None:
        """Do nothing: the replicas end with the run's Ray."""


def _sampling_params(params: SamplingParams) -> dict[str, Any]:
    """VLLM's form of `params`; only the request's own stop tokens end a completion."""
    named = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k or -1,
        "stop_token_ids": list(params.stop_token_ids),
        "ignore_eos": True,
        "logprobs": True,
    }
    if params.stop:
        named["stop"] = list(params.stop)
    if params.seed is not None:
        named["seed"] = params.seed
    return named


def _finish_reason(ids: list[int], params: SamplingParams, max_tokens: int) -> FinishReason:
    """Tell `stop` from `length`: verl reports both as `completed`."""
    if ids[-1] in params.stop_token_ids or len(ids) < max_tokens:
        return "stop"
    return "length"
