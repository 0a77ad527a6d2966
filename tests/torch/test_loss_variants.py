"""Loss variants, each against a plain implementation of its paper's formula, gradients included.

1. clip: -min(r A, clip(r) A) per token. gspo: the same with the geometric mean of the ratios of a
   sample. cispo: -sg(clip(r)) A logprob.
2. A sample is one sequence for gspo, however the batch is cut into micro-batches and whether its
   prefix is shared.
3. Where a step is one update on fresh samples, all variants have the same gradient.
4. A user's own variant is named by its class path.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ajet.algorithm.policy_loss import LossSettings, PolicyLoss, loss_variant, policy_loss
from ajet.config.sections.algorithm import POLICY_LOSSES
from ajet.schema.episode import Sample
from tests.torch.small_model import random_samples, sampled_by, small_model
from tests.torch.test_trainer import assert_close, gradient_of

LOW, HIGH = 0.2, 0.3
LENGTHS = [3, 1, 5, 8]

Formula = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Losses [L] of one sample, from its logprobs, old logprobs and advantages [L]."""


def clip_formula(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    ratio = (new - old).exp()
    return -torch.min(ratio * advantages, ratio.clip(1 - LOW, 1 + HIGH) * advantages)


def gspo_formula(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    """The sequence's own objective, whose advantage is one number: no token-level form."""
    ratio = ((new - old).sum() / len(new)).exp()
    advantage = advantages[0]
    loss = -torch.min(ratio * advantage, ratio.clip(1 - LOW, 1 + HIGH) * advantage)
    return loss.expand(len(new))


def cispo_formula(new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        weight = (new - old).exp().clip(1 - LOW, 1 + HIGH)
    return -weight * advantages * new


FORMULAS: dict[str, Formula] = {
    "clip": clip_formula,
    "gspo": gspo_formula,
    "cispo": cispo_formula,
}


def batch(spread: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logprobs, old logprobs, advantages (one a sample) and sample numbers of all tokens."""
    generator = torch.Generator().manual_seed(4)  # gspo clips upwards and downwards
    count = sum(LENGTHS)
    old = -3 * torch.rand(count, generator=generator) - 0.1
    new = old + spread * torch.randn(count, generator=generator)
    sample = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    advantages = torch.tensor([1.0, -1.0, 0.5, -2.0])[sample]
    return new, old, advantages, sample


def computed(variant: str, spread: float) -> tuple[PolicyLoss, torch.Tensor]:
    new, old, advantages, sample = batch(spread)
    new.requires_grad_()
    weights = 1 / (len(LENGTHS) * torch.tensor(LENGTHS, dtype=torch.float32))
    result = policy_loss(
        logprobs=new,
        entropy=torch.zeros_like(old),
        old_logprobs=old,
        advantages=advantages,
        weights=weights[sample],
        sample_index=sample,
        settings=LossSettings(clip_ratio_low=LOW, clip_ratio_high=HIGH, variant=variant),
    )
    result.loss.backward()
    assert new.grad is not None
    return result, new.grad


def expected(variant: str, spread: float) -> tuple[torch.Tensor, torch.Tensor]:
    """The mean over samples of the mean over their tokens, and its gradient."""
    new, old, advantages, sample = batch(spread)
    new.requires_grad_()
    means = [
        FORMULAS[variant](new[mask], old[mask], advantages[mask]).mean()
        for mask in (sample == number for number in range(len(LENGTHS)))
    ]
    loss = torch.stack(means).mean()
    loss.backward()
    assert new.grad is not None
    return loss, new.grad


def test_every_registered_variant_has_a_formula() -> None:
    assert set(POLICY_LOSSES) == set(FORMULAS)


@pytest.mark.parametrize("variant", POLICY_LOSSES)
@pytest.mark.parametrize("spread", [0.0, 0.1, 1.0])
def test_a_variant_is_its_formula(variant: str, spread: float) -> None:
    result, gradient = computed(variant, spread)
    loss, expected_gradient = expected(variant, spread)
    torch.testing.assert_close(result.loss, loss)
    torch.testing.assert_close(gradient, expected_gradient)


def test_the_variants_differ_where_the_weights_have_moved() -> None:
    """Negative control of the comparison above."""
    gradients = [computed(variant, 1.0)[1] for variant in POLICY_LOSSES]
    for i, one in enumerate(gradients):
        for other in gradients[i + 1 :]:
            assert (one - other).abs().max() > 0.01 * one.abs().max()


def test_clipped_tokens_are_counted() -> None:
    new, old, advantages, sample = batch(1.0)
    ratio = (new - old).exp()
    outside = (ratio > 1 + HIGH) | (ratio < 1 - LOW)
    assert int(computed("cispo", 1.0)[0].num_clipped) == int(outside.sum())
    # gspo clips whole samples: the count is a sum of their lengths, and those have no gradient.
    result, gradient = computed("gspo", 1.0)
    flat = [bool((gradient[sample == n] == 0).all()) for n in range(len(LENGTHS))]
    assert int(result.num_clipped) == sum(
        n for n, is_flat in zip(LENGTHS, flat, strict=True) if is_flat
    )
    assert any(flat) and not all(flat)


def test_gspo_takes_advantages_per_call_and_keeps_the_ratio_of_the_sample() -> None:
    new = torch.tensor([-1.0, -2.0]).requires_grad_()
    result = policy_loss(
        logprobs=new,
        entropy=torch.zeros(2),
        old_logprobs=torch.tensor([-1.1, -1.98]),
        advantages=torch.tensor([1.0, -0.5]),
        weights=torch.tensor([0.5, 0.5]),
        sample_index=torch.zeros(2, dtype=torch.int64),
        settings=LossSettings(clip_ratio_low=LOW, clip_ratio_high=HIGH, variant="gspo"),
    )
    result.loss.backward()
    ratio = float(np.exp((0.1 - 0.02) / 2))
    torch.testing.assert_close(new.grad, torch.tensor([-0.5 * ratio, 0.25 * ratio]))


def moved_samples() -> list[Sample]:
    """Samples that share a prefix, sampled by other weights than those that are trained."""
    samples = sampled_by(small_model(1), random_samples(10, prefix=20))
    rng = np.random.default_rng(0)
    for sample in samples:
        sample.advantages = np.where(sample.loss_mask, np.float32(rng.normal()), np.float32(0))
    return samples


@pytest.mark.parametrize("variant", POLICY_LOSSES)
def test_the_cut_into_micro_batches_does_not_change_the_gradient(variant: str) -> None:
    samples = moved_samples()
    settings = {"algorithm": {"policy_loss": variant, "clip_ratio_high": 5.0}}
    whole = gradient_of(samples, micro_batch_tokens=10**6, **settings)
    for bound in (1, 200):
        assert_close(gradient_of(samples, micro_batch_tokens=bound, **settings), whole)


def test_gspo_would_see_a_sample_that_is_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: with one sequence for the whole micro-batch, the cut shows."""
    import ajet.algorithm.gspo as module

    samples = moved_samples()
    settings = {"algorithm": {"policy_loss": "gspo", "clip_ratio_high": 5.0}}
    alone = gradient_of(samples, micro_batch_tokens=1, **settings)
    right = module._mean_per_sample
    monkeypatch.setattr(
        module,
        "_mean_per_sample",
        lambda values, index: right(values, torch.zeros_like(index)).expand(int(index.max()) + 1),
    )
    with pytest.raises(AssertionError):
        assert_close(gradient_of(samples, micro_batch_tokens=10**6, **settings), alone)


@pytest.mark.parametrize("variant", ["gspo", "cispo"])
def test_on_fresh_samples_every_variant_has_the_gradient_of_clip(variant: str) -> None:
    samples = sampled_by(small_model(), random_samples(6))
    clip = gradient_of(samples)
    other = gradient_of(samples, algorithm={"policy_loss": variant})
    assert (other - clip).abs().max() < 1e-4 * clip.abs().max()


OWN = """
import torch
from ajet.algorithm.policy_loss import TokenLoss

def reinforce(tokens, settings):
    return TokenLoss(
        loss=-tokens.advantages * tokens.logprobs,
        is_clipped=torch.zeros_like(tokens.advantages, dtype=torch.bool),
    )
"""


def test_a_users_own_variant_is_named_by_its_class_path(tmp_path: Path) -> None:
    (tmp_path / "own_loss.py").write_text(OWN)
    path = f"{tmp_path}/own_loss.py->reinforce"
    assert loss_variant(path).__name__ == "reinforce"
    samples = sampled_by(small_model(), random_samples(6))
    own = gradient_of(samples, algorithm={"policy_loss": path})
    clip = gradient_of(samples)
    assert (own - clip).abs().max() < 1e-4 * clip.abs().max()
