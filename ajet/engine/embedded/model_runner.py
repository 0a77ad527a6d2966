"""Runs an unmodified transformers model: forward passes over cache rows, and sampling.

The cache rows are the `past_key_values` of the model, and outlive a call.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from transformers import Cache, PreTrainedModel

from ajet.engine.embedded.schedule import Request
from ajet.errors import EngineError
from ajet.schema.episode import SamplingParams

logger = logging.getLogger(__name__)

StateKey = tuple[Literal["conv", "recurrent"], int, int]
"""Kind, layer and number of a state."""


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

    def sample(
        self, logits: torch.Tensor, requests: Sequence[Request]
    ) -> tuple[list[int], list[float]]:
        """Sample the next token of each request.

        Args:
            logits: [N, V], from `forward`.
            requests: [N]; their grammars and random numbers are read, and not advanced.

        Returns:
            Tokens [N] and their logprobs [N]; the logprob is NaN or infinite where the logits are.
        """
        uniforms = [request.uniforms[len(request.generation.token_ids)] for request in requests]
        params = [request.params for request in requests]
        tokens, logprobs = sample(_with_grammars(logits, requests), params, uniforms)
        return tokens.tolist(), logprobs.tolist()

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


STATE_LAYERS = ("linear_attention", "conv")
"""Layers that keep a state of fixed size instead of keys and values."""


def keeps_states(model: PreTrainedModel) -> bool:
    """Whether some layers keep states, which stand for a whole sequence and cannot be cut."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None) or []
    return any(kind in STATE_LAYERS for kind in kinds)


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample one token per row.

    A row's token depends only on its own logits, parameters and random number: it is the first
    token in vocabulary order at which the cumulative probability (float64) exceeds that number.

    Args:
        logits: [N, V], any float type.
        params: [N] parameters of each row.
        uniforms: [N] random numbers in [0, 1).

    Returns:
        Tokens [N] int64, and logprobs [N] float32 as `Generation.logprobs` defines them.
    """
    logits = logits.float()
    temperatures = [p.temperature or 1.0 for p in params]
    if any(t != 1.0 for t in temperatures):
        logits = logits / logits.new_tensor(temperatures)[:, None]
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.double().exp()
    _cut_tails(probabilities, params)
    cumulated = probabilities.cumsum(-1)
    cumulated /= cumulated[:, -1:].clone()
    targets = cumulated.new_tensor(uniforms)[:, None]
    tokens = torch.searchsorted(cumulated, targets, right=True)
    # Only NaN exceeds the vocabulary. It must not fail here: the engine sees it in the logprobs.
    tokens = tokens.clamp_(max=logits.shape[-1] - 1)
    greedy = [p.temperature == 0 for p in params]
    if any(greedy):
        is_greedy = torch.tensor(greedy, device=logits.device)[:, None]
        tokens = torch.where(is_greedy, logits.argmax(-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def _cut_tails(probabilities: torch.Tensor, params: Sequence[SamplingParams]) -> None:
    """Set to 0, in place, the probabilities of tokens that top-k and top-p exclude."""
    vocabulary = probabilities.shape[-1]
    cut = [i for i, p in enumerate(params) if p.top_p < 1 or 0 < p.top_k < vocabulary]
    if not cut:
        return
    top_p = probabilities.new_tensor([params[i].top_p for i in cut])[:, None]
    top_k = probabilities.new_tensor([params[i].top_k or vocabulary for i in cut])[:, None]
    rows = torch.tensor(cut, device=probabilities.device)
    ordered, order = probabilities[rows].sort(dim=-1, descending=True, stable=True)
    ordered = ordered * (torch.arange(vocabulary, device=order.device) < top_k)
    # top-p applies to the tokens that top-k left, renormalised. A token stays if the tokens before
    # it have less than top_p together, so the first token always stays.
    ordered /= ordered.sum(-1, keepdim=True)
    ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
    probabilities[rows] = torch.zeros_like(ordered).scatter_(-1, order, ordered)


def _with_grammars(logits: torch.Tensor, requests: Sequence[Request]) -> torch.Tensor:
    """The logits [N, V], minus infinity where a row's grammar does not allow the token."""
    rows = [row for row, request in enumerate(requests) if request.grammar is not None]
    if not rows:
        return logits
    allowed = np.stack([request.grammar.allowed() for request in requests if request.grammar])
    logits = logits.float()  # a copy: the model's own logits stay as they are
    index = torch.tensor(rows, device=logits.device)
    forbidden = torch.from_numpy(~allowed).to(logits.device)
    return logits.index_copy(0, index, logits[index].masked_fill(forbidden, -math.inf))


class SlotCache(Cache):
    """One sequence per row; each row has its own length.

    New keys are written at their own positions, so rows of different lengths go through the model
    together. The storage of each layer is [rows, heads, columns, head_dim]. The keys of a head are
    contiguous, which is twice as fast on a CPU as interleaved heads. The storage is allocated when
    it is first needed, and zeroed: masked positions have weight 0, and 0 times NaN would be NaN.

    Layers with a convolution or linear attention keep a state per row instead, of the size that
    they choose. It stands for the whole row: unlike keys, it cannot be cut to a shorter prefix.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.shape: tuple[int, int]
        """Number of rows and of columns."""
        self._stores: dict[int, tuple[torch.Tensor, torch.Tensor]]  # keys and values, by layer
        self._states: dict[StateKey, torch.Tensor]  # [rows, ...]
        self._current: dict[StateKey, torch.Tensor]  # [N, ...]: of the pass that runs
        self.clear()

    def clear(self) -> None:
        """Drop all keys and values and free their memory."""
        self.shape = 0, 0
        self._stores = {}
        self._states = {}
        self._current = {}

    def resize(self, rows: int, columns: int) -> None:
        """Grow to [rows, columns] tokens and keep the contents."""
        old_rows, old_columns = self.shape
        self.shape = rows, columns
        for key, state in self._states.items():
            self._states[key] = state.new_zeros((rows, *state.shape[1:]))
            self._states[key][:old_rows] = state
        for layer, stores in self._stores.items():
            grown = tuple(self._allocate(store) for store in stores)
            for new, old in zip(grown, stores, strict=True):
                new[:old_rows, :, :old_columns] = old
            self._stores[layer] = grown[0], grown[1]

    def aim(
        self,
        rows: torch.Tensor | int,
        write_at: tuple[torch.Tensor, torch.Tensor],
        tokens: torch.Tensor,
        num_keys: int,
        is_new: torch.Tensor,
    ) -> None:
        """Set what the next forward pass reads and writes.

        Args:
            rows: [N] rows of the batch, or the number N for the first N rows, read in place.
            write_at: [M] row and [M] position of each new token.
            tokens: [M] index of each new token in the flattened batch [N * S].
            num_keys: how many columns attention sees.
            is_new: [N] whether a row starts with this pass, so that it has no state yet.
        """
        self._is_new = is_new
        self._rows, self._write_at, self._tokens, self._num_keys = rows, write_at, tokens, num_keys

    def update(
        self,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        layer_idx: int,
        *args: Any,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store the new keys and values [N, heads, S, head_dim] of a layer.

        The attention layers of the model call this.

        Returns:
            All keys and values that the layer's attention sees.
        """
        if layer_idx not in self._stores:
            self._stores[layer_idx] = self._allocate(key_states), self._allocate(value_states)
        keys, values = self._stores[layer_idx]
        return self._put_and_get(keys, key_states), self._put_and_get(values, value_states)

    def get_conv_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """The last inputs [N, C, K] of a convolution; None before its first pass.

        The layer may change the result in place.
        """
        return self._state_of(("conv", layer_idx, state_idx))

    def update_conv_state(
        self,
        conv_states: torch.Tensor,
        layer_idx: int,
        state_idx: int = 0,
        conv_kernel_size: int | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Store the last inputs of a convolution and return them after those from before."""
        assert conv_kernel_size is not None, "the models that the engine serves name it"
        old = self.get_conv_state(layer_idx, state_idx)
        if old is None:
            old = conv_states.new_zeros((*conv_states.shape[:-1], conv_kernel_size))
        joined = torch.cat([old, conv_states], dim=-1)
        self._current["conv", layer_idx, state_idx] = joined[..., -conv_kernel_size:]
        return joined

    def get_recurrent_state(self, layer_idx: int, state_idx: int = 0) -> torch.Tensor | None:
        """The state [N, ...] of linear attention; None before its first pass."""
        return self._state_of(("recurrent", layer_idx, state_idx))

    def update_recurrent_state(
        self, recurrent_states: torch.Tensor, layer_idx: int, state_idx: int = 0, **kwargs: Any
    ) -> torch.Tensor:
        """Store the state of linear attention."""
        self._current["recurrent", layer_idx, state_idx] = recurrent_states
        return recurrent_states

    def is_recording_past(self, layer_idx: int) -> bool:
        """Return False: states are never rolled back."""
        return False

    def put_states_back(self) -> None:
        """Write the states after a forward pass into their rows."""
        for key, state in self._current.items():
            if key not in self._states:
                self._states[key] = state.new_zeros((self.shape[0], *state.shape[1:]))
            if isinstance(self._rows, int):
                self._states[key][: self._rows] = state
            else:
                self._states[key].index_copy_(0, self._rows, state)
        self._current = {}

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: the model always gets explicit positions, so it needs no length."""
        return 0

    def copy(self, sources: list[int], targets: list[int], num_tokens: int) -> None:
        """Copy the first tokens of some rows to other rows; all are read before any is written."""
        parts = [store[:, :, :num_tokens] for stores in self._stores.values() for store in stores]
        for part in [*parts, *self._states.values()]:
            source = torch.tensor(sources, device=part.device)
            target = torch.tensor(targets, device=part.device)
            part.index_copy_(0, target, part.index_select(0, source))

    def _state_of(self, key: StateKey) -> torch.Tensor | None:
        """A copy of the state in the rows of this pass, 0 in those that are new."""
        if key not in self._states:
            return None
        kept = self._states[key]
        rows = self._rows
        state = kept[:rows].clone() if isinstance(rows, int) else kept.index_select(0, rows)
        state[self._is_new] = 0
        self._current[key] = state
        return state

    def _allocate(self, like: torch.Tensor) -> torch.Tensor:
        rows, columns = self.shape
        return like.new_zeros((rows, like.shape[1], columns, like.shape[3]))

    def _put_and_get(self, store: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        flat = new.transpose(1, 2).flatten(0, 1)
        if len(self._tokens) < len(flat):
            flat = flat.index_select(0, self._tokens)
        rows, positions = self._write_at
        store[rows, :, positions] = flat
        seen = store[:, :, : self._num_keys]
        if isinstance(self._rows, int):
            return seen[: self._rows]
        return seen.index_select(0, self._rows)
