"""The sandbox as its users see it: a program goes in, what it printed comes out."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import weakref
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ajet.errors import EpisodeError

_HOST = Path(__file__).with_name("host_process.py")
MAX_CODE_CHARACTERS = 100_000

EndedBy = Literal["end", "error", "cpu", "time", "memory", "output", "killed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may use."""

    cpu_s: int = 1
    """CPU seconds."""
    wall_s: float = 5.0
    """Seconds from its start to its end."""
    memory_mb: int = 256
    """Address space, the interpreter's own included."""
    output_bytes: int = 20_000
    """Of what it prints; it is ended beyond that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxResult:
    """How a program ended."""

    output: str
    """What it printed; with `ended_by: error` its last line is the exception or the exit status."""
    ended_by: EndedBy
    """`end`: by itself; `error`: a failure; otherwise the limit that it met, or `killed`."""


class PythonSandbox:
    """Runs programs one after the other, each in a process of its own. Safe from any thread.

    The programs are forked from a host process, which starts with the first program and ends with
    this object or this process. Give programs that may run at the same time sandboxes of their own.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._lock = threading.Lock()
        self._host: subprocess.Popen[bytes] | None = None

    def run(self, code: str) -> SandboxResult:
        """Run a program to its end, or to one of its limits.

        Raises:
            EpisodeError: the host process does not start; its own message gives the reason.
        """
        if len(code) > MAX_CODE_CHARACTERS:
            text = f"error: the program is longer than {MAX_CODE_CHARACTERS} characters"
            return SandboxResult(output=text, ended_by="error")
        request = json.dumps({"code": code, **asdict(self._limits)}).encode() + b"\n"
        with self._lock:
            for _ in range(2):  # a host that was killed from outside is replaced once
                if self._host is None or self._host.poll() is not None:
                    self._host = self._start()
                reply = _ask(self._host, request)
                if reply:
                    return SandboxResult(**json.loads(reply))
                self._host = None
        raise EpisodeError("the Python sandbox ended without an answer; see its message above")

    def _start(self) -> subprocess.Popen[bytes]:
        host = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_HOST)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},  # programs must see no keys
            cwd="/",
            start_new_session=True,  # the terminal's Ctrl-C must reach only us; we stop the host
        )
        weakref.finalize(self, _stop, host)
        if _read(host) != b"ready":
            raise EpisodeError("the Python sandbox cannot be started; see its message above")
        return host


def _ask(host: subprocess.Popen[bytes], request: bytes) -> bytes:
    assert host.stdin is not None
    try:
        host.stdin.write(request)
        host.stdin.flush()
    except BrokenPipeError:
        _stop(host)
        return b""
    return _read(host)


def _read(host: subprocess.Popen[bytes]) -> bytes:
    """The host's next line; if the host has died, clean up and return nothing."""
    assert host.stdout is not None
    line = host.stdout.readline().strip()
    if not line:
        _stop(host)
    return line


def _stop(host: subprocess.Popen[bytes]) -> None:
    host.kill()
    host.wait()
    for pipe in (host.stdin, host.stdout):
        assert pipe is not None
        pipe.close()
