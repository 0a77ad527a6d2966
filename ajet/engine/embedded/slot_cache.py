"""Keys and values in rows that outlive a call: the `past_key_values` of a transformers model."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Cache


class SlotCache(Cache):
    """One sequence per row; each row has its own length.

    New keys are written at their own positions, so rows of different lengths go through the model
    together. The storage of each layer is [rows, heads, columns, head_dim]. The keys of a head are
    contiguous, which is twice as fast on a CPU as interleaved heads. The storage is allocated when
    it is first needed, and zeroed: masked positions have weight 0, and 0 times NaN would be NaN.
    """

    def __init__(self) -> None:
        super().__init__(layers=[])
        self.shape: tuple[int, int]
        """Number of rows and of columns."""
        self._stores: list[tuple[torch.Tensor, torch.Tensor]]  # keys and values, by layer
        self.clear()

    def clear(self) -> None:
        """Drop all keys and values and free their memory."""
        self.shape = 0, 0
        self._stores = []

    def resize(self, rows: int, columns: int) -> None:
        """Grow to [rows, columns] tokens and keep the contents."""
        old_rows, old_columns = self.shape
        self.shape = rows, columns
        for layer, stores in enumerate(self._stores):
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
    ) -> None:
        """Set what the next forward pass reads and writes.

        Args:
            rows: [N] rows of the batch, or the number N for the first N rows, read in place.
            write_at: [M] row and [M] position of each new token.
            tokens: [M] index of each new token in the flattened batch [N * S].
            num_keys: how many columns attention sees.
        """
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
        if layer_idx == len(self._stores):
            self._stores.append((self._allocate(key_states), self._allocate(value_states)))
        keys, values = self._stores[layer_idx]
        return self._put_and_get(keys, key_states), self._put_and_get(values, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Return 0: the model always gets explicit positions, so it needs no length."""
        return 0

    def copy(self, sources: list[int], targets: list[int], num_tokens: int) -> None:
        """Copy the first tokens of some rows to other rows; all are read before any is written."""
        stores = [store for stores in self._stores for store in stores]
        source = torch.tensor(sources, device=stores[0].device)
        target = torch.tensor(targets, device=stores[0].device)
        for store in stores:
            part = store[:, :, :num_tokens]
            part.index_copy_(0, target, part.index_select(0, source))

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
