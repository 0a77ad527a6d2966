"""How long an episode may take, and what happens after that.

At the deadline the episode is asked to end: its model requests are refused, what it awaits is
cancelled. Code that blocks its thread, or that ignores the cancellation, cannot be ended: after
`GRACE_S` more its thread is given up.
"""

from __future__ import annotations

import time

GRACE_S = 5.0
"""From asking an episode to end to giving up its thread."""


class Deadline:
    """Of one episode."""

    def __init__(self, timeout_s: float) -> None:
        self._next = time.monotonic() + timeout_s
        self.asked = False
        """Whether the episode was asked to end."""

    @property
    def remaining_s(self) -> float:
        """Until it is to be asked, or, when it was, until it is given up."""
        return self._next - time.monotonic()

    def ask(self) -> None:
        """The episode is asked to end now."""
        self.asked = True
        self._next = time.monotonic() + GRACE_S
