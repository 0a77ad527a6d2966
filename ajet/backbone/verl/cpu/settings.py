"""The settings with which verl and vLLM run on a CPU. Imports nothing."""

from __future__ import annotations

from typing import Any

_MODEL = {"use_remove_padding": False, "enable_gradient_checkpointing": False}

CPU: dict[str, Any] = {
    "critic": {"model": _MODEL, "fsdp": {"use_torch_compile": False}},
    "actor_rollout_ref": {
        "model": _MODEL,
        "actor": {"use_torch_compile": False, "fsdp_config": {"use_torch_compile": False}},
        "ref": {"use_torch_compile": False, "fsdp_config": {"use_torch_compile": False}},
        "rollout": {
            # In chunks, requests with a seed end vLLM 0.28: CPU generators have no offset.
            "enable_chunked_prefill": False,
            "enforce_eager": True,
            "free_cache_engine": False,
            "enable_sleep_mode": False,
            "gpu_memory_utilization": 0.1,
            "checkpoint_engine": {"update_weights_bucket_megabytes": 32},
            "engine_kwargs": {
                "vllm": {
                    "distributed_executor_backend": "uni",
                    "worker_extension_cls": (
                        "ajet.backbone.verl.cpu.vllm_extension.CpuWorkerExtension"
                    ),
                }
            },
        },
    },
}

_PROFILE = "ajet.backbone.verl.cpu.profile"


def environment(
    *, kv_cache_gb: float | None, num_threads: int | None, given: str
) -> dict[str, str]:
    """What every process of verl must find in its environment.

    Args:
        kv_cache_gb: of each vLLM.
        num_threads: of torch in each process.
        given: VERL_USE_EXTERNAL_MODULES as it is.
    """
    others = [name for name in given.split(",") if name not in ("", _PROFILE)]
    return {
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": ",".join([_PROFILE, *others]),
        "OMP_NUM_THREADS": str(num_threads or 1),
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(kv_cache_gb or 1))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else the "uni" executor above is not taken
    }
