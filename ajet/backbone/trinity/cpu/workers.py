"""Trinity's training ranks on a CPU; imported in their processes and where they are started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import torch
import verl.workers.engine.fsdp.transformer_impl as fsdp
from torch import Tensor
from torch.distributed.tensor import DTensor
from verl.workers.engine import EngineRegistry

from ajet.backbone.trinity.worker import TrinityPolicyWorker


def _zero(*_: Any, **__: Any) -> int:
    return 0


# verl 0.8 calls these functions of torch.cuda on whatever device module it uses.
for _name in (
    *("max_memory_allocated", "max_memory_reserved", "memory_allocated", "memory_reserved"),
    *("reset_peak_memory_stats", "empty_cache", "ipc_collect"),
):
    setattr(torch.cpu, _name, _zero)
vars(torch.cpu)["mem_get_info"] = lambda *_: (0, 0)
# Trinity 0.6 calls it when it looks for fused kernels.
torch.cuda.get_device_capability = lambda *_: (0, 0)


@EngineRegistry.register(model_type="language_model", backend=["fsdp2"], device="cpu")
class CpuEngine(fsdp.FSDPEngineWithLMHead):
    """verl's engine that sends the weights in their own dtype; verl would cast to bfloat16."""

    def get_per_tensor_param(self, *_: Any, **__: Any) -> tuple[Iterator[tuple[str, Tensor]], None]:
        """Name and gathered tensor of every weight."""
        tensors = self.module.state_dict().items()
        return (
            (name, tensor.full_tensor() if isinstance(tensor, DTensor) else tensor)
            for name, tensor in tensors
        ), None


class CpuTrinityPolicyWorker(TrinityPolicyWorker):
    """Trinity's worker with a gloo process group; verl asks torch for "cpu:gloo,cpu:nccl"."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        torch.distributed.init_process_group(
            "gloo",
            init_method=os.environ.get("DIST_INIT_METHOD"),  # as verl does
            rank=int(os.environ["RANK"]),
            world_size=int(os.environ["WORLD_SIZE"]),
        )
