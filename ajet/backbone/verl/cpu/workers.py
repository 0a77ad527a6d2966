"""The workers of a rank on a CPU. Imported in their processes, and where these are started."""

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
# verl offloads the reference to pinned memory, which only an accelerator has.
fsdp.CPUOffloadPolicy = lambda pin_memory=False: _offload_policy(pin_memory=False)

for _engine, _kind in (
    (fsdp.FSDPEngineWithLMHead, "language_model"),
    (fsdp.FSDPEngineWithValueHead, "value_model"),
):
    EngineRegistry.register(model_type=_kind, backend=["fsdp2"], device="cpu")(_engine)


class CpuTrainingWorker(TrainingWorker):
    """verl would ask for the process group "cpu:gloo,cpu:gloo", which torch refuses."""

    def __init__(self, config: Any) -> None:
        if not torch.distributed.is_initialized():
            torch.distributed.init_process_group(
                "gloo", rank=int(os.environ["RANK"]), world_size=int(os.environ["WORLD_SIZE"])
            )
        super().__init__(config)


class CpuCriticWorker(CriticWorker, CpuTrainingWorker):
    """The critic's, on a CPU."""


class CpuPolicyWorker(LoraPolicyWorker):
    """The worker of a rank, with the training worker for a CPU."""

    actor_worker_cls = CpuTrainingWorker
    ref_worker_cls = CpuTrainingWorker
