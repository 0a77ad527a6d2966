"""Settings and environment variables with which verl and vLLM run on a CPU."""

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
            # Chunked prefill of a request with a seed crashes vLLM 0.28 on a CPU: it asks the
            # torch generator for an offset, which CPU generators do not have.
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

_MODULES = ("ajet.backbone.verl.cpu.vllm_version", "ajet.backbone.verl.cpu.platform")
"""Modules that verl 0.9 imports in each of its processes, in this order.

The version comes first: importing the platform makes verl ask for it.
"""


def environment(
    *, kv_cache_gb: float | None, num_threads: int | None, given: str
) -> dict[str, str]:
    """Environment variables for every process of a run.

    Args:
        kv_cache_gb: memory for the key-values of each vLLM engine; None: 1.
        num_threads: torch threads of each process; None: 1.
        given: the current value of VERL_USE_EXTERNAL_MODULES, whose modules are kept.
    """
    others = [name for name in given.split(",") if name not in ("", *_MODULES)]
    return {
        "VERL_PLATFORM": "cpu",
        "VERL_USE_EXTERNAL_MODULES": ",".join([*_MODULES, *others]),
        "OMP_NUM_THREADS": str(num_threads or 1),
        "TORCHDYNAMO_DISABLE": "1",
        "VLLM_CPU_KVCACHE_SPACE": str(max(1, round(kv_cache_gb or 1))),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        # vLLM takes the "uni" executor above only without a process for the engine core.
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    }
