"""The settings with which Trinity and vLLM run on a CPU. Imports nothing."""

from __future__ import annotations

from typing import Any

CPU: dict[str, Any] = {
    "synchronizer": {"sync_method": "memory"},
    "explorer": {
        "rollout_model": {
            # In chunks, requests with a seed end vLLM 0.28: CPU generators have no offset.
            "enable_chunked_prefill": False,
            "enforce_eager": True,
            "gpu_memory_utilization": 0.1,
        }
    },
    "trainer": {
        "use_remove_padding": False,
        "trainer_config": {
            "model": {"enable_gradient_checkpointing": False},
            "actor": {"use_torch_compile": False},
        },
    },
}


def environment(*, kv_cache_gb: float | None, num_threads: int | None) -> dict[str, str]:
    """What every process must find in its environment."""
    return {
        "OMP_NUM_THREADS": str(num_threads or 1),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(kv_cache_gb or 1))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_PLUGINS": "",  # Trinity's is for an older vLLM
    }
