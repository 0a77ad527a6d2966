"""Settings of another library that AgentJet decides itself: refused where a user gives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ajet.errors import ConfigError


def refuse_owned(name: str, section: Mapping[str, Any], owned: Mapping[str, str]) -> None:
    """Refuse every setting of a free section that is ours.

    Args:
        name: of the section: `verl`.
        section: what the user gave.
        owned: a setting, or the head of several, to what to use instead.

    Raises:
        ConfigError: it names the setting and what to use.
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
