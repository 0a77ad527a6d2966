"""Reads the tasks of a run: makes the reader and checks that each task has a unique id."""

from __future__ import annotations

import logging
import random
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ajet.boundary import text_of
from ajet.class_path import class_path_in, load_class
from ajet.config.sections.root import AjetConfig
from ajet.config.sections.task_reader import TASK_READERS
from ajet.errors import AjetError, DataError
from ajet.schema.task import Task
from ajet.task_reader.mixed_tasks import MixedTasks
from ajet.task_reader.selection import select_tasks
from ajet.task_reader.task_batches import TaskBatches
from ajet.task_reader.task_index import TaskIndex
from ajet.task_reader.task_reader_base import BaseTaskReader
from ajet.task_reader.unique_ids import with_unique_ids

logger = logging.getLogger(__name__)

MAX_ITERATED = 1_000_000
"""Tasks after which an iterator counts as endless."""
MAX_ERROR = 500
"""Characters of a reader's error that are shown."""
REPORT_EVERY_S = 10.0
"""A reader that takes longer says how many tasks it has given, in this interval."""


@dataclass(slots=True, kw_only=True)
class TrainingData:
    """The tasks that a run trains on and is validated on."""

    batches: TaskBatches
    validation: list[Task]
    """At most `rollout.validation.num_tasks`; may be empty."""
    total_steps: int

    @classmethod
    def read(cls, ajet: AjetConfig, reader: BaseTaskReader | None = None) -> TrainingData:
        """Read all tasks.

        Args:
            ajet: the configuration.
            reader: the reader; None: the configured one.

        Raises:
            ConfigError: the reader cannot be loaded.
            DataError: the tasks cannot be read, or are malformed.
        """
        reader = reader or make_task_reader(ajet.task_reader)
        common = ajet.trainer_common
        batches = TaskBatches(
            training_tasks(reader),
            seed=common.seed,
            shuffle=ajet.data.shuffle,
            curriculum=ajet.task_reader.curriculum,
        )
        return cls(
            batches=batches,
            validation=_chosen(validation_tasks(reader), ajet),
            total_steps=common.total_training_steps
            or batches.num_batches(ajet.data.train_batch_size, common.total_epochs),
        )


def _chosen(tasks: Sequence[Task], ajet: AjetConfig) -> list[Task]:
    """The validation tasks of a run, in the reader's order."""
    settings = ajet.rollout.validation
    wanted = settings.num_tasks
    if settings.task_choice == "first" or wanted is None or wanted >= len(tasks):
        return list(tasks[:wanted])
    chosen = random.Random(ajet.trainer_common.seed).sample(range(len(tasks)), wanted)
    return [tasks[index] for index in sorted(chosen)]


def make_task_reader(reader_config: Any) -> BaseTaskReader:
    """Make the reader that `ajet.task_reader.type` names: a registered name or a class path.

    Raises:
        ConfigError: there is no such reader.
    """
    key = "ajet.task_reader.type"
    path = class_path_in(TASK_READERS, reader_config.type, key)
    reader: type[BaseTaskReader] = load_class(path, BaseTaskReader, key)
    with reader_errors(f"{reader.__name__}()"):
        made = reader(reader_config)
    if not hasattr(made, "reader_config"):  # its __init__ does not call super().__init__()
        made.reader_config = reader_config
    return made


def training_tasks(reader: BaseTaskReader) -> Sequence[Task]:
    """The training tasks: at least one, each with a unique id.

    Raises:
        DataError: there is no task, an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_training_tasks()"
    with reader_errors(source):
        tasks = _checked(reader.get_training_tasks(), source)
    with reader_errors("ajet.task_reader.filters"):
        tasks = select_tasks(tasks, reader.reader_config, "training")
    if not tasks:
        raise DataError(f"{source} returned no task; expected at least one")
    if isinstance(tasks, MixedTasks):
        for part in tasks.parts:
            if not part.tasks:
                raise DataError(
                    f"ajet.task_reader.mixture: no task of the source {part.name} is left after "
                    "ajet.task_reader.filters and .deduplication: remove the source"
                )
        tasks.refuse_shared_ids()
    return tasks


def validation_tasks(reader: BaseTaskReader) -> Sequence[Task]:
    """The validation tasks, each with a unique id; may be empty.

    Raises:
        DataError: an id occurs twice, or an item is not a `Task`.
    """
    source = f"{type(reader).__name__}.get_validation_tasks()"
    with reader_errors(source):
        tasks = _checked(reader.get_validation_tasks(), source)
    with reader_errors("ajet.task_reader.filters"):
        tasks = select_tasks(tasks, reader.reader_config, "validation")
    if isinstance(tasks, MixedTasks):
        tasks.refuse_shared_ids()
    return tasks


@contextmanager
def reader_errors(source: str) -> Iterator[None]:
    """The boundary around a reader or filter: what it raises becomes one line that names it.

    Raises:
        DataError: the reader raised an error that is not one of ours.
    """
    try:
        yield
    except (AjetError, KeyboardInterrupt):
        raise
    except BaseException as error:
        frames = traceback.extract_tb(error.__traceback__)
        # The first frame below ours: deeper ones may be in a library.
        ours = str(Path(__file__).parent)
        place = next((f for f in frames if not f.filename.startswith(ours)), frames[-1])
        text = " ".join(f"{type(error).__name__}: {text_of(error)}".split())
        raise DataError(
            f"{source} failed at {place.filename}:{place.lineno}: {text[:MAX_ERROR]}"
        ) from error


def _checked(tasks: Iterable[Task], source: str) -> Sequence[Task]:
    # Checked by their readers, and maybe too many to be made at once.
    if isinstance(tasks, TaskIndex | MixedTasks):
        return tasks
    return with_unique_ids(_located(tasks, source))


def _located(tasks: Iterable[Task] | None, source: str) -> Iterator[tuple[str, Task]]:
    if not isinstance(tasks, Iterable):
        got = "None" if tasks is None else f"a {type(tasks).__name__}"
        raise DataError(f"{source} returned {got}, expected a list or an iterator of Tasks")
    next_report_s = time.monotonic() + REPORT_EVERY_S
    for index, task in enumerate(tasks):
        place = f"{source}[{index}]"
        if index == MAX_ITERATED and not isinstance(tasks, Sized):
            raise DataError(
                f"{source} has given {MAX_ITERATED:,} tasks and has not ended: all tasks are read "
                "before the first step, so an iterator must end; return a list to train on more"
            )
        if time.monotonic() > next_report_s:
            logger.info("%s: %s tasks so far", source, f"{index:,}")
            next_report_s += REPORT_EVERY_S
        if not isinstance(task, Task):
            raise DataError(f"{place}: got a {type(task).__name__}, expected a Task")
        # A generator may give one object again and again, each time with other contents.
        is_kept = isinstance(tasks, Sized)
        yield place, task if is_kept else task.model_copy(update={"metadata": {**task.metadata}})
