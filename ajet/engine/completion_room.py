"""How long a completion may be: the one rule of every engine."""

from __future__ import annotations

from ajet.errors import ContextLengthError
from ajet.schema.generation import SamplingParams


def max_new_tokens(prompt_length: int, params: SamplingParams, max_model_len: int) -> int:
    """What the request asks for, or less where the context ends; at least 1.

    Raises:
        ContextLengthError: the prompt leaves no room for a token.
    """
    room = max_model_len - prompt_length
    if room < 1:
        raise ContextLengthError(prompt_length, max_model_len)
    return min(params.max_tokens, room)
