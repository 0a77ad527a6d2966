"""Time since the start of a run, and an estimate of the time left."""

from __future__ import annotations

from collections.abc import Callable

RECENT_STEPS = 10
"""Steps behind an estimate: enough to average over evaluations, few enough to follow a drift."""


class StepClock:
    """Measures the time since its creation and estimates the time left.

    Args:
        now: monotonic clock in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._ends: tuple[float, ...] = ()

    def start_steps(self) -> None:
        """The first step of this process begins now; earlier time belongs to no step."""
        self._ends = (self._now(),)

    def step_done(self) -> None:
        """A step ends and the next one begins."""
        self._ends = (*self._ends, self._now())[-RECENT_STEPS - 1 :]

    @property
    def now(self) -> float:
        """Seconds since the clock was created."""
        return self._now() - self._began

    def left(self, steps: int) -> float | None:
        """Estimated seconds for this number of steps; None before the first step has ended."""
        # One read: the run's thread replaces the tuple while the display's thread reads it.
        ends = self._ends
        if len(ends) < 2:
            return None
        pace = (ends[-1] - ends[0]) / (len(ends) - 1)
        return max(0.0, steps * pace - (self._now() - ends[-1]))


def duration(seconds: float | None) -> str:
    """Seconds as text: `1:02:03`, `2:03`, or `-` for None."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
