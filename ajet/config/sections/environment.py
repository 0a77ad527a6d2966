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
    if re.fullmatch(r"https?://[^\s/:?#]+(:\d{1,5})?(/[^\s?#]*)?", value):
        return value
    raise value_error(f'got "{value}", expected {SERVICE_URL.text}')


ServiceUrl = Annotated[str, SERVICE_URL, AfterValidator(_service_url)]


class EnvironmentConfig(BaseConfig):
    """What a workflow acts on: `workflow_task.gym_env`, one instance per episode.

    Other keys than those below are keyword arguments of your own class.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, free_beside("type")]] = Field(init=False)

    type: Annotated[str, Registered(ENVIRONMENTS)] | None = None
    """`service`: over HTTP; `gymnasium`: in this process; or your own class. Null: none, except
    that tasks of the reader env_service have its service."""
    id: str | None = None
    """With `gymnasium`, or your own subclass of it: the id for `gymnasium.make`."""
    options: FreeConfig = FreeConfig()
    """Keyword arguments of `gymnasium.make`."""
    url: ServiceUrl | None = None
    """Of the service; null is `task_reader.env_service.env_url`."""
    request_timeout_s: Positive = 300.0
    """Seconds that a call of the service may take, with all tries."""
    max_tries: Count = 4
    """How often a call is sent when the connection fails; a busy service is asked until
    `request_timeout_s`."""
    release_timeout_s: Positive = 30.0
    """Seconds that releasing an instance may take; no episode waits for it."""

    @model_validator(mode="after")
    def _has_what_the_type_needs(self) -> EnvironmentConfig:
        if self.type == "gymnasium" and not self.id:
            raise value_error("type gymnasium needs id, for example FrozenLake-v1")
        return self
