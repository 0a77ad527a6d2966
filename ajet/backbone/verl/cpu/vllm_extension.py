"""A vLLM worker extension that keeps weights in the layout in which verl updates them.

vLLM's CPU build (0.28) packs the weights of linear layers into another layout and drops the
originals, so that verl's updates would not reach them. vLLM imports this module in its engine
process.
"""

from __future__ import annotations

from typing import Any

import torch
import vllm.model_executor.layers.utils as layers
from verl.workers.rollout.vllm_rollout.utils import vLLMColocateWorkerExtension


def _keep_plain_weights(layer: Any, remove_weight: bool = False) -> None:
    layer.cpu_linear = lambda x, weight, bias: torch.nn.functional.linear(x, weight, bias)


layers.dispatch_cpu_unquantized_gemm = _keep_plain_weights


class CpuWorkerExtension(vLLMColocateWorkerExtension):
    """verl's extension; loading it keeps the weights of this process in their plain layout."""
