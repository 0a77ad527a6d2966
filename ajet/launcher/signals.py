"""Signals and exits of a run's process: what ends the run, and what must neither end nor keep it.

1. Signals that announce the end count as Ctrl-C, so that the run saves a checkpoint: SIGTERM,
   SIGHUP (a closed terminal), SIGUSR1 (batch systems, before the time is over), SIGXCPU (a limit of
   CPU time).
2. A process that user code forks has the handlers that were there before.
3. A signal after the end of the work changes no exit code, and none before it is lost.
4. `os._exit` in user code raises SystemExit, so it ends one episode.
5. What user code left behind, such as a child that nobody joins, does not keep the process.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

logger = logging.getLogger(__name__)

EXIT_PATIENCE_S = 15.0
"""How long threads and children that user code left behind may keep the process."""

_POLL_S, _AGAIN_S = 0.5, 0.05
_SHUTDOWN = threading._shutdown.__code__  # type: ignore[attr-defined]
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGXCPU)
_before: dict[signal.Signals, Any] = {}
"""Handlers that `sigterm_as_ctrl_c` has replaced."""
_exits_next = False
"""Whether `keep_outcome` was called."""
_is_command = False
"""Whether this process exists for one command, as `command_process` was told."""


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Handle SIGTERM, SIGHUP, SIGUSR1 and SIGXCPU like Ctrl-C until the block is left.

    This works even if Ctrl-C is ignored, as in a program that a shell script starts with `&`. A
    SIGHUP that is ignored, as under `nohup`, stays ignored, and so does a handler of SIGUSR1 or
    SIGXCPU. Within another such block, it changes nothing.
    """
    if threading.current_thread() is not threading.main_thread() or _before:
        yield  # only the main thread may set handlers, and only it gets KeyboardInterrupt
        return
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    for number in _ENDING:
        before = signal.getsignal(number)
        is_ours = before != signal.SIG_IGN if number == signal.SIGHUP else before == signal.SIG_DFL
        if is_ours or number == signal.SIGTERM:
            _before[number] = signal.signal(number, _interrupt)
    try:
        with _lost_interrupts_return():
            yield
    finally:
        _restore()
        if not _exits_next:
            signal.signal(signal.SIGINT, on_ctrl_c)  # a finished run ignores Ctrl-C at its end


@contextmanager
def _lost_interrupts_return() -> Iterator[None]:
    """Send a signal again if its KeyboardInterrupt was dropped.

    Python drops what is raised in a finalizer or in the callback of a weak reference. A handler
    often runs there, because a garbage collection runs no other Python code.
    """
    read_end, write_end = os.pipe()
    show = sys.unraisablehook

    def note(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt) and _is_main_thread():
            os.write(write_end, b"x")  # a lock or a new thread could block in a collection
        else:
            show(dropped)

    def send_again() -> None:
        while os.read(read_end, 1) == b"x":
            time.sleep(_AGAIN_S)
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=send_again, name="lost-interrupts", daemon=True)
    thread.start()
    sys.unraisablehook = note
    try:
        yield
    finally:
        sys.unraisablehook = show
        os.write(write_end, b"q")
        thread.join()
        os.close(read_end)
        os.close(write_end)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def command_process() -> None:
    """This process exists for one command of the command line, and exits when that is done."""
    global _is_command
    _is_command = True
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # It was closed. Otherwise the next file that is opened gets its number, and everything
            # that a library prints is written into that file.
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
    # A crash in a compiled library would end the process without a word. By its number, since user
    # code may replace sys.stderr.
    faulthandler.enable(2)


def keep_outcome() -> None:
    """Let no signal change how a command's process ends, now that its work is done.

    Without this, Ctrl-C in the last moments gives a finished run, or one that has answered an
    earlier Ctrl-C, the exit code of a killed one.
    """
    global _exits_next
    if _is_command and threading.current_thread() is threading.main_thread():
        _exits_next = True
        _before.clear()
        for number in (signal.SIGINT, *_ENDING):
            signal.signal(number, signal.SIG_IGN)
        # Python notes a KeyboardInterrupt that leaves code given to `exec` as text (dataclasses do
        # that), and then ends `python -m ...` with SIGINT although it was caught. This resets the
        # note.
        exec("")


def _restore() -> None:
    while _before:
        number, handler = _before.popitem()
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


_at_fork = threading.local()


def _before_fork() -> None:
    if _before:
        _at_fork.mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)


def _after_fork() -> None:
    if _before:
        signal.pthread_sigmask(signal.SIG_SETMASK, _at_fork.mask)


def _after_fork_in_child() -> None:
    if _before:
        _restore()
        signal.pthread_sigmask(signal.SIG_SETMASK, _at_fork.mask)


# A forked child would only raise KeyboardInterrupt on SIGTERM, which `Process.terminate()` sends.
# The signals are blocked meanwhile: one that comes before the handlers are restored would be lost.
os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGXCPU:  # it comes again with every second of CPU time
        signal.signal(number, signal.SIG_IGN)
    # Looked up now, not when the handler was set: a trainer replaces the handler of Ctrl-C while
    # it must not be interrupted.
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    if not callable(on_ctrl_c):
        raise KeyboardInterrupt
    on_ctrl_c(number, frame)


@contextmanager
def hard_exits_raise() -> Iterator[None]:
    """Make `os._exit` raise SystemExit in this process until the block is left.

    Otherwise a workflow that calls it would end the run at once, without a word and perhaps with
    the exit status of success. Forked children are left alone: they end by `os._exit`.
    """
    exit_now, pid = os._exit, os.getpid()

    def raise_instead(status: int) -> NoReturn:
        if os.getpid() != pid:
            exit_now(status)
        raise SystemExit(f"os._exit({status}) was called")

    os._exit = raise_instead
    try:
        yield
    finally:
        os._exit = exit_now


def exit_in_time(status: int) -> None:
    """Let the process exit with `status` even if threads or children keep the interpreter.

    Python joins both when it exits, without a limit.
    """
    with suppress(RuntimeError):  # no thread can be started, which is why the command ends
        threading.Thread(target=_exit_after, args=(status,), daemon=True).start()


def _is_exiting() -> bool:
    """True if the interpreter has begun to exit and only waits for threads.

    The threads of pools are joined before the main thread counts as ended; the main thread then
    runs nothing but `threading._shutdown`.
    """
    main = threading.main_thread()
    frame = sys._current_frames().get(main.ident or 0)
    while frame is not None and frame.f_back is not None:
        frame = frame.f_back
    return not main.is_alive() or (frame is not None and frame.f_code is _SHUTDOWN)


def _exit_after(status: int) -> None:
    while not _is_exiting():
        time.sleep(_POLL_S)
    time.sleep(EXIT_PATIENCE_S)
    logger.warning("threads or processes of your code do not end; leaving without them")
    if "multiprocessing" in sys.modules:
        import multiprocessing

        for child in multiprocessing.active_children():
            child.kill()
    os._exit(status)
