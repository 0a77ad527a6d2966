"""Rows of one episode out of a step's Parquet files, without reading the rest of the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

BATCH_ROWS = 32
"""Rows that are decoded at once: a row may be a sample of 100,000 tokens."""


class UnreadableError(Exception):
    """A file that is there and cannot be read; the message says why."""


def episode_rows(path: Path, episode_id: str, columns: Sequence[str]) -> pa.Table | None:
    """The rows of an episode, with those of the columns that the file has; None: no such file.

    Raises:
        UnreadableError: the file is damaged, or is no file of episodes.
    """
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            ids = file.read(columns=["episode_id"]).column("episode_id")
            rows = np.flatnonzero(pc.equal(ids, episode_id).to_numpy(zero_copy_only=False))
            there = [name for name in columns if name in names]
            schema = pa.schema([file.schema_arrow.field(name) for name in there])
            return pa.Table.from_batches(_batches(file, rows, there), schema)
    except (OSError, pa.ArrowException, KeyError, TypeError) as error:
        raise UnreadableError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error


def _batches(file: pq.ParquetFile, rows: np.ndarray, columns: list[str]) -> list[pa.RecordBatch]:
    """Only the wanted rows of each batch, and no batch behind the last of them."""
    kept: list[pa.RecordBatch] = []
    if not len(rows):
        return kept
    start = 0
    for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=columns, use_threads=False):
        here = rows[(rows >= start) & (rows < start + batch.num_rows)] - start
        if len(here):
            kept.append(batch.take(pa.array(here)))
        start += batch.num_rows
        if start > rows[-1]:
            break
    return kept


def column_of(path: Path, columns: Sequence[str]) -> pa.Table | None:
    """Whole columns of a step's file; None where the file or one of them is not there.

    Raises:
        UnreadableError: the file is damaged.
    """
    if not path.is_file():
        return None
    try:
        with pq.ParquetFile(path) as file:
            if not {name.partition(".")[0] for name in columns} <= set(file.schema_arrow.names):
                return None
            return file.read(columns=list(columns), use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise UnreadableError(f"{path.parent.name}/{path.name} cannot be read: {error}") from error


def file_version(path: Path, key: bytes) -> str | None:
    """The version that a file says it has; None where it says none."""
    try:
        metadata = pq.read_schema(path).metadata or {}
    except (OSError, pa.ArrowException):
        return None
    version = metadata.get(key)
    return None if version is None else version.decode(errors="replace")
