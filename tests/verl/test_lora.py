"""Weights with a LoRA adapter merged in, as vLLM and checkpoints get them.

1. They compute what model and adapter compute together, in the precision that is trained.
2. Afterwards the model is as it was: its base weights have nothing of the adapter.
3. An adapter of another than a linear layer is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

pytest.importorskip("verl")

from peft import LoraConfig, get_peft_model
from torch.distributed.fsdp import fully_shard
from transformers import AutoModelForCausalLM

from ajet.backbone.verl_common.merged_lora import merged_weights, refuse_other_layers, save_merged
from ajet.errors import ConfigError

pytestmark = pytest.mark.verl

MODEL = Path("ajet/tiny_model/calculator")
IDS = torch.tensor([[5, 17, 230, 41, 8]])


@pytest.fixture(scope="module", autouse=True)
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = torch.distributed.FileStore(str(tmp_path_factory.mktemp("store") / "file"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.fixture
def engine() -> Any:
    """What there is of verl's: a model that is cut by FSDP2, with an adapter that is not 0."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    module = get_peft_model(model, LoraConfig(r=4, lora_alpha=16, target_modules="all-linear"))
    for name, weight in module.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    for layer in model.model.layers:
        fully_shard(layer)
    fully_shard(module)
    engine = SimpleNamespace(module=module, _is_offload_param=False)
    engine.get_per_tensor_param = lambda: (merged_weights(engine), None)
    return engine


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def test_the_saved_model_computes_what_model_and_adapter_do(engine: Any, tmp_path: Path) -> None:
    together = logits(engine.module)
    engine.module.config.save_pretrained(tmp_path)
    save_merged(engine, tmp_path, rank=0)
    saved = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert torch.allclose(logits(saved), together, atol=1e-4)
    base = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    assert not torch.allclose(logits(base), together, atol=0.1), "the adapter does something"
    assert {name for name, _ in saved.named_parameters()} == {n for n, _ in base.named_parameters()}


def test_layers_that_cannot_be_merged_are_refused_by_name() -> None:
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    linear = get_peft_model(model, LoraConfig(target_modules=["q_proj", "down_proj"]))
    refuse_other_layers(linear)
    model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
    embedding = get_peft_model(model, LoraConfig(target_modules=["embed_tokens"]))
    with pytest.raises(ConfigError, match="embed_tokens is no linear layer"):
        refuse_other_layers(embedding)


def test_the_model_is_as_it_was(engine: Any) -> None:
    together = logits(engine.module)
    before = {n: w.full_tensor().clone() for n, w in engine.module.state_dict().items()}
    assert {weight.dtype for _, weight in merged_weights(engine)} == {torch.float32}
    after = engine.module.state_dict()
    assert all(torch.equal(before[name], after[name].full_tensor()) for name in before)
    assert torch.equal(logits(engine.module), together)
