"""A process that a run needs. It is started, watched and stopped, and never outlives the run."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ajet.errors import ServiceError
from ajet.service import left_behind
from ajet.service.probes import start_ticks

logger = logging.getLogger(__name__)

_SUPERVISOR = Path(__file__).with_name("supervisor.py")
_START_TIMEOUT_S = 30.0
_LAST_S = 10.0
"""How long the supervisor may take to exit after it has sent SIGKILL to everything below it."""
_LEFT_BEHIND_S = 2.0
"""How long the processes of a service may take to exit if its supervisor is gone."""
_POLL_S = 0.05
_TAIL_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """Identifies a service that was started, for `run.json`."""

    name: str
    pid: int
    """The command's own process, not its supervisor."""
    start_ticks: int | None
    """When the command started, in clock ticks since boot; None: it has already ended, or the
    system is not Linux."""
    command: tuple[str, ...]
    started_at: str
    """ISO 8601, UTC."""
    log: str
    """Absolute path of the file with the command's output."""
    service_id: str
    """What all processes of the service have in their environment (`left_behind.VARIABLE`)."""


class Service:
    """A command that runs under a supervisor process, which ends it when this process ends.

    Everything that the command starts is ended with it, daemons included. Ctrl-C does not reach
    the command: it runs in a session of its own. An object starts its command once; to start the
    command again, make another object.

    Args:
        name: the name in messages and records.
        command: the program and its arguments.
        log: file to which the command's output is appended; its folder is made.
        env: variables on top of this process's environment.
        cwd: the command's current directory; None: ours.
        on_started: called with the record when the command has started.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_started: Callable[[ServiceRecord], None] | None = None,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.log = log.absolute()
        self._env = env or {}
        self._id = owned_by(os.getpid()) + secrets.token_hex(8)
        self._cwd = cwd
        self._on_started = on_started
        self._supervisor: subprocess.Popen[bytes] | None = None
        self._line: socket.socket
        self._heard = b""
        self._pid = 0
        self._returncode: int | None = None
        # A thread watches the services while others may stop them: only one may read the line.
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the command.

        Raises:
            ServiceError: there is no such program, or it may not be run.
        """
        assert self._supervisor is None, f"{self.name} was started before"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._started_s = time.monotonic()
        self._line, other_end = socket.socketpair()
        _lines.add(self._line)
        # Our copy of the other end is closed at once. The supervisor then has the only one, so
        # each side notices at the closed socket that the other process is gone.
        with other_end as end, self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._supervisor = subprocess.Popen(
                    [sys.executable, "-I", "-S", _SUPERVISOR, str(end.fileno()), *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._env, left_behind.VARIABLE: self._id},
                    cwd=self._cwd,
                    pass_fds=[end.fileno()],
                    start_new_session=True,  # Ctrl-C in the terminal must not reach it
                )
            except OSError as error:
                self._line.close()
                raise ServiceError(f"{self.name} cannot be started: {error}") from None
        word, rest = self._hear(_START_TIMEOUT_S) or ("failed", "its supervisor does not answer")
        if word != "started":
            self.stop()
            raise ServiceError(f"{self.name} cannot be started: {self.command[0]}: {rest}")
        self._pid = int(rest)
        if self._on_started:
            self._on_started(self._record())

    @property
    def pid(self) -> int:
        """The pid of the command, which is also the id of its process group."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The command's exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self._returncode is None and (words := self._hear(0.0)):
                self._returncode = int(words[1])
            return self._returncode

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Block until `is_ready` returns True; it is called 20 times per second.

        Raises:
            ServiceError: the service ended or the time is over; the message has the end of its log.
        """
        deadline = time.monotonic() + timeout_s
        while not is_ready():
            if self.returncode is not None:
                raise ServiceError(self.how_it_ended())
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} was not ready within {timeout_s:g} s\n{self._closer_look()}"
                )
            time.sleep(_POLL_S)

    def how_it_ended(self) -> str:
        """A message with the exit status, the end of the log, and the command to try by hand."""
        status = self.returncode
        assert status is not None, f"{self.name} is still running"
        how = f"exit status {status}" if status >= 0 else f"signal {signal.strsignal(-status)}"
        age = time.monotonic() - self._started_s
        return f"{self.name} ended with {how}, {age:.1f} s after its start\n{self._closer_look()}"

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that the command wrote since it was started."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, patience_s: float = 10.0) -> None:
        """End the command and everything that it started; a second call does nothing.

        Args:
            patience_s: seconds from SIGTERM to SIGKILL.
        """
        if self._supervisor is None:
            return
        with contextlib.suppress(OSError):  # the supervisor has already ended
            self._line.sendall(f"{patience_s}\n".encode())
        try:
            if self._supervisor.poll() is None:
                self._supervisor.send_signal(signal.SIGCONT)  # somebody may have stopped it
            self._supervisor.wait(patience_s + _LAST_S)
        except subprocess.TimeoutExpired:
            logger.warning("%s (process %d) does not end, even after SIGKILL", self.name, self.pid)
            self._supervisor.kill()
        _ = self.returncode  # reads the supervisor's last line while the socket is still open
        self._line.close()

    def _hear(self, timeout_s: float) -> list[str] | None:
        """The supervisor's next line as two words; None if there is none within that time."""
        assert self._supervisor is not None, f"{self.name} was not started"
        self._line.settimeout(timeout_s)
        while b"\n" not in self._heard:
            try:
                heard = self._line.recv(256)
            except (BlockingIOError, TimeoutError):
                return None
            except ConnectionError:
                heard = b""
            if not heard:
                return ["ended", str(self._without_supervisor())]
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode().split(maxsplit=1)

    def _without_supervisor(self) -> int:
        """End the command, as its supervisor was killed; the supervisor's status stands for its."""
        assert self._supervisor is not None, f"{self.name} was not started"
        status = self._supervisor.wait()
        if status < 0:
            logger.warning(
                "the supervisor of %s (process %d) was ended by %s, so the service is ended, too",
                self.name,
                self._supervisor.pid,
                signal.Signals(-status).name,
            )
        left_behind.end_all(self._id, _LEFT_BEHIND_S)
        return status

    def _record(self) -> ServiceRecord:
        return ServiceRecord(
            name=self.name,
            pid=self._pid,
            start_ticks=start_ticks(self._pid),
            command=self.command,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            log=str(self.log),
            service_id=self._id,
        )

    def _closer_look(self) -> str:
        by_hand = shlex.join(self.command)
        tail = self.log_tail() or "(it wrote nothing)"
        return f"the end of {self.log}:\n{tail}\nto find out more, start it by hand:  {by_hand}"


def owned_by(pid: int) -> str:
    """What the ids of all services begin with that this process starts."""
    return f"{pid}-{start_ticks(pid)}-"


_lines: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_lines() -> None:
    """Close the sockets in a forked child.

    A child that outlives us would keep them open, and the supervisors would believe that we live.
    """
    for line in _lines:
        line.close()


os.register_at_fork(after_in_child=_close_lines)
