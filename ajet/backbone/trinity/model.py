"""Trinity's vLLM actor with a method that completes token ids."""

from __future__ import annotations

from trinity.common.models.vllm_model import vLLMRolloutModel
from vllm import SamplingParams as VllmParams
from vllm.sampling_params import RequestOutputKind

from ajet.schema.episode import Generation, SamplingParams


class PolicyModel(vLLMRolloutModel):
    """An actor with one vLLM engine that serves the policy."""

    async def complete(
        self, prompt_ids: list[int], params: SamplingParams, max_tokens: int
    ) -> Generation:
        """Sample one completion of at most `max_tokens` tokens.

        If the weights change meanwhile, all its tokens get the version that it started with: the
        oldest, so that their staleness is never underestimated.
        """
        version = self.model_version
        self.request_id += 1
        stream = self.async_llm.generate(
            request_id=f"ajet-{self.request_id}",
            prompt={"prompt_token_ids": prompt_ids},
            sampling_params=_vllm_params(params, max_tokens),
        )
        async for answer in stream:
            if answer.finished:
                break
        output = answer.outputs[0]
        ids = list(output.token_ids)
        logprobs = [step[token].logprob for token, step in zip(ids, output.logprobs, strict=True)]
        return Generation(
            token_ids=ids,
            logprobs=logprobs,
            policy_versions=[version] * len(ids),
            finish_reason="length" if output.finish_reason == "length" else "stop",
        )


def _vllm_params(params: SamplingParams, max_tokens: int) -> VllmParams:
    """VLLM's form of `params`; only the request's own stop tokens end a completion."""
    return VllmParams(
        max_tokens=max_tokens,
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        seed=params.seed,
        stop_token_ids=list(params.stop_token_ids),
        stop=list(params.stop),
        ignore_eos=True,
        logprobs=0,
        detokenize=bool(params.stop),
        output_kind=RequestOutputKind.FINAL_ONLY,
    )
