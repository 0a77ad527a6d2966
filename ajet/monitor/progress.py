"""What a person sees while a run works.

On a terminal: a few lines at the bottom that move (step, phases, time left, last metrics), and
one line a step that stays. Elsewhere (a file, a pipe, CI): one plain line at the end of each
phase and step, and no control characters.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ajet.monitor.live_view import Bar, live_view
from ajet.monitor.metric_table import metric_table, step_line
from ajet.monitor.step_clock import StepClock, duration

REFRESH_PER_S = 2
"""The display's thread competes with a training that may have one thread."""


class Phase:
    """One part of a step that is under way."""

    def __init__(self, name: str, total: int | None, started_s: float) -> None:
        self.name = name
        self.total = total
        self.started_s = started_s
        self.done = 0
        self._lock = Lock()

    def advance(self, count: int = 1) -> None:
        """So much more is done. Any thread."""
        with self._lock:
            self.done += count


class Progress:
    """Context manager around a run; its methods may be called from any thread.

    While it is open, `line`, `console`, `print` and log lines to `sys.stderr` all appear above the
    moving lines. Leaving the context restores the terminal, whatever exception ends it.

    Args:
        console: where to; standard output if None.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.console = console or Console()
        self.total_steps = 0
        self.done_steps = 0
        self.phases: list[Phase] = []
        """Those under way; several where phases overlap."""
        self.table: RenderableType | None = None
        """Metrics of the last step."""
        self.clock = StepClock(now)
        self._live = self._make_live() if _can_move(self.console) else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start(refresh=True)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def start(self, total_steps: int, done_steps: int = 0) -> None:
        """Training begins; a resumed run has steps behind it."""
        self.total_steps, self.done_steps = total_steps, done_steps
        self.clock.start_steps()
        if done_steps:
            self.line(f"resumed after step {done_steps} of {total_steps}")

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """A part of a step, for example rollout, training, evaluation.

        Args:
            name: shown as it is.
            total: how often `advance` will be called; None where nothing is counted.
        """
        phase = Phase(name, total, self.clock.now)
        self.phases.append(phase)
        try:
            yield phase
        except BaseException:
            self.line(self._phase_line(phase, "stopped after"))
            raise
        else:
            if not self._live:
                self.line(self._phase_line(phase, "in"))
        finally:
            self.phases.remove(phase)

    def step_done(self, step: int, metrics: Mapping[str, float]) -> None:
        """A step's metrics are there. Step 0 is what is measured before training."""
        if step > self.done_steps:
            self.done_steps = step
            self.clock.step_done()
        else:
            self.clock.start_steps()
        self.table = metric_table(metrics)
        line = step_line(step, self.total_steps, metrics)
        self.line(line if self._live else f"{line}  left {duration(self.time_left)}")

    def line(self, text: str) -> None:
        """Print one line that stays; without a terminal it begins with the time since the start."""
        stamp = "" if self._live else f"[{duration(self.clock.now)}] "
        self.console.print(Text(stamp + text), soft_wrap=True)

    @property
    def time_left(self) -> float | None:
        """Seconds, by the pace of recent steps."""
        return self.clock.left(self.total_steps - self.done_steps)

    def _phase_line(self, phase: Phase, how: str) -> str:
        counted = "" if phase.total is None else f" {phase.done}/{phase.total}"
        return f"{phase.name}{counted} {how} {self.clock.now - phase.started_s:.1f} s"

    def _moving_lines(self) -> Group:
        now = self.clock.now
        bars = [
            Bar(
                label="step",
                done=self.done_steps,
                total=self.total_steps or None,
                times=f"{duration(now)}  left {duration(self.time_left)}",
                style="green",
            )
        ]
        bars += [
            Bar(
                label=phase.name,
                done=phase.done,
                total=phase.total,
                times=duration(now - phase.started_s),
                style="cyan",
            )
            for phase in tuple(self.phases)
        ]
        return live_view(self.console, bars, self.table)

    def _make_live(self) -> Live:
        return Live(
            console=self.console,
            get_renderable=self._moving_lines,
            refresh_per_second=REFRESH_PER_S,
            transient=True,
            vertical_overflow="crop",
        )


def _can_move(console: Console) -> bool:
    """A real terminal: `FORCE_COLOR` makes rich take a file for one."""
    return console.is_interactive and console.file.isatty()
