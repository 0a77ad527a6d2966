"""The forward with a shared prefix.

1. Logits and gradients equal those of each sequence run by itself, in float64 to rounding, for
   several architectures, sliding windows and tied embeddings included.
2. A trained token may lie in the prefix, directly after it, or anywhere else.
3. A model whose logits cannot be had in this way is refused.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from ajet.backbone.local.forward import check_forward, trained_logits
from ajet.backbone.local.packed_rows import pack
from ajet.errors import ModelError
from ajet.schema.episode import Sample
from tests.make_samples import make_sample
from tests.torch.small_model import random_samples

SIZE = {
    "vocab_size": 660,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "qwen3": lambda: Qwen3Config(**SIZE, tie_word_embeddings=False),
    "qwen2_tied": lambda: Qwen2Config(**SIZE, tie_word_embeddings=True),
    "llama": lambda: LlamaConfig(**SIZE),
    "mistral_window": lambda: MistralConfig(**SIZE, sliding_window=8),
    "gemma3_windows": lambda: Gemma3TextConfig(**SIZE, sliding_window=8),
}


def build(config: PreTrainedConfig) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").double().eval()


@pytest.fixture(params=CONFIGS)
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return build(CONFIGS[request.param]())


def plain_logits(model: PreTrainedModel, samples: list[Sample]) -> torch.Tensor:
    """Every sample by itself through the model's own forward."""
    parts = []
    for sample in samples:
        logits = model(input_ids=torch.from_numpy(sample.ids[None]).long(), use_cache=False).logits
        parts.append(logits[0, np.flatnonzero(sample.loss_mask) - 1])
    return torch.cat(parts)


def shared_logits(model: PreTrainedModel, samples: list[Sample]) -> torch.Tensor:
    batch = pack([(sample, np.ones(len(sample), np.float32)) for sample in samples])
    return trained_logits(model, batch.inputs)


def gradients(model: PreTrainedModel, logits: torch.Tensor) -> dict[str, torch.Tensor]:
    """Of a loss that gives every logit a weight of its own."""
    model.zero_grad()
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(0))
    (logits.log_softmax(-1) * weights.to(logits)).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(model: PreTrainedModel, samples: list[Sample]) -> None:
    plain, shared = plain_logits(model, samples), shared_logits(model, samples)
    torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-6)
    expected, got = gradients(model, plain), gradients(model, shared)
    assert expected.keys() == got.keys()
    for name, gradient in expected.items():
        difference = (got[name] - gradient).abs().max() / gradient.abs().max()
        assert difference < 1e-5, name


@pytest.mark.parametrize("prefix", [0, 1, 20])
def test_logits_and_gradients_equal_separate_sequences(model: PreTrainedModel, prefix: int) -> None:
    assert_same(model, random_samples(5, prefix=prefix))


def test_one_sequence_alone(model: PreTrainedModel) -> None:
    assert_same(model, random_samples(1))


def test_trained_tokens_in_and_directly_after_the_prefix(model: PreTrainedModel) -> None:
    head = list(range(1, 8))
    samples = [
        make_sample([*head, 20, 21], [3, 4, 7, 8]),
        make_sample([*head, 30, 31, 32], [4, 7]),
        make_sample([*head, 40], [7]),
    ]
    assert_same(model, samples)


def test_sequences_that_are_the_prefix_of_another(model: PreTrainedModel) -> None:
    assert_same(model, [make_sample([1, 2, 3, 4], [3]), make_sample([1, 2, 3, 4, 5, 6], [3, 5])])


def test_equal_sequences(model: PreTrainedModel) -> None:
    assert_same(model, [make_sample([1, 2, 3, 4], [2, 3]) for _ in range(3)])


def test_the_comparison_sees_a_wrong_predictor() -> None:
    """Negative control: off by one position."""
    model, samples = build(CONFIGS["qwen3"]()), random_samples(3)
    batch = pack([(sample, np.ones(len(sample), np.float32)) for sample in samples])
    batch.inputs.predictor = batch.inputs.predictor - 1
    wrong = trained_logits(model, batch.inputs)
    assert (wrong - plain_logits(model, samples)).abs().max() > 1e-2


def test_models_that_fit_are_accepted(model: PreTrainedModel) -> None:
    check_forward(model)
    check_forward(model.bfloat16())


def test_a_model_that_changes_its_logits_after_the_head_is_refused() -> None:
    size = {name: value for name, value in SIZE.items() if name != "head_dim"}
    check_forward(build(GraniteConfig(**size, logits_scaling=1.0)))
    with pytest.raises(ModelError, match="GraniteForCausalLM computes its logits"):
        check_forward(build(GraniteConfig(**size, logits_scaling=8.0)))
