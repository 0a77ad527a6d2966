"""A vLLM CPU worker that takes weights from Trinity; it runs in vLLM's engine process."""

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
"""The name under which Trinity asks vLLM for every way of transfer but NCCL."""


@dataclass
class InitInfo(WeightTransferInitInfo):
    """Where the weights come from; sent once."""

    sync_method: str
    namespace: str
    ray_address: str


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """Which weights to load; sent with each update."""

    checkpoint_path: str | None = None
    """Folder of the weights; None: take them from the synchronizer's memory."""


class TrinityTransfer(WeightTransferEngine):
    """Loads weights from Trinity's synchronizer or from its checkpoints."""

    init_info_cls = InitInfo
    update_info_cls = UpdateInfo

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Connect to the run's Ray if the weights come through memory."""
        self._init = init_info
        # Without the address, Ray would start a new cluster in this process.
        if init_info.sync_method == "memory":
            ray.init(
                address=init_info.ray_address, namespace=init_info.namespace, log_to_driver=False
            )

    def start_weight_update(self) -> None:
        """Prepare the model for new tensors."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load the weights. vLLM's own method also synchronizes an accelerator."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """Load all tensors into the model."""
        if update_info.checkpoint_path is not None:
            tensors = load_state_dict_iterator(checkpoint_dir=update_info.checkpoint_path)
        else:
            tensors = _in_memory(self._init.namespace)
        self.model.load_weights(tensors)

    def finish_weight_update(self) -> None:
        """Let vLLM postprocess the new tensors."""
        finalize_layerwise_reload(self.model, self.model_config)
        repack_tied_head(self.model)

    def shutdown(self) -> None:
        """Do nothing: no connection of its own is open."""


class CpuVllmPolicyWorker(CPUWorker):
    """vLLM's CPU worker with Trinity's way to transfer weights."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        """Register the transfer engine, then load the model."""
        if _BACKEND not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(_BACKEND, TrinityTransfer)
        super().load_model(*args, **kwargs)

    def apply_patches(self) -> None:
        """Do nothing: Trinity's patches are for GPUs."""


def _in_memory(namespace: str) -> Iterator[tuple[str, torch.Tensor]]:
    synchronizer = Synchronizer.get_actor(namespace=namespace)
    for reference in synchronizer.get_model_state_dict_iterator.remote():
        yield ray.get(reference)
