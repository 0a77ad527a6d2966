"""Checkpoints of the local backbone: the model, or its adapter, and `trainer_state.pt`.

The state has the optimizer and the random generators.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel

from ajet.backbone.local.adapter import Adapter
from ajet.backbone.local.optimizer import PolicyOptimizer
from ajet.errors import CheckpointError
from ajet.model_files import adapter_base
from ajet.training.checkpoints import Position, damage_named, read_position, written_checkpoint

TOKENIZER_FILES = (
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
    adapter: Adapter | None = None,
    max_to_keep: int | None = None,
) -> None:
    """Write the checkpoint `folder/step_...`, in full or not at all.

    Args:
        folder: the run's folder `checkpoints`; created if missing.
        position: where a resumed run continues.
        model: its weights are written in their dtype.
        optimizer: of this model.
        tokenizer_dir: the folder that the model came from; its tokenizer files are copied.
        adapter: what was trained in the model; it is written alone.
        max_to_keep: delete the oldest checkpoints beyond this number afterwards; None: keep all.

    Raises:
        CheckpointError: it cannot be written (for example: disk full). Earlier ones are unchanged.
    """
    with written_checkpoint(folder, position, max_to_keep=max_to_keep) as partial:
        try:
            if adapter is not None:
                adapter.save(partial)
            else:
                model.save_pretrained(partial)
        except SafetensorError as error:  # how it reports a full disk; we report an OSError
            raise OSError(str(error)) from error
        for pattern in TOKENIZER_FILES:
            for file in tokenizer_dir.glob(pattern):
                shutil.copyfile(file, partial / file.name)
        state = {"optimizer": optimizer.state_dict(), "random": _random_state()}
        with (partial / "trainer_state.pt").open("wb") as output:
            torch.save(state, output)


def load_checkpoint(
    path: Path,
    *,
    model: PreTrainedModel,
    optimizer: PolicyOptimizer,
    adapter: Adapter | None = None,
) -> Position:
    """Restore weights, optimizer and random states in place, bit for bit.

    Raises:
        CheckpointError: a file is missing or is not what was written, or the run trained an adapter
            and `ajet.lora` says otherwise now.
    """
    position = read_position(path)
    with damage_named(path):
        if (adapter is None) != (adapter_base(path) is None):
            trained = "all weights" if adapter is not None else "an adapter"
            raise CheckpointError(
                f"{path}: the run trained {trained} so far, and ajet.lora.lora_rank says otherwise "
                "now; resume with the value that it began with"
            )
        if adapter is not None:
            adapter.load(path)
        else:
            saved = type(model).from_pretrained(path, dtype=model.dtype)
            model.load_state_dict(saved.state_dict())
        state = torch.load(path / "trainer_state.pt", map_location="cpu", weights_only=True)
        optimizer.load_state_dict(state["optimizer"])
        _set_random_state(state["random"])
    return position


def _random_state() -> dict[str, Any]:
    """States of all random generators that user code may draw from.

    The types are those that `torch.load(weights_only=True)` accepts.
    """
    numpy_state: Any = np.random.get_state(legacy=True)
    name, keys, *rest = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
    }


def _set_random_state(state: dict[str, Any]) -> None:
    """Restore what `_random_state` returned."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available():
        # A run may continue where fewer GPUs are visible.
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])
