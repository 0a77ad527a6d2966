"""The class of Trinity's training ranks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import torch
from trinity.manager.synchronizer import Synchronizer
from trinity.trainer.verl.workers import TrinityActorRolloutRefWorker
from verl.single_controller.base.decorator import Dispatch, register

from ajet.backbone.verl_common.merged_lora import (
    merged_weights,
    refuse_other_layers,
    save_merged,
)
from ajet.backbone.verl_common.worker import VerlPolicyWorker


class TrinityPolicyWorker(VerlPolicyWorker, TrinityActorRolloutRefWorker):
    """Trinity's worker with AgentJet's learning rate schedule and checkpoints.

    With LoRA, merged weights are sent and saved.
    """

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def save_policy(self, folder: str) -> None:
        """Write model and optimizer, without Trinity's own record of checkpoints."""
        self.actor.save_checkpoint(folder)
        engine = self.actor.engine
        if engine._is_lora:
            save_merged(engine, Path(folder) / "huggingface", rank=self.rank)

    @register(dispatch_mode=Dispatch.ONE_TO_ALL)
    def upload_state_dict(self, global_step: int = 0) -> None:
        """Send the weights through the synchronizer's memory; Trinity would send the parts."""
        engine = self.actor.engine
        if not engine._is_lora or global_step == 0:  # the engines have version 0 already
            super().upload_state_dict(global_step)
            return
        state = {name: w.cpu() for name, w in merged_weights(engine) if self.rank == 0}
        if self.rank == 0:
            synchronizer = Synchronizer.get_actor(namespace=self._ray_namespace)
            ray.get(synchronizer.set_model_state_dict.remote(state, global_step))
        torch.distributed.barrier()

    def _cache_state_dict_meta(self) -> None:
        # Trinity calls this once the engine is built, and before it sends any weight.
        engine: Any = self.actor.engine
        if engine._is_lora:
            refuse_other_layers(engine.module)
            engine.get_per_tensor_param = lambda *_, **__: (merged_weights(engine), None)
        super()._cache_state_dict_meta()
