"""Settings of a model that is asked by a judge, a data generator or a filter."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ajet.config.messages import value_error
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count, NotNegative, Positive, Words

MODEL_URL = Words('a URL such as "http://127.0.0.1:8000/v1", without a user name or a password')
KEY_VARIABLE = Words("the name of an environment variable")


def _model_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise value_error(f"expected {MODEL_URL.text}; a key goes into an environment variable")
    return value.rstrip("/")


def _variable(value: str) -> str:
    # The value itself is not shown: it may be the key that somebody put into the wrong place.
    if not value.replace("_", "").isalnum() or not value.isupper() or value[0].isdigit():
        raise value_error(f"expected {KEY_VARIABLE.text}, such as OPENAI_API_KEY, not the key")
    return value


class ModelClientConfig(BaseConfig):
    """A model behind an OpenAI-compatible URL, or the policy itself."""

    model: str = Field(default="", max_length=200)
    """The model's name. `policy` is the model under training itself."""
    base_url: Annotated[str, MODEL_URL, AfterValidator(_model_url)] | None = None
    """The URL of an OpenAI-compatible server. Null: DashScope for its names (`qwen-max`,
    `qwen3-235b-a22b-instruct-2507`, `dashscope/NAME`), else `OPENAI_BASE_URL`, else OpenAI."""
    api_key_env: Annotated[str, KEY_VARIABLE, AfterValidator(_variable)] | None = None
    """The environment variable with the key. Null: `DASHSCOPE_API_KEY` for DashScope,
    `OPENAI_API_KEY` for the URL of the environment, and no key for a `base_url`."""
    temperature: NotNegative | None = 0.0
    """Null: the server decides."""
    max_tokens: Count | None = None
    """Tokens of an answer at most. Null: the server decides."""
    options: FreeConfig = FreeConfig()
    """Further fields of the request, such as `top_p`; those in `extra_body`, too."""
    structured: Literal["json_schema", "json_object", "prompt"] = "json_schema"
    """How a request asks for an answer in a given form. `json_schema`: the server gets the schema.
    `json_object`: the server is asked for JSON of any form. `prompt`: only the prompt says it."""
    max_concurrent: Count = 64
    """Calls at the same time, in each process."""
    timeout_s: Positive = 60.0
    """Seconds that one attempt may take."""
    deadline_s: Positive = 180.0
    """Seconds that a question may take with all of its attempts."""
    max_retries: Annotated[int, Field(ge=0)] = 4
    """New attempts after an error of the network, a busy or broken server, or an empty answer."""
    unusable_retries: Annotated[int, Field(ge=0)] = 1
    """New attempts after an answer that does not have the form that was asked for."""
    max_answer_bytes: Count = 1_000_000
    """A longer response is not read to its end, and the call fails."""
    cache: bool = True
    """Keep answers on disk, and answer an equal question from there. Answers of the policy are
    never kept."""
    cache_dir: str | None = None
    """The folder of the kept answers. Null: `model_cache` in `ajet.experiment_dir`."""
    max_calls: Count | None = None
    """Calls that a run may make, retries included and kept answers not. Null: no limit."""
    max_total_tokens: Count | None = None
    """Tokens of prompts and answers that a run may use. Null: no limit."""

    def request(self) -> dict[str, Any]:
        """The fields of a request that do not depend on the question."""
        fields: dict[str, Any] = {"model": self.model.removeprefix("dashscope/")}
        if self.temperature is not None:
            fields["temperature"] = self.temperature
        if self.max_tokens is not None:
            fields["max_tokens"] = self.max_tokens
        options = dict(self.options)
        if isinstance(options.get("extra_body"), dict):
            options |= options.pop("extra_body")
        return fields | options
