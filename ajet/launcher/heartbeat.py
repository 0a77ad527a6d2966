"""Signs of life of a run, for the process that watches it; see `service/watcher.py`."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.service import watcher
from ajet.service.service import owned_by

INTERVAL_S = 1.0


@contextmanager
def watched(run_folder: Path, limit_s: float | None) -> Iterator[None]:
    """Let a process end this one if no Python code of it runs for `limit_s` seconds.

    Nothing happens with None, in another thread than the main one, and on systems other than Linux.

    Args:
        run_folder: the stacks of a run that hangs go to `logs/stacks.txt` there.
        limit_s: seconds, or None.
    """
    if limit_s is None or sys.platform != "linux" or not _is_main_thread():
        yield
        return
    stacks = run_folder / "logs" / "stacks.txt"
    ours, theirs = socket.socketpair()
    program = [sys.executable, "-I", "-S", watcher.__file__]
    pid = os.getpid()
    arguments = [str(theirs.fileno()), str(pid), str(stacks), str(limit_s), owned_by(pid)]
    with ours, stacks.open("w") as file:
        process = subprocess.Popen(
            [*program, *arguments],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal is not for it
        )
        theirs.close()
        ours.setblocking(False)
        faulthandler.register(watcher.DUMP_SIGNAL, file=file, all_threads=True, chain=False)
        before = signal.set_wakeup_fd(ours.fileno(), warn_on_full_buffer=False)
        ended = threading.Event()
        thread = threading.Thread(target=_beat, args=(ours, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            signal.set_wakeup_fd(before)
            faulthandler.unregister(watcher.DUMP_SIGNAL)
            # Closing is not enough: children that user code has forked have this socket as well.
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
            process.wait()
    stacks.unlink(missing_ok=True)  # written only where something went wrong


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _beat(ours: socket.socket, ended: threading.Event) -> None:
    while not ended.is_set():
        with contextlib.suppress(OSError):  # the watcher is gone, or slow: no reason to end
            ours.send(b"\0")
        ended.wait(INTERVAL_S)
