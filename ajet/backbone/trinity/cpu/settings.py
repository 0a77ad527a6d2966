"""Settings and environment variables with which Trinity and vLLM run on a CPU."""

from __future__ import annotations

from typing import Any

CPU: dict[str, Any] = {
    "synchronizer": {"sync_method": "memory"},
    "explorer": {
        "rollout_model": {
            # Chunked prefill of a request with a seed crashes vLLM 0.28 on a CPU: it asks the
            # torch generator for an offset, which CPU generators do not have.
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
    """Environment variables for every process of a run.

    Args:
        kv_cache_gb: memory for the key-values of each vLLM engine; None: 1.
        num_threads: torch threads of each process; None: 1.
    """
    return {
        "OMP_NUM_THREADS": str(num_threads or 1),
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(kv_cache_gb or 1))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_PLUGINS": "",  # Trinity 0.6's plugin patches an older vLLM
    }
