"""Builds the vLLM server of a warm engine."""

from __future__ import annotations

import json
from pathlib import Path

from ajet.backbone.local.policy import chosen_device, chosen_dtype
from ajet.config.sections.root import AjetConfig
from ajet.engine.vllm.installed import require_vllm
from ajet.engine.vllm.server import VllmServer, vllm_command
from ajet.errors import ConfigError


def make_server(ajet: AjetConfig, model: Path, log: Path) -> VllmServer:
    """The server for a model on disk, not started yet.

    Raises:
        ConfigError: the configuration names servers that run already, or vLLM is not installed.
    """
    vllm = ajet.rollout.vllm
    if vllm.base_url:
        raise ConfigError(
            "ajet.rollout.vllm.base_url names servers that run already; a warm engine would start "
            "another. To debug with one of them, set debug.engine to its URL"
        )
    require_vllm(vllm.python)
    device = chosen_device(ajet.model.device)
    settings = json.loads((model / "config.json").read_text(encoding="utf-8"))
    options = dict(vllm.options)
    port = options.pop("port", None)
    command, env = vllm_command(
        model.resolve(),
        python=vllm.python,
        device="cpu" if device.type == "cpu" else "cuda",
        dtype=str(chosen_dtype(ajet.model.dtype, device)).removeprefix("torch."),
        max_model_len=ajet.rollout.max_model_len or settings["max_position_embeddings"],
        max_num_seqs=ajet.rollout.max_num_seqs,
        num_threads=ajet.model.torch_num_threads or 1,
        kv_cache_gb=vllm.kv_cache_gb,
        options=options,
    )
    return VllmServer(
        "vllm",
        command,
        env=env,
        port=port,
        log=log,
        start_timeout_s=vllm.start_timeout_s,
    )
