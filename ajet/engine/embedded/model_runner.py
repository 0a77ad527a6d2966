"""Runs forward passes of an unmodified transformers model over rows of the slot cache."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.engine.embedded.slot_cache import SlotCache
from ajet.errors import EngineError, ModelError

logger = logging.getLogger(__name__)


class ModelRunner:
    """Computes chunks of different lengths in one pass, each at the end of its cache row."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.cache = SlotCache()
        """The keys and values; the batch keeps its shape equal to that of the slot table."""
        self._model = model
        self._device, self._dtype = model.device, model.dtype
        config = model.config.get_text_config()
        self._window: int | None = getattr(config, "sliding_window", None)
        self._layer_types: list[str] | None = getattr(config, "layer_types", None)
        self._has_states = keeps_states(model)

    def forward(
        self, rows: Sequence[int], starts: np.ndarray, chunks: Sequence[Sequence[int]]
    ) -> torch.Tensor:
        """Compute the keys and values of the chunks, and the logits after each chunk's last token.

        Args:
            rows: [N] cache row of each chunk; 0 to N - 1 are read in place, others are gathered.
            starts: [N] position of each chunk's first token.
            chunks: [N] token ids, at least one per chunk.

        Returns:
            Logits [N, V], in the model's dtype.
        """
        sizes = np.array([len(chunk) for chunk in chunks])
        if self._has_states and len(np.unique(sizes)) > 1:
            return self._forward_by_size(rows, starts, chunks, sizes)
        num, width = len(chunks), int(sizes.max())
        num_keys = int((starts + sizes).max())
        logger.debug("forward: %d rows x %d tokens, %d keys", num, width, num_keys)
        # Padding is on the left, so that the last column has the last token of every chunk. Then
        # only its logits are needed, and the model skips the output layer for all others.
        columns = np.arange(width) - (width - sizes)[:, None]
        is_token = columns >= 0
        positions = np.where(is_token, starts[:, None] + columns, 0)
        ids = np.zeros((num, width), np.int64)
        ids[is_token] = np.concatenate(chunks)
        row_of = np.asarray(rows)
        in_place = bool((row_of == np.arange(num)).all())
        self.cache.aim(
            rows=num if in_place else self._tensor(row_of),
            write_at=(self._tensor(row_of.repeat(sizes)), self._tensor(positions[is_token])),
            tokens=self._tensor(np.flatnonzero(is_token)),
            num_keys=num_keys,
            is_new=self._tensor(starts == 0),
        )
        position_ids = self._tensor(positions)
        logits: torch.Tensor = self._model(
            input_ids=self._tensor(ids),
            position_ids=position_ids,
            attention_mask=self._masks(position_ids, num_keys),
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        self.cache.put_states_back()
        return logits

    def _forward_by_size(
        self,
        rows: Sequence[int],
        starts: np.ndarray,
        chunks: Sequence[Sequence[int]],
        sizes: np.ndarray,
    ) -> torch.Tensor:
        """`forward` in one pass per size of chunks, because padding would change the states."""
        logits: dict[int, torch.Tensor] = {}
        for size in np.unique(sizes):
            same = np.flatnonzero(sizes == size).tolist()
            part = self.forward([rows[i] for i in same], starts[same], [chunks[i] for i in same])
            logits |= zip(same, part, strict=True)
        return torch.stack([logits[i] for i in range(len(chunks))])

    def check_weights(self) -> None:
        """Look for NaN and infinity in the weights, which takes a pass over all of them.

        Raises:
            EngineError: there are some; the message names the first weight.
        """
        for name, weight in self._model.named_parameters():
            if not weight.isfinite().all():
                raise EngineError(
                    f"the model's weight {name} has values that are NaN or infinite, so every "
                    "request would fail"
                )

    def _masks(
        self, position_ids: torch.Tensor, num_keys: int
    ) -> torch.Tensor | dict[str, torch.Tensor | None]:
        """Attention masks [N, 1, S, K] that are added to the scores; one per kind of layer.

        A query sees its own row up to its own position, or the last `sliding_window` tokens of it.
        """
        keys = torch.arange(num_keys, device=self._device)
        queries = position_ids[:, None, :, None]
        is_hidden = keys > queries
        if self._has_states:  # layers with states need no mask, because nothing is padded
            return {"full_attention": self._mask(is_hidden)} | dict.fromkeys(STATE_LAYERS)
        if self._window is None or num_keys <= self._window:
            return self._mask(is_hidden)
        is_outside = is_hidden | (keys <= queries - self._window)
        if self._layer_types is None:
            return self._mask(is_outside)
        return {
            "full_attention": self._mask(is_hidden),
            "sliding_attention": self._mask(is_outside),
        }

    def _mask(self, is_hidden: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros(is_hidden.shape, dtype=self._dtype, device=self._device)
        return mask.masked_fill_(is_hidden, float("-inf"))

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)


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
