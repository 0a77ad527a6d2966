"""vLLM's worker on a CPU, which takes weights from Trinity. Lives in vLLM's engine process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
import torch
from trinity.common.models.utils import load_state_dict_iterator
from trinity.manager.synchronizer import Synchronizer
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import (
    finalize_layerwise_reload,
    initialize_layerwise_reload,
)
from vllm.v1.worker.cpu_worker import CPUWorker

from ajet.engine.vllm.worker import repack_tied_head

_BACKEND = "checkpoint"
"""What Trinity calls every way but NCCL."""


@dataclass
class InitInfo(WeightTransferInitInfo):
    """Where weights come from."""

    sync_method: str
    namespace: str
    ray_address: str


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """Which weights."""

    checkpoint_path: str | None = None


class TrinityTransfer(WeightTransferEngine):
    """Weights from Trinity's synchronizer or its checkpoints."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Join the run's Ray: without the address, a new one would be started."""
        self._init = init_info
        if init_info.sync_method == "memory":
            ray.init(
                address=init_info.ray_address, namespace=init_info.namespace, log_to_driver=False
            )

    def start_weight_update(self) -> None:
        """Before the first tensor."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Without vLLM's wait for an accelerator."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """Load every tensor."""
        if update_info.checkpoint_path is not None:
            tensors = load_state_dict_iterator(checkpoint_dir=update_info.checkpoint_path)
        else:
            tensors = _in_memory(self._init.namespace)
        self.model.load_weights(tensors)

    def finish_weight_update(self) -> None:
        """After the last tensor."""
        finalize_layerwise_reload(self.model, self.model_config)
        repack_tied_head(self.model)

    def shutdown(self) -> None:
        """Nothing is open."""


class CpuVllmPolicyWorker(CPUWorker):
    """vLLM's, with Trinity's way of weights."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Register that way first."""
        if _BACKEND not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(_BACKEND, TrinityTransfer)
        super().load_model(*args, **kwargs)

    def apply_patches(self) -> None:
        """Trinity's are for GPUs."""


def _in_memory(namespace: str) -> Iterator[tuple[str, torch.Tensor]]:
    synchronizer = Synchronizer.get_actor(namespace=namespace)
    for reference in synchronizer.get_model_state_dict_iterator.remote():
        yield ray.get(reference)
