"""Trinity's vLLM actor, asked for token ids."""

from __future__ import annotations

from trinity.common.models.vllm_model import vLLMRolloutModel
from vllm import SamplingParams as VllmParams
from vllm.sampling_params import RequestOutputKind

from ajet.schema.generation import Generation, SamplingParams


class PolicyModel(vLLMRolloutModel):
    """One vLLM engine, with the policy's weights."""

    async def complete(
        self, prompt_ids: list[int], params: SamplingParams, max_tokens: int
    ) -> Generation:
        """Sample one completion of at most `max_tokens`.

        New weights may come in its midst: its tokens then count as sampled by those that it began
        with, the oldest.
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
    """Only our stop tokens end a completion, not vLLM's own idea of them."""
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
