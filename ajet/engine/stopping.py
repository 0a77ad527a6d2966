"""When a completion ends: the one rule of every engine that samples by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ajet.schema.generation import FinishReason, SamplingParams


def finish_reason(
    sampled: Sequence[int],
    params: SamplingParams,
    max_new: int,
    decode: Callable[[list[int]], str],
) -> FinishReason | None:
    """Why a completion ends with its last token; None where it goes on.

    Args:
        sampled: the completion so far, one token or more.
        params: says what stops it.
        max_new: its greatest length: `params.max_tokens`, or less where the context ends.
        decode: from token ids to text; called for stop strings only.
    """
    if sampled[-1] in params.stop_token_ids:
        return "stop"
    if params.stop:
        # A token is at least one byte, so a stop string that has just been completed began within
        # this many tokens; 8 more keep a character that is cut in two out of it.
        window = max(len(stop.encode()) for stop in params.stop) + 8
        text = decode(list(sampled[-window:]))
        if any(stop in text for stop in params.stop):
            return "stop"
    return "length" if len(sampled) == max_new else None
