"""`rollouts/step_000012.parquet`: all tokens that a step trained on, one row per sample."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow.parquet as pq

from ajet.monitor.rollout_table import samples_of, table_of
from ajet.monitor.step_tables import StepFiles, step_path
from ajet.schema.episode import Episode, Sample

FOLDER = "rollouts"


class RolloutStore:
    """Writes one file per step; a file is complete or absent.

    Args:
        run_dir: the run's folder.
        resumed_step: files of later steps are removed; None: a new run.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        self._files = StepFiles(run_dir / FOLDER, resumed_step=resumed_step)

    def write(self, step: int, episodes: Iterable[Episode]) -> Path:
        """Write the samples of a step's episodes, and return the file's path."""
        return self._files.write(step, table_of(episodes))


def rollout_path(run_dir: Path, step: int) -> Path:
    """The file with the samples of a step."""
    return step_path(run_dir / FOLDER, step)


def read_rollouts(path: Path) -> list[Sample]:
    """The samples of a file, exactly as trained: same values, order and dtypes."""
    return samples_of(pq.read_table(path))
