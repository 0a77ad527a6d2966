"""Where tasks come from: one class a source, behind one dictionary."""

from __future__ import annotations

from typing import Any

from ajet.class_path import load_class
from ajet.errors import ConfigError
from ajet.task_reader.jsonl_task_reader import JsonlTaskReader
from ajet.task_reader.random_dummy import RandomDummyTaskReader
from ajet.task_reader.task_reader_base import BaseTaskReader

TASK_READERS: dict[str, type[BaseTaskReader]] = {
    "jsonl_dataset_file": JsonlTaskReader,
    "random_dummy": RandomDummyTaskReader,
}
"""`task_reader.type` -> class."""


def make_task_reader(reader_config: Any) -> BaseTaskReader:
    """The reader that `ajet.task_reader` asks for, by its name or by a class path.

    Raises:
        ConfigError: there is no such reader.
    """
    kind = reader_config.type
    if "->" in kind:
        cls: type[BaseTaskReader] = load_class(kind, BaseTaskReader, "ajet.task_reader.type")
        return cls(reader_config)
    if kind not in TASK_READERS:
        raise ConfigError(
            f'ajet.task_reader.type: got "{kind}", expected one of {", ".join(TASK_READERS)} '
            "or a class path such as my_reader.py->MyReader"
        )
    return TASK_READERS[kind](reader_config)
