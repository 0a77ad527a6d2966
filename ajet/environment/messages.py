"""Observations and states, in the forms that users and services give them, as chat messages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from numbers import Real
from typing import Any

Message = dict[str, Any]
Observation = str | Message | list[Message]
"""What an environment shows: a text, a chat message, or several."""


def as_messages(observation: Any) -> list[Message]:
    """Chat messages; a text is one of the user.

    Raises:
        ValueError: it is something else, or a message without content.
    """
    if isinstance(observation, str):
        return [{"role": "user", "content": observation}]
    messages = observation if isinstance(observation, list) and observation else [observation]
    for message in messages:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str | list):
            raise ValueError(
                f"got {_short(message)}, expected a message such as "
                '{"role": "user", "content": "..."}'
            )
    return [{"role": "user"} | message for message in messages]


def text_of(messages: Sequence[Message]) -> str:
    """The text of all messages, one per line."""
    return "\n".join(map(_text_of_one, messages))


def finite(value: Any, name: str) -> float:
    """The value as a float.

    Raises:
        ValueError: it is no number, NaN or infinite.
    """
    number = math.nan
    if isinstance(value, Real) and not isinstance(value, bool):  # those of numpy are, too
        with suppress(OverflowError):  # an integer beyond all floats
            number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{name}: got {_short(value)}, expected a finite number")
    return number


def _text_of_one(message: Message) -> str:
    content = message["content"]
    if isinstance(content, str):
        return content
    parts = [part.get("text") for part in content if isinstance(part, dict)]
    return "".join(part for part in parts if isinstance(part, str))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}..."
