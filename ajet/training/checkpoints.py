"""A run's checkpoints, of whatever backbone.

A checkpoint is a folder `step_000012`: the model in Hugging Face format with its tokenizer, what
the backbone needs beyond that, `reader_state.json`, and `manifest.json` with the step, the policy
version and the size of every other file.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.errors import CheckpointError

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
READER_STATE = "reader_state.json"


@dataclass(slots=True, kw_only=True)
class Position:
    """Where a run stands, beside its weights and its optimizer."""

    step: int
    """Steps that are done."""
    policy_version: int
    reader_state: dict[str, Any]
    """Position in the data, as JSON."""


@contextmanager
def written_checkpoint(
    folder: Path, position: Position, *, max_to_keep: int | None = None
) -> Iterator[Path]:
    """A folder to put model and optimizer into; then it is `folder/step_...`, in full or not.

    Args:
        folder: the run's `checkpoints`; made if missing.
        position: what to continue from.
        max_to_keep: afterwards, remove the oldest above this number; None: keep all.

    Raises:
        CheckpointError: it cannot be written (disk full, say); earlier ones are as they were.
    """
    final = folder / f"step_{position.step:06d}"
    _remove_leftovers(folder)
    try:
        with _written_aside(final) as partial:
            yield partial
            (partial / READER_STATE).write_text(json.dumps(position.reader_state))
            _write_manifest(partial, position)
    except (OSError, RuntimeError) as error:
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(
            f"{final}: the checkpoint cannot be written: {reason}\n"
            f"{_free_megabytes(folder)} MB are free there now, without what was written of it. "
            "Earlier checkpoints are as they were."
        ) from error
    if max_to_keep is not None:
        for old in list_checkpoints(folder)[:-max_to_keep]:
            _remove_folder(old)


def read_position(path: Path) -> Position:
    """Where the run of a checkpoint stood.

    Raises:
        CheckpointError: a file is missing or not of the size that was written.
    """
    manifest = _checked_manifest(path)
    return Position(
        step=manifest["step"],
        policy_version=manifest["policy_version"],
        reader_state=json.loads((path / READER_STATE).read_text()),
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, the oldest step first."""
    return sorted(folder.glob("step_" + "[0-9]" * 6))


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from, if there is one; leftovers of dead attempts are removed."""
    _remove_leftovers(folder)
    return max(list_checkpoints(folder), default=None)


def _write_manifest(folder: Path, position: Position) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "step": position.step,
        "policy_version": position.policy_version,
        "bytes": {str(file.relative_to(folder)): file.stat().st_size for file in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))


def _checked_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder} is not a checkpoint of a run: {error}") from error
    for name, expected in manifest["bytes"].items():
        file = folder / name
        size = file.stat().st_size if file.exists() else None
        if size != expected:
            got = "is missing" if size is None else f"has {size} bytes"
            raise CheckpointError(
                f"{file} {got}; it was written with {expected}. "
                "Remove this checkpoint's folder to resume from the one before."
            )
    return manifest


def _free_megabytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free // 2**20


@contextmanager
def _written_aside(final: Path) -> Iterator[Path]:
    """A folder to fill; once filled, it is on the disk under the name `final`.

    What was called `final` before is replaced. If filling fails, nothing is left.
    """
    partial = _aside(final)
    partial.mkdir(parents=True)
    try:
        yield partial
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        _remove_folder(final)
        partial.rename(final)
        _sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _remove_folder(path: Path) -> None:
    """Remove a folder, if there is one, such that its name never stands for a part of it."""
    if path.exists():
        old = _aside(path).with_suffix(f".partial-{os.getpid()}-old")
        path.rename(old)
        shutil.rmtree(old)


def _remove_leftovers(folder: Path) -> None:
    """Remove what processes that died while writing or removing left in a folder."""
    for leftover in folder.glob(".*.partial-*"):
        logger.warning("removing %s: the process that wrote it died", leftover)
        shutil.rmtree(leftover)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
