"""The loss without logits.

1. Whatever kernel computes it, gradients and metrics are those of the logits: with tied and other
   heads, several temperatures, trees, pieces, a KL, and an adapter.
2. What a kernel does not have is computed from logits: a head with a bias or an adapter, the
   gradient of the entropy, very many temperatures, grammars.
3. `auto` is used where it is possible; `true` ends with the reason where it is not. A kernel that
   gives wrong numbers is not used.

`plain` computes what a kernel must compute. `liger` is the library's own function, which takes a
way without a kernel on a CPU; it needs liger-kernel, which is in the extra `fused`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from transformers import PreTrainedModel, Qwen2Config

from ajet.backbone.local import fused_loss, trainer
from ajet.backbone.local.adapter import Adapter
from ajet.backbone.local.forward import trained_logprobs
from ajet.backbone.local.fused_loss import FusedLoss, Kernel, check_fused, liger_kernel
from ajet.backbone.local.micro_batches import MicroBatch
from ajet.backbone.local.packed_rows import pack
from ajet.config.sections.model import LoraConfig
from ajet.errors import MissingExtraError, ModelError
from ajet.schema.episode import Sample
from tests.make_samples import make_sample
from tests.torch.small_model import VOCABULARY, random_samples, sampled_by, small_model
from tests.torch.test_forward import SIZE, build
from tests.torch.test_trainer import gradient_of, make_trainer

BOUND = 1e-5


def plain(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs = (hidden.float() @ weight.float().T / temperature).log_softmax(-1)
    loss = -logprobs.gather(1, targets[:, None])[:, 0]
    return loss, -(logprobs.exp() * logprobs).sum(-1)


def never(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
    raise AssertionError("the kernel was called")


@pytest.fixture(params=["plain", "liger"])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    if request.param == "liger":
        pytest.importorskip("liger_kernel")
        return liger_kernel()
    return plain


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def use(monkeypatch: pytest.MonkeyPatch, kernel: Kernel) -> list[float]:
    """Trainers compute their loss by the kernel; returns the temperatures of its calls."""
    calls: list[float] = []

    def counting(
        hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        calls.append(temperature)
        return kernel(hidden, weight, targets, temperature)

    monkeypatch.setattr(trainer, "fused_loss", lambda *_, **__: FusedLoss(counting))
    return calls


def samples_at(*temperatures: float) -> list[Sample]:
    """Samples of each temperature; the last one trains the ids at both ends of the vocabulary."""
    samples = []
    for seed, temperature in enumerate(temperatures):
        samples += random_samples(5, seed=seed, temperature=temperature)
    ends = make_sample([1, 2, 0, VOCABULARY - 1, 5], [2, 3], temperature=temperatures[0])
    return sampled_by(small_model(), [*samples, ends])


@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch_tokens": 10**6},
        {"micro_batch_tokens": 40},
        {"share_prefixes": False, "use_kl_loss": True, "kl_loss_coef": 0.5},
        {"gradient_checkpointing": True, "algorithm": {"policy_loss": "gspo"}},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_the_gradient_is_that_of_the_logits(
    kernel: Kernel, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = samples_at(0.7, 1.0, 1.5)
    expected = gradient_of(samples, **settings)
    calls = use(monkeypatch, kernel)
    assert difference(gradient_of(samples, **settings), expected) < BOUND
    assert {round(temperature, 3) for temperature in calls} == {0.7, 1.0, 1.5}


def test_a_tied_head_gets_both_gradients(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(Qwen2Config(**SIZE, tie_word_embeddings=True)).float()
    samples = samples_at(1.0)
    expected = gradient_of(samples, model=model)
    calls = use(monkeypatch, kernel)
    assert difference(gradient_of(samples, model=model), expected) < BOUND
    assert calls


def test_metrics_are_those_of_the_logits(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = samples_at(0.8)
    expected = make_trainer(small_model()).update(samples, step=1, policy_version=0)
    use(monkeypatch, kernel)
    got = make_trainer(small_model()).update(samples, step=1, policy_version=0)
    assert got.keys() == expected.keys()
    # In the difference of trainer and engine, all that is left is rounding.
    assert got.pop("policy/logprob_diff_max") < BOUND > got.pop("policy/logprob_diff_mean")
    assert got == pytest.approx({name: expected[name] for name in got}, rel=1e-4, abs=1e-6)


def batch_of(samples: list[Sample]) -> MicroBatch:
    return pack([(sample, np.ones(len(sample), np.float32)) for sample in samples])


@pytest.mark.parametrize("count", [0, 1, 7, 130])
def test_any_number_of_tokens(kernel: Kernel, count: int) -> None:
    model, batch = small_model(), batch_of(samples_at(*np.linspace(0.5, 2, 6).tolist()))
    which = np.random.default_rng(0).permutation(len(batch.targets))[:count]
    hidden = torch.randn(len(which), 96)
    expected = trained_logprobs(model, hidden, batch, which)
    got = trained_logprobs(model, hidden, batch, which, fused=FusedLoss(kernel))
    for one, other in zip(got, expected, strict=True):
        assert one.shape == (count,) and one.dtype == torch.float32
        torch.testing.assert_close(one, other, rtol=BOUND, atol=BOUND)


def test_bfloat16_is_as_close_to_float32_as_the_logits_are(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, samples = small_model(dtype=torch.bfloat16), samples_at(1.0)
    exact = gradient_of(samples, model=copy.deepcopy(model).float())
    by_logits = difference(gradient_of(samples, model=model).float(), exact)
    use(monkeypatch, kernel)
    assert difference(gradient_of(samples, model=model).float(), exact) < 1.5 * by_logits


def with_bias(model: PreTrainedModel) -> PreTrainedModel:
    head = nn.Linear(96, VOCABULARY)
    head.load_state_dict({"weight": model.lm_head.weight, "bias": torch.randn(VOCABULARY)})
    model.lm_head = head
    return model


def with_adapter(model: PreTrainedModel) -> PreTrainedModel:
    lora = LoraConfig(lora_rank=2, target_modules=["lm_head"])
    Adapter(model, lora, base_name="base", seed=0).separate().__enter__()
    return model


@pytest.mark.parametrize("change", [with_bias, with_adapter])
def test_a_head_that_the_kernel_does_not_have(
    change: Callable[[PreTrainedModel], PreTrainedModel],
) -> None:
    model, batch = change(small_model()), batch_of(samples_at(1.0))
    hidden = torch.randn(len(batch.targets), 96)
    got = trained_logprobs(model, hidden, batch, fused=FusedLoss(never))
    assert torch.equal(got[0], trained_logprobs(model, hidden, batch)[0])


def test_the_gradient_of_the_entropy_comes_from_logits() -> None:
    model, batch = small_model(), batch_of(samples_at(1.0))
    hidden = torch.randn(len(batch.targets), 96)
    options = {"with_entropy_gradient": True, "fused": FusedLoss(never)}
    assert trained_logprobs(model, hidden, batch, **options)[1].requires_grad


def test_a_temperature_for_each_token_comes_from_logits() -> None:
    model, batch = small_model(), batch_of(samples_at(1.0))
    batch.temperature = np.linspace(0.5, 2, len(batch.targets)).astype(np.float32)
    trained_logprobs(model, torch.randn(len(batch.targets), 96), batch, fused=FusedLoss(never))


def test_forbidden_tokens_have_no_probability() -> None:
    model, batch = small_model(), batch_of(samples_at(1.0))
    batch.forbidden = np.zeros((len(batch.targets), VOCABULARY), np.bool_)
    batch.forbidden[:, 1] = True
    trained_logprobs(model, torch.randn(len(batch.targets), 96), batch, fused=FusedLoss(never))


def test_on_a_cpu_auto_means_logits_and_true_is_refused() -> None:
    assert make_trainer(small_model())._fused is None
    assert make_trainer(small_model(), fused_loss=False)._fused is None
    with pytest.raises(ModelError, match=r"fused_loss: the kernel needs a GPU.* auto or false"):
        make_trainer(small_model(), fused_loss=True)


@pytest.fixture
def hopper(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the model's device had the kernel, and the libraries were there."""
    monkeypatch.setattr(fused_loss, "_unfit", lambda *_, **__: "")
    monkeypatch.setattr(fused_loss, "_missing", lambda: "")


@pytest.mark.usefixtures("hopper")
def test_where_the_kernel_is_it_is_used(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fused_loss, "liger_kernel", lambda: kernel)
    with caplog.at_level(logging.INFO):
        assert make_trainer(small_model())._fused is not None
    assert "fused kernel" in caplog.text
    assert all(parameter.grad is None for parameter in small_model().parameters())


@pytest.mark.usefixtures("hopper")
def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_loss, "_missing", lambda: "liger-kernel")
    assert make_trainer(small_model())._fused is None
    with pytest.raises(MissingExtraError, match=r"liger-kernel is not installed.*\[fused\]"):
        make_trainer(small_model(), fused_loss=True)


def other_sign(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
    loss, entropy = plain(*given)  # type: ignore[arg-type]
    return -loss, entropy


def other_temperature(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return plain(hidden, weight, targets, 1.0)


def no_entropy(*given: object) -> tuple[torch.Tensor, torch.Tensor]:
    loss, entropy = plain(*given)  # type: ignore[arg-type]
    return loss, torch.zeros_like(entropy)


def lost_gradient(
    hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor, temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    return plain(hidden, weight.detach() + 0 * weight, targets, temperature)


def broken(*_: object) -> tuple[torch.Tensor, torch.Tensor]:
    raise OSError("no compiler")


@pytest.mark.usefixtures("hopper")
@pytest.mark.parametrize(
    "wrong", [other_sign, other_temperature, no_entropy, lost_gradient, broken]
)
def test_a_kernel_that_is_wrong_is_not_used(
    wrong: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Negative control of the check at the start."""
    monkeypatch.setattr(fused_loss, "liger_kernel", lambda: wrong)
    assert make_trainer(small_model())._fused is None
    assert "logits are computed in parts instead" in caplog.text
    with pytest.raises(ModelError, match="Liger's kernel fails here"):
        make_trainer(small_model(), fused_loss=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_check_accepts_rounding(kernel: Kernel, dtype: torch.dtype) -> None:
    check_fused(small_model(dtype=dtype), FusedLoss(kernel))


@pytest.mark.cuda
def test_the_kernel_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Hopper with liger-kernel[cutedsl]; others have no kernel, which is the reason to skip."""
    model = small_model(dtype=torch.bfloat16).cuda()
    if fused_loss._missing() or fused_loss._unfit(model, with_entropy_gradient=False):
        pytest.skip("needs liger-kernel[cutedsl], and a GPU of the Hopper generation")
    samples = samples_at(0.7, 1.0)
    exact = gradient_of(samples, model=small_model(dtype=torch.bfloat16).float())
    by_logits = gradient_of(samples, model=model, fused_loss=False).float().cpu()
    for micro_batch_tokens in (10**6, 40):
        got = gradient_of(
            samples, model=model, fused_loss=True, micro_batch_tokens=micro_batch_tokens
        )
        assert difference(got.float().cpu(), exact) < 1.5 * difference(by_logits, exact) + 0.01
