"""Keeps metric sinks from harming the run: one that fails is reported, one that is slow waits.

Each sink is made, used and closed in a thread of its own. A step waits for its sinks a moment, so
that a killed run has lost nothing of a sink that works; a slow one gets the rest later.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from ajet.boundary import caught_error
from ajet.config.sections.root import RootConfig
from ajet.errors import ConfigError
from ajet.monitor.metrics_log import FILE_NAME
from ajet.monitor.sinks import MetricSink, sink_makers

logger = logging.getLogger(__name__)

WAIT_S = 2.0
"""How long a step waits for a sink."""
OPEN_S = 30.0
"""How long the start of a run waits for a sink; importing its library takes seconds."""
CLOSE_S = 60.0
"""How long the end of a run waits for a sink that still sends."""
MAX_SHOWN = 500
"""Characters of an error message that are shown; some libraries put whole pages into theirs."""


class GuardedSinks:
    """The sinks of one run.

    Args:
        config: the resolved configuration; `trainer_common.logger` names the sinks.
        run_folder: the run's folder.
        resumed_step: see `SinkContext`.

    Raises:
        ConfigError: a sink's class does not exist.
    """

    def __init__(
        self, config: RootConfig, run_folder: Path, *, resumed_step: int | None = None
    ) -> None:
        makers = sink_makers(config, run_folder, resumed_step=resumed_step)
        self._sinks = [_GuardedSink(name, make) for name, make in makers]
        for sink in self._sinks:
            sink.wait(OPEN_S)
            if isinstance(sink.open_error, ConfigError):
                raise sink.open_error

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Give the metrics of a step to every sink."""
        for sink in self._sinks:
            sink.put(step, dict(metrics))
        for sink in self._sinks:
            sink.wait(WAIT_S)

    def close(self) -> None:
        """Close every sink, and report what did not arrive."""
        for sink in self._sinks:
            sink.end()
        for sink in self._sinks:
            sink.finish(CLOSE_S)


class _GuardedSink:
    """One sink with its thread."""

    def __init__(self, name: str, make: Callable[[], MetricSink]) -> None:
        self.open_error: BaseException | None = None
        """Why the sink could not be made."""
        self._name = name
        self._make = make
        self._waiting: queue.SimpleQueue[tuple[int, dict[str, float]] | None] = queue.SimpleQueue()
        self._changed = threading.Condition()
        self._num_pending = 1  # the making of the sink
        self._missed: list[int] = []
        self._is_slow = False
        # A daemon: a sink that hangs must not keep the process alive.
        self._thread = threading.Thread(target=self._work, name=f"sink-{name}", daemon=True)
        self._thread.start()

    def put(self, step: int, metrics: dict[str, float]) -> None:
        """Queue the metrics of a step."""
        with self._changed:
            self._num_pending += 1
        self._waiting.put((step, metrics))

    def end(self) -> None:
        """Queue the end of the run."""
        with self._changed:
            self._num_pending += 1
        self._waiting.put(None)

    def wait(self, timeout_s: float) -> None:
        """Wait until nothing is pending; a sink that was late before is not waited for."""
        with self._changed:
            limit_s = 0.0 if self._is_slow else timeout_s
            is_done = self._changed.wait_for(lambda: self._num_pending == 0, limit_s)
            if not is_done and not self._is_slow:
                text = "metric sink %s takes more than %g s; the run does not wait for it any more"
                logger.warning(text, self._name, timeout_s)
            self._is_slow = not is_done

    def finish(self, timeout_s: float) -> None:
        """Wait for the end of the sink, and report what did not arrive."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._num_pending == 0, timeout_s):
                text = "metric sink %s has not ended after %g s: steps may be missing there; %s has"
                logger.warning(f"{text} all of them", self._name, timeout_s, FILE_NAME)
            elif self._missed:
                steps = ", ".join(map(str, self._missed[:5])) + ("…" if self._missed[5:] else "")
                text = "metric sink %s did not take %d step(s) (%s); %s has all of them"
                logger.warning(text, self._name, len(self._missed), steps, FILE_NAME)

    # The methods below run in the sink's thread.

    def _work(self) -> None:
        sink: MetricSink | None = None
        with caught_error() as caught:
            sink = self._make()
        self.open_error = caught.error
        if caught.error is not None and not isinstance(caught.error, ConfigError):
            self._report("cannot be used; the run continues without it", caught.error)
        self._done()
        while (entry := self._waiting.get()) is not None:
            self._write(sink, *entry)
        with caught_error() as caught:
            if sink is not None:
                sink.close()
        if caught.error is not None:
            self._report("could not be closed", caught.error)
        self._done()

    def _write(self, sink: MetricSink | None, step: int, metrics: dict[str, float]) -> None:
        with caught_error() as caught:
            if sink is not None:
                sink.write(step, metrics)
        if caught.error is not None and not self._missed:  # a broken sink fails in every step
            self._report(f"failed in step {step}", caught.error)
        if caught.error is not None or sink is None:
            self._missed.append(step)
        self._done()

    def _report(self, what: str, error: BaseException) -> None:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_SHOWN]
        logger.warning("metric sink %s %s: %s", self._name, what, text)

    def _done(self) -> None:
        with self._changed:
            self._num_pending -= 1
            self._changed.notify_all()
