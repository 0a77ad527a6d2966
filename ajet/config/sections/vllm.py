"""`ajet.rollout.vllm`: vLLM as the engine."""

from __future__ import annotations

from ajet.config.sections.free_section import FreeConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, Positive


class VllmConfig(BaseConfig):
    """vLLM as the engine: servers that the run starts, or that are there already."""

    base_url: str | list[str] | None = None
    """Of servers that are there already, with `/v1` or without. Null: the run starts its own."""
    api_key_env: str = "VLLM_API_KEY"
    """The environment variable with the key for `base_url`; servers that the run starts get a
    fresh one."""
    python: str | None = None
    """The Python with vLLM, where that has an environment of its own; null is the one that runs."""
    num_engines: Count = 1
    """Servers to start; an episode stays with one of them."""
    options: FreeConfig = FreeConfig()
    """More options of `vllm serve`, by their names: `max_num_batched_tokens: 4096`."""
    kv_cache_gb: Positive | None = None
    """Memory for key-values. Null is 1 on a CPU; on a GPU `options.gpu_memory_utilization` is
    what counts."""
    start_timeout_s: Positive = 600.0
    """Seconds until a server must answer."""
    update_timeout_s: Positive = 120.0
    """Seconds that one update of the weights may take."""
