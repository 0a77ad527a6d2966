"""`ajet.model`: the model to train and how to load it."""

from __future__ import annotations

from typing import Literal

from ajet.config.loading.paths import ModelPath
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count


class ModelConfig(BaseConfig):
    """The model to train and how to load it."""

    path: ModelPath
    """A folder in Hugging Face format, a hub's `owner/name`, or `ajet:calculator`, the tiny model
    that AgentJet ships."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Data type of the weights. `auto`: float32 on a CPU, bfloat16 on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: the GPU if there is one, otherwise the CPU."""
    renderer: str = "auto"
    """Name of the chat format in the `renderers` library. `auto`: by the model."""
    renderer_options: FreeConfig = FreeConfig()
    """Settings that are passed unchanged to that chat format."""
    enable_thinking: bool | None = None
    """Turns thinking on or off for models with that choice. Null: the chat format's default."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """The attention implementation of `transformers`."""
    torch_num_threads: Count | None = None
    """Number of torch's threads. Null: torch's default on a GPU; 1 on a CPU, which makes runs
    repeatable and is faster than two on a busy machine."""
