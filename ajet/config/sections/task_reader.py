"""`ajet.task_reader`: where tasks come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag, model_validator

from ajet.config.loading.paths import ClassPath, DataFile
from ajet.config.sections.free_section import FreeConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Available, Count
from ajet.config.value_error import value_error

READERS = ("jsonl_dataset_file", "random_dummy")

ReaderName = Literal[
    "jsonl_dataset_file",
    "random_dummy",
    "huggingface_dat_repo",
    "env_service",
    "data_generation",
    "tracing",
]


def _name_or_class(value: object) -> str:
    return "class" if isinstance(value, str) and "->" in value else "name"


ReaderType = Annotated[
    Annotated[ReaderName, Available(READERS), Tag("name")] | Annotated[ClassPath, Tag("class")],
    Discriminator(_name_or_class),
]


class JsonlSplitConfig(BaseConfig):
    """One JSONL file."""

    file_path: DataFile | None = None
    """The file, one JSON object a line."""


class JsonlDatasetFileConfig(BaseConfig):
    """Tasks from JSONL files."""

    training: JsonlSplitConfig = JsonlSplitConfig()
    """The tasks that are trained on."""
    validation: JsonlSplitConfig = JsonlSplitConfig()
    """The tasks that are evaluated on; without a file there is no evaluation."""
    query_key: str = "main_query"
    """The field of a line that holds the query; what is no field of a task goes to metadata."""


class RandomDummyConfig(BaseConfig):
    """Made-up tasks, to try a workflow without data."""

    num_tasks: Count = 64
    """How many."""


class TaskReaderConfig(BaseConfig):
    """Where tasks come from."""

    type: ReaderType = "jsonl_dataset_file"
    """The kind of source, set up in the section of its name; or a class of yours."""
    jsonl_dataset_file: JsonlDatasetFileConfig = JsonlDatasetFileConfig()
    random_dummy: RandomDummyConfig = RandomDummyConfig()
    huggingface_dat_repo: FreeConfig = FreeConfig()
    """Read by a later version."""
    env_service: FreeConfig = FreeConfig()
    """Read by a later version."""
    data_generation: FreeConfig = FreeConfig()
    """Read by a later version."""
    tracing: FreeConfig = FreeConfig()
    """Read by a later version."""

    @model_validator(mode="after")
    def _has_training_data(self) -> TaskReaderConfig:
        if self.type == "jsonl_dataset_file" and not self.jsonl_dataset_file.training.file_path:
            raise value_error(f'type "{self.type}" needs {self.type}.training.file_path')
        return self
