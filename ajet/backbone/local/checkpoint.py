"""Checkpoints of the local backbone.

A checkpoint is a folder `step_000012`: the model in Hugging Face format with its tokenizer,
`trainer_state.pt` (optimizer and random states), `reader_state.json`, and `manifest.json` with the
step, the policy version and the size of every other file.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from ajet.backbone.local.atomic_folder import remove_folder, remove_leftovers, written_aside
from ajet.backbone.local.optimizer import PolicyOptimizer
from ajet.backbone.local.random_state import random_state, set_random_state
from ajet.errors import CheckpointError

_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where a run stands, beside its weights and its optimizer."""

    step: int
    """Steps that are done."""
    policy_version: int
    reader_state: dict[str, Any]
    """Position in the data, as JSON."""


def save_checkpoint(
    folder: Path,
    progress: Progress,
    *,
    model: PreTrainedModel,
    optimizer: PolicyOptimizer,
    tokenizer_dir: Path,
    max_to_keep: int | None = None,
) -> Path:
    """Write `folder/step_…` in full or not at all; its path.

    Args:
        folder: the run's `checkpoints`; made if missing.
        progress: what to continue from.
        model: its weights are written in their dtype.
        optimizer: of this model.
        tokenizer_dir: the folder that the model came from; its tokenizer files are copied.
        max_to_keep: afterwards, remove the oldest above this number; None: keep all.

    Raises:
        CheckpointError: it cannot be written (disk full, say); earlier ones are as they were.
    """
    final = folder / f"step_{progress.step:06d}"
    remove_leftovers(folder)
    try:
        with written_aside(final) as partial:
            model.save_pretrained(partial)
            for pattern in _TOKENIZER_FILES:
                for file in tokenizer_dir.glob(pattern):
                    shutil.copyfile(file, partial / file.name)
            state = {"optimizer": optimizer.state_dict(), "random": random_state()}
            with (partial / "trainer_state.pt").open("wb") as file:
                torch.save(state, file)
            (partial / "reader_state.json").write_text(json.dumps(progress.reader_state))
            _write_manifest(partial, progress)
    except (OSError, RuntimeError, SafetensorError) as error:
        # safetensors raises an error of its own for a full disk, torch one that hides the system's.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(
            f"{final}: the checkpoint cannot be written: {reason}\n"
            f"{_free_megabytes(folder)} MB are free there now, without what was written of it. "
            "Earlier checkpoints are as they were."
        ) from error
    if max_to_keep is not None:
        for old in list_checkpoints(folder)[:-max_to_keep]:
            remove_folder(old)
    return final


def load_checkpoint(path: Path, *, model: PreTrainedModel, optimizer: PolicyOptimizer) -> Progress:
    """Restore weights, optimizer and random states in place, bit for bit.

    Raises:
        CheckpointError: a file is missing or not of the size that was written.
    """
    manifest = _checked_manifest(path)
    saved = type(model).from_pretrained(path, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
    state = torch.load(path / "trainer_state.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    set_random_state(state["random"])
    return Progress(
        step=manifest["step"],
        policy_version=manifest["policy_version"],
        reader_state=json.loads((path / "reader_state.json").read_text()),
    )


def list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints, the oldest step first."""
    return sorted(folder.glob("step_" + "[0-9]" * 6))


def latest_checkpoint(folder: Path) -> Path | None:
    """The checkpoint to resume from, if there is one; leftovers of dead attempts are removed."""
    remove_leftovers(folder)
    return max(list_checkpoints(folder), default=None)


def _write_manifest(folder: Path, progress: Progress) -> None:
    manifest = {
        "step": progress.step,
        "policy_version": progress.policy_version,
        "bytes": {file.name: file.stat().st_size for file in sorted(folder.iterdir())},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2))


def _checked_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
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
