"""Checkpoints of a run, the same for every backbone: each exists in full or not at all.

A checkpoint is a folder `step_000012`: the model in Hugging Face format with its tokenizer, the
backbone's own state, `reader_state.json`, and `manifest.json` with the step, the policy
version, and the size and SHA-256 of every other file.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.boundary import caught_error
from ajet.errors import CheckpointError
from ajet.monitor.best_checkpoint import linked_checkpoint

logger = logging.getLogger(__name__)

MANIFEST = "manifest.json"
READER_STATE = "reader_state.json"


@dataclass(slots=True, kw_only=True)
class Position:
    """How far a run has come: what a checkpoint records besides weights and optimizer."""

    step: int
    """Number of finished steps."""
    policy_version: int
    reader_state: dict[str, Any]
    """Position in the training data, as JSON values."""


@contextmanager
def written_checkpoint(
    folder: Path, position: Position, *, max_to_keep: int | None = None
) -> Iterator[Path]:
    """Yields a folder for model and optimizer, and publishes it as `folder/step_...` at the end.

    Args:
        folder: the run's folder `checkpoints`; created if missing.
        position: where a resumed run continues.
        max_to_keep: delete the oldest checkpoints beyond this number afterwards, but never the best
            one; None: keep all.

    Raises:
        CheckpointError: it cannot be written (for example: disk full). Earlier ones are unchanged.
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
            f"{_free_megabytes(folder)} MB are free there, now that the partial one is deleted. "
            "Earlier checkpoints are unchanged."
        ) from error
    if max_to_keep is not None:
        best = linked_checkpoint(folder.parent)
        for old in list_checkpoints(folder)[:-max_to_keep]:
            if old != best:
                remove_checkpoint(old)


def read_position(path: Path) -> Position:
    """Check the files of a checkpoint and read how far its run had come.

    Raises:
        CheckpointError: a file is missing or is not what was written; the message names the
            checkpoint before.
    """
    manifest = _checked_manifest(path)
    with damage_named(path):
        reader_state = json.loads((path / READER_STATE).read_text())
        if not isinstance(reader_state, dict):
            raise CheckpointError(f"{path / READER_STATE} is damaged. {_remedy(path)}")
        return Position(
            step=int(manifest["step"]),
            policy_version=int(manifest["policy_version"]),
            reader_state=reader_state,
        )


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Turn whatever the reading of a checkpoint raises into one sentence with a remedy.

    Raises:
        CheckpointError: the block raised something; names the checkpoint before.
    """
    with caught_error() as caught:
        yield
    if isinstance(caught.error, CheckpointError):
        raise caught.error
    if caught.error is not None:
        reason = f"{type(caught.error).__name__}: {caught.error}".partition("\n")[0]
        raise CheckpointError(f"{path} cannot be read: {reason}. {_remedy(path)}") from caught.error


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints in a folder, oldest first."""
    return sorted(folder.glob("step_" + "[0-9]" * 6))


def step_of(checkpoint: Path) -> int:
    """The step in the name of a checkpoint."""
    return int(checkpoint.name.removeprefix("step_"))


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint, if there is one. Deletes partial ones of processes that died."""
    _remove_leftovers(folder)
    return max(list_checkpoints(folder), default=None)


def _write_manifest(folder: Path, position: Position) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    manifest = {
        "step": position.step,
        "policy_version": position.policy_version,
        "bytes": {str(file.relative_to(folder)): file.stat().st_size for file in files},
        "sha256": {str(file.relative_to(folder)): _sha256(file) for file in files},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2))


def _checked_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text())
        hashes = manifest.get("sha256", {})  # older checkpoints have sizes only
        sizes = {str(name): int(size) for name, size in manifest["bytes"].items()}
        _ = manifest["step"], manifest["policy_version"]
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise CheckpointError(
            f"{folder} is not a checkpoint of a run, or its {MANIFEST} is damaged: {error}. "
            f"{_remedy(folder)}"
        ) from error
    for name, size in sizes.items():
        if fault := _fault_of(folder / name, size, hashes.get(name)):
            raise CheckpointError(f"{folder / name} {fault}. {_remedy(folder)}")
    return manifest


def _fault_of(file: Path, size: int, sha256: str | None) -> str | None:
    """How a file differs from what was written; None: it does not."""
    if not file.exists():
        return f"is missing; it was written with {size} bytes"
    found = file.stat().st_size
    if found != size:
        return f"has {found} bytes; it was written with {size}"
    if sha256 is not None and _sha256(file) != sha256:
        return "has the size that was written, but other contents: its SHA-256 differs"
    return None


def _remedy(folder: Path) -> str:
    """What the user can do about a damaged checkpoint."""
    earlier = [path for path in list_checkpoints(folder.parent) if path.name < folder.name]
    if earlier:
        return f"Remove {folder} to resume from the checkpoint before, {earlier[-1].name}."
    return f"There is no earlier checkpoint: remove {folder} to start from the base model."


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _free_megabytes(folder: Path) -> int:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free // 2**20


@contextmanager
def _written_aside(final: Path) -> Iterator[Path]:
    """Yields a temporary folder and renames it to `final` once it is filled and on disk.

    An existing `final` is replaced. If filling fails, the temporary folder is deleted.
    """
    partial = _aside(final)
    partial.mkdir(parents=True)
    try:
        yield partial
        # Contents first, names second: after a power cut, a name never points to missing data.
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        remove_checkpoint(final)
        partial.rename(final)
        _sync(final.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def remove_checkpoint(path: Path) -> None:
    """Delete a checkpoint if it exists; a half-deleted one never has its name."""
    if path.exists():
        old = _aside(path).with_suffix(f".partial-{os.getpid()}-old")
        path.rename(old)
        shutil.rmtree(old)


def _remove_leftovers(folder: Path) -> None:
    """Delete the temporary folders of processes that died while they wrote or deleted."""
    for leftover in folder.glob(".*.partial-*"):
        logger.warning("deleting %s: the process that wrote it has died", leftover)
        shutil.rmtree(leftover)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial-{os.getpid()}")


def _sync(path: Path) -> None:
    """Wait until a file, or the list of names in a folder, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
