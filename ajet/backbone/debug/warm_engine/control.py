"""Starts and stops warm engines."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.backbone.debug.warm_engine.daemon import Order
from ajet.backbone.debug.warm_engine.registry import (
    WarmEngine,
    fingerprint,
    read_state,
    state_folder,
    state_path,
)
from ajet.config.sections.root import AjetConfig
from ajet.errors import ServiceError
from ajet.training.model_folder import model_folder

POLL_S = 0.05
STOP_S = 20.0
"""Seconds between SIGTERM and SIGKILL."""
LOG_LINES = 20


def start_warm(
    ajet: AjetConfig, idle_s: float, on_wait: Callable[[Path], None]
) -> tuple[WarmEngine, bool]:
    """The warm engine of this model, and whether this call started it.

    A running engine whose weights have changed on disk is replaced.

    Args:
        ajet: the configuration of model and engine.
        idle_s: a new engine ends when it was not used for so many seconds.
        on_wait: called repeatedly with the log's path while a new engine starts.

    Raises:
        ServiceError: it did not start; the message shows the end of its log.
        ModelError: there is no such model.
    """
    folder = model_folder(ajet.model.path)
    path = state_path(ajet, folder)
    with _alone():
        warm = read_state(path)
        if warm is not None and warm.weights == fingerprint(folder):
            return warm, False
        if warm is not None:
            stop_warm(path, warm)
        return _start(ajet, path, idle_s, on_wait), True


def stop_warm(path: Path, warm: WarmEngine) -> None:
    """End the engine's process, never another one with its pid, and delete its file."""
    deadline = time.monotonic() + STOP_S
    number = signal.SIGTERM
    while warm.is_alive:  # compares the start time too, because pids are reused
        with contextlib.suppress(ProcessLookupError):
            os.kill(warm.pid, number)
        while warm.is_alive and time.monotonic() < deadline:
            time.sleep(POLL_S)
        number, deadline = signal.SIGKILL, time.monotonic() + STOP_S
    path.unlink(missing_ok=True)


@contextmanager
def _alone() -> Iterator[None]:
    """Allow one start at a time: two would load the same model twice."""
    with (state_folder() / "start.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _start(
    ajet: AjetConfig, path: Path, idle_s: float, on_wait: Callable[[Path], None]
) -> WarmEngine:
    log = path.with_suffix(".log")
    log.unlink(missing_ok=True)
    order = Order(ajet=ajet, state=path, log=log, idle_s=idle_s)
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "ajet.backbone.debug.warm_engine.daemon"],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(order.model_dump_json().encode())
        while (warm := read_state(path)) is None:
            if process.poll() is not None:
                raise ServiceError(f"the engine did not start; the end of {log}:\n{_end_of(log)}")
            on_wait(log)
            time.sleep(POLL_S)
        process.returncode = 0  # it outlives us; else Popen warns that it was not waited for
        return warm
    except BaseException:
        process.terminate()
        process.wait()
        raise


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES:])
