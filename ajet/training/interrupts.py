"""Ctrl-C while something must not be left half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Delay the first Ctrl-C until the block has ended; a second one interrupts at once."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread gets KeyboardInterrupt, and only it may set handlers
        return
    previous = signal.getsignal(signal.SIGINT)
    interrupted = False

    def remember(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        # The second Ctrl-C meets the previous handler: a block that hangs can be left.
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, remember)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    # Only where the block succeeded: an exception of its own says more than the interrupt.
    if interrupted:
        raise KeyboardInterrupt
