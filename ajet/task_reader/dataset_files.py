"""Loads the rows of a data set by the library `datasets`: of the hub, a folder, or one file."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ajet.config.loading.paths import DATA_SUFFIXES, data_suffix
from ajet.config.sections.task_reader import HuggingFaceConfig
from ajet.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

SECTION = "ajet.task_reader.huggingface_dat_repo"
PART = re.compile(r"(?P<split>[\w.-]+)(\[(?P<start>\d*):(?P<end>\d*)\])?")
"""The split expressions that streaming understands: it does not know the number of rows."""
SEPARATORS = ",;\t|"
"""Separators that are looked for in the first line of a CSV file, in this order."""
CSV_NULLS = ["", "nan", "NaN"]
"""What is null in a CSV file. pandas has more by default, among them the texts None, NA and null,
which may be a query or an answer."""


def load_rows(settings: HuggingFaceConfig, split: str) -> Dataset | IterableDataset:
    """The rows of a split, or of a part of one.

    Raises:
        ImportError: `datasets` is not installed.
        DataError: the file has a format that is not known, or a malformed header.
        ValueError, OSError, DatasetsError: of the library; it has dozens.
    """
    import datasets

    assert settings.dataset_path is not None, "the configuration refuses that"
    path = Path(settings.dataset_path)
    if (path / "state.json").is_file() or (path / "dataset_dict.json").is_file():
        return _saved_rows(path, split)
    # A progress bar per file would write over the run's own output.
    datasets.disable_progress_bars()
    options: dict[str, Any] = {"name": settings.dataset_name}
    name = settings.dataset_path
    if path.is_file():
        name = _format_of(path)
        options["data_files"] = {split_name(split): str(path)}
        del options["name"]
    # A folder with configurations of its own needs a name before it takes options.
    if path.is_file() or (path.is_dir() and (settings.dataset_name or not _has_configs(path))):
        options |= _csv_options(path)
    try:
        return _load(name, split, options, streaming=settings.streaming)
    except ValueError as error:
        if "same data file format for all splits" not in str(error) or not path.is_dir():
            raise
    options["data_files"] = _files_of(path, split)
    return _load(name, split, options, streaming=settings.streaming)


def split_name(split: str) -> str:
    """The split of an expression; a single file is whatever split the settings name."""
    return split.split("[")[0]


def _load(
    name: str, split: str, options: dict[str, Any], *, streaming: bool
) -> Dataset | IterableDataset:
    import datasets

    if not streaming:
        return datasets.load_dataset(name, split=split, **options)
    part = PART.fullmatch(split)
    if part is None:
        raise DataError(
            f'{SECTION}: streaming cannot read split "{split}": expected a name, or rows of one '
            "such as train[:1000]; percentages and sums need streaming: false, and so do "
            "negative numbers"
        )
    rows = datasets.load_dataset(name, split=part["split"], streaming=True, **options)
    if rows.features is None:  # not declared by the data set: the library reads a few rows
        rows = rows._resolve_features()
    start = int(part["start"] or 0)
    rows = rows.skip(start) if start else rows
    return rows.take(max(0, int(part["end"]) - start)) if part["end"] else rows


def _saved_rows(path: Path, split: str) -> Dataset:
    """Rows of what `save_to_disk` wrote, which `load_dataset` does not read."""
    import datasets

    if (path / "state.json").is_file():
        folders = {split_name(split): path}
    else:
        names = json.loads((path / "dataset_dict.json").read_text())["splits"]
        folders = {name: path / name for name in names}
    saved = {name: _saved_split(folders[name]) for name in _named(split, folders)}
    counts = {name: len(rows) for name, rows in saved.items()}
    expression = "+".join(counts) if split == "all" else split
    parts = datasets.ReadInstruction.from_spec(expression).to_absolute(counts)
    return datasets.concatenate_datasets(
        [
            saved[part.splitname].select(range(part.from_, min(part.to, counts[part.splitname])))
            for part in parts
            if part.from_ < counts[part.splitname]
        ]
        or [datasets.Dataset.from_dict({})]
    )


def _saved_split(folder: Path) -> Dataset:
    import datasets

    if not any(folder.glob("*.arrow")):  # a split without rows, which the library does not load
        return datasets.Dataset.from_dict({})
    return datasets.Dataset.load_from_disk(str(folder))


def _format_of(path: Path) -> str:
    suffix = data_suffix(path)
    if suffix not in DATA_SUFFIXES:
        raise DataError(
            f'{SECTION}.dataset_path: got a file "{path.suffix}", expected one of '
            f"{', '.join(DATA_SUFFIXES)}"
        )
    return DATA_SUFFIXES[suffix]


def _files_of(folder: Path, split: str) -> dict[str, list[str]]:
    """The files of the named splits, for a folder whose splits have different formats."""
    from datasets.data_files import get_data_patterns

    patterns = get_data_patterns(str(folder))
    return {str(name): patterns[name] for name in _named(split, patterns)}


def _named(split: str, known: Mapping[str, Any]) -> list[str]:
    """The splits that an expression names, in the order of the data set."""
    names = {split_name(part) for part in split.split("+")}
    if "all" in names:
        return list(known)
    if missing := names - known.keys():
        raise ValueError(f'Unknown split "{min(missing)}". Should be one of {sorted(known)}.')
    return [name for name in known if name in names]


def _has_configs(folder: Path) -> bool:
    """Whether the folder's README says which files belong together."""
    readme = folder / "README.md"
    return readme.is_file() and "configs:" in readme.read_text("utf-8", "replace")


def _csv_options(path: Path) -> dict[str, Any]:
    """How a CSV file, or a folder that has no other data files, is read.

    Raises:
        DataError: the second line has more fields than the first, which would shift the columns.
    """
    files = [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file())
    files = [each for each in files if data_suffix(each) in DATA_SUFFIXES]
    if not files or any(DATA_SUFFIXES[data_suffix(each)] != "csv" for each in files):
        return {}
    separators = {_separator(each) for each in files}
    if len(separators) > 1:
        raise DataError(
            f"{path}: its files have different separators, {sorted(separators)}: expected one"
        )
    return {"sep": separators.pop(), "na_values": CSV_NULLS, "keep_default_na": False}


def _separator(path: Path) -> str:
    """The one that gives the header and the first row the same number of fields."""
    candidates = "\t" if data_suffix(path) == ".tsv" else SEPARATORS
    try:
        rows = {separator: _first_rows(path, separator) for separator in candidates}
    except UnicodeDecodeError as error:
        raise not_utf8(path) from error
    except csv.Error:  # a field that is too long for this check, and not for pandas
        return candidates[0]
    for separator, (names, fields) in rows.items():
        if len(names) == len(fields) > 1:
            return separator
    separator = next((each for each in candidates if len(rows[each][0]) > 1), candidates[0])
    names, fields = rows[separator]
    if len(fields) > len(names):
        raise DataError(
            f"{path}: the first row has {len(fields)} fields, but the header names {len(names)}: "
            "quote texts that have a separator in them"
        )
    return separator


def _first_rows(path: Path, separator: str) -> tuple[list[str], list[str]]:
    """The header and the first row; empty where the file has none."""
    import fsspec  # type: ignore[import-untyped]

    with fsspec.open(
        str(path), "rt", encoding="utf-8-sig", newline="", compression="infer"
    ) as lines:
        rows: Iterator[list[str]] = filter(None, csv.reader(lines, delimiter=separator))
        return next(rows, []), next(rows, [])


def not_utf8(path: Path | str) -> DataError:
    """The error for a text file in another encoding."""
    return DataError(f"{SECTION}.dataset_path: {path} is not UTF-8: save it in that encoding")
