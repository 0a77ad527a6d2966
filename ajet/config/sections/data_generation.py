"""`ajet.task_reader.data_generation`: tasks that a model writes about documents."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from ajet.config.loading.paths import DataPath
from ajet.config.sections.model_client import ModelClientConfig
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.task_filters import DeduplicationParams, TaskFilterConfig
from ajet.config.sections.types import Count


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class DocumentReaderConfig(BaseConfig):
    """The documents that questions are written about."""

    document_path: Annotated[list[DataPath], BeforeValidator(_as_list)] = []
    """Files (`.txt`, `.md`, `.pdf`, `.docx`, `.html`) and folders of such files."""
    languages: list[str] = []
    """Languages of the questions, as codes such as `en` or `eng`; questions in others are dropped.
    Empty: any."""
    chunk_size: Annotated[int, Field(ge=100)] = 5120
    """Characters of the pieces that documents are cut into, at most."""
    split_by: Literal["sentence", "paragraph", "character"] = "sentence"
    """Unit at whose ends a document is cut into pieces."""
    cache_enabled: bool = True
    """Keep the text of converted documents beside the answers of models."""


class DeduplicationConfig(BaseConfig):
    """Removes questions that are similar to an earlier one."""

    enabled: bool = True
    """False: similar questions stay."""
    params: DeduplicationParams = DeduplicationParams()
    """What counts as similar."""


class GenerationConfig(BaseConfig):
    """Tasks that a model writes, about documents and in the manner of examples."""

    document_reader: DocumentReaderConfig = DocumentReaderConfig()
    """The documents."""
    task_num: Count = 10
    """Number of training tasks, and of questions about the documents before filters."""
    questions_per_chunk: Annotated[int, Field(gt=0, le=50)] = 10
    """Questions that are asked for in one call about a piece of a document."""
    num_examples: Annotated[int, Field(gt=0, le=20)] = 3
    """Examples that the model gets for each new task."""
    check_answers: bool = True
    """Ask the model in a second call whether the excerpt answers the question and the answer is
    right; drop the task if not."""
    llm_model: str | None = None
    """The model; short for `model_client.model`."""
    llm_response_length: Count | None = None
    """Tokens of an answer at most; short for `model_client.max_tokens`."""
    num_workers: Count | None = None
    """Calls at the same time; short for `model_client.max_concurrent`."""
    sampling_params: FreeConfig = FreeConfig()
    """`temperature` and further fields of the requests; short for those of `model_client`."""
    model_client: ModelClientConfig = ModelClientConfig()
    """The model that writes questions: its address, its limits and its budget."""
    deduplication_filter: DeduplicationConfig = DeduplicationConfig()
    filters: list[TaskFilterConfig] = []
    """What else decides which tasks are kept, in this order; as in `tracing.filters`."""
    seed: int = 42
    """Which pieces and examples go together."""
    output_dir: str = "generated_tasks"
    """The folder of the result: `tasks.jsonl`, `validation_tasks.jsonl`, and what made them."""

    @property
    def model(self) -> ModelClientConfig:
        """The model, with its short names applied."""
        sampling = dict(self.sampling_params)
        given: dict[str, Any] = {
            "model": self.llm_model,
            "max_tokens": self.llm_response_length,
            "max_concurrent": self.num_workers,
            "temperature": sampling.pop("temperature", None),
        }
        update = {key: value for key, value in given.items() if value is not None}
        options = FreeConfig({**self.model_client.options, **sampling})
        return self.model_client.model_copy(update={**update, "options": options})
