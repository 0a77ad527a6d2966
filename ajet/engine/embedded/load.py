"""Loads a model, and checks that the embedded engine can serve it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ajet.engine.embedded.model_runner import check_architecture
from ajet.engine.model_files import adapter_base, check_model_files
from ajet.errors import MissingExtraError, ModelError

_LOADING_ERRORS = (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for a model that it cannot load."""


def load_model(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
    attn_implementation: str = "sdpa",
) -> PreTrainedModel:
    """Load a causal language model.

    Args:
        path: a folder in Hugging Face format, or the id of a model on the hub. An adapter in the
            folder is merged into its base model.
        dtype: the type of the weights.
        device: the device of the weights.
        attn_implementation: `sdpa` or `eager`; others do not take the engine's own masks.

    Raises:
        ModelError: there is no such model, or transformers cannot load it.
    """
    folder = Path(path).expanduser()
    if not folder.exists() and _looks_like_path(str(path)):
        raise ModelError(f"{path}: there is no such folder")
    if (base := adapter_base(folder)) is not None:
        whole = load_model(base, dtype=dtype, attn_implementation=attn_implementation)
        return _merged_with(folder, whole).to(device)  # type: ignore[arg-type,no-any-return]
    if folder.exists():
        check_model_files(folder)
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder if folder.exists() else str(path),
            dtype=dtype,
            attn_implementation=attn_implementation,
            local_files_only=folder.exists(),
            output_loading_info=True,
        )
    except _LOADING_ERRORS as error:
        raise _loading_error(path, attn_implementation, error) from error
    model: PreTrainedModel = loaded[0]
    _refuse_missing(path, loaded[1]["missing_keys"])
    for parameter in model.parameters():
        # The memory address of weights that are mapped from a file depends on the file's header,
        # and the last bits of a matrix product depend on the alignment of that address. A copy is
        # always aligned, so equal weights give equal results.
        parameter.data = parameter.data.clone()
    return model.to(device)  # type: ignore[arg-type,no-any-return]


def check_loading(
    folder: Path, attn_implementation: str, max_model_len: int | None, *, is_served: bool = True
) -> PreTrainedModel | None:
    """Refuse what `load_model` and `check_model` would refuse, without reading a weight.

    Missing weights are found only if the names in the files are those of the model, because
    transformers renames and merges the weights of some models while it loads them.

    Args:
        folder: the model's folder.
        attn_implementation: the attention implementation of transformers.
        max_model_len: the most tokens of a sequence; None: those that the model has positions for.
        is_served: False: another engine serves it, so `check_model` is left out.

    Returns:
        The model without its weights; None if it is an adapter of a model on the hub.

    Raises:
        ModelError: the model cannot be loaded, or the embedded engine cannot serve it.
    """
    if (base := adapter_base(folder)) is not None:
        folder = Path(base)
        if not folder.exists():  # on the hub
            return None
    found = {name for name, _ in check_model_files(folder)}
    try:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation=attn_implementation
            )
    except _LOADING_ERRORS as error:
        raise _loading_error(folder, attn_implementation, error) from error
    # Tied weights are one tensor with several names, of which a file needs one.
    names: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    if found and found <= model.state_dict().keys():
        missing = [tied[0] for tied in names.values() if found.isdisjoint(tied)]
        _refuse_missing(folder, missing)
    if is_served:
        check_model(model, max_model_len or longest_sequence(model))
    return model


def import_peft() -> ModuleType:
    """The library, which takes a second to import.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise MissingExtraError("peft", "lora") from None
    module: ModuleType = peft
    return module


def longest_sequence(model: PreTrainedModel) -> int:
    """The most tokens that the model has positions for.

    Raises:
        ModelError: its configuration does not say.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    if positions is None:
        check_architecture(model)
        raise ModelError(
            f"the config.json of {model.config.model_type} does not name the longest sequence: set "
            "ajet.rollout.max_model_len"
        )
    return int(positions)


def check_model(model: PreTrainedModel, max_model_len: int) -> None:
    """Refuse a model that the slot cache would serve wrongly.

    Raises:
        ModelError: the attention, the length, the architecture or a kind of layer is not supported.
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
    check_architecture(model)


def _merged_with(folder: Path, base: PreTrainedModel) -> PreTrainedModel:
    """Merge the adapter in `folder`, in PEFT's format, into its base model.

    Raises:
        ModelError: the adapter does not fit.
        MissingExtraError: PEFT is not installed.
    """
    peft = import_peft()
    try:
        with warnings.catch_warnings():
            # PEFT 0.21 reads a name that transformers 5.23 wants to be another one.
            warnings.simplefilter("ignore", FutureWarning)
            merged = peft.PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(f"{folder}: the adapter cannot be loaded: {reason}") from error
    model: PreTrainedModel = merged.eval()
    return model


def _refuse_missing(path: str | Path, missing: Iterable[str]) -> None:
    """Refuse a checkpoint without some weights: transformers would make random ones."""
    if names := sorted(missing):
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ModelError(
            f"{path}: the checkpoint lacks {len(names)} of the model's weights: {shown}; get a "
            "complete checkpoint, or correct config.json"
        )


def _loading_error(path: str | Path, attention: str, error: BaseException) -> ModelError:
    """The error for what transformers raised."""
    if attention == "sdpa" and "scaled_dot_product_attention" in str(error):
        return ModelError(
            f"{path}: transformers has no 'sdpa' attention for this model: set "
            "ajet.model.attn_implementation: eager"
        )
    return ModelError(f"{path}: cannot be loaded as a causal language model: {error}")


def _looks_like_path(path: str) -> bool:
    """Whether this cannot be the id of a model on the hub, which is `name` or `owner/name`."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1
