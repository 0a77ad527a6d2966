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
from ajet.service.private_folder import private_folder
from ajet.service.service import owned_by

INTERVAL_S = 1.0


@contextmanager
def watched(run_folder: Path | None, limit_s: float | None) -> Iterator[None]:
    """Let a process end this one if no Python code of it runs for `limit_s` seconds.

    Nothing happens with None, in another thread than the main one, and on systems other than Linux.

    Args:
        run_folder: the stacks of a run that hangs go to `logs/stacks.txt` there. None: there is no
            run yet, its tasks are being read, and the stacks go to a private folder.
        limit_s: seconds, or None.
    """
    if limit_s is None or sys.platform != "linux" or not _is_main_thread():
        yield
        return
    with contextlib.ExitStack() as stack:
        if run_folder is not None:
            stacks = run_folder / "logs" / "stacks.txt"
            stack.enter_context(_watched(stacks, limit_s, owned_by(os.getpid())))
        else:
            with contextlib.suppress(OSError):  # a full disk: then nothing watches
                stacks = stack.enter_context(private_folder("stacks")) / "stacks.txt"
                stack.enter_context(_watched(stacks, limit_s, ""))
        yield


@contextmanager
def _watched(stacks: Path, limit_s: float, services: str) -> Iterator[None]:
    ours, theirs = socket.socketpair()
    program = [sys.executable, "-I", "-S", watcher.__file__]
    arguments = [str(theirs.fileno()), str(os.getpid()), str(stacks), str(limit_s), services]
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
