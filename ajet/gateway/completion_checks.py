"""Rules that recognise a completion that no reward should encourage.

Named in `rollout.compute_madness_checklist`. Each rule is deliberately narrow: a completion that a
person could have written passes. `docs/judges.md` states the rules for users.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

MAX_PERIOD = 200
"""Longest unit, in characters, whose repetition is looked for."""
MIN_REPEATS = 8
"""A unit must stand at least this often in a row ..."""
MIN_LOOP = 120
"""... over at least this many characters,"""
MIN_DECORATION = 400
"""or this many where the unit has no letter and no digit: lines and borders are no loops."""
MAX_BROKEN = 2
"""Replacement, private or unassigned characters that are still accepted: a completion may be cut
inside a character."""


@dataclass(slots=True, kw_only=True, frozen=True)
class CheckedCompletion:
    """What the rules look at."""

    message: Mapping[str, Any]
    """The assistant message, in the shape of the chat-completions API."""
    malformed_tool_calls: int
    """Tool calls that the chat format's parser could not read."""
    tools: Iterable[Mapping[str, Any]]
    """The tools that the request offered, in the shape of that API."""

    @property
    def text(self) -> str:
        """Reasoning and content."""
        parts = (self.message.get("reasoning_content"), self.message.get("content"))
        return "\n".join(part for part in parts if isinstance(part, str) and part)


def is_nonsense(completion: CheckedCompletion) -> bool:
    """Loops, or text with characters that no text has."""
    return _has_loop(completion.text) or _is_broken(completion.text)


def has_wrong_toolcall(completion: CheckedCompletion) -> bool:
    """A tool call that cannot be read, that names no offered tool, or without a JSON object."""
    if completion.malformed_tool_calls:
        return True
    offered = {tool.get("function", tool).get("name") for tool in completion.tools}
    return any(
        call["function"]["name"] not in offered or not _is_object(call["function"]["arguments"])
        for call in completion.message.get("tool_calls") or []
    )


def has_non_ascii(completion: CheckedCompletion) -> bool:
    """A character outside of ASCII, for tasks whose answers have none."""
    return not completion.text.isascii()


CHECKS: dict[str, Callable[[CheckedCompletion], bool]] = {
    "nonsense": is_nonsense,
    "wrong_toolcall": has_wrong_toolcall,
    "non_ascii": has_non_ascii,
}
"""Name in `rollout.compute_madness_checklist` -> rule."""


def failed_checks(completion: CheckedCompletion, checklist: Iterable[str]) -> list[str]:
    """The names of the rules on the list that recognise the completion."""
    return [name for name in checklist if CHECKS[name](completion)]


def _has_loop(text: str) -> bool:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    is_word = np.fromiter((char.isalnum() for char in text), bool, len(text))
    for period in range(1, min(MAX_PERIOD, len(text) // MIN_REPEATS) + 1):
        start, length = _longest_run(codes[period:] == codes[:-period])
        length += period  # the first unit has nothing before it that it could equal
        if length < max(MIN_LOOP, MIN_REPEATS * period):
            continue
        if length >= MIN_DECORATION or is_word[start : start + period].any():
            return True
    return False


def _longest_run(flags: np.ndarray) -> tuple[int, int]:
    """Start and length of the longest run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False]))))
    if not len(edges):
        return 0, 0
    starts, ends = edges[::2], edges[1::2]
    longest = int(np.argmax(ends - starts))
    return int(starts[longest]), int(ends[longest] - starts[longest])


def _is_broken(text: str) -> bool:
    broken = 0
    for char in text:
        if char.isascii():
            if ord(char) < 32 and char not in "\t\n\r\f\v":
                return True
        elif char == "\ufffd" or unicodedata.category(char) in ("Cn", "Co", "Cs", "Cc"):
            broken += 1
    return broken > MAX_BROKEN


def _is_object(arguments: Any) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (TypeError, ValueError, RecursionError):
        return False
