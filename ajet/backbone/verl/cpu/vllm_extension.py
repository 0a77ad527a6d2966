"""vLLM's CPU build packs its weights into another layout and drops them; verl must update them.

Imported by vLLM in its engine's process.
"""

from __future__ import annotations

import torch
import vllm.model_executor.layers.utils as layers
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


def _keep_plain_weights(layer: torch.nn.Module, remove_weight: bool = False) -> None:
    layer.cpu_linear = lambda x, weight, bias: torch.nn.functional.linear(x, weight, bias)


layers.dispatch_cpu_unquantized_gemm = _keep_plain_weights


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """verl's, in a process where weights stay as they are."""
