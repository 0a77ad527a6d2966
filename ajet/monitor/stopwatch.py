"""Measures wall and CPU seconds of the parts of a step."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


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
