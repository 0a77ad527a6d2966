"""An upper bound of a run's memory, from the model's files alone: no weight is loaded.

With P parameters of b bytes each:

- weights P b; gradients P b; AdamW 8 P, and 8 P more (float32 copies and their gradients) if
  b < 4; a reference model for the KL loss P b;
- with LoRA, of an adapter of A parameters: weights 2 P b, because those with the adapter merged in
  are kept, too; gradients A b; AdamW 8 A or 16 A; and no reference model. A is at most r times the
  sum of all widths of the layers;
- activations, for the T tokens of a micro-batch: in each layer 4 T (2 h + q + k + i) b, with
  hidden size h, attention's query size q and key size k, and intermediate size i;
- logits, for a vocabulary of V: 5 times T V values of 4 bytes, as if every token were trained; with
  the backbone local no more than the part that it has in memory at once;
- keys and values for S sequences of L tokens: 2 S L k b in each layer;
- Python and its libraries: half a GB.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.backbone.local.micro_batches import MAX_LOGITS, MAX_LOGITS_ON_GPU
from ajet.config.sections.root import AjetConfig
from ajet.errors import ModelError
from ajet.model_files import adapter_base, check_model_files, read_json, weight_files

GB = 2**30
NAMES = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "heads": ("num_attention_heads", "n_head", "num_heads"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers"),
    "intermediate": ("intermediate_size", "n_inner", "ffn_dim"),
    "max_length": ("max_position_embeddings", "n_positions"),
}
"""The names that architectures give to the same number in `config.json`."""
BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(slots=True, kw_only=True, frozen=True)
class ModelSize:
    """The numbers of a model that its memory depends on."""

    parameters: int
    layers: int
    hidden: int
    intermediate: int
    queries: int
    """Number of attention heads times their size."""
    keys: int
    """Number of key-value heads times their size."""
    vocabulary: int
    max_length: int
    """The longest sequence of the model, in tokens."""


def size_of(folder: Path) -> ModelSize:
    """Read the size from `config.json` and the headers of the safetensors files.

    Raises:
        ModelError: a file or a field is missing.
    """
    folder = Path(adapter_base(folder) or folder)
    weights = check_model_files(folder)
    config = read_json(folder / "config.json")
    config = config.get("text_config", config)  # models with vision nest it
    try:
        heads, hidden = _value(config, "heads"), _value(config, "hidden")
        head_size = config.get("head_dim") or hidden // heads
        return ModelSize(
            parameters=sum(math.prod(shape) for _, shape in weights)
            or _parameters_by_bytes(folder),
            layers=_value(config, "layers"),
            hidden=hidden,
            intermediate=_value(config, "intermediate", 4 * hidden if "n_embd" in config else None),
            queries=heads * head_size,
            keys=(config.get("num_key_value_heads") or heads) * head_size,
            vocabulary=config["vocab_size"],
            max_length=_value(config, "max_length"),
        )
    except KeyError as error:
        raise ModelError(f"{folder / 'config.json'}: the key {error} is missing") from error
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise ModelError(f"{folder / 'config.json'} has a wrong number: {error}") from error


def _value(config: dict[str, Any], what: str, default: int | None = None) -> int:
    """A number of the configuration, under whichever of its names the architecture uses."""
    for name in NAMES[what]:
        if config.get(name) is not None:
            return int(config[name])
    if default is None:
        raise KeyError(NAMES[what][0])
    return default


def _parameters_by_bytes(folder: Path) -> int:
    """At most this many parameters are in PyTorch files, whose headers cannot be read alone."""
    return sum(file.stat().st_size for file in weight_files(folder)) // 2


def estimate(size: ModelSize, ajet: AjetConfig, *, on_gpu: bool) -> dict[str, float]:
    """An upper bound of the memory in bytes, by purpose.

    Args:
        size: the size of the model.
        ajet: how the model is trained and served.
        on_gpu: whether the model runs on a GPU, where the dtype `auto` means bfloat16.
    """
    dtype = ajet.model.dtype
    width = BYTES[dtype if dtype != "auto" else "bfloat16" if on_gpu else "float32"]
    common, rollout = ajet.trainer_common, ajet.rollout
    length = rollout.max_model_len or size.max_length
    tokens = max(common.micro_batch_tokens, length)
    wide = 2 * size.hidden + size.queries + size.keys + size.intermediate
    per_token = 4 * wide * width * size.layers
    logits = tokens * size.vocabulary
    if ajet.backbone == "local":
        logits = min(logits, MAX_LOGITS_ON_GPU if on_gpu else MAX_LOGITS)
    rank = ajet.lora.lora_rank
    trained = rank * _widths(size) if rank else size.parameters
    parts: dict[str, float] = {
        "weights": size.parameters * width * (2 if rank or common.use_kl_loss else 1),
        "gradients": trained * width,
        "optimizer": trained * (8 if width == 4 else 16),
        f"activations of {tokens:,} tokens": tokens * per_token + 5 * 4 * logits,
    }
    if rollout.name == "vllm":
        engines = rollout.vllm.num_engines if rollout.vllm.base_url is None else 0
        parts[f"{engines} vLLM engines"] = engines * (
            size.parameters * width + (rollout.vllm.kv_cache_gb or 1) * GB
        )
    else:
        rows = min(rollout.max_num_seqs, rollout.max_env_worker)
        name = f"key-values of {rows} x {length:,} tokens"
        parts[name] = rows * length * size.layers * 2 * size.keys * width
    return parts | {"Python": GB / 2}


def _widths(size: ModelSize) -> int:
    """Inputs and outputs of all linear layers: an adapter has that many parameters per rank."""
    attention = 4 * size.hidden + 2 * size.queries + 2 * size.keys
    return size.layers * (attention + 3 * (size.hidden + size.intermediate))
