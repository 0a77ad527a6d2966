"""Makes the filters of a configuration and applies them one after the other."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from ajet.boundary import caught_error, text_of
from ajet.class_path import class_path_in, load_function
from ajet.config.sections.model_client import ModelClientConfig
from ajet.config.sections.task_filters import (
    FILTER_PARAMS,
    SAMPLE_FILTERS,
    TaskFilterConfig,
    params_of,
)
from ajet.errors import AjetError, DataError
from ajet.schema.task import Task

logger = logging.getLogger(__name__)

MAX_ERROR = 500
"""Characters of a filter's error that are shown."""


@dataclass(slots=True, kw_only=True, frozen=True)
class FilterContext:
    """What a filter of ours gets besides its own settings."""

    params: Any
    """An object of its class in `FILTER_PARAMS`."""
    model: ModelClientConfig
    """The model that it may ask."""


@runtime_checkable
class BatchFilter(Protocol):
    """A filter that looks at all tasks at once."""

    def keep_all(self, tasks: Sequence[Task]) -> list[bool]:
        """Whether each task is kept."""


@runtime_checkable
class RemembersTasks(Protocol):
    """A filter that compares new tasks with those that are kept already."""

    def remember(self, tasks: Sequence[Task]) -> None:
        """Note tasks that are kept already."""


@dataclass(slots=True, kw_only=True)
class TaskFilters:
    """The filters of a section, in order."""

    key: str
    """The section's key, for messages."""
    filters: list[tuple[str, Any]] = field(default_factory=list)
    """Name and filter: a `BatchFilter`, or a function of a task."""
    dropped: Counter[str] = field(default_factory=Counter)
    """Name -> number of tasks that the filter dropped."""

    @classmethod
    def load(
        cls, configs: Sequence[TaskFilterConfig], model: ModelClientConfig, key: str
    ) -> TaskFilters:
        """Make the filters that are enabled.

        Raises:
            ConfigError: a filter cannot be loaded.
        """
        filters = cls(key=key)
        for config in configs:
            if config.enabled:
                filters.filters.append((config.type, _make(config, model, key)))
        return filters

    def remember(self, tasks: Sequence[Task]) -> None:
        """Tell the filters which tasks are kept already."""
        for _, keep in self.filters:
            if isinstance(keep, RemembersTasks):
                keep.remember(tasks)

    def kept(self, tasks: Sequence[Task]) -> list[Task]:
        """The tasks that every filter keeps.

        Raises:
            DataError: a filter of the user fails, or returns something else than True or False.
        """
        left = list(tasks)
        for name, keep in self.filters:
            if not left:
                break
            verdicts = self._verdicts(name, keep, left)
            kept = [task for task, verdict in zip(left, verdicts, strict=True) if verdict]
            self.dropped[name] += len(left) - len(kept)
            left = kept
        return left

    def _verdicts(self, name: str, keep: Any, tasks: Sequence[Task]) -> list[bool]:
        if isinstance(keep, BatchFilter):
            return keep.keep_all(tasks)
        verdicts = []
        for task in tasks:
            with _users_errors(f"{self.key}: {name} failed for task {task.task_id}"):
                verdicts.append(keep(task))
        for task, verdict in zip(tasks, verdicts, strict=True):
            if not isinstance(verdict, bool | np.bool_):
                raise DataError(
                    f"{self.key}: {name} returned {verdict!r} for task {task.task_id}; expected "
                    "True to keep it, or False"
                )
        return [bool(verdict) for verdict in verdicts]


@contextmanager
def _users_errors(what: str) -> Iterator[None]:
    """An exception of the user's code as one line.

    Args:
        what: what failed.
    """
    with caught_error() as caught:
        yield
    error = caught.error
    if isinstance(error, AjetError):
        raise error
    if error is not None:
        text = " ".join(f"{type(error).__name__}: {text_of(error)}".split())
        raise DataError(f"{what}: {text[:MAX_ERROR]}") from error


def _make(config: TaskFilterConfig, model: ModelClientConfig, key: str) -> Any:
    found: Callable[..., Any] = load_function(class_path_in(SAMPLE_FILTERS, config.type, key), key)
    params_class = FILTER_PARAMS.get(config.type)
    if params_class is not None:
        return found(FilterContext(params=params_of(params_class, config.params), model=model))
    if not isinstance(found, type):
        return found
    with _users_errors(f"{key}: {config.type} cannot be made"):
        return found(config.params)
