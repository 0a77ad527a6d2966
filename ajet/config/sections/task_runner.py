"""`ajet.task_runner`: where episodes run, and the services that they need."""

from __future__ import annotations

import re
import shlex
from typing import Annotated, Literal

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
    """A process that runs from before the first episode until after the last one."""

    name: Annotated[str, SERVICE_NAME, AfterValidator(_service_name)]
    """Name of the service; its log is `logs/services/NAME.log` in the run folder."""
    command: Annotated[list[str], COMMAND, BeforeValidator(_split), AfterValidator(_has_a_program)]
    """The program and its arguments; it is not run by a shell."""
    env: dict[str, str] = {}
    """Environment variables, in addition to the run's own."""
    cwd: Folder | None = None
    """Working directory. Null: that of the run."""
    ready_url: Annotated[str, HTTP_URL, AfterValidator(_http_url)] | None = None
    """The run waits until a GET request to this URL returns a status below 500."""
    ready_port: Port | None = None
    """The run waits until this port of this machine accepts connections. With neither `ready_url`
    nor `ready_port`, it does not wait."""
    start_timeout_s: Positive = 60.0
    """Time limit in seconds until the service is ready."""

    @model_validator(mode="after")
    def _is_ready_in_one_way(self) -> ServiceConfig:
        if self.ready_url and self.ready_port:
            raise value_error("has ready_url and ready_port; expected one of them")
        return self


class TaskRunnerConfig(BaseConfig):
    """Isolation of episodes, and the services that episodes need."""

    isolation: Literal["threads", "process"] = "threads"
    """`threads`: all episodes run in threads of the run's process. `process`: each episode runs in
    its own process, which can be killed whatever the code of workflow and judge does."""
    process_memory_mb: Positive = 4096
    """With `isolation: process`: memory in MB that an episode may use beyond what its process has
    when it starts."""

    unresponsive_timeout_s: Positive | None = 90.0
    """Seconds in which no Python code of the run's process runs, because some code holds the
    interpreter, after which the run is ended so that it can be resumed. Null: never."""
    services: list[ServiceConfig] = []
    """Processes that episodes need, such as environments; started in this order."""

    @model_validator(mode="after")
    def _names_differ(self) -> TaskRunnerConfig:
        names = [service.name for service in self.services]
        if twice := [name for name in names if names.count(name) > 1]:
            raise value_error(f'two services have the name "{twice[0]}"')
        return self
