"""Settings of the registered metric sinks: the keys next to `type` in `trainer_common.logger`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import ValidationError

from ajet.config.messages import value_error
from ajet.config.sections.section import BaseConfig
from ajet.errors import did_you_mean


class NoSettings(BaseConfig):
    """The settings of a sink that has none."""


class WandbConfig(BaseConfig):
    """Weights & Biases."""

    mode: Literal["auto", "online", "offline"] = "auto"
    """`offline` writes files for `wandb sync`. `auto`: the variable `WANDB_MODE`, or else online if
    this machine has a key, and offline if it has none."""
    entity: str | None = None
    """The user or team that the run belongs to; null: your default one."""
    group: str | None = None
    """Group of the run."""
    tags: list[str] = []
    """Tags of the run."""


class SwanLabConfig(BaseConfig):
    """SwanLab."""

    mode: Literal["auto", "online", "local", "offline"] = "auto"
    """`offline` writes files for `swanlab sync`; `local` writes files for `swanlab watch` and needs
    the package `swanboard`. `auto`: the variable `SWANLAB_MODE`, or else online if this machine has
    a key, local if it has swanboard, and offline otherwise."""
    workspace: str | None = None
    """The workspace on the server; null: your default one."""
    tags: list[str] = []
    """Tags of the run."""


class TrackioConfig(BaseConfig):
    """Trackio."""

    space_id: str | None = None
    """The Hugging Face space that gets the metrics; null: only this machine."""
    group: str | None = None
    """Group of the run."""


class MlflowConfig(BaseConfig):
    """MLflow."""

    tracking_uri: str | None = None
    """A server's URL, a database (`sqlite:///file.db`) or a folder. Null: the variable
    `MLFLOW_TRACKING_URI`, or else the folder `trackers/mlflow` next to the run folder."""
    tags: dict[str, str] = {}
    """Tags of the run."""


SINK_SETTINGS: dict[str, type[BaseConfig]] = {
    "console": NoSettings,
    "tensorboard": NoSettings,
    "wandb": WandbConfig,
    "swanlab": SwanLabConfig,
    "trackio": TrackioConfig,
    "mlflow": MlflowConfig,
}
"""Name of a sink -> the class of its settings. A sink without an entry takes any settings."""


def checked_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a sink with the defaults of those that are not given.

    Raises:
        PydanticCustomError: a setting is unknown or wrong; the message names it.
    """
    section = SINK_SETTINGS.get(name)
    if section is None:
        return dict(settings)
    try:
        return section.model_validate(dict(settings)).model_dump()
    except ValidationError as error:
        [first, *_] = error.errors(include_url=False)
        key = ".".join(map(str, first["loc"]))
        if first["type"] != "extra_forbidden":
            raise value_error(f'sink "{name}", {key}: {first["msg"]}') from error
        known = ", ".join(section.model_fields)
        hint = did_you_mean(key, section.model_fields)
        hint = hint or (f"; known here: {known}" if known else "; this sink has no settings")
        raise value_error(f'sink "{name}": unknown key "{key}"{hint}') from error
