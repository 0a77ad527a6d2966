"""What layers keep, in rows that outlive a call: the `past_key_values` of a transformers model."""

from __future__ import annotations

from typing import Any, Literal

import torch
from transformers import Cache

StateKey = tuple[Literal["conv", "recurrent"], int, int]
"""Kind, layer and number of a state."""


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
