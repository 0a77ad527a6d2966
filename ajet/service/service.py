"""A process that a run needs: started, watched, stopped, and gone when we are."""

from __future__ import annotations

import contextlib
import logging
import os
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
from ajet.service.process import start_ticks

logger = logging.getLogger(__name__)

_KEEPER = Path(__file__).with_name("keeper.py")
_START_TIMEOUT_S = 30.0
_LAST_S = 10.0
"""For the keeper to end, once SIGKILL was sent to all that it kept."""
_POLL_S = 0.05
_TAIL_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRecord:
    """What a service that was started is known by afterwards."""

    name: str
    pid: int
    """Of the command itself."""
    start_ticks: int | None
    """When it started, in clock ticks since boot; None: it has ended already, or no Linux."""
    command: tuple[str, ...]
    started_at: str
    """ISO 8601, UTC."""
    log: str
    """Absolute path."""


class Service:
    """A command that runs beside us, under a keeper process that ends it when we end.

    Everything that the command starts is ended with it, daemons too. Ctrl-C does not reach it: it
    is in a session of its own. It is started once; to start it again, make another.

    Args:
        name: for messages and records.
        command: the program and its arguments.
        log: where its output is appended; the folder is made.
        env: on top of this process's environment.
        cwd: its current directory; null is ours.
        on_started: gets the record.
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
        self._cwd = cwd
        self._on_started = on_started
        self._keeper: subprocess.Popen[bytes] | None = None
        self._line: socket.socket
        self._heard = b""
        self._pid = 0
        self._returncode: int | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Start the command.

        Raises:
            ServiceError: there is no such program, or it may not be run.
        """
        assert self._keeper is None, f"{self.name} was started before"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._started_s = time.monotonic()
        self._line, keepers_end = socket.socketpair()
        _lines.add(self._line)
        with keepers_end as end, self.log.open("ab") as log:
            self._log_start = log.tell()
            try:
                self._keeper = subprocess.Popen(
                    [sys.executable, "-I", "-S", _KEEPER, str(end.fileno()), *self.command],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **self._env},
                    cwd=self._cwd,
                    pass_fds=[end.fileno()],
                    start_new_session=True,
                )
            except OSError as error:
                self._line.close()
                raise ServiceError(f"{self.name} cannot be started: {error}") from None
        word, rest = self._hear(_START_TIMEOUT_S) or ("failed", "its keeper does not answer")
        if word != "started":
            self.stop()
            raise ServiceError(f"{self.name} cannot be started: {self.command[0]}: {rest}")
        self._pid = int(rest)
        if self._on_started:
            self._on_started(self._record())

    @property
    def pid(self) -> int:
        """Of the command itself, which leads a process group of its own."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        with self._lock:
            if self._returncode is None and (words := self._hear(0.0)):
                self._returncode = int(words[1])
            return self._returncode

    def wait_until(self, is_ready: Callable[[], bool], timeout_s: float) -> None:
        """Block until the service is ready; it is asked 20 times a second.

        Raises:
            ServiceError: it ended, or time is over; with the end of its log.
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
        """Its exit status, the end of its log, and how to look closer: for messages."""
        status = self.returncode
        assert status is not None, f"{self.name} is still running"
        how = f"exit status {status}" if status >= 0 else f"signal {signal.strsignal(-status)}"
        age = time.monotonic() - self._started_s
        return f"{self.name} ended with {how}, {age:.1f} s after its start\n{self._closer_look()}"

    def log_tail(self, lines: int = 30) -> str:
        """The last lines that it wrote."""
        with self.log.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - _TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def stop(self, patience_s: float = 10.0) -> None:
        """End it and everything that it started; nothing where that is done already.

        Args:
            patience_s: seconds from SIGTERM to SIGKILL.
        """
        if self._keeper is None:
            return
        with contextlib.suppress(OSError):  # it has ended already
            self._line.sendall(f"{patience_s}\n".encode())
        try:
            self._keeper.wait(patience_s + _LAST_S)
        except subprocess.TimeoutExpired:
            logger.warning("%s (process %d) does not end, not even by SIGKILL", self.name, self.pid)
            self._keeper.kill()
        _ = self.returncode  # hears the last word
        self._line.close()

    def _hear(self, timeout_s: float) -> list[str] | None:
        """The keeper's next line, as two words; None where it says nothing for so long."""
        assert self._keeper is not None, f"{self.name} was not started"
        self._line.settimeout(timeout_s)
        while b"\n" not in self._heard:
            try:
                heard = self._line.recv(256)
            except (BlockingIOError, TimeoutError):
                return None
            except ConnectionError:
                heard = b""
            if not heard:  # killed: as if the command had been
                return ["ended", str(self._keeper.wait())]
            self._heard += heard
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode().split(maxsplit=1)

    def _record(self) -> ServiceRecord:
        return ServiceRecord(
            name=self.name,
            pid=self._pid,
            start_ticks=start_ticks(self._pid),
            command=self.command,
            started_at=datetime.now(UTC).isoformat(timespec="seconds"),
            log=str(self.log),
        )

    def _closer_look(self) -> str:
        by_hand = shlex.join(self.command)
        tail = self.log_tail() or "(it wrote nothing)"
        return f"the end of {self.log}:\n{tail}\nto see more, start it by hand:  {by_hand}"


_lines: weakref.WeakSet[socket.socket] = weakref.WeakSet()


def _close_lines() -> None:
    """A forked child must not hold what tells the keepers that we live."""
    for line in _lines:
        line.close()


os.register_at_fork(after_in_child=_close_lines)
