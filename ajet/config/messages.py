"""How configuration errors are worded: one error with a line per problem."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic_core import PydanticCustomError

from ajet.errors import ConfigError

COMPLETE = "complete"
"""Type of a validation error whose message needs nothing added to it."""

UNAVAILABLE = "unavailable"
"""Type of a validation error about something that is not there yet: a file on this machine, or a
part that this version does not have. The file can be loaded; a run of it is refused."""


def config_error(problems: Iterable[str]) -> ConfigError:
    """One error with one line per problem; control characters are written as escapes."""
    return ConfigError("\n".join(map(_printable, problems)))


def value_error(message: str) -> PydanticCustomError:
    """The error that our validators raise for a bad value; the message does not name the key."""
    return PydanticCustomError(COMPLETE, "{message}", {"message": message})


def unavailable_error(message: str) -> PydanticCustomError:
    """The error that our validators raise for what is not there; see `UNAVAILABLE`."""
    return PydanticCustomError(UNAVAILABLE, "{message}", {"message": message})


def _printable(line: str) -> str:
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in line)
