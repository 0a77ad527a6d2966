"""Says what a run waits for when nothing has moved for a while.

The console gets a line after a minute, then after 2, 4, 8 ... minutes; `run.json` has the same in
`waiting_for` until something moves again, which is where the viewer reads it.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ajet.errors import DataError
from ajet.monitor.progress import Progress
from ajet.monitor.run_record import add_to_record
from ajet.schema.episode import Waiting

logger = logging.getLogger(__name__)

QUIET_S = 60.0
"""Seconds without any movement after which a run says what it waits for."""
SHOWN = 5
"""How many waiting episodes are named; the others are counted."""

Sources = Callable[[], Sequence[Waiting]]


class QuietWatch:
    """Context manager around a run. Movement is a phase that advances, or a wait that changes.

    Args:
        run_folder: the run's folder.
        progress: shows the phases.
        sources: what is waited for now, apart from the phases; called in the watch's own thread.
        quiet_s: seconds without movement after which it speaks.
    """

    def __init__(
        self,
        run_folder: Path,
        progress: Progress,
        sources: Sources,
        *,
        quiet_s: float = QUIET_S,
    ) -> None:
        self._run_folder = run_folder
        self._progress = progress
        self._sources = sources
        self._quiet_s = quiet_s
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ajet-quiet-watch", daemon=True)
        self._is_told = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join(timeout=self._quiet_s)
        self._tell(None)

    def _watch(self) -> None:
        seen, moved_s, speak_after_s = self._state(), time.monotonic(), self._quiet_s
        while not self._is_over.wait(self._quiet_s / 12):
            state = self._state()
            if state != seen:
                seen, moved_s, speak_after_s = state, time.monotonic(), self._quiet_s
                self._tell(None)
                continue
            quiet_s = time.monotonic() - moved_s
            if quiet_s >= speak_after_s and not _is_in_debugger():
                speak_after_s *= 2
                text = self._text(quiet_s)
                self._tell(text)
                self._progress.line(text)

    def _state(self) -> Any:
        phases = [(phase.name, phase.started_s, phase.done) for phase in self._progress.phases]
        waits = sorted((one.what, one.who, one.since_s) for one in self._sources())
        return self._progress.done_steps, phases, waits

    def _text(self, quiet_s: float) -> str:
        waits = sorted(self._sources(), key=lambda one: one.since_s)
        phases = " and ".join(
            phase.name if phase.total is None else f"{phase.name} {phase.done}/{phase.total}"
            for phase in tuple(self._progress.phases)
        )
        now_s = time.time()
        parts = [one.text(now_s) for one in waits[:SHOWN]]
        if len(waits) > SHOWN:
            parts.append(f"and {len(waits) - SHOWN} more")
        where = f" in {phases}" if phases else ""
        what = f"; waiting for {'; '.join(parts)}" if parts else ""
        return f"nothing has moved{where} for {quiet_s:.0f} s{what}"

    def _tell(self, text: str | None) -> None:
        """Write it to `run.json`, or remove it there."""
        if text is None and not self._is_told:
            return
        self._is_told = text is not None
        try:
            add_to_record(self._run_folder, {"waiting_for": text})
        # A full disk or a damaged file is told by what fails to write its results.
        except (OSError, DataError, IndexError) as error:
            logger.debug("run.json cannot be written: %s", error)


def _is_in_debugger() -> bool:
    """Whether the main thread stands in pdb: its user thinks, and nothing is wrong."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None:
        if frame.f_globals.get("__name__") in ("pdb", "bdb"):
            return True
        frame = frame.f_back
    return False
