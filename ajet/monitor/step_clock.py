"""How long a run has taken, and how long it will."""

from __future__ import annotations

from collections.abc import Callable

RECENT_STEPS = 10
"""Steps that an estimate rests on: enough to even out evaluations, few enough to follow a drift."""


class StepClock:
    """Time since it was made, and time left by the pace of recent steps.

    Args:
        now: monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._ends: tuple[float, ...] = ()

    def start_steps(self) -> None:
        """The first step of this process begins now; what came before is not part of any step."""
        self._ends = (self._now(),)

    def step_done(self) -> None:
        """A step ends, and the next one begins."""
        self._ends = (*self._ends, self._now())[-RECENT_STEPS - 1 :]

    @property
    def now(self) -> float:
        """Seconds since the clock was made."""
        return self._now() - self._began

    def left(self, steps: int) -> float | None:
        """Seconds until so many more steps are done; None before the first one is."""
        ends = self._ends  # The display's thread reads while the training's thread writes.
        if len(ends) < 2:
            return None
        pace = (ends[-1] - ends[0]) / (len(ends) - 1)
        return max(0.0, steps * pace - (self._now() - ends[-1]))


def duration(seconds: float | None) -> str:
    """`1:02:03`, `2:03`; `-` where it is not known."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
