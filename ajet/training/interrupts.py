"""Ctrl-C, and the signals that count as Ctrl-C, while something must not be left half done.

1. In an update of the weights, the first one waits for the end of the step; a second one does not.
2. In a checkpoint, each of them waits: a step that is done is never lost to impatience.
3. When the last step is saved, none of them changes how the run ends.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

logger = logging.getLogger(__name__)


@contextmanager
def deferred_interrupt(*, to_the_end: bool = False) -> Iterator[None]:
    """Delay the first Ctrl-C until the block has ended; a second one interrupts at once.

    Where Ctrl-C is ignored, as in a program that a shell script starts with `&`, it stays ignored;
    the other signals that end a run come here with their own number.

    Args:
        to_the_end: delay every Ctrl-C. For blocks that are worth the wait, and that SIGKILL may
            end at any time, such as the writing of a checkpoint.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets KeyboardInterrupt, and only it may set handlers
        return
    previous = signal.getsignal(signal.SIGINT)
    interrupted = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        if number == signal.SIGINT and previous == signal.SIG_IGN:
            return
        if to_the_end:
            if interrupted:
                logger.warning(
                    "the run ends as soon as the checkpoint is written; "
                    "kill -9 %d ends it now, with the checkpoint before",
                    os.getpid(),
                )
        else:
            # The second Ctrl-C meets the previous handler: a block that hangs can be left.
            signal.signal(signal.SIGINT, previous)
        interrupted = True

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    # Only where the block succeeded: an exception of its own says more than the interrupt.
    if interrupted:
        raise KeyboardInterrupt


def ignore_interrupts() -> None:
    """From here on, Ctrl-C does nothing; the launcher restores its handler.

    For the last seconds of a run that is finished: what is left to do is a plot and a summary, and
    `finished` is the truth about the run.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, _ignore)


def _ignore(number: int, frame: FrameType | None) -> None:
    logger.info("the run is finished and ends in a moment")
