"""The one way in which our own validators refuse a value."""

from __future__ import annotations

from pydantic_core import PydanticCustomError

REFUSED = "refused"
"""Type of an error whose message is complete as it is."""


def value_error(message: str) -> PydanticCustomError:
    """An error for a validator to raise; the message needs no key, only what is wrong."""
    return PydanticCustomError(REFUSED, "{message}", {"message": message})
