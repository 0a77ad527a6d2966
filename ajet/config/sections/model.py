"""`ajet.model` and `ajet.lora`: the model to train, and whether only an adapter is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Len

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


class LoraConfig(BaseConfig):
    """Trains a LoRA adapter (arXiv:2106.09685) and keeps the model's own weights as they are."""

    lora_rank: Annotated[int, Ge(0)] = 0
    """Rank of the adapter, often 8 to 64. 0: no adapter, all weights are trained."""
    lora_alpha: Count = 16
    """The adapter is multiplied by `lora_alpha / lora_rank`."""
    target_modules: str | Annotated[list[str], Len(1)] = "all-linear"
    """The linear layers that get an adapter: `all-linear` (all but the output head), a list of
    names such as `[q_proj, v_proj]`, or a regular expression that matches whole names."""
    exclude_modules: str | list[str] | None = None
    """Layers that get none although `target_modules` names them; a list of names or a regular
    expression."""
