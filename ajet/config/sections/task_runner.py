"""`ajet.task_runner`: one episode's surroundings."""

from __future__ import annotations

import re
import shlex
from typing import Annotated

from annotated_types import Ge, Le
from pydantic import AfterValidator, BeforeValidator, model_validator

from ajet.config.loading.paths import Folder
from ajet.config.messages import value_error
from ajet.config.sections.section import BaseConfig
from ajet.config.sections.types import Positive, Words

SERVICE_NAME = Words("a name of letters, digits, _ and -")
COMMAND = Words("a list of texts, or one text, split as in a shell")
HTTP_URL = Words('an address such as "http://localhost:8000/health"')

Port = Annotated[int, Ge(1), Le(65535)]


def _service_name(value: str) -> str:
    if re.fullmatch(r"[\w-]+", value):
        return value
    raise value_error(f'got "{value}", expected {SERVICE_NAME.text}')


def _split(value: object) -> object:
    try:
        return shlex.split(value) if isinstance(value, str) else value
    except ValueError as error:
        raise value_error(f"got '{value}', which has {str(error).lower()}") from None


def _has_a_program(value: list[str]) -> list[str]:
    if value and value[0]:
        return value
    raise value_error("expected a program")


def _http_url(value: str) -> str:
    if re.fullmatch(r"https?://[^\s/:?#]+(:\d{1,5})?([/?#]\S*)?", value):
        return value
    raise value_error(f'got "{value}", expected {HTTP_URL.text}')


class ServiceConfig(BaseConfig):
    """A process that the run starts before the first episode and stops after the last one."""

    name: Annotated[str, SERVICE_NAME, AfterValidator(_service_name)]
    """Its log is `logs/services/NAME.log` in the run folder."""
    command: Annotated[list[str], COMMAND, BeforeValidator(_split), AfterValidator(_has_a_program)]
    """The program and its arguments; no shell is in between."""
    env: dict[str, str] = {}
    """Environment variables, on top of the run's own."""
    cwd: Folder | None = None
    """Its current directory; null is that of the run."""
    ready_url: Annotated[str, HTTP_URL, AfterValidator(_http_url)] | None = None
    """The run waits until a GET of this address gives a status below 500."""
    ready_port: Port | None = None
    """Or until something listens on this port of this machine. With neither, it does not wait."""
    start_timeout_s: Positive = 60.0
    """Seconds that it waits."""

    @model_validator(mode="after")
    def _is_ready_in_one_way(self) -> ServiceConfig:
        if self.ready_url and self.ready_port:
            raise value_error("has ready_url and ready_port; expected one of them")
        return self


class TaskRunnerConfig(BaseConfig):
    """One episode's surroundings."""

    services: list[ServiceConfig] = []
    """Processes that the episodes need, such as environments; started in this order."""

    @model_validator(mode="after")
    def _names_differ(self) -> TaskRunnerConfig:
        names = [service.name for service in self.services]
        if twice := [name for name in names if names.count(name) > 1]:
            raise value_error(f'two services have the name "{twice[0]}"')
        return self
