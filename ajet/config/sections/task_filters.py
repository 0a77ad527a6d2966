"""Filters of tasks that were imported from logs or written by a model."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from ajet.config.loading.class_paths import Registered
from ajet.config.messages import COMPLETE, value_error
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count, NotNegative, Share
from ajet.errors import did_you_mean

SAMPLE_FILTERS: dict[str, str | None] = {
    "length": "ajet.task_filters.text_filters->LengthFilter",
    "language": "ajet.task_filters.text_filters->LanguageFilter",
    "pattern": "ajet.task_filters.text_filters->PatternFilter",
    "deduplication": "ajet.task_filters.near_duplicates->DeduplicationFilter",
    "llm_evaluate": "ajet.task_filters.llm_evaluate->LlmEvaluateFilter",
}
"""`type` of a filter -> class path. Its settings are a class in `FILTER_PARAMS`."""


class LengthParams(BaseConfig):
    """Keeps tasks whose query and answer have a length between two bounds, in characters."""

    min_query: Annotated[int, Field(ge=0)] = 1
    max_query: Count | None = None
    min_answer: Annotated[int, Field(ge=0)] = 0
    max_answer: Count | None = None


class LanguageParams(BaseConfig):
    """Keeps queries in these languages; texts that are too short to tell are kept."""

    languages: Annotated[list[str], Field(min_length=1)]
    """ISO 639 codes, such as `en` or `eng`."""
    min_probability: Share = 0.9
    """A text is dropped if it is another language with at least this probability."""


class PatternParams(BaseConfig):
    """Keeps or drops tasks by regular expressions."""

    field: str = "main_query"
    """`main_query`, or a key of the metadata, such as `answer`."""
    keep: list[str] = []
    """If there are any, one must be found in the text."""
    drop: list[str] = []
    """None may be found in the text."""


class DeduplicationParams(BaseConfig):
    """Removes queries that are similar to an earlier one."""

    similarity_threshold: Share = 0.8
    """Similarity from which on two queries count as one: the share of common character sequences,
    or the cosine of embeddings."""
    model: str | None = None
    """An embedding model. Null: sequences of characters are compared, without any model."""
    base_url: str | None = None
    """Base URL of the embedding model's server. Null: as for `model_client.base_url`."""
    api_key_env: str | None = None
    """The environment variable with its key. Null: as for `model_client.api_key_env`."""
    api_key: str | None = None
    """Accepted only as null: a key belongs into the variable that `api_key_env` names."""
    db_path: str | None = None
    """Folder that keeps the embeddings. Null: they are kept with the answers of models."""

    @field_validator("api_key")
    @classmethod
    def _no_key(cls, value: Any) -> None:
        if value is not None:
            raise value_error("put the key into the environment variable that api_key_env names")


class LlmEvaluateParams(BaseConfig):
    """Keeps tasks that a model finds good."""

    custom_rubrics: str = ""
    """Further rules for what to drop, in words."""
    temperature: NotNegative = 0.0
    max_tokens: Count | None = None
    print_reason: bool = True
    """Log the model's reason for each task that is dropped."""
    max_thread: Count | None = None
    """Calls at the same time; null: as for `model_client.max_concurrent`."""


FILTER_PARAMS: dict[str, type[BaseConfig]] = {
    "length": LengthParams,
    "language": LanguageParams,
    "pattern": PatternParams,
    "deduplication": DeduplicationParams,
    "llm_evaluate": LlmEvaluateParams,
}
"""`type` of a filter -> the class of its `params`."""


class TaskFilterConfig(BaseConfig):
    """One filter."""

    type: Annotated[str, Registered(SAMPLE_FILTERS)]
    """The filter; or the class path of a function of a task that returns True to keep it, or of a
    class whose objects are such functions and which is made with `params`."""
    enabled: bool = True
    """False: the filter is skipped."""
    params: FreeConfig = FreeConfig()
    """Its settings."""

    @field_validator("params")
    @classmethod
    def _known_params(cls, value: FreeConfig, info: ValidationInfo) -> FreeConfig:
        params_class = FILTER_PARAMS.get(str(info.data.get("type")))
        if params_class is not None:
            params_of(params_class, value)
        return value


def params_of(params_class: type[BaseConfig], given: dict[str, Any]) -> Any:
    """The settings of a filter, checked.

    Raises:
        PydanticCustomError: a setting is wrong; the message names all that are.
    """
    try:
        return params_class.model_validate(dict(given))
    except ValidationError as error:
        raise value_error("; ".join(_line(params_class, line) for line in error.errors())) from None


def _line(params_class: type[BaseConfig], line: Any) -> str:
    key = ".".join(map(str, line["loc"]))
    if line["type"] == "extra_forbidden":
        return f'unknown key "{key}"{did_you_mean(key, params_class.model_fields)}'
    if line["type"] == COMPLETE:  # the message is whole, and the value may be a secret
        return f"{key}: {line['msg']}"
    return f"{key}: {line['msg']}, got {line['input']!r}"
