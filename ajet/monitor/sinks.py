"""Metric sinks: destinations of metrics in addition to the console and `metrics.jsonl`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from ajet.class_path import class_path_in, load_class
from ajet.config.sections.metric_sinks import checked_settings
from ajet.config.sections.root import RootConfig
from ajet.config.sections.trainer_common import METRIC_SINKS, SinkConfig
from ajet.config.shown_settings import flat_without_secrets
from ajet.monitor.run_record import run_id_of

KEY = "ajet.trainer_common.logger"


@dataclass(slots=True, kw_only=True, frozen=True)
class SinkContext:
    """The argument of a sink's constructor: the run and the sink's own settings."""

    run_folder: Path
    run_id: str
    """Unique id of the run; it stays the same when the run is resumed."""
    resumed_step: int | None = None
    """The run continues after this step, so the sink's values of later steps (-1: of all steps) are
    obsolete. None: a new run."""
    config: RootConfig
    """The resolved configuration, with `ajet.project_name` and `ajet.experiment_name`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """The sink's own settings: the keys next to `type` in `trainer_common.logger`."""

    @property
    def trackers(self) -> Path:
        """The folder next to the run folder in which local trackers keep the runs of a project."""
        return self.run_folder.parent / "trackers"

    def shown_config(self) -> dict[str, Any]:
        """The configuration as flat `section.key` values, with secrets left out."""
        return dict(flat_without_secrets(self.config.model_dump()))


class MetricSink(Protocol):
    """Receives the metrics of each step. Its constructor takes a `SinkContext`."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Store or send the metrics of a step before returning."""
        ...

    def close(self) -> None:
        """End of the run; called once."""
        ...


def open_sinks(
    config: RootConfig, run_folder: Path, *, resumed_step: int | None = None
) -> list[MetricSink]:
    """Make the sinks that `trainer_common.logger` names, in order.

    Args:
        config: the resolved configuration.
        run_folder: the run's folder.
        resumed_step: see `SinkContext`.

    Raises:
        ConfigError: a sink cannot be loaded.
        MissingExtraError: a sink needs a library that is not installed.
    """
    makers = sink_makers(config, run_folder, resumed_step=resumed_step)
    return [make() for _, make in makers]


def sink_makers(
    config: RootConfig, run_folder: Path, *, resumed_step: int | None = None
) -> list[tuple[str, Callable[[], MetricSink]]]:
    """Name and maker of each sink that `trainer_common.logger` names, in order.

    Args:
        config: the resolved configuration.
        run_folder: the run's folder.
        resumed_step: see `SinkContext`.
    """
    logger = config.ajet.trainer_common.logger
    if logger == "auto":
        logger = ["tensorboard"] if find_spec("tensorboard") else []
    entries = [_name_and_settings(entry) for entry in logger]
    context = SinkContext(
        run_folder=run_folder,
        run_id=run_id_of(run_folder),
        resumed_step=resumed_step,
        config=config,
    )
    return [
        (name, partial(_make, name, replace(context, settings=settings)))
        for name, settings in entries
        if name != "console"  # the progress display, which every run has
    ]


def _make(name: str, context: SinkContext) -> MetricSink:
    sink: MetricSink = load_class(class_path_in(METRIC_SINKS, name, KEY), None, KEY)(context)
    return sink


def _name_and_settings(entry: str | SinkConfig) -> tuple[str, Mapping[str, Any]]:
    if isinstance(entry, SinkConfig):
        return entry.type, checked_settings(entry.type, entry.model_extra or {})
    return entry, checked_settings(entry, {})
