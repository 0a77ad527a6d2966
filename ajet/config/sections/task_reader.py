"""`ajet.task_reader`: the source of the tasks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import Registered, free_beside
from ajet.config.loading.paths import DataFile, DatasetPath
from ajet.config.messages import value_error
from ajet.config.sections.environment import ServiceUrl
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count

TASK_READERS: dict[str, str | None] = {
    "jsonl_dataset_file": "ajet.task_reader.jsonl_task_reader->JsonlTaskReader",
    "random_dummy": "ajet.task_reader.random_dummy->RandomDummyTaskReader",
    "huggingface_dat_repo": "ajet.task_reader.huggingface_dat_repo->HuggingFaceTaskReader",
    "env_service": "ajet.task_reader.env_service->EnvServiceTaskReader",
}
"""`task_reader.type` -> class path. To add a reader, write one file and add one line here; its own
settings are a section of that name in `TaskReaderConfig`."""

TASK_FILTERS: dict[str, str | None] = {
    "has_answer": "ajet.task_reader.selection->has_answer",
}
"""Names in `task_reader.filters` -> class path of a function of a task, or of a class whose objects
are such functions."""

LATER = ("data_generation", "tracing")


class JsonlSplitConfig(BaseConfig):
    """One JSONL file."""

    file_path: DataFile | None = None
    """The file, with one JSON object per line."""


class JsonlDatasetFileConfig(BaseConfig):
    """Tasks from JSONL files."""

    training: JsonlSplitConfig = JsonlSplitConfig()
    """The training tasks."""
    validation: JsonlSplitConfig = JsonlSplitConfig()
    """The validation tasks; without a file there is no evaluation."""
    query_key: str = "main_query"
    """The key of the query in each line. Keys that are no field of a task go to its metadata."""


class RandomDummyConfig(BaseConfig):
    """Generated sums, to test a workflow without data."""

    num_tasks: Count = 1000
    """Number of training tasks."""
    num_validation_tasks: Count = 64
    """Number of validation tasks."""


class HuggingFaceConfig(BaseConfig):
    """Tasks from a Hugging Face data set: of the hub, or a local folder or file.

    Each row is a task, with all of its columns in the metadata. A column `task_id` gives the ids.
    """

    dataset_path: DatasetPath | None = None
    """The name on the hub (`owner/name`), a folder, or a file: parquet, JSONL, CSV or Arrow."""
    dataset_name: str | None = None
    """The configuration of a data set that has several, such as `main`."""
    training_split: str = "train"
    """The split that is trained on, or a part of one: `train[:1000]`, `train[10%:]`."""
    validation_split: str | None = None
    """The split that is evaluated on; null: there is no evaluation."""
    query_key: str | None = None
    """The column that holds the query; null: the first of question, query, prompt, problem and
    main_query that is there."""
    answer_key: str | None = None
    """A column that is copied to the metadata as `answer`, where judges look for it."""
    drop_columns: list[str] = []
    """Columns that are left out, such as images."""
    streaming: bool = False
    """True: rows are read as they arrive, so that a part of a split costs no full download."""


class EnvServiceConfig(BaseConfig):
    """Tasks from an environment service, by their ids; each episode gets an instance."""

    env_type: str = ""
    """The kind of environment, for a service with several kinds."""
    env_url: ServiceUrl = "http://127.0.0.1:8080"
    """URL of the service."""
    env_action_preference: Literal["code", "text", "box"] = "code"
    """Format of the agent's actions; sent with `/create`."""
    training_split: str = "train"
    """Name of the training split."""
    validation_split: str | None = "dev"
    """Name of the validation split. Null: no evaluation."""


class TaskReaderConfig(BaseConfig):
    """The source of the tasks.

    With a class path as `type`, additional keys are settings of your own reader, which reads them
    as `reader_config.my_key`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("type")]] = Field(init=False)

    type: Annotated[str, Registered(TASK_READERS, LATER)] = "jsonl_dataset_file"
    """The reader, with its settings in the section of the same name; or the class path of your own
    reader."""
    filters: list[Annotated[str, Registered(TASK_FILTERS)]] = []
    """Tasks that one of these rejects are left out: `has_answer`, or the class path of your own
    function that takes a task and returns True to keep it."""
    deduplication: Literal["query"] | None = None
    """`query`: of tasks with the same query, the first is used. Case and white space make no
    difference."""
    jsonl_dataset_file: JsonlDatasetFileConfig = JsonlDatasetFileConfig()
    random_dummy: RandomDummyConfig = RandomDummyConfig()
    huggingface_dat_repo: HuggingFaceConfig = HuggingFaceConfig()
    env_service: EnvServiceConfig = EnvServiceConfig()
    data_generation: FreeConfig = FreeConfig()
    """Read by a later version."""
    tracing: FreeConfig = FreeConfig()
    """Read by a later version."""

    @model_validator(mode="after")
    def _has_training_data(self) -> TaskReaderConfig:
        if self.type == "jsonl_dataset_file" and not self.jsonl_dataset_file.training.file_path:
            raise value_error(f'type "{self.type}" needs {self.type}.training.file_path')
        if self.type == "huggingface_dat_repo" and not self.huggingface_dat_repo.dataset_path:
            raise value_error(f'type "{self.type}" needs {self.type}.dataset_path')
        return self
