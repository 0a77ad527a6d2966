"""`rollouts/step_000012.parquet`: what a step trained on, token by token, one row a sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from ajet.monitor.atomic_file import ASIDE_SUFFIX, written_aside
from ajet.monitor.rollout_table import samples_of, table_of
from ajet.schema.episode import Episode
from ajet.schema.sample import Sample

FOLDER = "rollouts"


class RolloutStore:
    """Writes one file a step; a file is whole or not there.

    Args:
        run_dir: the run's folder.
        resumed_step: files of later steps are removed; None: a new run.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        self._folder = run_dir / FOLDER
        self._folder.mkdir(exist_ok=resumed_step is not None)
        for path in self._folder.glob(f"step_*.parquet{ASIDE_SUFFIX}"):
            path.unlink()
        for path in self._folder.glob("step_*.parquet"):
            if resumed_step is not None and int(path.stem.removeprefix("step_")) > resumed_step:
                path.unlink()

    def write(self, step: int, episodes: Iterable[Episode]) -> Path:
        """Write the samples of a step's episodes, and return the file's path."""
        path = self._folder / _file_name(step)
        with written_aside(path) as aside:
            pq.write_table(table_of(episodes), aside, compression="zstd")
        return path


def rollout_path(run_dir: Path, step: int) -> Path:
    """Where the samples of a step are."""
    return run_dir / FOLDER / _file_name(step)


def read_rollouts(path: Path) -> list[Sample]:
    """The samples of one file, exactly as they were trained on: values, order and dtypes."""
    return samples_of(pq.read_table(path))


def _file_name(step: int) -> str:
    return f"step_{step:06d}.parquet"
