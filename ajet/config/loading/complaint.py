"""All problems of a configuration in one error."""

from __future__ import annotations

from collections.abc import Iterable

from ajet.errors import ConfigError


def complaint(problems: Iterable[str]) -> ConfigError:
    """One line a problem; control characters, which a bad file may have, are written out."""
    return ConfigError("\n".join(map(_printable, problems)))


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
