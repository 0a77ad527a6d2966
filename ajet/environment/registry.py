"""Makes what `ajet.environment` names; the registry is in `config/sections/environment.py`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from ajet.class_path import class_path_in, load_class
from ajet.config.sections.environment import ENVIRONMENTS, EnvironmentConfig
from ajet.config.sections.root import AjetConfig
from ajet.environment.environment import Environment
from ajet.environment.episode_environment import EnvironmentSource
from ajet.environment.gymnasium_environment import GymnasiumEnvironment
from ajet.environment.in_process import InProcessSource
from ajet.errors import ConfigError, MissingExtraError

KEY = "ajet.environment.type"


def make_source(ajet: AjetConfig, run_folder: Path | None) -> EnvironmentSource | None:
    """Where the episodes of a run get their environments; None: they have none.

    Args:
        ajet: the configuration.
        run_folder: where open instances are noted; None: nowhere.

    Raises:
        ConfigError: a class is missing or of another kind.
        MissingExtraError: Gymnasium is needed and not installed.
    """
    kind, reader = ajet.environment.type, ajet.task_reader
    types = [source.type for source in reader.mixture.sources] if reader.type == "mixture" else []
    if kind is None and "env_service" in (reader.type, *types):
        kind = "service"
    if kind is None:
        return None
    cls = load_class(class_path_in(ENVIRONMENTS, kind, KEY), None, KEY)
    if issubclass(cls, Environment):
        return InProcessSource(cls, _options(cls, ajet.environment))
    if hasattr(cls, "configured"):
        source: EnvironmentSource = cls.configured(ajet, run_folder)
        return source
    if all(hasattr(cls, name) for name in ("reset", "step", "close")):
        return InProcessSource(_behind_text(cls), _options(cls, ajet.environment))
    raise ConfigError(
        f"{KEY}: {cls.__name__} is neither an ajet.environment.Environment nor a gymnasium.Env"
    )


def _options(cls: type[Any], settings: EnvironmentConfig) -> dict[str, Any]:
    """The keyword arguments of the class."""
    options: dict[str, Any] = {**settings.options, **(settings.model_extra or {})}
    if issubclass(cls, GymnasiumEnvironment):
        if importlib.util.find_spec("gymnasium") is None:
            raise MissingExtraError("gymnasium", "environment")
        if settings.id:
            options["id"] = settings.id
    return options


def _behind_text(cls: type[Any]) -> type[Environment]:
    """The text adapter around a `gymnasium.Env` of the user's."""

    class Adapted(GymnasiumEnvironment):
        def make(self) -> Any:
            return cls(**self.options)

    return Adapted
