"""The progress display of a run, and the seconds of each part of a step.

On a terminal: live lines at the bottom (step, phases, time left, latest metrics), and one permanent
line per step. Elsewhere (file, pipe, CI): one plain line at the end of each phase and step, without
control characters.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from threading import Lock
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from ajet.monitor.live_view import Bar, live_view
from ajet.monitor.metric_table import metric_table, step_line
from ajet.monitor.output import SteadyStream, log_to_stream

REFRESH_PER_S = 2
"""Low, because the display's thread competes with a training that may have a single thread."""


class Phase:
    """A phase of the current step, such as the rollout."""

    def __init__(self, name: str, total: int | None, started_s: float) -> None:
        self.name = name
        self.total = total
        self.started_s = started_s
        self.done = 0
        self._lock = Lock()

    def advance(self, count: int = 1) -> None:
        """Count finished items; safe to call from any thread."""
        with self._lock:  # `+=` on an attribute is not atomic
            self.done += count


class Progress:
    """Context manager around a run; its methods may be called from any thread.

    While it is open, `line`, `console`, `print` and log lines to `sys.stderr` all appear above the
    moving lines. Leaving the context restores the terminal, whatever exception ends it.

    Args:
        console: where to print; None: standard output.
        now: monotonic clock in seconds.
    """

    def __init__(
        self,
        console: Console | None = None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        # With the file bound here, user code that replaces `sys.stdout` does not get our lines.
        out = sys.stdout
        self.console = console or Console(file=out.below if isinstance(out, SteadyStream) else out)
        self.total_steps = 0
        self.done_steps = 0
        self.phases: list[Phase] = []
        """The running phases; several if phases overlap."""
        self.table: RenderableType | None = None
        """Metrics of the latest step."""
        self.clock = StepClock(now)
        self._log = ExitStack()
        self._live = self._make_live() if _can_move(self.console) else None

    def __enter__(self) -> Self:
        if self._live:
            of_the_start = sys.stdout, sys.stderr
            self._live.start(refresh=True)
            # The display has replaced both by streams that write above the moving lines.
            self._log.enter_context(log_to_stream(sys.stderr))
            for kept, above in zip(of_the_start, (sys.stdout, sys.stderr), strict=True):
                if isinstance(kept, SteadyStream):  # loggers of user code hold it
                    self._log.enter_context(kept.shown_by(above))
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._log.close()
            self._live.stop()

    def start(self, total_steps: int, done_steps: int = 0) -> None:
        """Training begins, after `done_steps` steps if the run is resumed."""
        self.total_steps, self.done_steps = total_steps, done_steps
        self.clock.start_steps()
        if done_steps:
            self.line(f"resumed after step {done_steps} of {total_steps}")

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[Phase]:
        """Show a phase of the step while the block runs, for example rollout or evaluation.

        Args:
            name: label of the phase.
            total: how many items `advance` will count; None: nothing is counted.
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
        """Show the metrics of a finished step. Step 0 is the evaluation before training."""
        if step > self.done_steps:
            self.done_steps = step
            self.clock.step_done()
        else:
            self.clock.start_steps()
        self.table = metric_table(metrics)
        line = step_line(step, self.total_steps, metrics)
        self.line(line if self._live else f"{line}  left {duration(self.time_left)}")

    def line(self, text: str) -> None:
        """Print one permanent line; without a terminal it begins with the time since the start."""
        stamp = "" if self._live else f"[{duration(self.clock.now)}] "
        self.console.print(Text(stamp + text), soft_wrap=True)

    @property
    def time_left(self) -> float | None:
        """Seconds until the last step, at the pace of recent steps; None: unknown yet."""
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
            for phase in tuple(self.phases)  # a copy: the run's thread adds and removes phases
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
    """Whether it is a real terminal: with `FORCE_COLOR`, rich takes a file for one."""
    return console.is_interactive and console.file.isatty()


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


class Stopwatch:
    """Sums the seconds of each named part. CPU seconds count all threads of the process."""

    def __init__(self) -> None:
        self.wall_s: dict[str, float] = {}
        self.cpu_s: dict[str, float] = {}
        self._started = time.perf_counter(), time.process_time()

    @property
    def total_wall_s(self) -> float:
        """Wall seconds since the watch was created."""
        return time.perf_counter() - self._started[0]

    @property
    def total_cpu_s(self) -> float:
        """CPU seconds since the watch was created."""
        return time.process_time() - self._started[1]

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the block's time to part `name`."""
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.wall_s[name] = self.wall_s.get(name, 0.0) + time.perf_counter() - wall
            self.cpu_s[name] = self.cpu_s.get(name, 0.0) + time.process_time() - cpu

    def metrics(self) -> dict[str, float]:
        """`time/NAME_s` and `cpu/NAME_s` of each part."""
        return {f"time/{name}_s": seconds for name, seconds in self.wall_s.items()} | {
            f"cpu/{name}_s": seconds for name, seconds in self.cpu_s.items()
        }
