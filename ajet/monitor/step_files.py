"""`step_000012.parquet` in a folder of a run: one file a step, whole or not there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ajet.monitor.atomic_file import ASIDE_SUFFIX, written_aside


class StepFiles:
    """Writes one table a step.

    Args:
        folder: made here for a new run.
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
        """Write the table of a step, and return the file's path."""
        path = step_path(self._folder, step)
        with written_aside(path) as aside:
            pq.write_table(table, aside, compression="zstd")
        return path


def step_path(folder: Path, step: int) -> Path:
    """Where the file of a step is."""
    return folder / f"step_{step:06d}.parquet"


def steps_in(folder: Path) -> list[int]:
    """The steps that have a file, the first one first."""
    return sorted(int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.parquet"))
