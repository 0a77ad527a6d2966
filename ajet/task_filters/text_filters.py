"""Filters that look at the text alone: its length, its language, and patterns in it."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from ajet.errors import ConfigError, MissingExtraError
from ajet.schema.task import Task
from ajet.task_filters.filtering import FilterContext

MIN_LETTERS = 20
"""Shorter texts do not tell their language."""


class LengthFilter:
    """Keeps tasks whose query and answer have a length between two bounds."""

    def __init__(self, context: FilterContext) -> None:
        self._params = context.params

    def __call__(self, task: Task) -> bool:
        """Whether the task is kept."""
        params, answer = self._params, str(task.metadata.get("answer", ""))
        return _is_between(len(task.main_query), params.min_query, params.max_query) and (
            _is_between(len(answer), params.min_answer, params.max_answer)
        )


class PatternFilter:
    """Keeps or drops tasks by regular expressions.

    Raises:
        ConfigError: an expression is wrong.
    """

    def __init__(self, context: FilterContext) -> None:
        self._field = context.params.field
        self._keep = [_compiled(pattern) for pattern in context.params.keep]
        self._drop = [_compiled(pattern) for pattern in context.params.drop]

    def __call__(self, task: Task) -> bool:
        """Whether the task is kept."""
        is_query = self._field == "main_query"
        text = task.main_query if is_query else str(task.metadata.get(self._field, ""))
        if self._keep and not any(pattern.search(text) for pattern in self._keep):
            return False
        return not any(pattern.search(text) for pattern in self._drop)


class LanguageFilter:
    """Keeps queries in some languages; a text that is too short to tell is kept.

    Raises:
        ConfigError: a code names no language that can be told from others.
    """

    def __init__(self, context: FilterContext) -> None:
        self._languages = {language_code(name) for name in context.params.languages}
        self._min_probability = context.params.min_probability

    def __call__(self, task: Task) -> bool:
        """Whether the task is kept."""
        if sum(char.isalpha() for char in task.main_query) < MIN_LETTERS:
            return True
        language, probability = _identifier().classify(task.main_query)
        return language in self._languages or probability < self._min_probability


def language_code(name: str) -> str:
    """The two-letter code of a language; three letters, such as `eng`, are accepted as well.

    Raises:
        ConfigError: it names no language that can be told from others.
    """
    known = _identifier().labels
    langcodes = _library("langcodes")
    try:
        code = str(langcodes.Language.get(name.strip().lower()).language)
    except ValueError:
        code = ""
    if code not in known:
        raise ConfigError(
            f'languages: got "{name}", expected ISO 639 codes such as "en" or "eng"; known are '
            f"{', '.join(sorted(known))}"
        )
    return code


@cache
def _identifier() -> Any:
    langid = _library("py3langid.langid")
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(name.partition(".")[0], "data") from error


def _is_between(length: int, least: int, most: int | None) -> bool:
    return least <= length and (most is None or length <= most)


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f'filter "pattern": "{pattern}" is no regular expression: {error}'
        ) from None
