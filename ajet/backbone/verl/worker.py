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
from torch.distributed.tensor import DTensor
from transformers import AutoModelForCausalLM
from verl.single_controller.base.decorator import Dispatch, register
from verl.utils.fsdp_utils import (
    merged_lora_context,
    normalize_peft_param_name,
    offload_fsdp_model_to_cpu,
)
from verl.utils.model import convert_weight_keys
from verl.workers.engine.fsdp.transformer_impl import FSDPEngine

from ajet.backbone.ranks.worker import PolicyWorker


class LoraPolicyWorker(PolicyWorker):
    """Without an adapter, it does what its base does."""

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def init_model(self) -> None:
        """Make the engines."""
        super().init_model()
        engine = self.actor.engine
        if engine._is_lora:
            engine._merged_lora_per_tensor_param = partial(merged_weights, engine)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_checkpoint(self, local_path: str, *args: Any, **kwargs: Any) -> None:
        """Write what verl resumes from, and the whole model in Hugging Face format."""
        super().save_checkpoint(local_path, *args, **kwargs)
        if self.actor.engine._is_lora:
            save_merged(self.actor.engine, Path(local_path) / "huggingface", rank=self.rank)


def merged_weights(engine: FSDPEngine) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and whole tensor of every weight, as trained. Every rank must take all of them."""
    try:
        with merged_lora_context(engine.module, backup_adapters=True):
            weights = normalize_peft_param_name(engine.module.state_dict())
            for name, weight in convert_weight_keys(weights, engine.module).items():
                whole = weight.full_tensor() if isinstance(weight, DTensor) else weight
                yield name, whole.detach().clone()
    finally:
        if engine._is_offload_param:
            offload_fsdp_model_to_cpu(engine.module)


def save_merged(engine: FSDPEngine, folder: Path, *, rank: int) -> None:
    """Write the whole model; its configuration lies there already."""
    weights, _ = engine.get_per_tensor_param()
    state = {name: weight.cpu() for name, weight in weights if rank == 0}
    if rank == 0:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(engine.module.config)
        model.save_pretrained(folder, state_dict=state)
    torch.distributed.barrier()
