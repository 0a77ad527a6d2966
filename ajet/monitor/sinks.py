"""Where else metrics go, besides the console and `metrics.jsonl`: `trainer_common.logger`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

from ajet.errors import ConfigError
from ajet.monitor.tensorboard_sink import TensorBoardSink


class MetricSink(Protocol):
    """A tracker that is given each step's metrics."""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a step; on disk (or sent) when it returns."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


SINKS: dict[str, Callable[[Path, int | None], MetricSink]] = {"tensorboard": TensorBoardSink}
"""A new tracker is one file and one entry here; called with run folder and resumed step."""


def open_sinks(
    names: str | Sequence[str], run_dir: Path, *, resumed_step: int | None = None
) -> list[MetricSink]:
    """The sinks that `trainer_common.logger` names.

    Args:
        names: `auto`, which is TensorBoard where it is installed, or a list of names;
            `console` is the progress display, which is always there.
        run_dir: the run's folder.
        resumed_step: what sinks hold of later steps is superseded; None: a new run.

    Raises:
        ConfigError: a name that is not known.
        MissingExtraError: a sink that is named is not installed.
    """
    if names == "auto":
        names = ["tensorboard"] if find_spec("tensorboard") else []
    names = [names] if isinstance(names, str) else names
    for name in names:
        if name not in ("console", *SINKS):
            raise ConfigError(
                f'ajet.trainer_common.logger: unknown logger "{name}"; '
                f"there are: {', '.join(('auto', 'console', *SINKS))}"
            )
    return [SINKS[name](run_dir, resumed_step) for name in names if name in SINKS]
