"""Checkpoints of the local backbone: beside the model, `trainer_state.pt` (optimizer, random)."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from ajet.backbone.local.optimizer import PolicyOptimizer
from ajet.backbone.local.random_state import random_state, set_random_state
from ajet.training.checkpoints import Position, read_position, written_checkpoint

_TOKENIZER_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "chat_template*",
)


def save_checkpoint(
    folder: Path,
    position: Position,
    *,
    model: PreTrainedModel,
    optimizer: PolicyOptimizer,
    tokenizer_dir: Path,
    max_to_keep: int | None = None,
) -> None:
    """Write `folder/step_…` in full or not at all.

    Args:
        folder: the run's `checkpoints`; made if missing.
        position: what to continue from.
        model: its weights are written in their dtype.
        optimizer: of this model.
        tokenizer_dir: the folder that the model came from; its tokenizer files are copied.
        max_to_keep: afterwards, remove the oldest above this number; None: keep all.

    Raises:
        CheckpointError: it cannot be written (disk full, say); earlier ones are as they were.
    """
    with written_checkpoint(folder, position, max_to_keep=max_to_keep) as partial:
        try:
            model.save_pretrained(partial)
        except SafetensorError as error:  # its own error for a full disk
            raise OSError(str(error)) from error
        for pattern in _TOKENIZER_FILES:
            for file in tokenizer_dir.glob(pattern):
                shutil.copyfile(file, partial / file.name)
        state = {"optimizer": optimizer.state_dict(), "random": random_state()}
        with (partial / "trainer_state.pt").open("wb") as output:
            torch.save(state, output)


def load_checkpoint(path: Path, *, model: PreTrainedModel, optimizer: PolicyOptimizer) -> Position:
    """Restore weights, optimizer and random states in place, bit for bit.

    Raises:
        CheckpointError: a file is missing or not of the size that was written.
    """
    position = read_position(path)
    saved = type(model).from_pretrained(path, dtype=model.dtype)
    model.load_state_dict(saved.state_dict())
    state = torch.load(path / "trainer_state.pt", map_location="cpu", weights_only=True)
    optimizer.load_state_dict(state["optimizer"])
    set_random_state(state["random"])
    return position
