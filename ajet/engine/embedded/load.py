"""Loads a model, and checks that the embedded engine can serve it."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from ajet.boundary import caught_error, text_of
from ajet.engine.embedded.model_runner import STATE_LAYERS
from ajet.errors import MissingExtraError, ModelError
from ajet.model_files import adapter_base, check_model_files, read_json, values_error

logger = logging.getLogger(__name__)

HYBRIDS = ("lfm2", "lfm2_moe", "qwen3_next")
"""Model types that mix attention with layers that keep states, and that are tested here."""


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
        _refuse_quantized(folder)
    with caught_error() as caught:  # for wrong files transformers raises errors of all classes
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder if folder.exists() else str(path),
            dtype=dtype,
            attn_implementation=attn_implementation,
            local_files_only=folder.exists(),
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are refused below
        )
    if caught.error:
        raise _loading_error(path, attn_implementation, caught.error) from caught.error
    model: PreTrainedModel = loaded[0]
    _refuse_mismatched(path, loaded[1]["mismatched_keys"])
    _refuse_missing(path, loaded[1]["missing_keys"])
    _refuse_not_finite(path, model)
    if unused := sorted(loaded[1]["unexpected_keys"]):
        logger.warning(
            "%s: %d weights of the checkpoint are in no layer of the model that its config.json "
            "describes, and are left out: %s",
            path,
            len(unused),
            _shown(unused),
        )
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
    shapes = dict(check_model_files(folder))
    _refuse_quantized(folder)
    with caught_error() as caught:
        config = AutoConfig.from_pretrained(folder)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                config, attn_implementation=attn_implementation
            )
    if caught.error:
        raise _loading_error(folder, attn_implementation, caught.error) from caught.error
    state, found = model.state_dict(), shapes.keys()
    _refuse_mismatched(
        folder,
        [
            (name, shape, state[name].shape)
            for name, shape in shapes.items()
            if name in state and state[name].shape != shape
        ],
    )
    # Tied weights are one tensor with several names, of which a file needs one.
    names: dict[int, list[str]] = {}
    for name, weight in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(weight), []).append(name)
    if found and found <= state.keys():
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


def check_architecture(model: PreTrainedModel) -> None:
    """Refuse a model whose forward or whose layers the slot cache does not fit.

    Raises:
        ModelError: the message says what is missing.
    """
    config = model.config.get_text_config()
    accepted = inspect.signature(type(model).forward).parameters
    needed = ("position_ids", "past_key_values", "logits_to_keep")
    if lacking := [name for name in needed if name not in accepted]:
        raise ModelError(
            f"{config.model_type} takes no {' and no '.join(lacking)} in transformers, which the "
            "embedded engine needs to serve many sequences at once; use another model, or another "
            "backbone"
        )
    if getattr(config, "is_decoder", True) is False:
        raise ModelError(
            f"{config.model_type} reads a text in both directions, so it cannot write one token "
            "after the other; use a causal language model"
        )
    known = {"full_attention", "sliding_attention"}
    if config.model_type in HYBRIDS:
        known = {"full_attention", *STATE_LAYERS}
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := kinds - known:
        raise ModelError(
            f"{config.model_type} has layers of type {', '.join(sorted(unknown))}; the embedded "
            "engine serves only attention over a key-value cache; use ajet.rollout.name=vllm"
        )


def _merged_with(folder: Path, base: PreTrainedModel) -> PreTrainedModel:
    """Merge the adapter in `folder`, in PEFT's format, into its base model.

    Raises:
        ModelError: the adapter does not fit.
        MissingExtraError: PEFT is not installed.
    """
    peft = import_peft()
    with caught_error() as caught, warnings.catch_warnings():
        # PEFT 0.21 reads a name that transformers 5.23 wants to be another one.
        warnings.simplefilter("ignore", FutureWarning)
        merged = peft.PeftModel.from_pretrained(base, str(folder)).merge_and_unload()
    if caught.error:
        reason = text_of(caught.error).partition("\n")[0]
        raise ModelError(f"{folder}: the adapter cannot be loaded: {reason}") from caught.error
    model: PreTrainedModel = merged.eval()
    return model


def _refuse_missing(path: str | Path, missing: Iterable[str]) -> None:
    """Refuse a checkpoint without some weights: transformers would make random ones."""
    if names := sorted(missing):
        raise ModelError(
            f"{path}: the checkpoint lacks {len(names)} of the model's weights: {_shown(names)}; "
            "get a complete checkpoint, or correct config.json"
        )


def _refuse_mismatched(
    path: str | Path, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]
) -> None:
    """Refuse weights whose shape is not that of the model: transformers would make random ones."""
    if found := sorted(mismatched):
        name, stored, expected = found[0]
        raise ModelError(
            f"{path}: the shapes of weights are not those of config.json, {len(found)} in all: "
            f"{name} is {list(stored)}, expected {list(expected)}; get the config.json of this "
            "checkpoint"
        )


def _refuse_not_finite(path: str | Path, model: PreTrainedModel) -> None:
    """Refuse weights that are NaN or infinite, of which every answer would consist."""
    names = [
        name
        for name, weight in model.named_parameters()
        if weight.numel() and not all(bound.isfinite() for bound in weight.detach().aminmax())
    ]
    if names:
        raise values_error(path, names)


def _refuse_quantized(folder: Path) -> None:
    """Refuse weights that cannot be trained; those in MXFP4 are converted when they are loaded."""
    settings = read_json(folder / "config.json").get("quantization_config")
    method = settings.get("quant_method") if isinstance(settings, dict) else None
    if method is not None and method != "mxfp4":
        raise ModelError(
            f"{folder}: the model is quantized ({method}), so it cannot be trained; use the model "
            "from before its quantization"
        )


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _loading_error(path: str | Path, attention: str, error: BaseException) -> ModelError:
    """The error for what transformers raised."""
    if attention == "sdpa" and "scaled_dot_product_attention" in str(error):
        return ModelError(
            f"{path}: transformers has no 'sdpa' attention for this model: set "
            "ajet.model.attn_implementation: eager"
        )
    # Transformers appends the names of all its configurations.
    text = " ".join(text_of(error).split()).partition(" Model type should be one of")[0]
    return ModelError(
        f"{path}: cannot be loaded as a causal language model: {text or type(error).__name__}"
    )


def _looks_like_path(path: str) -> bool:
    """Whether this cannot be the id of a model on the hub, which is `name` or `owner/name`."""
    return path.startswith((".", "/", "~")) or path.count("/") > 1
