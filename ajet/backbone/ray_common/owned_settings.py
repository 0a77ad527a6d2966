"""Refuses settings of another library that AgentJet sets itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ajet.errors import ConfigError


def refuse_owned(name: str, section: Mapping[str, Any], owned: Mapping[str, str]) -> None:
    """Refuse every setting in a library's section that AgentJet sets itself.

    Args:
        name: of the section, for example `verl`.
        section: the user's settings.
        owned: maps a setting, or the prefix of several, to what to use instead.

    Raises:
        ConfigError: names the setting and its replacement.
    """
    for path in _leaves(section):
        for ours, instead in owned.items():
            if f"{path}.".startswith(f"{ours}."):
                raise ConfigError(f"{name}.{path}: AgentJet decides this; use {instead}")


def _leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in section.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{path}.")
        else:
            yield path
