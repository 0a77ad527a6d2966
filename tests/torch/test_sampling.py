"""Sampling.

1. The logprob is that of the softmax of logits / temperature, before top-k and top-p cut.
2. Tokens come with their probabilities; what is cut never comes.
3. A row's token does not depend on the rows beside it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ajet.engine.embedded.model_runner import sample
from ajet.schema.episode import SamplingParams


def params_of(temperature: float = 1.0, top_p: float = 1.0, top_k: int = 0) -> SamplingParams:
    return SamplingParams(max_tokens=1, temperature=temperature, top_p=top_p, top_k=top_k)


def random_logits(rows: int, vocabulary: int = 50, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(rows, vocabulary, generator=generator)


def shares(logits: torch.Tensor, params: SamplingParams, count: int = 20_000) -> torch.Tensor:
    """[V] how often each token comes over evenly spread uniforms."""
    uniforms = ((np.arange(count) + 0.5) / count).tolist()
    tokens, _ = sample(logits.expand(count, -1), [params] * count, uniforms)
    return torch.bincount(tokens, minlength=logits.shape[-1]) / count


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.0, 2.0])
def test_logprobs_are_of_the_softmax_at_the_temperature(temperature: float) -> None:
    logits = random_logits(4)
    cut = params_of(temperature, top_p=0.5, top_k=3)
    tokens, logprobs = sample(logits, [params_of(temperature), cut] * 2, [0.3] * 4)
    expected = (logits.double() / (temperature or 1.0)).log_softmax(-1)
    torch.testing.assert_close(
        logprobs, expected.gather(1, tokens[:, None])[:, 0].float(), atol=1e-6, rtol=0
    )


def test_zero_temperature_is_greedy() -> None:
    logits = random_logits(5)
    tokens, _ = sample(logits, [params_of(0.0)] * 5, [0.999] * 5)
    assert torch.equal(tokens, logits.argmax(-1))


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_tokens_come_with_their_probabilities(temperature: float) -> None:
    logits = random_logits(1)
    expected = (logits[0] / temperature).softmax(-1)
    assert (shares(logits, params_of(temperature)) - expected).abs().max() < 1e-4


def test_top_k_keeps_the_most_probable_in_proportion() -> None:
    logits = random_logits(1)
    kept = logits[0].topk(3)
    expected = torch.zeros(50).scatter(0, kept.indices, kept.values.softmax(-1))
    assert (shares(logits, params_of(top_k=3)) - expected).abs().max() < 1e-4


def test_top_p_keeps_the_smallest_set_with_that_probability() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    assert shares(logits, params_of(top_p=0.65)).tolist() == pytest.approx(
        [0, 4 / 7, 0, 3 / 7], abs=1e-4
    )
    assert shares(logits, params_of(top_p=0.75)).tolist() == pytest.approx(
        [0, 4 / 9, 2 / 9, 3 / 9], abs=1e-4
    )
    assert shares(logits, params_of(top_p=0.01)).tolist() == [0, 1, 0, 0]


def test_top_p_applies_to_what_top_k_left() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    assert shares(logits, params_of(top_p=0.5, top_k=2)).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("uniform", [0.0, 0.5, float(np.nextafter(1.0, 0.0))])
def test_a_token_without_probability_never_comes(uniform: float) -> None:
    logits = torch.full((1, 6), -torch.inf)
    logits[0, 2:4] = 0.0
    tokens, logprobs = sample(logits, [params_of()], [uniform])
    assert int(tokens) in (2, 3)
    assert logprobs.isfinite().all()


def test_a_row_does_not_depend_on_those_beside_it() -> None:
    logits = random_logits(6)
    params = [
        params_of(),
        params_of(0.0),
        params_of(0.5, top_p=0.8),
        params_of(2.0, top_k=4),
        params_of(top_p=0.9, top_k=10),
        params_of(1.3),
    ]
    uniforms = [0.1, 0.2, 0.35, 0.5, 0.77, 0.99]
    together = sample(logits, params, uniforms)
    for row in range(6):
        alone = sample(logits[row : row + 1], [params[row]], [uniforms[row]])
        assert together[0][row] == alone[0]
        torch.testing.assert_close(together[1][row], alone[1][0])


def test_half_precision_logits_are_computed_in_float32() -> None:
    logits = random_logits(3).bfloat16()
    _, logprobs = sample(logits, [params_of()] * 3, [0.5] * 3)
    assert logprobs.dtype == torch.float32
