"""Processes that run one episode at a time, and that can be ended whatever the episode's code does.

One process, the fork server, has loaded the libraries, the user's module and the tokenizer, and
forks the others: a new process loads none of them again, and shares that memory. A process is used
again for the next episode, unless it has ended or its last episode left something behind.

This keeps the run from the accidents of an episode. It is no defence against malice: the process
has the rights of the run, and what it sends is unpickled.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import faulthandler
import io
import multiprocessing
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ajet.boundary import caught_error
from ajet.class_path import load_function
from ajet.errors import AjetError, ConfigError
from ajet.service.watcher import wait_until_written
from ajet.task_runner.failures import failure_of

PR_SET_PDEATHSIG = 1
DUMP_SIGNAL = signal.SIGUSR1
DUMP_S = 1.2
"""How long a process may take to write the stacks of its threads. With `KILL_S`, it is less than
`workers.GRACE_S`."""
QUIET_S = 0.15
"""The stacks count as written when their file has grown and does not grow further for so long."""
END_S = 5.0
"""How long a process that has closed its connection may take to end."""

Serve = Callable[[Connection], None]
"""Runs in a process: episodes, until the connection closes."""


@dataclass(slots=True, kw_only=True, frozen=True)
class ProcessSettings:
    """How to start a process."""

    prepare: str
    """Class path of the function that the fork server calls once with `context`. It returns what
    the processes run (`Serve`)."""
    context: Any
    """Picklable."""
    memory_mb: float
    """Memory that a process may take beyond what it has when it starts."""
    log: Path | None = None
    """What the processes print is appended to this file; None: to the run's own output."""


class EpisodeProcess:
    """One process and the connection to it. One thread uses it at a time; any may `kill` it."""

    def __init__(self, fork_server: ForkServer) -> None:
        self._fork_server = fork_server
        ours, theirs = socket.socketpair()
        # A file without a name, so that nothing is left of it however the run ends.
        self._stacks = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        try:
            self._pid = fork_server.fork([theirs.fileno(), self._stacks.fileno()])
        except BaseException:
            self._stacks.close()
            raise
        finally:
            theirs.close()  # so that the end of the process is the end of the connection
        self.connection = Connection(ours.detach())
        self._has_ended = False

    def send(self, message: tuple[Any, ...]) -> bool:
        """Send a message; False if the process has ended."""
        try:
            self.connection.send(message)
        except OSError:
            return False
        return True

    def stacks(self) -> str:
        """The stacks of all its threads, also while its code holds the interpreter."""
        file = self._stacks.fileno()
        size = wait_until_written(
            lambda: os.fstat(file).st_size, lambda: self._signal(DUMP_SIGNAL), DUMP_S, QUIET_S
        )
        # The process has the same position in the file; `pread` leaves it where it is.
        return os.pread(file, size, 0).decode(errors="replace")

    def kill(self) -> None:
        """End the process and what it started."""
        self._signal(-signal.SIGKILL)

    def end(self) -> str:
        """Wait for the process, which has closed its connection, and say how it ended."""
        self.connection.close()
        status = self._fork_server.wait(self._pid, END_S)
        if status is None:
            self.kill()
            status = self._fork_server.wait(self._pid, END_S)
        # What it started may live on.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        self._has_ended = True
        self._stacks.close()
        return _how_it_ended(status)

    def _signal(self, number: int) -> None:
        """Send a signal; a negative number goes to the whole process group."""
        # The fork server collects the status only for `end`, so until then the pid is its own.
        if not self._has_ended:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number < 0 else os.kill)(self._pid, abs(number))


def _how_it_ended(status: int | None) -> str:
    if status is None:
        return "does not end"
    if status >= 0:
        return f"exited with status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    hint = " (as when the machine's memory is used up)" if name == "SIGKILL" else ""
    return f"was ended by {name}{hint}"


class ForkServer:
    """The process that forks the others.

    Args:
        settings: how to start a process.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._connection: Connection | None = None

    def fork(self, handles: list[int]) -> int:
        """Fork a process that gets the file descriptors; returns its pid.

        Raises:
            TrainingError: the fork server has ended.
        """
        with self._lock:
            assert self._connection and self._socket, "it was started"
            self._connection.send("fork")
            socket.send_fds(self._socket, [b"."], handles)
            return int(self._answer())

    def wait(self, pid: int, seconds: float) -> int | None:
        """The status of a process that ends within so many seconds, negative for a signal."""
        deadline = time.monotonic() + seconds
        while True:
            with self._lock:
                status = self._ask(pid)
            if status is not None or time.monotonic() > deadline:
                return None if status is None else int(status)
            time.sleep(0.01)

    def close(self) -> None:
        """End the fork server, and with it all processes."""
        with self._lock:
            if self._connection:
                self._connection.close()
            if self._socket:
                self._socket.close()
            self._connection = self._socket = None

    def _answer(self) -> Any:
        assert self._connection
        try:
            answer = self._connection.recv()
        except (EOFError, OSError):
            raise ConfigError(
                "task_runner.isolation: the process that starts others has ended"
            ) from None
        if isinstance(answer, str):
            raise ConfigError(answer)
        return answer

    def _ask(self, pid: int) -> int | None:
        """The status of a process; None if it runs, or if the fork server has ended."""
        if self._connection is None:
            return None
        try:
            self._connection.send(pid)
            status: int | None = self._connection.recv()
        except (EOFError, OSError):
            return None
        return status

    def start(self) -> None:
        """Start the process and wait until it has loaded what it needs.

        Raises:
            ConfigError: it cannot load what the configuration names.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._socket, their_socket = socket.socketpair()
        process = context.Process(
            target=_serve_forks, args=(theirs, their_socket, self._settings), daemon=True
        )
        process.start()
        theirs.close()
        their_socket.close()
        try:
            self._answer()
        except AjetError:
            self.close()
            raise


class EpisodeProcesses:
    """The processes of a run: started where none is idle, ended with the run.

    Args:
        settings: how to start a process.

    Raises:
        ConfigError: a process cannot load what the configuration names.
    """

    def __init__(self, settings: ProcessSettings) -> None:
        self._fork_server = ForkServer(settings)
        self._fork_server.start()
        self._lock = threading.Lock()
        self._idle: list[EpisodeProcess] = []
        self._all: set[EpisodeProcess] = set()
        atexit.register(self.close)

    def take(self) -> EpisodeProcess:
        """A process for one episode; hand it to `give_back` or `remove` afterwards.

        Raises:
            TrainingError: none can be started.
        """
        with self._lock:
            if self._idle:
                return self._idle.pop()
        process = EpisodeProcess(self._fork_server)
        with self._lock:
            self._all.add(process)
        return process

    def give_back(self, process: EpisodeProcess) -> None:
        """Use the process for another episode."""
        with self._lock:
            self._idle.append(process)

    def remove(self, process: EpisodeProcess) -> str:
        """Forget a process that ends or has ended, and say how it ended."""
        with self._lock:
            self._all.discard(process)
        return process.end()

    def close(self) -> None:
        """End all processes."""
        atexit.unregister(self.close)
        with self._lock:
            processes, self._all, self._idle = list(self._all), set(), []
        for process in processes:
            process.kill()
        for process in processes:
            process.end()
        self._fork_server.close()


# From here on: in the fork server and in the processes.


def _serve_forks(connection: Connection, sockets: socket.socket, settings: ProcessSettings) -> None:
    # It ends when its connection closes, as it does when the run ends in any way.
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then ends us
    if settings.log:
        _print_to(settings.log)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a process that is killed loses its buffer
    with caught_error() as caught:
        prepare: Callable[[Any], Serve] = load_function(settings.prepare, "task_runner.isolation")
        serve = prepare(settings.context)
    if error := caught.error:
        text = str(error) if isinstance(error, AjetError) else ""
        connection.send(text or failure_of(error, "workflow_error").traceback)
        return
    connection.send(0)
    while True:
        try:
            request = connection.recv()
        except (EOFError, OSError):
            return
        if request != "fork":
            pid, status = os.waitpid(request, os.WNOHANG)
            connection.send(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        _, handles, _, _ = socket.recv_fds(sockets, 1, 2)
        pid = os.fork()
        if pid == 0:
            connection.close()
            sockets.close()
            _run(serve, handles[0], handles[1], settings.memory_mb)
        # Here and in the child, whoever is first, so that the group can be signalled at once.
        with contextlib.suppress(PermissionError, ProcessLookupError):
            os.setpgid(pid, pid)
        for handle in handles:
            os.close(handle)
        connection.send(pid)


def _run(serve: Serve, handle: int, stacks: int, memory_mb: float) -> None:
    """Serve episodes, then exit. No code of the fork server runs in this process afterwards."""
    status = 1
    try:
        _die_with_parent()
        with contextlib.suppress(PermissionError):
            os.setpgid(0, 0)
        faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
        limit_memory(memory_mb)
        serve(Connection(handle))
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _print_to(log: Path) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)


def _die_with_parent() -> None:
    """End with the process that started this one, also after its `kill -9` (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def limit_memory(memory_mb: float) -> None:
    """Let allocations fail that go this far beyond what the process has now."""
    used = memory_bytes()
    if used is None:
        return
    limit = used + int(memory_mb * 1e6)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def memory_bytes() -> int | None:
    """Address space of this process in bytes; None where the system does not say (not Linux)."""
    try:
        pages = Path("/proc/self/statm").read_text().split()[0]
    except OSError:
        return None
    return int(pages) * resource.getpagesize()
