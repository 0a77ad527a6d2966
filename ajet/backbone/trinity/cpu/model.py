"""Trinity's vLLM actor on vLLM's CPU build (0.28), which is newer than Trinity 0.6 expects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ray
import vllm
from trinity.common.constants import SyncMethod
from vllm.distributed.weight_transfer.base import (
    WeightTransferInitRequest,
    WeightTransferUpdateRequest,
)

from ajet.backbone.trinity.model import PolicyModel


class CpuPolicyModel(PolicyModel):
    """An actor with a vLLM engine that runs on a CPU, in one process of its own."""

    worker = "ajet.backbone.trinity.cpu.vllm_worker.CpuVllmPolicyWorker"

    async def prepare(self) -> None:
        """Start the engine with a worker that can take weights on a CPU."""
        original = vllm.AsyncEngineArgs

        def engine_args(**arguments: Any) -> Any:
            arguments |= {
                "worker_cls": self.worker,
                "distributed_executor_backend": "uni",
                "async_scheduling": False,
            }
            return original(**arguments)

        # Trinity passes no worker class on, so its call of AsyncEngineArgs is intercepted.
        vllm.AsyncEngineArgs = engine_args
        try:
            await super().prepare()
        finally:
            vllm.AsyncEngineArgs = original

    async def init_process_group(self, *_: Any, **__: Any) -> None:
        """Tell the engine where weights will come from: its process is not a Ray worker."""
        info = {
            "sync_method": self.config.sync_method.value,
            "namespace": self.ray_namespace,
            "ray_address": ray.get_runtime_context().gcs_address,
        }
        await self.async_llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=info))

    async def sync_model_weights(
        self, model_version: int, method: SyncMethod, timeout: float = 1200
    ) -> int:
        """Update the weights as Trinity does, with the request classes of vLLM 0.28."""
        info = {}
        if method == SyncMethod.CHECKPOINT:
            step = Path(self.config.checkpoint_job_dir) / f"global_step_{model_version}"
            info["checkpoint_path"] = str(step / "actor")
        engine = self.async_llm
        await engine.pause_generation(mode="keep", clear_cache=False)
        await engine.reset_prefix_cache(reset_running_requests=True)
        await engine.start_weight_update()
        await engine.update_weights(WeightTransferUpdateRequest(update_info=info))
        await engine.finish_weight_update()
        await engine.resume_generation()
        self.model_version = model_version
        return model_version
