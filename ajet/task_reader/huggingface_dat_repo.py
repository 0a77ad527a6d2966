"""Tasks from Hugging Face data sets: of the hub, or local folders and files."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from ajet.config.loading.paths import DATA_SUFFIXES, data_suffix
from ajet.config.sections.task_reader import HuggingFaceConfig
from ajet.errors import DataError, MissingExtraError
from ajet.schema.task import Task
from ajet.service.private_folder import private_folder
from ajet.task_reader.dataset_files import SECTION, load_rows, not_utf8
from ajet.task_reader.dataset_rows import TaskColumns
from ajet.task_reader.task_index import IndexBuilder
from ajet.task_reader.task_reader_base import BaseTaskReader

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

logger = logging.getLogger(__name__)

BATCH_SIZE = 1000


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
            if not getattr(rows, "num_rows", 1):  # of streamed rows, the number is not known
                raise _no_row(split, key)
            dropped = [name for name in self._settings.drop_columns if name in rows.features]
            rows = rows.remove_columns(dropped)  # now: reading a row decodes its images
            columns = TaskColumns.choose(
                rows.features,
                self._settings,
                first_row=lambda: next(iter(rows), {}),
                source=source,
                section=SECTION,
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
            raise _no_row(split, key)
        logger.info('%s: %d tasks, query from "%s"', source, len(tasks), columns.query)
        return tasks


def _no_row(split: str, key: str) -> DataError:
    return DataError(f'{SECTION}.{key}: split "{split}" has no row; expected at least one')


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
        is_arrow = not self._columns.has_json
        rows = self._rows.with_format("arrow") if is_arrow else self._rows
        for number, batch in enumerate(rows.iter(BATCH_SIZE)):
            columns = batch.to_pydict() if is_arrow else batch
            builder.add(self._columns.identities(columns, self.place, number * BATCH_SIZE))
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


def _is_known(error: Exception) -> bool:
    """Whether it says something about the data or the network, rather than about a defect."""
    from datasets.exceptions import DatasetsError

    return isinstance(error, DatasetsError | ValueError | OSError)


def _missing(error: ImportError) -> Exception:
    return MissingExtraError("datasets", "data") if error.name == "datasets" else error


def _data_error(error: Exception, settings: HuggingFaceConfig, split: str, key: str) -> DataError:
    """The library's error, with the setting that is to be changed."""
    causes = list(islice(_causes(error), 8))
    # pyarrow names the row; for JSON, `datasets` then tries pandas, whose message says less.
    cause = next((each for each in causes if type(each).__name__ == "ArrowInvalid"), causes[-1])
    text = " ".join(str(cause).split()) or type(cause).__name__
    path = str(settings.dataset_path)
    if text.startswith("BatchSize must be greater than 0"):  # of a parquet file without rows
        return DataError(f"{SECTION}.dataset_path: {path} has no row; expected at least one")
    if text.endswith("corresponds to no data!"):
        return _no_row(split, key)
    if any(isinstance(x, UnicodeDecodeError) for x in causes) or "Invalid UTF8" in text:
        return not_utf8(path)
    if isinstance(error, ValueError) and re.search(r"(?i)split|instruction|slice", str(error)):
        return DataError(f'{SECTION}.{key}: cannot read split "{split}" of {path}: {error}')
    if "onfig" in str(error) and isinstance(error, ValueError):
        return DataError(f"{SECTION}.dataset_name: cannot read {path}: {error}")
    return _path_error(error, path, text)


def _path_error(error: Exception, path: str, text: str) -> DataError:
    """The error of a data set that is missing or cannot be read.

    Args:
        error: of the library.
        path: of the data set.
        text: the message of its cause.
    """
    import datasets.config
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError

    if isinstance(error, EmptyDatasetError | DataFilesNotFoundError) and Path(path).is_dir():
        return DataError(
            f"{SECTION}.dataset_path: {path} has no data file; expected one of "
            f"{', '.join(DATA_SUFFIXES)}"
        )
    if data_suffix(Path(path)) in DATA_SUFFIXES and not Path(path).exists():
        return DataError(f"{SECTION}.dataset_path: there is no file {path}")
    if datasets.config.HF_HUB_OFFLINE and not Path(path).exists():
        return DataError(
            f"{SECTION}.dataset_path: {path} is not in the cache, and HF_HUB_OFFLINE forbids to "
            f"fetch it: load it once with a network, or name a local folder ({text})"
        )
    if isinstance(error, DatasetNotFoundError):
        return DataError(
            f"{SECTION}.dataset_path: there is no data set {path}, or it is private (then set "
            f"HF_TOKEN): {text}"
        )
    if not Path(path).exists() and any(isinstance(x, OSError) for x in _causes(error)):
        return DataError(
            f"{SECTION}.dataset_path: cannot fetch {path}: {text}. Check the network and "
            "HF_ENDPOINT, or name a local folder"
        )
    return DataError(f"{SECTION}.dataset_path: cannot read {path}: {text}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
