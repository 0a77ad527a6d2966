"""`ajet.debug`: trying a workflow without training."""

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
    """Trying a workflow without training: `ajet --backbone=debug`."""

    num_tasks: Count = 2
    """The first so many training tasks are run, one after the other."""
    num_repeat: Count = 1
    """Episodes of each task."""
    engine: Annotated[str, ENGINE, AfterValidator(_engine)] = "auto"
    """What answers: `warm` (the one that `ajet engine start` keeps), `embedded`, or the URL of any
    OpenAI-compatible server; `auto` is `warm` where one is up with this model, else
    `embedded`."""
    model: str | None = None
    """The model's name at that URL; null is the first that the server lists."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable with the key for that URL."""
