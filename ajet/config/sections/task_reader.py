"""`ajet.task_reader`: where tasks come from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import Registered, free_beside
from ajet.config.loading.paths import DataFile
from ajet.config.messages import value_error
from ajet.config.sections.environment import ServiceUrl
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count

TASK_READERS: dict[str, str | None] = {
    "jsonl_dataset_file": "ajet.task_reader.jsonl_task_reader->JsonlTaskReader",
    "random_dummy": "ajet.task_reader.random_dummy->RandomDummyTaskReader",
    "env_service": "ajet.task_reader.env_service->EnvServiceTaskReader",
}
"""`task_reader.type` -> class path. A new reader is one file and one line here; settings of its own
are a section of that name in `TaskReaderConfig`."""

LATER = ("huggingface_dat_repo", "data_generation", "tracing")


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


class EnvServiceConfig(BaseConfig):
    """Tasks of an environment service, by their ids; each episode gets an instance."""

    env_type: str = ""
    """The kind of environment, for a service that has several."""
    env_url: ServiceUrl = "http://127.0.0.1:8080"
    """Where the service listens."""
    env_action_preference: Literal["code", "text", "box"] = "code"
    """Sent with `/create`: how the agent writes its actions."""
    training_split: str = "train"
    """The split that is trained on."""
    validation_split: str | None = "dev"
    """The split that is evaluated on; null: there is no evaluation."""


class TaskReaderConfig(BaseConfig):
    """Where tasks come from.

    Other keys than those below are settings of your own reader, which reads them as
    `reader_config.my_key`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("type")]] = Field(init=False)

    type: Annotated[str, Registered(TASK_READERS, LATER)] = "jsonl_dataset_file"
    """The kind of source, configured in the section of its name; or your own class."""
    jsonl_dataset_file: JsonlDatasetFileConfig = JsonlDatasetFileConfig()
    random_dummy: RandomDummyConfig = RandomDummyConfig()
    huggingface_dat_repo: FreeConfig = FreeConfig()
    """Read by a later version."""
    env_service: EnvServiceConfig = EnvServiceConfig()
    data_generation: FreeConfig = FreeConfig()
    """Read by a later version."""
    tracing: FreeConfig = FreeConfig()
    """Read by a later version."""

    @model_validator(mode="after")
    def _has_training_data(self) -> TaskReaderConfig:
        if self.type == "jsonl_dataset_file" and not self.jsonl_dataset_file.training.file_path:
            raise value_error(f'type "{self.type}" needs {self.type}.training.file_path')
        return self
