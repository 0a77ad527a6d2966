"""`ajet.environment`: what a workflow acts on."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from ajet.config.loading.class_paths import Registered, free_beside
from ajet.config.messages import value_error
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Count, Positive, Words

ENVIRONMENTS: dict[str, str | None] = {
    "service": "ajet.environment.service_environment->ServiceSource",
    "gymnasium": "ajet.environment.gymnasium_environment->GymnasiumEnvironment",
}
"""`environment.type` -> class path of an `Environment`, or of an `EnvironmentSource`. A new kind is
one file and one line here."""

SERVICE_URL = Words('an address such as "http://127.0.0.1:8080"')


def _service_url(value: str) -> str:
    if re.fullmatch(r"https?://([^\s/:?#\[\]]+|\[[\da-fA-F:.]+\])(:\d{1,5})?(/[^\s?#]*)?", value):
        return value
    raise value_error(f'got "{value}", expected {SERVICE_URL.text}')


ServiceUrl = Annotated[str, SERVICE_URL, AfterValidator(_service_url)]


class EnvironmentConfig(BaseConfig):
    """The environment that a workflow acts on: `workflow_task.gym_env`, one instance per episode.

    With a class path as `type`, additional keys are keyword arguments of that class.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("type")]] = Field(init=False)

    type: Annotated[str, Registered(ENVIRONMENTS)] | None = None
    """`service`: an environment service over HTTP; `gymnasium`: an environment in this process; or
    the class path of your own environment. Null: no environment, except for tasks of the reader
    `env_service`, which use its service."""
    id: str | None = None
    """The id for `gymnasium.make`, for `gymnasium` or your own subclass of it."""
    options: FreeConfig = FreeConfig()
    """Keyword arguments of `gymnasium.make`."""
    url: ServiceUrl | None = None
    """URL of the service; null: `task_reader.env_service.env_url`."""
    request_timeout_s: Positive = 300.0
    """Time limit in seconds for one call of the service, all tries included."""
    max_tries: Count = 4
    """How often a call is sent if the connection fails; a busy service is retried until
    `request_timeout_s`."""
    release_timeout_s: Positive = 30.0
    """Time limit in seconds for releasing an instance; episodes do not wait for it."""

    @model_validator(mode="after")
    def _has_what_the_type_needs(self) -> EnvironmentConfig:
        if self.type == "gymnasium" and not self.id:
            raise value_error("type gymnasium needs id, for example FrozenLake-v1")
        return self
