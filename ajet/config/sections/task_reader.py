"""`ajet.task_reader`: the source of the tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import Registered, free_beside
from ajet.config.loading.paths import DataFile, DatasetPath
from ajet.config.messages import value_error
from ajet.config.sections.data_generation import GenerationConfig
from ajet.config.sections.environment import ServiceUrl
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.tracing import TracingConfig
from ajet.config.sections.types import Count, NotNegative, Positive, Share

TASK_READERS: dict[str, str | None] = {
    "jsonl_dataset_file": "ajet.task_reader.jsonl_task_reader->JsonlTaskReader",
    "random_dummy": "ajet.task_reader.random_dummy->RandomDummyTaskReader",
    "huggingface_dat_repo": "ajet.task_reader.huggingface_dat_repo->HuggingFaceTaskReader",
    "env_service": "ajet.task_reader.env_service->EnvServiceTaskReader",
    "mixture": "ajet.task_reader.mixture->MixtureTaskReader",
    "data_generation": "ajet.data_generation.reader->DataGenerationTaskReader",
    "tracing": "ajet.tracing.reader->TracingTaskReader",
}
"""`task_reader.type` -> class path. To add a reader, write one file and add one line here; its own
settings are a section of that name in `TaskReaderConfig`."""

TASK_FILTERS: dict[str, str | None] = {
    "has_answer": "ajet.task_reader.selection->has_answer",
}
"""Names in `task_reader.filters` -> class path of a function of a task, or of a class whose objects
are such functions."""

DEFAULT_READER = "jsonl_dataset_file"


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


class QueryReaderConfig(BaseConfig):
    """Examples of the tasks that are wanted."""

    type: Literal["jsonl_dataset_file", "huggingface_dat_repo"] = "jsonl_dataset_file"
    """The reader of the examples."""
    jsonl_dataset_file: JsonlDatasetFileConfig = JsonlDatasetFileConfig()
    """With the first reader. Without a file, there are no examples."""
    huggingface_dat_repo: HuggingFaceConfig = HuggingFaceConfig()
    """With the second reader."""

    @property
    def has_source(self) -> bool:
        """True if the settings name a source of examples."""
        if self.type == "jsonl_dataset_file":
            return self.jsonl_dataset_file.training.file_path is not None
        return self.huggingface_dat_repo.dataset_path is not None


class DataGenerationConfig(GenerationConfig):
    """Tasks that a model writes, about documents and in the manner of examples."""

    query_reader: QueryReaderConfig = QueryReaderConfig()


class TaskSourceConfig(BaseConfig):
    """One source of tasks, and which of its tasks are used.

    With a class path as `type`, additional keys are settings of your own reader, which reads them
    as `reader_config.my_key`.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("type")]] = Field(init=False)

    type: Annotated[str, Registered(TASK_READERS)] = DEFAULT_READER
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
    data_generation: DataGenerationConfig = DataGenerationConfig()
    tracing: TracingConfig = TracingConfig()

    @model_validator(mode="after")
    def _has_training_data(self) -> Self:
        if self.type == "jsonl_dataset_file" and not self.jsonl_dataset_file.training.file_path:
            raise value_error(f'type "{self.type}" needs {self.type}.training.file_path')
        if self.type == "huggingface_dat_repo" and not self.huggingface_dat_repo.dataset_path:
            raise value_error(f'type "{self.type}" needs {self.type}.dataset_path')
        if self.type == "tracing" and not self.tracing.all_sources:
            raise value_error(f'type "{self.type}" needs {self.type}.sources')
        if self.type == "data_generation":
            self._check_generation()
        return self

    def _check_generation(self) -> None:
        settings = self.data_generation
        if not settings.model.model:
            raise value_error(f'type "{self.type}" needs {self.type}.model_client.model')
        if not settings.document_reader.document_path and not settings.query_reader.has_source:
            raise value_error(
                f'type "{self.type}" needs {self.type}.document_reader.document_path, or examples '
                f"in {self.type}.query_reader"
            )


class MixtureSourceConfig(TaskSourceConfig):
    """One source of a mixture, with the keys that `ajet.task_reader` has for a single source."""

    name: str | None = None
    """Names the source in metrics and messages; null: its type, with a number if there are
    several."""
    weight: NotNegative | dict[int, NotNegative] = 1.0
    """How many of the tasks come from here, relative to the other weights. Or a schedule of steps
    and weights, `{1: 1.0, 100: 0.2}`: straight lines between them, the last one from then on."""

    @model_validator(mode="after")
    def _is_no_mixture(self) -> Self:
        if self.type == "mixture":
            raise value_error("a source cannot be a mixture: list its sources here instead")
        if self.type == "env_service" and not self.env_service.env_type:
            raise value_error(
                "in a mixture, env_service needs env_type, which tells its tasks from the others"
            )
        if self.weight == {}:
            raise value_error("weight: got an empty schedule, expected a step and its weight")
        return self

    def schedule(self) -> dict[int, float]:
        """The weight at some steps, at least one."""
        return self.weight if isinstance(self.weight, dict) else {1: self.weight}


def weight_at(schedule: Mapping[int, float], step: int) -> float:
    """The weight at a step: on straight lines between the steps of the schedule, level outside."""
    steps = sorted(schedule)
    before = max((each for each in steps if each <= step), default=steps[0])
    after = min((each for each in steps if each >= step), default=steps[-1])
    if after <= before:
        return schedule[before]
    share = (step - before) / (after - before)
    return schedule[before] + share * (schedule[after] - schedule[before])


class MixtureConfig(BaseConfig):
    """Tasks from several sources. The tasks of each source have an order of their own."""

    sources: list[MixtureSourceConfig] = []
    """The sources; their validation tasks are joined."""

    @model_validator(mode="after")
    def _an_env_type_has_one_service(self) -> Self:
        urls: dict[str, str] = {}
        for service in [s.env_service for s in self.sources if s.type == "env_service"]:
            if urls.setdefault(service.env_type, service.env_url) != service.env_url:
                raise value_error(f'two services have the env_type "{service.env_type}"')
        return self

    @model_validator(mode="after")
    def _some_source_has_a_weight(self) -> Self:
        for step in sorted({step for source in self.sources for step in source.schedule()}):
            if not any(weight_at(source.schedule(), step) for source in self.sources):
                raise value_error(f"at step {step}, no source has a weight above 0")
        return self


class PoolSharesConfig(BaseConfig):
    """How many of the known tasks of a step come from each pool, relative to the others.

    A pool with too few tasks is made up for by the others.
    """

    hard: NotNegative = 0.1
    """Tasks whose success rate is at most `hard_up_to`."""
    medium: NotNegative = 0.8
    """Tasks between the two limits."""
    easy: NotNegative = 0.1
    """Tasks whose success rate is at least `easy_from`."""

    @model_validator(mode="after")
    def _has_a_share(self) -> Self:
        if self.hard + self.medium + self.easy == 0:
            raise value_error("expected at least one share above 0")
        return self


class CurriculumConfig(BaseConfig):
    """Which training tasks come next, chosen by how often each was solved so far."""

    policy: Literal["easy_first", "target_success", "difficulty_pools"] | None = None
    """`easy_first`: those with the highest success rate. `target_success`: those whose success rate
    is near `target`. `difficulty_pools`: from each pool its share. Null: every task once per
    epoch."""
    new_share: Share = 0.3
    """Share of a step's tasks that were never tried, as long as there are any."""
    retry_share: Share = 0.05
    """Share of a step's tasks that are set aside and tried again, the longest set aside first."""
    set_aside_after: Count = 8
    """A task is set aside when so many of its episodes in a row were successful."""
    difficulty_key: str | None = None
    """The key of a number in the metadata, such as `level`: new tasks are taken in ascending order.
    Null: new tasks are taken in the order of the run."""
    target: Share = 0.5
    """The success rate that `target_success` looks for."""
    target_width: Positive = 0.2
    """How near to `target`: at this distance a task is taken 0.6 times as often, at twice the
    distance 0.14 times."""
    hard_up_to: Share = 0.1
    """The success rate up to which a task is hard."""
    easy_from: Share = 0.9
    """The success rate from which on a task is easy."""
    pools: PoolSharesConfig = PoolSharesConfig()

    @model_validator(mode="after")
    def _limits_are_apart(self) -> Self:
        if self.hard_up_to >= self.easy_from:
            raise value_error(
                f"hard_up_to ({self.hard_up_to:g}) must be below easy_from ({self.easy_from:g})"
            )
        if self.new_share + self.retry_share > 1:
            raise value_error("new_share and retry_share must not be more than 1 together")
        return self


class TaskReaderConfig(TaskSourceConfig):
    """The source of the tasks.

    With a class path as `type`, additional keys are settings of your own reader, which reads them
    as `reader_config.my_key`.
    """

    mixture: MixtureConfig = MixtureConfig()
    curriculum: CurriculumConfig = CurriculumConfig()

    @model_validator(mode="after")
    def _mixture_has_sources(self) -> Self:
        if self.type == "mixture" and not self.mixture.sources:
            raise value_error('type "mixture" needs mixture.sources')
        return self
