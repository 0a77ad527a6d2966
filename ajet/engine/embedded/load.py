"""Loading a model, and what a model must be like for the embedded engine to serve it."""

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
        dtype: of the weights.
        device: where they go.
        attn_implementation: `sdpa` or `eager`; the engine needs masks of its own.

    Raises:
        ModelError: there is no such model, or it is not one that transformers can load.
    """
    folder = Path(path).expanduser()
    if not folder.exists() and _looks_like_path(str(path)):
        raise ModelError(f"{path}: there is no such folder")
    if folder.exists() and not (folder / "config.json").is_file():
        raise ModelError(f"{path}: not a model folder: it has no config.json")
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
        # Weights read from a file lie where its header lets them, and the last bits of a matrix
        # product depend on that: a copy is aligned, so that equal weights give equal results.
        parameter.data = parameter.data.clone()
    return model.to(device)  # type: ignore[arg-type,no-any-return]


def check_model(model: PreTrainedModel, max_model_len: int) -> None:
    """Refuse what the slot cache would serve wrongly.

    Raises:
        ModelError: the message says what to change.
    """
    config = model.config.get_text_config()
    attention = config._attn_implementation
    if attention not in ("sdpa", "eager"):
        raise ModelError(
            f"ajet.model.attn_implementation={attention!r}: the embedded engine needs "
            "'sdpa' or 'eager'"
        )
    positions = getattr(config, "max_position_embeddings", None)
    if positions is not None and max_model_len > positions:
        raise ModelError(
            f"ajet.rollout.max_model_len={max_model_len}: the model has {positions} positions"
        )
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := kinds - {"full_attention", "sliding_attention"}:
        raise ModelError(
            f"{config.model_type} has layers of type {', '.join(sorted(unknown))}: the embedded "
            "engine serves attention over a key-value cache only"
        )


def _looks_like_path(path: str) -> bool:
    """A hub id is `name` or `owner/name`, and nothing else."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1
