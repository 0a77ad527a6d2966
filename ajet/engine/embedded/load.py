"""Loads a model, and checks that the embedded engine can serve it."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from ajet.errors import ModelError


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """Load a causal language model.

    Args:
        path: a folder in Hugging Face format, or the id of a model on the hub.
        dtype: the type of the weights.
        device: the device of the weights.
        attn_implementation: `sdpa` or `eager`; others do not take the engine's own masks.

    Raises:
        ModelError: there is no such model, or transformers cannot load it.
    """
    folder = Path(path).expanduser()
    if not folder.exists() and _looks_like_path(str(path)):
        raise ModelError(f"{path}: there is no such folder")
    if folder.exists() and not (folder / "config.json").is_file():
        raise ModelError(f"{path} is not the folder of a model: it has no config.json")
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder if folder.exists() else str(path),
            dtype=dtype,
            attn_implementation=attn_implementation,
            local_files_only=folder.exists(),
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise ModelError(f"{path}: cannot be loaded as a causal language model: {error}") from error
    for parameter in model.parameters():
        # The memory address of weights that are mapped from a file depends on the file's header,
        # and the last bits of a matrix product depend on the alignment of that address. A copy is
        # always aligned, so equal weights give equal results.
        parameter.data = parameter.data.clone()
    return model.to(device)  # type: ignore[arg-type,no-any-return]


def check_model(model: PreTrainedModel, max_model_len: int) -> None:
    """Refuse a model that the slot cache would serve wrongly.

    Raises:
        ModelError: the attention, the length or a kind of layer is not supported.
    """
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        raise ModelError(
            f"ajet.model.attn_implementation is {attention!r}; the embedded engine needs "
            "'sdpa' or 'eager'"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and max_model_len > positions:
        raise ModelError(
            f"ajet.rollout.max_model_len is {max_model_len}, but the model has only {positions} "
            "positions"
        )
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"{config.model_type} has layers of type {', '.join(sorted(unknown))}; the embedded "
            "engine serves only attention over a key-value cache; use ajet.rollout.name=vllm"
        )


def _looks_like_path(path: str) -> bool:
    """Whether this cannot be the id of a model on the hub, which is `name` or `owner/name`."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1
