"""Weights with a LoRA adapter merged in, as verl's ranks send them to vLLM and save them.

verl can send the adapter itself to vLLM, or merged weights rounded to bfloat16. Its Hugging Face
checkpoints keep the names of the unmerged parts, which no other program loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from verl.utils.fsdp_utils import offload_fsdp_model_to_cpu
from verl.utils.model import convert_weight_keys
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

from ajet.errors import ConfigError
from ajet.model_files import ADAPTER_PREFIX

_ADAPTED = ".base_layer.weight"
"""Suffix of the name of a weight that has an adapter."""


def refuse_other_layers(module: torch.nn.Module) -> None:
    """Refuse adapters of other than linear layers, which cannot be merged here.

    Raises:
        ConfigError: names the first such layer.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer) and not isinstance(layer, Linear):
            raise ConfigError(
                f"ajet.lora.target_modules: {name} is no linear layer; only "
                "linear layers can be merged, name others"
            )


def merged_weights(engine: FSDPEngine) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and gathered tensor of every merged weight, in the dtype that is trained.

    Gathering is a collective operation: every rank must consume all of the weights.
    """
    # verl 0.9 merges in place and undoes it afterwards, which fails on FSDP2's sharded weights.
    scaling = {
        name: layer.scaling["default"]
        for name, layer in engine.module.named_modules()
        if isinstance(layer, LoraLayer)
    }
    try:
        weights = engine.module.state_dict()
        plain = {_plain_name(name): name for name in weights if "lora_" not in name}
        for sent_as, name in convert_weight_keys(plain, engine.module).items():
            weight = _whole(weights[name])
            if name.endswith(_ADAPTED):
                layer = name.removesuffix(_ADAPTED)
                down, up = (_whole(weights[f"{layer}.lora_{x}.default.weight"]) for x in "AB")
                weight += scaling[layer] * (up @ down)
            yield sent_as, weight
    finally:
        if engine._is_offload_param:
            offload_fsdp_model_to_cpu(engine.module)


def _plain_name(name: str) -> str:
    """The weight's name in the model without an adapter."""
    return name.removeprefix(ADAPTER_PREFIX).replace(".base_layer.", ".")


def _whole(weight: torch.Tensor) -> torch.Tensor:
    """A gathered copy of a weight, on every rank."""
    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return whole.detach().clone()


def save_merged(engine: FSDPEngine, folder: Path, *, rank: int) -> None:
    """Write the merged model into a folder that already has its `config.json`."""
    weights, _ = engine.get_per_tensor_param()
    state = {name: weight.cpu() for name, weight in weights if rank == 0}
    if rank == 0:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(engine.module.config)  # type: ignore[no-untyped-call]
        model.save_pretrained(folder, state_dict=state)
    torch.distributed.barrier()
