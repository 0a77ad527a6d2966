"""`${NAME}` in a setting is replaced by the environment variable of that name."""

from __future__ import annotations

import os
import re
from typing import Any

from ajet.config.loading.yaml_file import KeyPath, Settings, dotted

VARIABLE = re.compile(r"\$\{([^{}]*)\}")
OTHER_LANGUAGE = ("verl", "trinity")
"""Sections that are handed on as they are: these libraries give `${...}` a meaning of their own."""


def replace_variables(settings: Settings) -> list[str]:
    """Replace the variables in every text under `ajet:`, in place.

    Returns:
        One line for each that is not set.
    """
    problems: list[str] = []
    ajet = settings.data["ajet"]
    for name in ajet:
        if name not in OTHER_LANGUAGE:
            ajet[name] = _replaced(ajet[name], ("ajet", name), settings, problems)
    return problems


def _replaced(value: Any, path: KeyPath, settings: Settings, problems: list[str]) -> Any:
    if isinstance(value, dict):
        below = {key: (*path, str(key)) for key in value}
        return {key: _replaced(item, below[key], settings, problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(v, (*path, i), settings, problems) for i, v in enumerate(value)]
    if not isinstance(value, str):
        return value

    def variable(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in os.environ:
            problems.append(
                f"{settings.place(path)}: {dotted(path)}: ${{{name}}} is replaced by the "
                f"environment variable {name or 'between the braces'}, which is not set"
            )
            return ""
        return os.environ[name]

    return VARIABLE.sub(variable, value)
