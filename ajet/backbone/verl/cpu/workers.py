"""verl's training ranks on a CPU; imported in their processes and where they are started."""

from __future__ import annotations

import os
from typing import Any

import torch
import verl.workers.engine.fsdp.transformer_impl as fsdp
from verl.workers.engine import EngineRegistry
from verl.workers.engine_workers import TrainingWorker

from ajet.backbone.verl.critic import CriticWorker
from ajet.backbone.verl.worker import LoraPolicyWorker

_offload_policy = fsdp.CPUOffloadPolicy
# verl 0.9 offloads the reference model to pinned memory, which needs an accelerator.
fsdp.CPUOffloadPolicy = lambda pin_memory=False: _offload_policy(pin_memory=False)

# verl registers these engines for accelerators only.
for _engine, _kind in (
    (fsdp.FSDPEngineWithLMHead, "language_model"),
    (fsdp.FSDPEngineWithValueHead, "value_model"),
):
    EngineRegistry.register(model_type=_kind, backend=["fsdp2"], device="cpu")(_engine)


class CpuTrainingWorker(TrainingWorker):
    """verl's worker with a gloo process group; verl asks for "cpu:gloo,cpu:gloo", a torch error."""

    def __init__(self, config: Any) -> None:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group(
                "gloo",
                init_method=os.environ.get("DIST_INIT_METHOD"),  # as verl does
                rank=int(os.environ["RANK"]),
                world_size=int(os.environ["WORLD_SIZE"]),
            )
        super().__init__(config)


class CpuCriticWorker(CriticWorker, CpuTrainingWorker):
    pass


class CpuPolicyWorker(LoraPolicyWorker):
    actor_worker_cls = CpuTrainingWorker
    ref_worker_cls = CpuTrainingWorker
