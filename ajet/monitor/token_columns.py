"""Columns with an array in each row, without a Python object for each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa


def token_column(arrays: Sequence[np.ndarray | None], arrow_type: pa.DataType) -> pa.Array:
    """A list a row; null where there is no array."""
    lengths = [0 if array is None else len(array) for array in arrays]
    missing = pa.array([array is None for array in arrays], pa.bool_())
    present = [array for array in arrays if array is not None]
    values = pa.array(np.concatenate(present) if present else [], arrow_type)
    return pa.ListArray.from_arrays(list_offsets(lengths), values, mask=missing)


def token_arrays(lists: pa.ListArray, dtype: type[np.generic]) -> list[Any]:
    """One array a row, None where the row is null."""
    values = lists.values.to_numpy(zero_copy_only=False).astype(dtype)
    bounds = lists.offsets.to_numpy()
    missing = lists.is_null().to_numpy(zero_copy_only=False)
    return [
        None if missing[row] else values[bounds[row] : bounds[row + 1]] for row in range(len(lists))
    ]


def list_offsets(lengths: Sequence[int]) -> pa.Array:
    """Where each of so many values begins, and where the last one ends."""
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
