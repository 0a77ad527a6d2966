"""`ajet.debug`: running a workflow without training."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator

from ajet.config.messages import value_error
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Count, Words

ENGINE = Words('"auto", "warm", "embedded", or a URL')


def is_url(engine: str) -> bool:
    """Whether `debug.engine` names a server."""
    return engine.startswith(("http://", "https://"))


def _engine(value: str) -> str:
    if value in ("auto", "warm", "embedded") or is_url(value):
        return value
    raise value_error(f'got "{value}", expected {ENGINE.text} that begins with http')


class DebugConfig(BaseConfig):
    """Running a workflow without training: `ajet --backbone=debug`."""

    num_tasks: Count = 2
    """Number of training tasks to run, from the first on, one at a time."""
    num_repeat: Count = 1
    """Episodes per task."""
    engine: Annotated[str, ENGINE, AfterValidator(_engine)] = "auto"
    """The inference engine: `warm` (kept by `ajet engine start`), `embedded`, or the URL of any
    OpenAI-compatible server. `auto`: `warm` if such an engine has this model, otherwise
    `embedded`."""
    model: str | None = None
    """The model's name on the server at that URL; null: the first model that the server lists."""
    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable with the API key for that URL."""
