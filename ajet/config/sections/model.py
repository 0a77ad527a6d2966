"""`ajet.model`: the model that is tuned, and how it is loaded."""

from __future__ import annotations

from typing import Literal

from ajet.config.loading.paths import ModelPath
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count


class ModelConfig(BaseConfig):
    """The model that is tuned, and how it is loaded."""

    path: ModelPath
    """A folder in Hugging Face format, a hub's `owner/name`, or `ajet:calculator`, the tiny model
    that AgentJet ships."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights; `auto` is float32 on a CPU and bfloat16 on a GPU."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is the GPU where there is one."""
    renderer: str = "auto"
    """The chat format, by its name in the `renderers` library; `auto` asks the model."""
    renderer_options: FreeConfig = FreeConfig()
    """Settings of that chat format, handed to it as they are."""
    enable_thinking: bool | None = None
    """For models that can think or not; null leaves the choice to the chat format."""
    attn_implementation: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    """The attention of `transformers`."""
    torch_num_threads: Count | None = None
    """Threads of torch; null is 1 on a CPU (two on a busy machine are far slower than one, and
    one makes runs repeatable) and torch's own choice on a GPU."""
