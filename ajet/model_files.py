"""What a model's files say before any weight is read: are they whole, and which weights they hold.

This module does not import torch, so `ajet check` uses it, too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ajet.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The names of an adapter's files in PEFT's format."""
ADAPTER_PREFIX = "base_model.model."
"""Before each name in these files: PEFT saves an adapter from a model inside two others."""

LOOKED_AT = 4_000_000_000
"""Bytes of weights above which `check_values` leaves a file out: reading it takes too long."""
_EXPONENTS = {"F32": ("<u4", 0x7F800000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
"""Type of weights -> how its numbers are read as integers, and the bits of the exponent, which are
all set in NaN and infinity only."""

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
    read_json(folder / "config.json")
    shapes: list[tuple[str, tuple[int, ...]]] = []
    files = weight_files(folder)
    for file in files:
        if not file.is_file():
            what = "a link to a file that is not there" if file.is_symlink() else "no file"
            raise ModelError(f"{file} is {what}: copy the weights again")
        _refuse_pointer(file, "weights")
        if file.suffix == ".safetensors":
            shapes += _shapes_in(file)
    return shapes


def check_values(folder: Path) -> None:
    """Check that no weight in the safetensors files is NaN or infinite.

    Raises:
        ModelError: one is.
    """
    names = [
        name
        for file in weight_files(folder)
        if file.suffix == ".safetensors" and file.stat().st_size <= LOOKED_AT
        for name in _not_finite(file)
    ]
    if names:
        raise values_error(folder, names)


def values_error(folder: Path | str, names: Sequence[str]) -> ModelError:
    """The error for weights with such values."""
    shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    return ModelError(
        f"{folder}: weights have values that are NaN or infinite, {len(names)} in all: {shown}; "
        "get the checkpoint again"
    )


def _not_finite(file: Path) -> Iterator[str]:
    import numpy as np

    header, begin = read_header(file)
    data = np.memmap(file, dtype=np.uint8, mode="r")
    for name, weight in header.items():
        if weight["dtype"] in _EXPONENTS:
            kind, exponent = _EXPONENTS[weight["dtype"]]
            first, end = weight["data_offsets"]
            numbers = data[begin + first : begin + end].view(kind)
            parts = (numbers[at : at + 10_000_000] for at in range(0, len(numbers), 10_000_000))
            if any(((part & exponent) == exponent).any() for part in parts):
                yield name


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file of a model.

    Raises:
        ModelError: it cannot be read, or is no JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        _refuse_pointer(file, "file")
        raise ModelError(f"{file} cannot be read: {error}: copy it again") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file} has a JSON {type(content).__name__}, expected an object")
    return content


def _refuse_pointer(file: Path, what: str) -> None:
    with file.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise ModelError(
                f"{file} is a Git LFS pointer, not the {what}: fetch them with  git lfs pull"
            )


def adapter_base(folder: Path) -> str | None:
    """Folder or hub name of the model that the adapter in `folder` belongs to; None: no adapter.

    Raises:
        ModelError: the adapter does not name it, it is no longer there, or it is no LoRA adapter.
    """
    file = folder / ADAPTER_CONFIG
    if not file.is_file():
        return None
    config = read_json(file)
    base, kind = config.get("base_model_name_or_path"), config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ModelError(f"{folder} is an adapter of the kind {kind}; only LORA can be merged")
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
            weight_map = read_json(folder / index).get("weight_map")
            if not isinstance(weight_map, dict):
                raise ModelError(f"{folder / index} has no weight_map: copy it again")
            listed = weight_map.values()
            if missing := sorted(set(listed) - {file.name for file in files}):
                raise ModelError(f"{folder / missing[0]} is missing; {index} lists it")
        if files:
            return files
    raise ModelError(
        f"{folder}: cannot be loaded as a causal language model: there is no safetensors file in "
        "this folder, and no pytorch_model.bin"
    )


def read_header(file: Path) -> tuple[dict[str, Any], int]:
    """The entries of a safetensors file by name, and the position at which their data begin.

    Raises:
        ModelError: the file is shorter than its header, or the header is not a JSON object.
    """
    # The file starts with the length of its header in 8 bytes, little-endian; the header is JSON.
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if 8 + length > size:
            raise ModelError(f"{file} has {size:,} bytes, fewer than its header: copy it again")
        try:
            header: dict[str, Any] = json.loads(stream.read(length))
            header.pop("__metadata__", None)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ModelError(f"{file} is not a safetensors file: {error}") from error
    return header, 8 + length


def _shapes_in(file: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of each weight, by the header of a safetensors file.

    Raises:
        ModelError: the file is shorter than its header says, or has none.
    """
    header, begin = read_header(file)
    try:
        ends = [w["data_offsets"][1] for w in header.values() if "data_offsets" in w]
        shapes = [(name, tuple(weight["shape"])) for name, weight in header.items()]
    except (TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{file} is not a safetensors file: {error}") from error
    for name, weight in header.items():
        if name.endswith(".weight") and str(weight.get("dtype")).startswith(("I", "U")):
            raise ModelError(
                f"{file}: {name} has integers ({weight['dtype']}): quantized weights cannot be "
                "trained; use the model from before its quantization"
            )
    size, expected = file.stat().st_size, begin + max(ends, default=0)
    if size < expected:
        raise ModelError(
            f"{file} is truncated: it has {size:,} bytes, and its header says {expected:,}: copy "
            "it again"
        )
    return shapes
