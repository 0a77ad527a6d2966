"""`calls/step_000012.parquet`: a step's episodes with all calls, for `ajet replay`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ajet.errors import DataError
from ajet.monitor.call_table import StoredStep, step_of, table_of_groups
from ajet.monitor.step_tables import StepFiles, step_path, steps_in
from ajet.schema.episode import Group

FOLDER = "calls"
VERSION = "1"
"""Version of the columns and of their meaning."""

_VERSION_KEY = b"ajet.calls"


class CallStore:
    """Writes one file per step; a file is complete or absent.

    Args:
        run_dir: the run's folder.
        resumed_step: files of later steps are removed; None: a new run.
    """

    def __init__(self, run_dir: Path, *, resumed_step: int | None = None) -> None:
        self._files = StepFiles(run_dir / FOLDER, resumed_step=resumed_step)

    def write(self, step: int, groups: Sequence[Group], discarded: Sequence[Group] = ()) -> Path:
        """Write the trained groups and those that dynamic sampling discarded."""
        table = table_of_groups(groups, discarded)
        return self._files.write(step, table.replace_schema_metadata({_VERSION_KEY: VERSION}))


def call_path(run_dir: Path, step: int) -> Path:
    """The file with the calls of a step."""
    return step_path(run_dir / FOLDER, step)


def recorded_steps(run_dir: Path) -> list[int]:
    """The steps whose calls are stored, in ascending order."""
    return steps_in(run_dir / FOLDER)


def read_calls(path: Path) -> StoredStep:
    """The episodes of a step as they were recorded.

    Raises:
        DataError: the file is damaged, or another version of AgentJet wrote it.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode()
    if version != VERSION:
        raise DataError(
            f"{path}: file version {version}, expected {VERSION}: use the AgentJet that wrote it"
        )
    return step_of(table)
