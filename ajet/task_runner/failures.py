"""From an exception to the record of a failed episode."""

from __future__ import annotations

import sys
import threading
import traceback

from ajet.schema.episode import Failure, FailureKind


def failure_of(error: BaseException, kind: FailureKind) -> Failure:
    """What user code raised; the traceback begins in user code, below our frame."""
    frames = error.__traceback__.tb_next if error.__traceback__ else None
    text = "".join(traceback.format_exception(type(error), error, frames))
    first_line = str(error).strip().partition("\n")[0]
    name = type(error).__name__
    message = f"{name}: {first_line}" if first_line else name
    return Failure(kind=kind, message=message, traceback=text)


def stack_of(thread: threading.Thread) -> str:
    """Where a thread is at this moment; empty if it has ended."""
    frame = sys._current_frames().get(thread.ident or 0)
    return "".join(traceback.format_stack(frame)) if frame else ""


def is_context_overflow(error: BaseException | None) -> bool:
    """Whether a prompt that was too long is the cause, by the code that every client keeps."""
    while error is not None:
        if getattr(error, "code", None) == "context_length_exceeded":
            return True
        error = error.__cause__
    return False
