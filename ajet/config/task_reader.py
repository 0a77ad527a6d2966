"""`ajet.task_reader`: where tasks come from."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Discriminator, Tag, model_validator

from ajet.config.free_section import FreeSection
from ajet.config.kinds import Available, Count
from ajet.config.paths import ClassPath, DataFile
from ajet.config.refusal import refusal
from ajet.config.section import Section

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


class JsonlSplit(Section):
    """One JSONL file."""

    file_path: DataFile | None = None
    """The file, one JSON object a line."""


class JsonlDatasetFile(Section):
    """Tasks from JSONL files."""

    training: JsonlSplit = JsonlSplit()
    """The tasks that are trained on."""
    validation: JsonlSplit = JsonlSplit()
    """The tasks that are evaluated on; without a file there is no evaluation."""
    query_key: str = "main_query"
    """The field of a line that holds the query; what is no field of a task goes to metadata."""


class RandomDummy(Section):
    """Made-up tasks, to try a workflow without data."""

    num_tasks: Count = 64
    """How many."""


class TaskReader(Section):
    """Where tasks come from."""

    type: ReaderType = "jsonl_dataset_file"
    """The kind of source, set up in the section of its name; or a class of yours."""
    jsonl_dataset_file: JsonlDatasetFile = JsonlDatasetFile()
    random_dummy: RandomDummy = RandomDummy()
    huggingface_dat_repo: FreeSection = FreeSection()
    """Read by a later version."""
    env_service: FreeSection = FreeSection()
    """Read by a later version."""
    data_generation: FreeSection = FreeSection()
    """Read by a later version."""
    tracing: FreeSection = FreeSection()
    """Read by a later version."""

    @model_validator(mode="after")
    def _has_training_data(self) -> TaskReader:
        if self.type == "jsonl_dataset_file" and not self.jsonl_dataset_file.training.file_path:
            raise refusal(f'type "{self.type}" needs {self.type}.training.file_path')
        return self
