"""Models that mix attention with layers that keep states: Qwen3-Next, LFM2.

1. Ragged chunks at ragged positions give the logits of plain forwards.
2. In the engine, each logprob is that of a plain forward, over the calls of a session, with rows
   evicted, copied and chunked. A session's next call computes only what is new.
3. The trainer's logits and gradients are those of separate sequences.
"""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Lfm2Config,
    Lfm2MoeConfig,
    PreTrainedModel,
    Qwen3NextConfig,
)

from ajet.backbone.local.forward import check_forward, trained_logits
from ajet.backbone.local.micro_batches import SharedPrefix
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.schema.episode import SamplingParams
from tests.torch.engine_fakes import own_logprobs, with_engine
from tests.torch.test_slot_cache import Rows

SIZE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
LAYERS = ["conv", "full_attention", "conv"]
CONFIGS = {
    "lfm2": lambda: Lfm2Config(**SIZE, layer_types=LAYERS),
    "without_attention": lambda: Lfm2Config(**SIZE, layer_types=["conv"] * 3),
    "lfm2_moe": lambda: Lfm2MoeConfig(
        **SIZE,
        layer_types=LAYERS,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        num_dense_layers=1,
    ),
    "qwen3_next": lambda: Qwen3NextConfig(
        **SIZE,
        head_dim=8,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
        linear_num_value_heads=4,
        linear_num_key_heads=2,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
    ),
}


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIGS[request.param]()).eval()


def test_ragged_chunks_give_the_logits_of_plain_forwards(model: PreTrainedModel) -> None:
    with torch.inference_mode():
        rows = Rows(model, rows=4)
        rows.extend([0, 2, 3], [5, 1, 12])
        rows.extend([2, 0], [9, 3])
        rows.extend([0, 1, 2, 3], [1, 4, 2, 1])
        rows.extend([0, 1, 2, 3], [1, 1, 1, 1])
        rows.runner.cache.copy([0, 2], [2, 0], 20)
        rows.ids[0], rows.ids[2] = rows.ids[2], rows.ids[0]
        rows.runner.cache.resize(8, 128)
        rows.ids += [[] for _ in range(4)]
        rows.extend([0, 2, 5], [3, 1, 2])


@pytest.mark.parametrize(
    "options", [{}, {"max_num_seqs": 2}, {"prefill_chunk_tokens": 7}, {"schedule": "lockstep"}]
)
def test_logprobs_are_those_of_a_plain_forward(
    model: PreTrainedModel, options: dict[str, Any]
) -> None:
    async def episode(engine: EmbeddedEngine, number: int) -> None:
        rng = np.random.default_rng(number)
        ids = np.random.default_rng(0).integers(1, 100, 30).tolist()
        for _ in range(3):
            params = SamplingParams(max_tokens=int(rng.integers(1, 12)))
            answer = await engine.generate(ids, params, session=f"e{number}")
            expected = own_logprobs(model, ids, answer)
            assert answer.logprobs == pytest.approx(expected, abs=1e-4)
            ids = ids + answer.token_ids + rng.integers(1, 100, int(rng.integers(1, 20))).tolist()

    async def use(engine: EmbeddedEngine) -> None:
        await asyncio.gather(*[episode(engine, number) for number in range(5)])

    with_engine(model, use, **options)


def test_a_sessions_next_call_computes_only_what_is_new(model: PreTrainedModel) -> None:
    async def use(engine: EmbeddedEngine) -> None:
        prompt = list(range(1, 50))
        first = await engine.generate(prompt, SamplingParams(max_tokens=5), session="a")
        computed = engine.counters.computed_tokens
        longer = [*prompt, *first.token_ids, 7, 8, 9]
        await engine.generate(longer, SamplingParams(max_tokens=1), session="a")
        assert engine.counters.computed_tokens - computed == 3 + 1  # the last one sampled, too

    with_engine(model, use)


def test_training_gives_the_gradients_of_separate_sequences(model: PreTrainedModel) -> None:
    check_forward(model)
    rows = torch.tensor([[1, 2, 3, 4, 5], [1, 2, 3, 6, 7]])
    inputs = SharedPrefix(
        prefix_ids=rows[0, :3].numpy(),
        suffix_ids=rows[:, 3:].numpy(),
        predictor=np.array([2, 4, 5]),
    )
    weight = next(model.parameters())
    (shared,) = torch.autograd.grad(trained_logits(model, inputs).logsumexp(-1).sum(), weight)
    plain = model(input_ids=rows, use_cache=False).logits
    chosen = torch.stack([plain[0, 2], plain[0, 4], plain[1, 3]])
    (separate,) = torch.autograd.grad(chosen.logsumexp(-1).sum(), weight)
    torch.testing.assert_close(shared, separate, atol=1e-4, rtol=1e-4)
