"""The policy loss.

1. A token's loss is -min(r A, clip(r, 1 - low, 1 + high) A), times its weight.
2. The clip takes the gradient only where the ratio has moved too far in the advantage's direction.
3. KL is k3: never negative, 0 where the models agree. Entropy is a bonus.
4. A loss is a weighted sum: cutting its tokens into parts changes nothing.
"""

from __future__ import annotations

import math

import pytest
import torch

from ajet.algorithm.policy_loss import LossSettings, PolicyLoss, policy_loss, token_logprobs

CLIP = LossSettings(clip_ratio_low=0.2, clip_ratio_high=0.3)


def loss_of(
    ratio: float | torch.Tensor,
    advantage: float | torch.Tensor,
    *,
    settings: LossSettings = CLIP,
    reference: torch.Tensor | None = None,
) -> tuple[PolicyLoss, torch.Tensor]:
    """The loss of tokens with the given ratios, and its gradient by their logprobs."""
    ratios = torch.as_tensor(ratio, dtype=torch.float32).reshape(-1)
    old = torch.full_like(ratios, -2.0)
    logprobs = (old + ratios.log()).requires_grad_()
    result = policy_loss(
        logprobs=logprobs,
        entropy=torch.ones_like(ratios),
        old_logprobs=old,
        advantages=torch.as_tensor(advantage, dtype=torch.float32).reshape(-1).expand_as(ratios),
        weights=torch.full_like(ratios, 0.5),
        sample_index=torch.zeros(len(ratios), dtype=torch.int64),
        settings=settings,
        reference_logprobs=reference,
    )
    result.loss.backward()
    result.loss = result.loss.detach()
    assert logprobs.grad is not None
    return result, logprobs.grad


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "is_clipped"),
    [
        (1.0, 2.0, -2.0, False),
        (1.0, -2.0, 2.0, False),
        (1.25, 2.0, -2.5, False),  # the upper clip is at 1.3, not at 1.2
        (1.5, 2.0, -2.6, True),
        (0.5, 2.0, -1.0, False),
        (0.5, -2.0, 1.6, True),
        (1.5, -2.0, 3.0, False),
    ],
)
def test_the_clip_is_asymmetric_and_one_sided(
    ratio: float, advantage: float, loss: float, is_clipped: bool
) -> None:
    result, gradient = loss_of(ratio, advantage)
    assert float(result.loss) == pytest.approx(0.5 * loss)
    assert bool(result.num_clipped) == is_clipped
    expected = 0.0 if is_clipped else -0.5 * ratio * advantage
    assert float(gradient) == pytest.approx(expected)


def test_a_token_without_advantage_is_never_clipped() -> None:
    result, _ = loss_of(torch.tensor([0.1, 1.0, 10.0]), 0.0)
    assert int(result.num_clipped) == 0


def test_kl_is_zero_at_the_reference_and_positive_elsewhere() -> None:
    settings = LossSettings(clip_ratio_low=0.2, clip_ratio_high=0.2, kl_coef=0.1)
    same, _ = loss_of(1.0, 0.0, settings=settings, reference=torch.tensor([-2.0]))
    assert float(same.kl_sum) == 0
    for reference in (-1.0, -3.0):
        other, gradient = loss_of(1.0, 0.0, settings=settings, reference=torch.tensor([reference]))
        difference = reference + 2.0
        expected = math.exp(difference) - difference - 1
        assert float(other.kl_sum) == pytest.approx(expected) and expected > 0
        assert float(other.loss) == pytest.approx(0.5 * 0.1 * expected)
        assert float(gradient) == pytest.approx(0.5 * 0.1 * (1 - math.exp(difference)))


def test_kl_is_unbiased_under_the_policy() -> None:
    torch.manual_seed(0)
    policy, reference = torch.randn(2, 50).log_softmax(-1)
    result = policy_loss(
        logprobs=policy,
        entropy=torch.zeros(50),
        old_logprobs=policy,
        advantages=torch.zeros(50),
        weights=policy.exp(),  # the expectation over tokens drawn from the policy
        sample_index=torch.zeros(50, dtype=torch.int64),
        settings=LossSettings(clip_ratio_low=0.2, clip_ratio_high=0.2, kl_coef=1.0),
        reference_logprobs=reference,
    )
    exact = (policy.exp() * (policy - reference)).sum()
    assert float(result.loss) == pytest.approx(float(exact), rel=1e-5)


def test_without_a_reference_there_is_no_kl() -> None:
    result, _ = loss_of(1.3, 1.0)
    assert float(result.kl_sum) == 0


def test_entropy_is_a_bonus() -> None:
    settings = LossSettings(clip_ratio_low=0.2, clip_ratio_high=0.2, entropy_coef=0.1)
    with_bonus, _ = loss_of(1.0, 1.0, settings=settings)
    without, _ = loss_of(1.0, 1.0)
    assert float(with_bonus.loss - without.loss) == pytest.approx(-0.5 * 0.1)
    assert float(with_bonus.entropy_sum) == 1


def test_cutting_tokens_into_parts_does_not_change_the_loss() -> None:
    ratios, advantages = torch.rand(10) + 0.5, torch.randn(10)
    whole, gradient = loss_of(ratios, advantages)
    parts = [loss_of(ratios[half], advantages[half]) for half in (slice(3), slice(3, 10))]
    assert float(whole.loss) == pytest.approx(sum(float(part.loss) for part, _ in parts))
    torch.testing.assert_close(gradient, torch.cat([part for _, part in parts]))


def test_one_outlier_cannot_make_the_loss_infinite() -> None:
    result, gradient = loss_of(torch.tensor([1.0]), -1.0)
    far = policy_loss(
        logprobs=torch.tensor([-0.1]),
        entropy=torch.zeros(1),
        old_logprobs=torch.tensor([-500.0]),
        advantages=torch.tensor([-1.0]),
        weights=torch.ones(1),
        sample_index=torch.zeros(1, dtype=torch.int64),
        settings=CLIP,
    )
    assert torch.isfinite(far.loss)
    assert torch.isfinite(result.loss) and torch.isfinite(gradient).all()


def test_logprobs_are_those_of_the_tempered_distribution() -> None:
    logits, targets = torch.randn(4, 9), torch.tensor([0, 3, 8, 2])
    temperature = torch.tensor([1.0, 0.5, 2.0, 1.0])
    logprobs, entropy = token_logprobs(logits, targets, temperature)
    expected = torch.distributions.Categorical(logits=logits / temperature[:, None])
    torch.testing.assert_close(logprobs, expected.log_prob(targets))
    torch.testing.assert_close(entropy, expected.entropy())


def test_logprobs_of_half_precision_logits_are_computed_in_float32() -> None:
    logits = torch.randn(4, 9).bfloat16()
    logprobs, _ = token_logprobs(logits, torch.zeros(4, dtype=torch.int64), torch.ones(4))
    torch.testing.assert_close(logprobs, logits.float().log_softmax(-1)[:, 0])


def test_the_entropy_is_in_the_graph_only_on_request() -> None:
    logits = torch.randn(4, 9, requires_grad=True)
    targets, temperature = torch.zeros(4, dtype=torch.int64), torch.ones(4)
    _, metric = token_logprobs(logits, targets, temperature)
    _, bonus = token_logprobs(logits, targets, temperature, with_entropy_gradient=True)
    assert not metric.requires_grad
    assert bonus.requires_grad
