"""Metric sinks: where metrics go besides the console and `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ajet.class_path import class_path_in, load_class
from ajet.config.sections.root import RootConfig
from ajet.config.sections.trainer_common import METRIC_SINKS, OwnSinkConfig
from ajet.monitor.run_record import run_id_of

KEY = "ajet.trainer_common.logger"


@dataclass(slots=True, kw_only=True, frozen=True)
class SinkContext:
    """What a sink is made with: the run it belongs to, and its own settings."""

    run_folder: Path
    run_id: str
    """The same when the run is resumed, and unlike that of any other run."""
    resumed_step: int | None = None
    """Step to resume after: what the sink has of later steps is superseded. -1: of all steps.
    None: a new run."""
    config: RootConfig
    """The resolved configuration, with `ajet.project_name` and `ajet.experiment_name`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings that stand beside the sink's class path in `trainer_common.logger`."""


class MetricSink(Protocol):
    """A tracker that receives the metrics of each step. It is made with a `SinkContext`."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step; they are on disk, or sent, when it returns."""
        ...

    def close(self) -> None:
        """Called once, at the end of the run."""
        ...


def open_sinks(
    config: RootConfig, run_folder: Path, *, resumed_step: int | None = None
) -> list[MetricSink]:
    """The sinks that `trainer_common.logger` names, in that order.

    Args:
        config: the resolved configuration.
        run_folder: the run's folder.
        resumed_step: see `SinkContext`.

    Raises:
        ConfigError: a sink cannot be loaded.
        MissingExtraError: a sink that is named needs a library that is not installed.
    """
    logger = config.ajet.trainer_common.logger
    if logger == "auto":
        logger = ["tensorboard"] if find_spec("tensorboard") else []
    sinks: list[MetricSink] = []
    for entry in logger:
        name, settings = _name_and_settings(entry)
        if name == "console":  # the progress display, which every run has
            continue
        context = SinkContext(
            run_folder=run_folder,
            run_id=run_id_of(run_folder),
            resumed_step=resumed_step,
            config=config,
            settings=settings,
        )
        sinks.append(load_class(class_path_in(METRIC_SINKS, name, KEY), None, KEY)(context))
    return sinks


def _name_and_settings(entry: str | OwnSinkConfig) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, OwnSinkConfig):
        return entry.type, entry.model_extra or {}
    return entry, {}
