"""Tasks from Hugging Face data sets: of the hub, or local folders and files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ajet.config.loading.paths import DATA_SUFFIXES
from ajet.config.sections.task_reader import HuggingFaceConfig
from ajet.errors import DataError, MissingExtraError
from ajet.schema.task import Task
from ajet.service.private_folder import private_folder
from ajet.task_reader.dataset_rows import TaskColumns
from ajet.task_reader.task_index import IndexBuilder
from ajet.task_reader.task_reader_base import BaseTaskReader

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

logger = logging.getLogger(__name__)

SECTION = "ajet.task_reader.huggingface_dat_repo"
BATCH_SIZE = 1000
PART = re.compile(r"(?P<split>[\w.-]+)(\[(?P<start>\d*):(?P<end>\d*)\])?")
"""The split expressions that streaming understands: it does not know the number of rows."""


class HuggingFaceTaskReader(BaseTaskReader):
    """One task per row of a data set that the library `datasets` loads.

    Args:
        reader_config: has `huggingface_dat_repo`.
    """

    def get_training_tasks(self) -> Sequence[Task]:
        """The rows of `training_split`.

        Raises:
            DataError: the data set, the split or a column is missing, or a row gives no task.
            MissingExtraError: `datasets` is not installed.
        """
        return self._tasks(self._settings.training_split, "training_split")

    def get_validation_tasks(self) -> Sequence[Task]:
        """The rows of `validation_split`; none where it is null. Errors as for training."""
        split = self._settings.validation_split
        return self._tasks(split, "validation_split") if split else []

    @property
    def _settings(self) -> HuggingFaceConfig:
        settings: HuggingFaceConfig = self.reader_config.huggingface_dat_repo
        return settings

    def _tasks(self, split: str, key: str) -> Sequence[Task]:
        source = f"{self._settings.dataset_path} {split}"
        try:
            rows = load_rows(self._settings, split)
            dropped = [name for name in self._settings.drop_columns if name in rows.features]
            rows = rows.remove_columns(dropped)  # now: reading a row decodes its images
            columns = TaskColumns.choose(
                rows.features, self._settings, source=source, section=SECTION
            )
            tasks = Rows(_on_disk(rows), columns, source).index()
            _give_memory_back()
        except DataError:
            raise
        except ImportError as error:
            raise _missing(error) from error
        except Exception as error:
            if not _is_known(error):
                raise
            raise _data_error(error, self._settings, split, key) from error
        if not tasks:
            raise DataError(f'{SECTION}.{key}: split "{split}" has no row; expected at least one')
        logger.info('%s: %d tasks, query from "%s"', source, len(tasks), columns.query)
        return tasks


def _give_memory_back() -> None:
    """Free what pyarrow keeps for later: half of the memory of a start with a million rows."""
    import pyarrow

    pyarrow.default_memory_pool().release_unused()


class Rows:
    """A data set on this machine: a row becomes a task when it is taken.

    Args:
        rows: memory-mapped by the library.
        columns: which column is what.
        source: the data set, for messages.
    """

    def __init__(self, rows: Dataset, columns: TaskColumns, source: str) -> None:
        self._rows = rows
        self._columns = columns
        self._source = source

    def index(self) -> Sequence[Task]:
        """Check every row.

        Raises:
            DataError: a row gives no task, or an id occurs twice.
        """
        builder = IndexBuilder()
        # Python objects of a batch cost a fraction of those of its rows one by one.
        for number, batch in enumerate(self._rows.with_format("arrow").iter(BATCH_SIZE)):
            start = number * BATCH_SIZE
            builder.add(self._columns.identities(batch.to_pydict(), self.place, start))
        return builder.finish(self)

    def read(self, index: int) -> Task:
        """The task of a row."""
        return self._columns.task(self._rows[index], self.place(index))

    def place(self, index: int) -> str:
        """The data set and the index of the row."""
        return f"{self._source}[{index}]"


def _on_disk(rows: Dataset | IterableDataset) -> Dataset:
    """Streamed rows in a file without a name; others as they are."""
    import datasets

    if isinstance(rows, datasets.Dataset):
        return rows
    # The file is mapped into memory: it stays while it is used, and nothing is left of it however
    # the run ends.
    with private_folder("rows") as folder:
        return datasets.Dataset.from_generator(
            lambda: iter(rows), features=rows.features, cache_dir=folder, fingerprint=folder.name
        )


def load_rows(settings: HuggingFaceConfig, split: str) -> Dataset | IterableDataset:
    """The rows of a split, or of a part of one.

    Raises:
        ImportError: `datasets` is not installed.
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
        if path.suffix not in DATA_SUFFIXES:
            raise DataError(
                f'{SECTION}.dataset_path: got a file "{path.suffix}", expected one of '
                f"{', '.join(DATA_SUFFIXES)}"
            )
        name = DATA_SUFFIXES[path.suffix]
        options = {"data_files": {split_name(split): str(path)}}
        if path.suffix == ".tsv":
            options["sep"] = "\t"
    if settings.streaming:
        return _streamed_rows(name, split, options)
    return datasets.load_dataset(name, split=split, **options)


def split_name(split: str) -> str:
    """The split of an expression; a single file is whatever split the settings name."""
    return split.split("[")[0]


def _saved_rows(path: Path, split: str) -> Dataset:
    """Rows of what `save_to_disk` wrote, which `load_dataset` does not read."""
    import datasets

    saved = datasets.load_from_disk(str(path))
    if isinstance(saved, datasets.Dataset):
        saved = datasets.DatasetDict({split_name(split): saved})
    counts = {name: len(rows) for name, rows in saved.items()}
    names = {split_name(part) for part in split.split("+")}
    if missing := names - counts.keys():
        raise ValueError(f'Unknown split "{missing.pop()}". Should be one of {list(counts)}.')
    parts = datasets.ReadInstruction.from_spec(split).to_absolute(counts)
    return datasets.concatenate_datasets(
        [saved[part.splitname].select(range(part.from_, part.to)) for part in parts]
    )


def _streamed_rows(name: str, split: str, options: dict[str, Any]) -> IterableDataset:
    import datasets

    part = PART.fullmatch(split)
    if part is None:
        raise DataError(
            f'{SECTION}: streaming cannot read split "{split}": expected a name, or rows of one '
            "such as train[:1000]; percentages and sums need streaming: false"
        )
    rows = datasets.load_dataset(name, split=part["split"], streaming=True, **options)
    if rows.features is None:  # not declared by the data set: the library reads a few rows
        rows = rows._resolve_features()
    start = int(part["start"] or 0)
    rows = rows.skip(start) if start else rows
    return rows.take(max(0, int(part["end"]) - start)) if part["end"] else rows


def _is_known(error: Exception) -> bool:
    """Whether it says something about the data or the network, rather than about a defect."""
    from datasets.exceptions import DatasetsError

    return isinstance(error, DatasetsError | ValueError | OSError)


def _missing(error: ImportError) -> Exception:
    return MissingExtraError("datasets", "data") if error.name == "datasets" else error


def _data_error(error: Exception, settings: HuggingFaceConfig, split: str, key: str) -> DataError:
    """The library's error, with the setting that is to be changed."""
    import datasets.config
    from datasets.exceptions import DatasetNotFoundError

    causes = list(islice(_causes(error), 8))
    # pyarrow names the row; for JSON, `datasets` then tries pandas, whose message says less.
    cause = next((each for each in causes if type(each).__name__ == "ArrowInvalid"), causes[-1])
    text = " ".join(str(cause).split()) or type(cause).__name__
    path = settings.dataset_path
    if text.startswith("BatchSize must be greater than 0"):  # of a parquet file without rows
        return DataError(f"{SECTION}.dataset_path: {path} has no row; expected at least one")
    if isinstance(error, ValueError) and re.search("split|Split|Instruction", str(error)):
        return DataError(f'{SECTION}.{key}: cannot read split "{split}" of {path}: {error}')
    if "onfig" in str(error) and isinstance(error, ValueError):
        return DataError(f"{SECTION}.dataset_name: cannot read {path}: {error}")
    if datasets.config.HF_HUB_OFFLINE and not Path(str(path)).exists():
        return DataError(
            f"{SECTION}.dataset_path: {path} is not in the cache, and HF_HUB_OFFLINE forbids to "
            f"fetch it: load it once with a network, or name a local folder ({text})"
        )
    if isinstance(error, DatasetNotFoundError):
        return DataError(
            f"{SECTION}.dataset_path: there is no data set {path}, or it is private (then set "
            f"HF_TOKEN): {text}"
        )
    if not Path(str(path)).exists() and any(isinstance(x, OSError) for x in causes):
        return DataError(
            f"{SECTION}.dataset_path: cannot fetch {path}: {text}. Check the network and "
            "HF_ENDPOINT, or name a local folder"
        )
    return DataError(f"{SECTION}.dataset_path: cannot read {path}: {text}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
