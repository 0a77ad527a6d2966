"""Values that name files: looked for in the YAML file's folder, then in the current one.

A value of the command line is looked for in the current folder first. What is found is made
absolute.

The folders to look in come with pydantic's validation context (`LookIn`). Without one, as in
`RolloutConfig(user_workflow=...)`, a value stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypedDict

from pydantic import AfterValidator, ValidationInfo

from ajet.config.messages import unavailable_error, value_error
from ajet.config.sections.types import Words

SHIPPED_PREFIX = "ajet:"
SHIPPED_MODELS = Path(__file__).resolve().parents[2] / "tiny_model"

KINDS: dict[Callable[[Path], bool], str] = {Path.is_file: "a file", Path.is_dir: "a folder"}
"""What is looked for, in words."""

HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")
"""What may be the id of a model or data set on a hub."""
DATA_SUFFIXES = {".parquet": "parquet", ".jsonl": "json", ".json": "json", ".csv": "csv"} | {
    ".tsv": "csv",
    ".arrow": "arrow",
}
"""Suffix of a data file -> the format's name in the library `datasets`."""
COMPRESSED = (".gz", ".bz2", ".xz", ".zst")
"""Suffixes that may follow those of data files."""


class LookIn(TypedDict):
    """Pydantic's validation context."""

    folders: list[Path]
    """Relative paths are relative to the first of these in which they exist."""
    typed: set[str]
    """Values of the command line, which are looked for in the last of the folders first."""
    accept_missing: bool
    """Data and models that are not found stay as they are given."""


def find_path(name: str, info: ValidationInfo, exists: Callable[[Path], bool]) -> str:
    """The absolute form of a path, relative to the first folder where it exists.

    Raises:
        PydanticCustomError: there is no such file.
    """
    found, tried = _look_for(name, info, exists)
    if found is None:
        raise value_error(_not_found(name, tried, exists))
    return found


def _look_for(
    name: str, info: ValidationInfo, exists: Callable[[Path], bool]
) -> tuple[str | None, list[Path]]:
    """The path where it exists, or None; and where it was looked for."""
    if not info.context:
        return name, []
    folders: list[Path] = info.context["folders"]
    if name in info.context["typed"]:
        folders = folders[::-1]
    try:
        tried = list(dict.fromkeys(folder / Path(name).expanduser() for folder in folders))
        return next((str(path.resolve()) for path in tried if exists(path)), None), tried
    except (OSError, RuntimeError) as error:  # too long a name; "~" of a user that is not there
        reason = getattr(error, "strerror", None) or error
        raise value_error(f'"{name[:80]}" names no file: {reason}') from error


def _not_found(name: str, tried: list[Path], exists: Callable[[Path], bool]) -> str:
    for path in tried:
        if name and path.exists():
            kind = "a folder" if path.is_dir() else "a file" if path.is_file() else "no plain file"
            return f'"{name}" is {kind}, expected {KINDS.get(exists, "a file or a folder")}'
    return f'"{name}" not found; looked for {" and ".join(map(str, tried))}'


def _data_file(value: str, info: ValidationInfo) -> str:
    return _found_or_missing(value, info, Path.is_file)


def data_suffix(path: Path) -> str:
    """The suffix that tells a data file's format, in lower case: of `rows.CSV.gz`, `.csv`."""
    suffix = path.suffix.lower()
    return Path(path.stem).suffix.lower() if suffix in COMPRESSED else suffix


def _folder(value: str, info: ValidationInfo) -> str:
    return find_path(value, info, Path.is_dir)


def _dataset_path(value: str, info: ValidationInfo) -> str:
    found, _ = _look_for(value, info, Path.exists)
    is_name = HUB_NAME.fullmatch(value) or re.fullmatch(r"[\w-]+", value)
    if found is None and is_name and data_suffix(Path(value)) not in DATA_SUFFIXES:
        return value
    return _found_or_missing(value, info, Path.exists)


def _data_path(value: str, info: ValidationInfo) -> str:
    if "://" in value:
        raise value_error(f'got "{value}", expected a file or a folder: export the data first')
    return _found_or_missing(value, info, Path.exists)


def _model_path(value: str, info: ValidationInfo) -> str:
    if value.startswith(SHIPPED_PREFIX):
        return resolve_model_path(value)
    found, _ = _look_for(value, info, Path.is_dir)
    if found is None and HUB_NAME.fullmatch(value):
        return value  # may be a model's id on a hub
    return _found_or_missing(value, info, Path.is_dir)


def _found_or_missing(value: str, info: ValidationInfo, exists: Callable[[Path], bool]) -> str:
    found, tried = _look_for(value, info, exists)
    if found is None and not (info.context and info.context["accept_missing"]):
        raise unavailable_error(_not_found(value, tried, exists))
    return found or value


def resolve_model_path(path: str) -> str:
    """The folder of a model that AgentJet ships (`ajet:calculator`); other paths as they are.

    Raises:
        ValueError: no model of that name is shipped.
    """
    if not path.startswith(SHIPPED_PREFIX):
        return path
    folder = SHIPPED_MODELS / path.removeprefix(SHIPPED_PREFIX)
    if folder.is_dir():
        return str(folder)
    shipped = sorted(f"{SHIPPED_PREFIX}{entry.name}" for entry in SHIPPED_MODELS.glob("*/"))
    raise value_error(f'got "{path}", expected one of {", ".join(shipped)}')


DataFile = Annotated[str, Words("a file"), AfterValidator(_data_file)]
DataPath = Annotated[str, Words("a file or a folder"), AfterValidator(_data_path)]
Folder = Annotated[str, Words("a folder"), AfterValidator(_folder)]
DatasetPath = Annotated[
    str, Words('a hub\'s "owner/name", a folder or a file'), AfterValidator(_dataset_path)
]
ModelPath = Annotated[
    str, Words('a folder, a hub\'s "owner/name", or "ajet:NAME"'), AfterValidator(_model_path)
]
