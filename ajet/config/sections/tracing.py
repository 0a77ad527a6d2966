"""`ajet.task_reader.tracing`: tasks from the logs of agents in use."""

from __future__ import annotations

from typing import Annotated

from pydantic import model_validator

from ajet.config.loading.class_paths import Registered
from ajet.config.loading.paths import DataPath
from ajet.config.messages import value_error
from ajet.config.sections.model_client import ModelClientConfig
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.task_filters import TaskFilterConfig
from ajet.config.sections.types import Count, Share

REDACTIONS: dict[str, str | None] = {
    "secrets": "ajet.tracing.redaction->secrets",
    "emails": "ajet.tracing.redaction->emails",
    "phone_numbers": "ajet.tracing.redaction->phone_numbers",
    "ip_addresses": "ajet.tracing.redaction->ip_addresses",
    "credit_cards": "ajet.tracing.redaction->credit_cards",
}
"""Names in `task_reader.tracing.redaction` -> class path of a function from text to text."""


class TracingConfig(BaseConfig):
    """Tasks from the logs of agents in use.

    Logs are OpenTelemetry's JSON, databases of AgentScope Studio, logs of requests to OpenAI's or
    Anthropic's API, and folders of our own runs. What a file is, its content tells.
    """

    sources: list[DataPath] = []
    """The logs: files, folders of files, and folders of runs."""
    base_url: DataPath | None = None
    """One more source, under the name that files of AgentJet give it."""
    train_output_path: str = "traced_tasks.jsonl"
    """The tasks are added to this file, one JSON object per line. Beside it, `NAME.position.json`
    keeps how far each source has been read."""
    redaction: list[Annotated[str, Registered(REDACTIONS)]] = ["secrets", "emails"]
    """What is taken out of every text before it is written or sent anywhere; names, and class paths
    of functions from text to text."""
    require_answer: bool = True
    """Leave out tasks whose log has no final answer. False: they are kept without `answer`."""
    validation_share: Share = 0.3
    """Share of the conversations that are validation tasks; all tasks of a conversation are on the
    same side, in every import."""
    split_seed: int = 42
    """Another number makes another split."""
    filters: list[TaskFilterConfig] = []
    """What decides which new tasks are kept, in this order."""
    alien_llm_model: str | None = None
    """The model of the filter `llm_evaluate`; short for `model_client.model`."""
    alien_llm_response_length: Count | None = None
    """Tokens of its answers; short for `model_client.max_tokens`."""
    model_client: ModelClientConfig = ModelClientConfig()
    """How the model is asked."""

    @property
    def all_sources(self) -> list[str]:
        """`sources`, and `base_url`."""
        return [*self.sources, *([self.base_url] if self.base_url else [])]

    @property
    def filter_model(self) -> ModelClientConfig:
        """The model for filters, with its short names applied."""
        short = {"model": self.alien_llm_model, "max_tokens": self.alien_llm_response_length}
        given = {key: value for key, value in short.items() if value is not None}
        return self.model_client.model_copy(update=given)

    @model_validator(mode="after")
    def _has_model(self) -> TracingConfig:
        asks = any(item.enabled and item.type == "llm_evaluate" for item in self.filters)
        if asks and not self.filter_model.model:
            raise value_error('the filter "llm_evaluate" needs model_client.model')
        return self
