"""Parquet files of a run, one per step, such as `step_000012.parquet`.

Each file is complete or absent. Columns that hold an array in each row are converted without a
Python object per token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ajet.monitor.durable_files import ASIDE_SUFFIX, written_aside


class StepFiles:
    """Writes one table per step.

    Args:
        folder: created for a new run.
        resumed_step: files of later steps are removed; None: a new run.
    """

    def __init__(self, folder: Path, *, resumed_step: int | None = None) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=resumed_step is not None)
        for path in folder.glob(f"step_*.parquet{ASIDE_SUFFIX}"):
            path.unlink()
        for step in steps_in(folder):
            if resumed_step is not None and step > resumed_step:
                step_path(folder, step).unlink()

    def write(self, step: int, table: pa.Table) -> Path:
        """Write the table of a step and return the file's path."""
        path = step_path(self._folder, step)
        with written_aside(path) as aside:
            pq.write_table(table, aside, compression="zstd")
        return path


def step_path(folder: Path, step: int) -> Path:
    """The file of a step."""
    return folder / f"step_{step:06d}.parquet"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a file, in ascending order. Files with other names are not looked at."""
    names = (re.fullmatch(r"step_(\d{6,})\.parquet", path.name) for path in folder.glob("step_*"))
    return sorted(int(match[1]) for match in names if match)


def token_column(arrays: Sequence[np.ndarray | None], arrow_type: pa.DataType) -> pa.Array:
    """A column with one array per row; None becomes null."""
    lengths = [0 if array is None else len(array) for array in arrays]
    missing = pa.array([array is None for array in arrays], pa.bool_())
    present = [array for array in arrays if array is not None]
    values = pa.array(np.concatenate(present) if present else [], arrow_type)
    return pa.ListArray.from_arrays(list_offsets(lengths), values, mask=missing)


def token_arrays(lists: pa.ListArray, dtype: type[np.generic]) -> list[Any]:
    """The arrays of a column; None for null."""
    values = lists.values.to_numpy(zero_copy_only=False).astype(dtype)
    bounds = lists.offsets.to_numpy()
    missing = lists.is_null().to_numpy(zero_copy_only=False)
    return [
        None if missing[row] else values[bounds[row] : bounds[row + 1]] for row in range(len(lists))
    ]


def list_offsets(lengths: Sequence[int]) -> pa.Array:
    """Arrow's offsets for lists of these lengths: each start, and the end of the last list."""
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
