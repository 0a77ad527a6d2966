"""How long a completion may be, and when it ends: the rules that all engines share."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ajet.errors import ContextLengthError
from ajet.schema.call import FinishReason, SamplingParams


def max_new_tokens(prompt_length: int, params: SamplingParams, max_model_len: int) -> int:
    """How many tokens may be sampled: `params.max_tokens`, or less if the context ends before.

    Returns:
        At least 1.

    Raises:
        ContextLengthError: the prompt leaves no room for a token.
    """
    room = max_model_len - prompt_length
    if room < 1:
        raise ContextLengthError(prompt_length, max_model_len)
    return min(params.max_tokens, room)


def finish_reason(
    sampled: Sequence[int],
    params: SamplingParams,
    max_new: int,
    decode: Callable[[list[int]], str],
) -> FinishReason | None:
    """Why a completion ends with its last token, or None if it continues.

    Args:
        sampled: the completion so far, at least one token.
        params: the stop tokens and stop strings.
        max_new: the greatest length of the completion, from `max_new_tokens`.
        decode: turns token ids into text; called only if there are stop strings.
    """
    if sampled[-1] in params.stop_token_ids:
        return "stop"
    if params.stop:
        # A token is at least one byte, so a stop string that the last token completes begins
        # within this many tokens. 8 more tokens keep a character that is cut in two out of it.
        window = max(len(stop.encode()) for stop in params.stop) + 8
        text = decode(list(sampled[-window:]))
        if any(stop in text for stop in params.stop):
            return "stop"
    return "length" if len(sampled) == max_new else None
