"""The worker of a rank: where a LoRA adapter is trained, the others get the merged weights.

verl's own ways are to send the adapter to vLLM, or merged weights that are rounded to bfloat16; and
its checkpoints in Hugging Face format have the names of the parts, which nothing loads.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import Linear, LoraLayer
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.fsdp_utils import offload_fsdp_model_to_cpu
from verl.utils.model import convert_weight_keys
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

from ajet.backbone.verl_common.worker import VerlPolicyWorker
from ajet.errors import ConfigError

_ADAPTED = ".base_layer.weight"
"""How the name of a weight ends that has an adapter."""


class LoraPolicyWorker(VerlPolicyWorker):
    """Without an adapter, it does what its base does."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        """Make the engines."""
        super().init_model()
        engine = self.actor.engine
        if engine._is_lora:
            refuse_other_layers(engine.module)
            engine._merged_lora_per_tensor_param = partial(merged_weights, engine)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """Write what verl resumes from, and the whole model in Hugging Face format."""
        super().save_checkpoint(local_path, *args, **kwargs)
        if self.actor.engine._is_lora:
            save_merged(self.actor.engine, Path(local_path) / "huggingface", rank=self.rank)


def refuse_other_layers(module: torch.nn.Module) -> None:
    """Adapters are merged here into linear layers only.

    Raises:
        ConfigError: there is another.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, LoraLayer) and not isinstance(layer, Linear):
            raise ConfigError(
                f"verl.actor_rollout_ref.model.target_modules: {name} is no linear layer; only "
                "those can be merged"
            )


def merged_weights(engine: FSDPEngine) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole tensor of every weight, as trained. Every rank must take all of them.

    verl's own way changes the weights in place and back, which fails on what FSDP2 has cut.
    """
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
    """As it is without the adapter."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")


def _whole(weight: torch.Tensor) -> torch.Tensor:
    """A copy on every rank."""
    whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
    return whole.detach().clone()


def save_merged(engine: FSDPEngine, folder: Path, *, rank: int) -> None:
    """Write the whole model; its configuration lies there already."""
    weights, _ = engine.get_per_tensor_param()
    state = {name: weight.cpu() for name, weight in weights if rank == 0}
    if rank == 0:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(engine.module.config)
        model.save_pretrained(folder, state_dict=state)
    torch.distributed.barrier()
