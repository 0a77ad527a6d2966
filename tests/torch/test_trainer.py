"""The trainer.

1. The gradient is that of the loss over all samples: however they are cut into micro-batches,
   whether calls are merged or one sample each, whether a prefix is shared or not.
2. A step is `num_updates_per_step` updates, each on its own episodes, dealt by seed and step.
3. Logprobs are compared with the engine's where the weights are the same.
4. What is not finite never reaches the weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.algorithm import AlgorithmConfig, OptimConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import ModelError, TrainingError
from ajet.schema.episode import Sample
from ajet.training.updates import learning_rate, split_by_episode
from tests.make_samples import make_sample
from tests.torch.small_model import random_samples, sampled_by, small_model


def make_trainer(
    model: PreTrainedModel,
    *,
    optim: dict[str, object] | None = None,
    algorithm: dict[str, object] | None = None,
    **settings: object,
) -> PolicyTrainer:
    common = TrainerCommonConfig(
        optim=OptimConfig(**{"lr": 1e-3, **(optim or {})}),
        algorithm=AlgorithmConfig(**(algorithm or {})),
        **settings,
    )
    return PolicyTrainer(model, common, total_steps=10)


class RecordedGradient:
    """Stands in for the optimizer: keeps the gradient and leaves the weights alone."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._model = model
        self.gradients: list[torch.Tensor] = []

    def update(self, step: int) -> float:
        """Take the gradient away."""
        flat = [p.grad.flatten() for p in self._model.parameters() if p.grad is not None]
        self.gradients.append(torch.cat(flat))
        self._model.zero_grad()
        return 0.0


def gradient_of(
    samples: Sequence[Sample], *, model: PreTrainedModel | None = None, **settings: object
) -> torch.Tensor:
    """The gradient of one update on the samples."""
    model = model or small_model()
    trainer = make_trainer(model, **settings)
    recorded = RecordedGradient(model)
    trainer.optimizer = recorded  # type: ignore[assignment]
    trainer.update(samples, step=1, policy_version=0)
    (gradient,) = recorded.gradients
    return gradient


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    assert (got - expected).abs().max() < 1e-5 * expected.abs().max()


def weights_of(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


@pytest.mark.parametrize("loss_agg", ["tokens", "samples", "episodes"])
def test_the_cut_into_micro_batches_does_not_change_the_gradient(loss_agg: str) -> None:
    samples = sampled_by(small_model(1), random_samples(12))
    settings = {"algorithm": {"loss_agg": loss_agg}}
    whole = gradient_of(samples, micro_batch_tokens=10**6, **settings)
    for bound in (1, 100, 400):
        assert_close(gradient_of(samples, micro_batch_tokens=bound, **settings), whole)


def test_a_shared_prefix_does_not_change_the_gradient() -> None:
    samples = sampled_by(small_model(1), random_samples(8, prefix=60))
    separate = gradient_of(samples, micro_batch_tokens=1)  # every sample alone
    assert_close(gradient_of(samples), separate)


def branches(
    episode_id: str, advantage: float, *turns: tuple[list[int], list[int]]
) -> tuple[Sample, list[Sample]]:
    """An episode of turns (completion, observation): as one sample, and as one for each call."""
    ids, trained, per_call = [1, 2, 3], [], []
    for completion, observation in turns:
        here = list(range(len(ids), len(ids) + len(completion)))
        ids += completion
        trained += here
        per_call.append(make_sample(ids, here, episode_id=episode_id, advantage=advantage))
        ids += observation
    merged = make_sample(ids, trained, episode_id=episode_id, advantage=advantage)
    return merged, per_call


@pytest.mark.parametrize("loss_agg", ["tokens", "episodes"])
def test_merged_samples_give_the_gradient_of_one_sample_per_call(loss_agg: str) -> None:
    episodes = [
        branches("a", 1.0, ([7, 8, 9], [10, 11]), ([12, 13], [14]), ([15, 16, 17], [])),
        branches("b", -1.0, ([7, 18], [20, 21]), ([22, 23], [])),
    ]
    engine = small_model(1)
    merged = sampled_by(engine, [sample for sample, _ in episodes])
    per_call = sampled_by(engine, [sample for _, calls in episodes for sample in calls])
    assert sum(map(len, merged)) < 0.6 * sum(map(len, per_call))
    settings = {"algorithm": {"loss_agg": loss_agg}}
    assert_close(gradient_of(merged, **settings), gradient_of(per_call, **settings))


def test_merging_with_another_advantage_changes_the_gradient() -> None:
    """Negative control of the comparison above."""
    merged, per_call = branches("a", 1.0, ([7, 8, 9], [10, 11]), ([12, 13], []))
    expected = gradient_of(sampled_by(small_model(1), per_call))
    merged.advantages *= 1.001  # type: ignore[operator]
    with pytest.raises(AssertionError):
        assert_close(gradient_of(sampled_by(small_model(1), [merged])), expected)


def test_samples_without_advantage_count_and_are_not_computed() -> None:
    samples = sampled_by(small_model(1), random_samples(4))
    for sample in samples[2:]:
        sample.advantages[:] = 0  # type: ignore[index]
    share = sum(s.num_trained for s in samples[:2]) / sum(s.num_trained for s in samples)
    assert_close(gradient_of(samples), gradient_of(samples[:2]) * share)
    samples[3].ids[:] = 10**6  # not in the vocabulary: computing it would fail
    gradient_of(samples)


def test_tokens_with_advantage_become_more_probable() -> None:
    model = small_model()
    good, bad = make_sample([1, 2, 3], [2]), make_sample([1, 2, 4], [2], advantage=-1.0)
    bad.episode_id = "e1"
    trainer = make_trainer(model)
    for step in range(1, 6):
        trainer.update(sampled_by(model, [good, bad]), step=step, policy_version=step - 1)
    before, after = (float(sampled_by(m, [good])[0].logprobs[2]) for m in (small_model(), model))
    assert after > before + 0.1


def test_user_code_that_switches_gradients_off_does_not_stop_training() -> None:
    model = small_model()
    trainer = make_trainer(model)
    with torch.no_grad():  # as a file that is written for inference does when it is imported
        metrics = trainer.update(random_samples(2), step=1, policy_version=0)
    assert metrics["policy/grad_norm"] > 0


def test_updates_have_episodes_of_their_own() -> None:
    samples = [make_sample([1, 2], [1], episode_id=f"e{n // 3}") for n in range(30)]
    parts = split_by_episode(samples, 4, seed="0/1")
    ids = [{sample.episode_id for sample in part} for part in parts]
    assert sorted(len(part) for part in ids) == [2, 2, 3, 3]
    assert set.union(*ids) == {f"e{n}" for n in range(10)}
    assert sum(len(part) for part in parts) == 30


def test_the_split_depends_on_the_seed_and_on_nothing_else() -> None:
    samples = random_samples(10)

    def split(seed: str) -> list[list[str]]:
        return [[s.episode_id for s in part] for part in split_by_episode(samples, 2, seed=seed)]

    assert split("0/1") == split("0/1")
    assert split("0/1") != split("0/2")


def test_fewer_episodes_than_updates_make_fewer_updates() -> None:
    model = small_model()
    trainer = make_trainer(model, optim={"num_updates_per_step": 5})
    recorded = RecordedGradient(model)
    trainer.optimizer = recorded  # type: ignore[assignment]
    trainer.update(random_samples(2), step=1, policy_version=0)
    assert len(recorded.gradients) == 2


def test_metrics_have_the_public_names() -> None:
    model = small_model()
    samples = sampled_by(model, random_samples(8))
    metrics = make_trainer(model, optim={"num_updates_per_step": 2}).update(
        samples, step=1, policy_version=0
    )
    assert set(metrics) == {
        "policy/loss",
        "policy/entropy",
        "policy/grad_norm",
        "policy/clip_fraction",
        "policy/logprob_diff_max",
        "policy/logprob_diff_mean",
        "tokens/computed",
        "tokens/padding",
        "staleness/mean",
        "staleness/max",
    }
    assert 0 < metrics["policy/entropy"] < np.log(660)
    assert metrics["policy/grad_norm"] > 0


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_agree_with_the_engines_on_the_first_update(temperature: float) -> None:
    model = small_model()
    samples = sampled_by(model, random_samples(24, temperature=temperature))
    trainer = make_trainer(model, optim={"num_updates_per_step": 2, "lr": 0.1})
    metrics = trainer.update(samples, step=1, policy_version=0)
    assert metrics["policy/logprob_diff_max"] < 1e-4
    assert metrics["policy/clip_fraction"] > 0.1  # the second update is far from the first


def test_a_difference_of_one_logprob_is_seen() -> None:
    model = small_model()
    samples = sampled_by(model, random_samples(8))
    samples[3].logprobs[-1] += 0.25
    metrics = make_trainer(model).update(samples, step=1, policy_version=0)
    assert metrics["policy/logprob_diff_max"] == pytest.approx(0.25, abs=1e-4)
    trained = sum(sample.num_trained for sample in samples)
    assert metrics["policy/logprob_diff_mean"] == pytest.approx(0.25 / trained, abs=1e-5)


def test_tokens_of_older_weights_are_stale_and_not_compared() -> None:
    model = small_model()
    samples = sampled_by(model, random_samples(4))
    for sample in samples[:2]:
        sample.policy_versions[sample.loss_mask] = 3
        sample.logprobs[sample.loss_mask] -= 0.5
    for sample in samples[2:]:
        sample.policy_versions[sample.loss_mask] = 5
    metrics = make_trainer(model).update(samples, step=6, policy_version=5)
    assert metrics["policy/logprob_diff_max"] < 1e-4
    assert metrics["staleness/max"] == 2
    assert 0 < metrics["staleness/mean"] < 2
    later = make_trainer(model).update(samples, step=7, policy_version=6)
    assert "policy/logprob_diff_max" not in later


def test_kl_is_measured_from_the_model_as_it_was() -> None:
    model = small_model()
    samples = sampled_by(model, random_samples(4))
    trainer = make_trainer(model, use_kl_loss=True, kl_loss_coef=0.1)
    first = trainer.update(samples, step=1, policy_version=0)
    second = trainer.update(samples, step=2, policy_version=1)
    assert first["policy/kl"] == pytest.approx(0, abs=1e-6)
    assert second["policy/kl"] > 1e-4


def test_kl_pulls_back_to_the_reference() -> None:
    model = small_model()
    trainer = make_trainer(model, use_kl_loss=True, kl_loss_coef=1.0)
    base = weights_of(model)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    samples = sampled_by(model, random_samples(8))
    for sample in samples:
        sample.advantages[:] = 0  # type: ignore[index]
    kl = [trainer.update(samples, step=n, policy_version=0)["policy/kl"] for n in range(1, 6)]
    assert kl[-1] < 0.7 * kl[0]
    assert not torch.equal(weights_of(model), base)


def test_an_entropy_bonus_raises_the_entropy() -> None:
    model = small_model()
    samples = sampled_by(model, random_samples(8))
    for sample in samples:
        sample.advantages[:] = 0  # type: ignore[index]
    trainer = make_trainer(model, algorithm={"entropy_coeff": 1.0})
    entropy = [
        trainer.update(samples, step=n, policy_version=0)["policy/entropy"] for n in range(1, 5)
    ]
    assert entropy[-1] > entropy[0] + 0.05


def test_the_same_steps_give_the_same_bits() -> None:
    models = [small_model(), small_model()]
    samples = sampled_by(models[0], random_samples(8))
    for model in models:
        trainer = make_trainer(model, optim={"num_updates_per_step": 2})
        for step in (1, 2):
            trainer.update(samples, step=step, policy_version=0)
    assert torch.equal(weights_of(models[0]), weights_of(models[1]))


@pytest.mark.parametrize("advantage", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_leaves_the_weights(advantage: float) -> None:
    model = small_model()
    before = weights_of(model)
    samples = sampled_by(model, random_samples(4))
    samples[1].advantages[-1] = advantage  # type: ignore[index]
    with pytest.raises(TrainingError, match="step 7: the loss is"):
        make_trainer(model).update(samples, step=7, policy_version=0)
    assert torch.equal(weights_of(model), before)


def test_a_gradient_that_is_not_finite_leaves_the_weights() -> None:
    model = small_model()
    before = weights_of(model)
    model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(TrainingError, match="step 1: the gradient's norm is nan"):
        make_trainer(model).update(random_samples(4), step=1, policy_version=0)
    assert torch.equal(weights_of(model), before)


@pytest.mark.parametrize(
    ("schedule", "warmup", "expected"),
    [
        ("constant", 0, [1.0, 1.0, 1.0, 1.0, 1.0]),
        ("constant", 2, [0.5, 1.0, 1.0, 1.0, 1.0]),
        ("linear", 0, [1.0, 0.775, 0.55, 0.325, 0.1]),
        ("linear", 2, [0.5, 1.0, 1.0, 0.55, 0.1]),
        ("cosine", 0, [1.0, 0.8682, 0.55, 0.2318, 0.1]),
    ],
)
def test_the_learning_rate_rises_and_falls_to_its_share(
    schedule: str, warmup: int, expected: list[float]
) -> None:
    settings = OptimConfig(lr=2.0, lr_schedule=schedule, warmup_steps=warmup, lr_min_ratio=0.1)
    rates = [learning_rate(step, settings, total_steps=5) / 2 for step in range(1, 6)]
    assert rates == pytest.approx(expected, abs=1e-4)


def test_the_learning_rate_is_used() -> None:
    moved = {}
    for rate in (1e-3, 1e-4):
        model = small_model()
        before = weights_of(model)
        make_trainer(model, optim={"lr": rate}).update(random_samples(4), step=1, policy_version=0)
        moved[rate] = float((weights_of(model) - before).abs().max())
    assert moved[1e-3] == pytest.approx(10 * moved[1e-4], rel=0.05)


def test_matrices_decay_and_norms_do_not() -> None:
    model = small_model()
    norm, matrix = model.model.norm.weight, model.lm_head.weight
    before = matrix.detach().clone()
    for weight in model.parameters():
        weight.grad = torch.zeros_like(weight)
    make_trainer(model, optim={"weight_decay": 0.5, "lr": 0.1}).optimizer.update(1)
    assert torch.equal(norm, torch.ones_like(norm))
    torch.testing.assert_close(matrix.detach(), before * 0.95)


def test_updates_too_small_for_bfloat16_add_up() -> None:
    model = small_model(dtype=torch.bfloat16)
    weight = model.model.norm.weight  # 1.0: bfloat16 cannot subtract less than 0.004 from it
    trainer = make_trainer(model, optim={"lr": 1e-3})
    values = []
    for step in range(1, 9):
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        trainer.optimizer.update(step)
        values.append(weight[0].item())
    assert values[0] == 1.0
    assert values[-1] == pytest.approx(0.992, abs=3e-3)


def test_bfloat16_trains_by_the_same_code() -> None:
    model = small_model(dtype=torch.bfloat16)
    samples = sampled_by(model, random_samples(8))
    trainer = make_trainer(model)
    losses = [trainer.update(samples, step=n, policy_version=0)["policy/loss"] for n in range(1, 4)]
    assert losses[-1] < losses[0]
    assert model.dtype == torch.bfloat16


def test_float16_is_refused() -> None:
    with pytest.raises(ModelError, match="float16 cannot be trained"):
        make_trainer(small_model(dtype=torch.float16))


def test_samples_of_the_first_update_get_the_trainers_logprobs() -> None:
    for updates in (1, 2):
        optim = OptimConfig(lr=1e-3, num_updates_per_step=updates)
        trainer = PolicyTrainer(small_model(0), TrainerCommonConfig(optim=optim), total_steps=5)
        samples = random_samples(6, seed=1)
        metrics = trainer.update(samples, step=1, policy_version=0)
        compared = [sample for sample in samples if sample.trainer_logprobs is not None]
        assert len(compared) == 6 // updates
        differences = [np.abs(s.trainer_logprobs - s.logprobs)[s.loss_mask] for s in compared]
        assert metrics["policy/logprob_diff_max"] == np.concatenate(differences).max()
        assert all(not s.trainer_logprobs[~s.loss_mask].any() for s in compared)
