"""LoRA in the local backbone.

1. An adapter is trained as all weights are: trees, pieces and checkpointing change no gradient.
2. Between updates the model is the merged one; the model's own weights never change.
3. The reference of the KL is the model without its adapter.
4. A checkpoint has the adapter alone, resumes bit for bit, and is an adapter for other programs.
5. Names of layers that do not exist, or cannot be merged, are refused.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel

from ajet.backbone.local.adapter import Adapter
from ajet.backbone.local.checkpoint import load_checkpoint, save_checkpoint
from ajet.backbone.local.trainer import PolicyTrainer
from ajet.config.sections.algorithm import OptimConfig
from ajet.config.sections.model import LoraConfig
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.engine.embedded.load import load_model
from ajet.errors import CheckpointError, ModelError
from ajet.training.checkpoints import Position
from tests.torch.small_model import random_samples, sampled_by, small_model

IDS = torch.arange(3, 40)[None]
LORA = LoraConfig(lora_rank=4)


def with_adapter(
    lora: LoraConfig = LORA, *, base: str = "base", random: bool = False, **settings: Any
) -> tuple[PolicyTrainer, Adapter]:
    """A trainer of a small model with an adapter, which changes nothing yet unless it is random."""
    model = small_model()
    adapter = Adapter(model, lora, base_name=base, seed=1)
    if random:
        with adapter.separate(), torch.no_grad():
            for name, weight in model.named_parameters():
                if "lora_B" in name:
                    torch.nn.init.normal_(weight, std=0.05)
    optim = OptimConfig(lr=1e-2, num_updates_per_step=2)
    common = TrainerCommonConfig(optim=optim, **settings)
    return PolicyTrainer(model, common, total_steps=5, adapter=adapter), adapter


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=IDS).logits
    return found


def train(trainer: PolicyTrainer, step: int) -> dict[str, float]:
    samples = sampled_by(trainer.model, random_samples(6, seed=step))
    return trainer.update(samples, step=step, policy_version=0)


def trained(trainer: PolicyTrainer) -> torch.Tensor:
    """What is trained, as one vector."""
    weights = [w.detach().flatten() for w in trainer.model.parameters() if w.requires_grad]
    return torch.cat(weights)


@pytest.mark.parametrize("modules", ["all-linear", ["q_proj"], ["lm_head"]])
@pytest.mark.parametrize(
    "settings",
    [
        {"micro_batch_tokens": 40},  # in pieces
        {"use_kl_loss": True, "micro_batch_tokens": 40, "gradient_checkpointing": True},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_the_gradient_is_that_of_separate_sequences(
    modules: str | list[str], settings: dict[str, Any]
) -> None:
    lora = LoraConfig(lora_rank=4, target_modules=modules)
    plain = {"use_kl_loss": settings.get("use_kl_loss", False), "share_prefixes": False}
    one, _ = with_adapter(lora, random=True, **plain)
    other, _ = with_adapter(lora, random=True, **settings)
    start = trained(one)
    assert torch.equal(start, trained(other))
    expected, found = train(one, 1), train(other, 1)
    assert found["policy/grad_norm"] == pytest.approx(expected["policy/grad_norm"], rel=1e-5)
    assert found["policy/loss"] == pytest.approx(expected["policy/loss"], rel=1e-5, abs=1e-6)
    change = trained(one) - start
    assert change.norm() > 0
    # AdamW's first steps depend on the signs of gradients, and some are nearly 0.
    assert (trained(other) - trained(one)).norm() < 1e-2 * change.norm()


def test_between_updates_the_model_is_the_merged_one_and_its_own_weights_stay() -> None:
    base = small_model()
    trainer, adapter = with_adapter()
    assert torch.equal(logits(trainer.model), logits(base)), "a new adapter changes nothing"
    for step in (1, 2, 3):
        metrics = train(trainer, step)
        assert metrics["policy/logprob_diff_max"] < 1e-4
    tuned = logits(trainer.model)
    assert not torch.allclose(tuned, logits(base), atol=1e-2)
    with adapter.separate():
        assert torch.allclose(logits(trainer.model), tuned, atol=1e-4)
        with adapter.switched_off():
            assert torch.equal(logits(trainer.model), logits(base))
        state = trainer.model.state_dict()
        for name, weight in base.state_dict().items():
            kept = state.get(name.replace(".weight", ".base_layer.weight"), state.get(name))
            assert kept is not None and torch.equal(kept, weight), name
    assert torch.equal(logits(trainer.model), tuned)
    merged = small_model(seed=1)
    merged.load_state_dict(adapter.merged_state())
    assert torch.equal(logits(merged), tuned)


def test_only_the_adapter_has_gradients_and_a_state_of_the_optimizer() -> None:
    trainer, adapter = with_adapter()
    train(trainer, 1)
    state = trainer.optimizer.state_dict()["adamw"]["state"]
    numbers = sum(entry["exp_avg"].numel() for entry in state.values())
    assert numbers == adapter.num_parameters < 0.1 * small_model().num_parameters()


def test_the_reference_of_the_kl_is_the_model_without_its_adapter() -> None:
    base = small_model()
    trainer, _ = with_adapter(use_kl_loss=True)
    full = PolicyTrainer(copy.deepcopy(base), TrainerCommonConfig(use_kl_loss=True), total_steps=5)
    assert train(trainer, 1)["policy/kl"] != 0, "the second update of the step has other weights"
    merged = {n.replace(".base_layer.", "."): w for n, w in trainer.model.state_dict().items()}
    full.model.load_state_dict({n: w for n, w in merged.items() if ".lora_" not in n})
    samples = sampled_by(trainer.model, random_samples(6, seed=2))
    before = trainer._settings.optim
    assert before.num_updates_per_step == 2
    kl = {}
    for name, each in (("adapter", trainer), ("all weights", full)):
        one = each._settings.model_copy(update={"optim": OptimConfig(lr=1e-9)})
        each._settings = one
        kl[name] = each.update(samples, step=2, policy_version=1)["policy/kl"]
    assert kl["adapter"] == pytest.approx(kl["all weights"], rel=1e-4)
    assert kl["adapter"] > 1e-4


def save(trainer: PolicyTrainer, adapter: Adapter, folder: Path, step: int) -> Path:
    save_checkpoint(
        folder,
        Position(step=step, policy_version=step, reader_state={}),
        model=trainer.model,
        optimizer=trainer.optimizer,
        adapter=adapter,
        tokenizer_dir=folder / "base",
    )
    return folder / f"step_{step:06d}"


def load(path: Path, trainer: PolicyTrainer, adapter: Adapter | None) -> None:
    load_checkpoint(path, model=trainer.model, optimizer=trainer.optimizer, adapter=adapter)


@pytest.fixture
def base(tmp_path: Path) -> str:
    small_model().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_resuming_continues_bit_for_bit(tmp_path: Path, base: str) -> None:
    straight, adapter = with_adapter(base=base)
    train(straight, 1)
    path = save(straight, adapter, tmp_path, 1)
    expected = train(straight, 2)
    resumed, other = with_adapter(LORA, base=base, random=True)
    load(path, resumed, other)
    assert train(resumed, 2) == expected
    assert torch.equal(trained(resumed), trained(straight))
    assert torch.equal(logits(resumed.model), logits(straight.model))


def test_a_checkpoint_is_an_adapter_that_other_programs_load(tmp_path: Path, base: str) -> None:
    trainer, adapter = with_adapter(LoraConfig(lora_rank=4, lora_alpha=10), base=base)
    train(trainer, 1)
    path = save(trainer, adapter, tmp_path, 1)
    assert not list(path.glob("model*.safetensors"))
    size = (path / "adapter_model.safetensors").stat().st_size
    assert size < 0.2 * (Path(base) / "model.safetensors").stat().st_size
    tuned = logits(trainer.model)
    assert torch.equal(logits(load_model(path)), tuned)
    by_transformers = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    assert torch.allclose(logits(by_transformers), tuned, atol=1e-4)
    whole = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    by_peft = PeftModel.from_pretrained(whole, str(path))
    assert torch.allclose(logits(by_peft), tuned, atol=1e-4)


def test_a_checkpoint_of_other_settings_or_without_its_base_is_refused(
    tmp_path: Path, base: str
) -> None:
    trainer, adapter = with_adapter(base=base)
    path = save(trainer, adapter, tmp_path, 1)
    for lora in (LoraConfig(lora_rank=8), LoraConfig(lora_rank=4, target_modules=["q_proj"])):
        with pytest.raises(CheckpointError, match="another rank or other layers than ajet.lora"):
            load(path, *with_adapter(lora, base=base))
    full = PolicyTrainer(small_model(), TrainerCommonConfig(), total_steps=5)
    with pytest.raises(CheckpointError, match="the run trained an adapter so far"):
        load(path, full, None)
    (tmp_path / "base").rename(tmp_path / "moved")
    with pytest.raises(ModelError, match=r"base, and there is no such folder: put the model there"):
        load_model(path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"target_modules": ["q_proj", "query"]},
            "no layer is named query; use all-linear, or some of q_proj, ",
        ),
        (
            {"target_modules": "q_proj"},
            "ajet.lora.target_modules: q_proj: no layer has such a name",
        ),
        ({"target_modules": ["embed_tokens"]}, "model.embed_tokens is no linear layer"),
        (
            {"target_modules": ["mlp"]},
            "ajet.lora.target_modules: mlp: names layers that are not linear",
        ),
        ({"exclude_modules": ["q_prj"]}, "ajet.lora.exclude_modules: no layer is named q_prj"),
    ],
)
def test_wrong_layers_are_refused(settings: dict[str, Any], message: str) -> None:
    lora = LoraConfig(lora_rank=4, **settings)
    with pytest.raises(ModelError, match=message) as raised:
        Adapter(small_model(), lora, base_name="base", seed=0)
    assert "\n" not in str(raised.value)


def test_an_adapter_of_the_output_head_is_refused_where_it_is_the_embedding_too() -> None:
    model = small_model()
    model.config.tie_word_embeddings = True
    model.tie_weights()
    with pytest.raises(ModelError, match="the weights of lm_head are also those of the embeddings"):
        lora = LoraConfig(lora_rank=4, target_modules=["lm_head"])
        Adapter(model, lora, base_name="base", seed=0)


def test_excluded_layers_and_expressions() -> None:
    lora = LoraConfig(
        lora_rank=2, target_modules=r".*layers\.1\..*_proj", exclude_modules=["v_proj"]
    )
    model = small_model()
    Adapter(model, lora, base_name="base", seed=0)
    names = {n.partition(".lora_")[0] for n, w in model.named_parameters() if w.requires_grad}
    assert len(names) == 6
    assert all("layers.1." in name and "v_proj" not in name for name in names)


def test_first_weights_follow_the_seed_and_leave_other_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    drawn = []
    for seed in (1, 1, 2):
        model = small_model()
        torch.manual_seed(5)
        Adapter(model, LORA, base_name="base", seed=seed)
        assert torch.equal(torch.rand(3), expected)
        drawn.append(torch.cat([w.flatten() for w in model.parameters() if w.requires_grad]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
