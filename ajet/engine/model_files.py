"""What a model's files say before any weight is read: are they whole, and which weights they hold.

This module does not import torch, so `ajet check` uses it, too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ajet.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The names of an adapter's files in PEFT's format."""
ADAPTER_PREFIX = "base_model.model."
"""Before each name in these files: PEFT saves an adapter from a model inside two others."""

_POINTER = b"version https://git-lfs.github.com/spec/"


def check_model_files(folder: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Check that every file of weights is there in full.

    Returns:
        Name and shape of each weight in the safetensors files; empty for `.bin` files, whose
        names cannot be read without loading them.

    Raises:
        ModelError: the message names the file and what is wrong with it.
    """
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} is not the folder of a model: it has no config.json")
    shapes: list[tuple[str, tuple[int, ...]]] = []
    files = weight_files(folder)
    for file in files:
        with file.open("rb") as stream:
            if stream.read(len(_POINTER)) == _POINTER:
                raise ModelError(
                    f"{file} is a Git LFS pointer, not the weights: fetch them with  git lfs pull"
                )
        if file.suffix == ".safetensors":
            shapes += _header_of(file)
    return shapes


def adapter_base(folder: Path) -> str | None:
    """Folder or hub name of the model that the adapter in `folder` belongs to; None: no adapter.

    Raises:
        ModelError: the adapter does not name it, or it is no longer there.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    try:
        base = json.loads(file.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except ValueError as error:
        raise ModelError(f"{file} is not JSON: {error}") from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{file} does not name the base model (base_model_name_or_path)")
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise ModelError(
            f"{folder} is an adapter of the model in {base}, and there is no such folder: put the "
            f"model there, or correct base_model_name_or_path in {file}"
        )
    return base


def weight_files(folder: Path) -> list[Path]:
    """The files of weights in a model folder: safetensors, else PyTorch's.

    Raises:
        ModelError: there is none, or one that the index lists is missing.
    """
    for pattern, index in (
        ("*.safetensors", "model.safetensors.index.json"),
        ("pytorch_model*.bin", "pytorch_model.bin.index.json"),
    ):
        files = sorted(folder.glob(pattern))
        if (folder / index).is_file():
            listed = json.loads((folder / index).read_text())["weight_map"].values()
            if missing := sorted(set(listed) - {file.name for file in files}):
                raise ModelError(f"{folder / missing[0]} is missing; {index} lists it")
        if files:
            return files
    raise ModelError(
        f"{folder}: cannot be loaded as a causal language model: there is no safetensors file in "
        "this folder, and no pytorch_model.bin"
    )


def _header_of(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight, by the header of a safetensors file.

    Raises:
        ModelError: the file is shorter than its header says, or has none.
    """
    # The file starts with the length of its header in 8 bytes, little-endian; the header is JSON.
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if 8 + length > size:
            raise ModelError(f"{file} has {size:,} bytes, fewer than its header: copy it again")
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
        except ValueError as error:
            raise ModelError(f"{file} is not a safetensors file: {error}") from error
    header.pop("__metadata__", None)
    ends = [weight["data_offsets"][1] for weight in header.values() if "data_offsets" in weight]
    expected = 8 + length + max(ends, default=0)
    if size < expected:
        raise ModelError(
            f"{file} is truncated: it has {size:,} bytes, and its header says {expected:,}: copy "
            "it again"
        )
    return [(name, tuple(weight["shape"])) for name, weight in header.items()]
