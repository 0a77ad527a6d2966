"""A random Qwen3 of the size of the shipped model, and samples whose logprobs it gave."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM

from ajet.schema.episode import Sample
from tests.make_samples import make_sample

VOCABULARY = 660


def small_model(seed: int = 0, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Random weights from a seed."""
    torch.manual_seed(seed)
    config = Qwen3Config(
        vocab_size=VOCABULARY,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        initializer_range=0.05,
    )
    return Qwen3ForCausalLM(config).to(dtype).eval()


@torch.no_grad()
def sampled_logprobs(model: PreTrainedModel, sample: Sample) -> np.ndarray:
    """[number of trained tokens] what an engine with these weights would have recorded."""
    logits = model(input_ids=torch.from_numpy(sample.ids[None]).long()).logits[0, :-1].float()
    logits = logits / torch.from_numpy(sample.temperature)[1:, None]
    targets = torch.from_numpy(sample.ids[1:, None]).long()
    logprobs = logits.log_softmax(-1).gather(1, targets)[:, 0]
    return logprobs.numpy()[sample.loss_mask[1:]]


def sampled_by(model: PreTrainedModel, samples: Sequence[Sample]) -> list[Sample]:
    """The samples, with the logprobs that the model gives."""
    for sample in samples:
        sample.logprobs[sample.loss_mask] = sampled_logprobs(model, sample)
    return list(samples)


def random_samples(
    count: int, *, prefix: int = 20, seed: int = 0, temperature: float = 1.0
) -> list[Sample]:
    """Samples of two turns behind a common prefix; each is an episode, advantages are mixed."""
    rng = np.random.default_rng(seed)
    head = rng.integers(1, VOCABULARY, prefix)
    samples = []
    for number in range(count):
        tail = rng.integers(1, VOCABULARY, rng.integers(12, 40))
        ids = np.concatenate([head, tail])
        first, second = prefix + 4, len(ids) - 5
        samples.append(
            make_sample(
                ids.tolist(),
                [first, first + 1, first + 2, *range(second, len(ids))],
                episode_id=f"e{number}",
                advantage=float(rng.choice([-1.0, 0.5, 2.0])),
                temperature=temperature,
            )
        )
    return samples
