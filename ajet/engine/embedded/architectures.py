"""Which architectures of transformers the embedded engine can serve."""

from __future__ import annotations

import inspect

from transformers import PreTrainedModel

from ajet.errors import ModelError

HYBRIDS = ("lfm2", "lfm2_moe", "qwen3_next")
"""Model types that mix attention with layers that keep states, and that are tested here."""

STATE_LAYERS = ("linear_attention", "conv")
"""Layers that keep a state of fixed size instead of keys and values."""


def keeps_states(model: PreTrainedModel) -> bool:
    """Whether some layers keep states, which stand for a whole sequence and cannot be cut."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return any(kind in STATE_LAYERS for kind in kinds)


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
    known = {"full_attention", "sliding_attention"}
    if config.model_type in HYBRIDS:
        known = {"full_attention", *STATE_LAYERS}
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if unknown := kinds - known:
        raise ModelError(
            f"{config.model_type} has layers of type {', '.join(sorted(unknown))}; the embedded "
            "engine serves only attention over a key-value cache; use ajet.rollout.name=vllm"
        )
