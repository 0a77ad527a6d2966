"""The slot cache under stock models.

1. Ragged chunks at ragged positions give the logits of plain forwards, for several architectures.
2. Growing, copying and clearing keep what they should.
3. What other rows or stale cells hold has no influence.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3MoeConfig,
)

from ajet.engine.embedded.model_runner import ModelRunner

SIZE = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.2,
}
LATENT = {"kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 16}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3": lambda: Qwen3Config(**SIZE, head_dim=8),
    "qwen3_window": lambda: Qwen3Config(
        **SIZE, head_dim=8, use_sliding_window=True, sliding_window=6, max_window_layers=2
    ),
    "qwen3_experts": lambda: Qwen3MoeConfig(**SIZE, **EXPERTS, head_dim=8, num_experts=4),
    "llama": lambda: LlamaConfig(**SIZE),
    "mistral_window": lambda: MistralConfig(**SIZE, sliding_window=6),
    "granite_scaled_logits": lambda: GraniteConfig(**SIZE, logits_scaling=3.0),
    "gemma3_windows": lambda: Gemma3TextConfig(**SIZE, head_dim=8, sliding_window=6),
    "gemma2_capped_logits": lambda: Gemma2Config(
        **SIZE, head_dim=8, sliding_window=6, attn_implementation="eager"
    ),
    "deepseek_latent": lambda: DeepseekV3Config(
        **{**SIZE, "num_key_value_heads": 4},
        **LATENT,
        **EXPERTS,
        v_head_dim=12,
        n_routed_experts=4,
        n_group=1,
        topk_group=1,
    ),
    "gpt2_learned_positions": lambda: GPT2Config(
        vocab_size=100, n_embd=32, n_layer=2, n_head=4, initializer_range=0.2
    ),
}

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad() -> object:
    with torch.inference_mode():
        yield


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return build(CONFIGS[request.param]())


def build(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def plain_logits(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """[V] after the last token."""
    return model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]


class Rows:
    """Sequences in rows of a cache, one token list each."""

    def __init__(self, model: PreTrainedModel, rows: int, columns: int = 64) -> None:
        self.model = model
        self.runner = ModelRunner(model)
        self.runner.cache.resize(rows, columns)
        self.ids: list[list[int]] = [[] for _ in range(rows)]
        self.rng = np.random.default_rng(0)

    def extend(self, rows: list[int], sizes: list[int]) -> None:
        """Append random tokens to rows, and check the logits after them."""
        starts = np.array([len(self.ids[row]) for row in rows])
        chunks = [self.rng.integers(0, 100, size).tolist() for size in sizes]
        logits = self.runner.forward(rows, starts, chunks)
        for row, chunk, got in zip(rows, chunks, logits, strict=True):
            self.ids[row] += chunk
            torch.testing.assert_close(
                got, plain_logits(self.model, self.ids[row]), atol=2e-5, rtol=1e-5
            )


def test_ragged_chunks_give_the_logits_of_plain_forwards(model: PreTrainedModel) -> None:
    rows = Rows(model, rows=4)
    rows.extend([0, 2, 3], [5, 1, 12])
    rows.extend([2, 0], [9, 3])
    rows.extend([0, 1, 2, 3], [1, 4, 2, 1])
    rows.extend([0, 1, 2, 3], [1, 1, 1, 1])
    rows.extend([3, 1], [1, 1])
    rows.extend([0, 1], [1, 7])


@pytest.fixture
def rows() -> Rows:
    return Rows(build(CONFIGS["qwen3"]()), rows=4, columns=16)


def test_growing_keeps_what_is_there(rows: Rows) -> None:
    rows.extend([0, 1, 2, 3], [5, 8, 2, 16])
    rows.runner.cache.resize(6, 40)
    rows.ids += [[], []]
    rows.extend([3, 5, 0], [20, 40, 1])


def test_copied_rows_go_on_as_the_original(rows: Rows) -> None:
    rows.extend([0, 1, 2], [8, 4, 6])
    rows.runner.cache.copy([0, 1, 2], [3, 0, 1], 8)  # all are read before any is written
    rows.ids = [list(rows.ids[row]) for row in (1, 2, 2, 0)]
    rows.ids[3] = rows.ids[3][:5]
    rows.extend([0, 1, 2, 3], [1, 2, 1, 3])


def test_a_row_that_starts_again_sees_nothing_of_what_it_held(rows: Rows) -> None:
    rows.extend([0, 1], [12, 3])
    rows.ids[0] = rows.ids[0][:2]
    rows.extend([0, 1], [1, 1])
    rows.ids[0] = []
    rows.extend([0, 1], [4, 9])


def test_a_cleared_cache_starts_anew(rows: Rows) -> None:
    rows.extend([0], [5])
    rows.runner.cache.clear()
    assert rows.runner.cache.shape == (0, 0)
    rows.runner.cache.resize(2, 8)
    rows.ids = [[], []]
    rows.extend([0, 1], [3, 8])


def test_the_check_fails_where_the_context_is_wrong(rows: Rows) -> None:
    """A negative control of this file: one wrong token far back shows."""
    rows.extend([0], [8])
    rows.ids[0][0] ^= 1
    with pytest.raises(AssertionError, match="not close"):
        rows.extend([0], [1])
