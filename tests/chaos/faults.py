"""What happens to a run in the campaign."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum

import psutil

from tests.chaos.runs import Place, Running

SERVICE = f"{sys.executable} tests/chaos/service.py"
WITH_SERVICE = (f"task_runner.services=[{{name: s1, command: '{SERVICE}'}}]",)
DISK_MB = 64


class Expected(Enum):
    """How the run must take it."""

    CONTINUES = "the run continues and finishes"
    KILLED = "the run is gone at once"
    ENDS = "the run ends with a sentence, or finishes"


@dataclass(slots=True, kw_only=True, frozen=True)
class Fault:
    """One kind of fault."""

    act: Callable[[Place, Running, random.Random], None]
    expected: Expected
    args: tuple[str, ...] = ()
    """More arguments of the run."""
    needs_disk: bool = False
    backbones: tuple[str, ...] = ("local", "vllm", "verl", "trinity")
    is_interrupt: bool = False
    """True if the run must stop before its last step."""
    repair: Callable[[Place], None] | None = None
    """What the user does before the run is resumed."""


def _signal_run(*numbers: signal.Signals) -> Callable[[Place, Running, random.Random], None]:
    def act(place: Place, run: Running, rng: random.Random) -> None:
        for number in numbers:
            run.process.send_signal(number)
            time.sleep(0.05)

    return act


def _ctrl_c(times: int) -> Callable[[Place, Running, random.Random], None]:
    def act(place: Place, run: Running, rng: random.Random) -> None:
        for _ in range(times):
            with suppress(ProcessLookupError):
                os.killpg(run.process.pid, signal.SIGINT)  # as a terminal does
            time.sleep(rng.uniform(0, 0.5))

    return act


def stop_and_continue(place: Place, run: Running, rng: random.Random) -> None:
    """Ctrl-Z and `fg`."""
    run.process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(0.5, 4))
    run.process.send_signal(signal.SIGCONT)


def _signal_children(
    number: signal.Signals, *words: str
) -> Callable[[Place, Running, random.Random], None]:
    def act(place: Place, run: Running, rng: random.Random) -> None:
        if found := run.children(*words):
            with suppress(psutil.NoSuchProcess):
                rng.choice(found).send_signal(number)

    return act


def kill_run_and_supervisors(place: Place, run: Running, rng: random.Random) -> None:
    """Kill the run and its supervisors together, as the out-of-memory killer can.

    No process is left that would end the services.
    """
    supervisors = run.children("supervisor.py")
    run.process.send_signal(signal.SIGSTOP)
    for process in supervisors:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(rng.choice([signal.SIGKILL, signal.SIGSTOP]))
    run.process.kill()


def kill_any(place: Place, run: Running, rng: random.Random) -> None:
    """SIGKILL of any process of the run."""
    if found := [*run.children("")]:
        with suppress(psutil.NoSuchProcess):
            rng.choice(found).kill()


def fill_disk(place: Place, run: Running, rng: random.Random) -> None:
    """Take all of the disk, or all but a little."""
    left = rng.choice([0, 1000, 100_000, 1_000_000])
    free = os.statvfs(place.disk).f_bavail * os.statvfs(place.disk).f_frsize
    with suppress(OSError), (place.disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - left))


def empty_disk(place: Place) -> None:
    (place.disk / "filler").unlink(missing_ok=True)


def make_read_only(place: Place, run: Running, rng: random.Random) -> None:
    """As a disk with errors becomes."""
    for _ in range(200):  # refused while a file is open for writing
        command = ["mount", "-o", "remount,ro", str(place.disk)]
        if subprocess.run(command, capture_output=True).returncode == 0 or run.has_ended():
            return
        time.sleep(0.02)


def make_writable(place: Place) -> None:
    subprocess.run(["mount", "-o", "remount,rw", str(place.disk)], check=True)


def kill_and_truncate(place: Place, run: Running, rng: random.Random) -> None:
    """SIGKILL, and one file that was being written loses its end, as after a power failure."""
    run.process.kill()
    run.process.wait()
    newest = sorted((run.folder / "checkpoints").glob("step_*"))[-1:]
    # The backbone's state is in folders below with verl and Trinity-RFT.
    files = [path for folder in newest for path in folder.rglob("*") if path.is_file()]
    done = int(newest[0].name.removeprefix("step_")) if newest else 0
    for path in [*run.folder.glob("calls/*"), *run.folder.glob("rollouts/*")]:
        if int("".join(filter(str.isdigit, path.name))) > done:
            files.append(path)  # of a step that is not in the checkpoint
    if files:
        path = rng.choice(sorted(files))
        os.truncate(path, rng.randrange(max(1, path.stat().st_size)))


def tear_last_lines(place: Place, run: Running, rng: random.Random) -> None:
    """SIGKILL, and the last line of the records is cut, where it is newer than the checkpoint."""
    run.process.kill()
    run.process.wait()
    newest = sorted((run.folder / "checkpoints").glob("step_*"))[-1:]
    done = int(newest[0].name.removeprefix("step_")) if newest else 0
    for name in ("metrics.jsonl", "episodes.jsonl"):
        path = run.folder / name
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        is_whole = bool(lines) and lines[-1].endswith(b"\n")  # SIGKILL may have cut it
        if is_whole and json.loads(lines[-1])["step"] > done:
            os.truncate(path, path.stat().st_size - rng.randrange(1, len(lines[-1])))


def flood(place: Place, run: Running, rng: random.Random) -> None:
    """Hundreds of connections to every port of the run: half requests, garbage, wrong keys."""
    sent = [
        b"POST /v1/chat/completions HTTP/1.1\r\nX",
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"\x00\xff" * 500,
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer no\r\n"
        b"Content-Length: 9999999999\r\n\r\n{",
    ]
    held: list[socket.socket] = []
    end = time.monotonic() + 5
    while time.monotonic() < end and not run.has_ended():
        for port in ports_of(run):
            for _ in range(20):
                with suppress(OSError):
                    client = socket.create_connection(("127.0.0.1", port), timeout=0.2)
                    client.sendall(rng.choice(sent))
                    held.append(client)
        for client in held[:-400]:
            client.close()
        time.sleep(0.05)
    for client in held:
        client.close()


def ports_of(run: Running) -> list[int]:
    """Addresses on which the run's own process listens."""
    with suppress(psutil.Error):
        sockets = psutil.Process(run.process.pid).net_connections("tcp")
        return [each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN]
    return []


def close_output(place: Place, run: Running, rng: random.Random) -> None:
    """Nobody reads what the run prints: its pipe is closed."""
    run.is_read = False


def resume_meanwhile(place: Place, run: Running, rng: random.Random) -> None:
    """A second process wants to continue the run; the first one must not notice."""
    if not run.record():
        return
    second = place.start("--resume")
    ended = second.wait(place.settings.bound_s)
    if not run.has_ended():
        assert ended is not None, "a second --resume hangs"
        assert ended.code != 0, "a second --resume was let in"
        assert "Traceback" not in ended.stderr


ENGINE = ("EngineCore", "vllm.entrypoints", "api_server", "vllm serve")
C, K, E = Expected.CONTINUES, Expected.KILLED, Expected.ENDS
FAULTS: dict[str, Fault] = {
    "SIGKILL": Fault(act=_signal_run(signal.SIGKILL), expected=K, args=WITH_SERVICE),
    "SIGTERM": Fault(
        act=_signal_run(signal.SIGTERM), expected=E, is_interrupt=True, args=WITH_SERVICE
    ),
    "SIGHUP": Fault(act=_signal_run(signal.SIGHUP), expected=E, is_interrupt=True),
    "Ctrl-C": Fault(act=_ctrl_c(1), expected=E, is_interrupt=True, args=WITH_SERVICE),
    "Ctrl-C twice": Fault(act=_ctrl_c(2), expected=E, is_interrupt=True),
    "stopped and continued": Fault(act=stop_and_continue, expected=C),
    "supervisor killed": Fault(
        act=_signal_children(signal.SIGKILL, "supervisor.py"),
        expected=C,
        args=WITH_SERVICE,
        backbones=("local",),
    ),
    "supervisor stopped": Fault(
        act=_signal_children(signal.SIGSTOP, "supervisor.py"), expected=C, args=WITH_SERVICE
    ),
    "run and supervisors killed": Fault(
        act=kill_run_and_supervisors, expected=K, args=WITH_SERVICE
    ),
    "watcher killed": Fault(act=_signal_children(signal.SIGKILL, "watcher.py"), expected=C),
    "service killed": Fault(
        act=_signal_children(signal.SIGKILL, "chaos/service.py"), expected=C, args=WITH_SERVICE
    ),
    "engine killed": Fault(
        act=_signal_children(signal.SIGKILL, *ENGINE), expected=E, backbones=("vllm",)
    ),
    "any process killed": Fault(
        act=kill_any, expected=E, backbones=("verl", "trinity"), args=WITH_SERVICE
    ),
    "disk full": Fault(act=fill_disk, expected=E, needs_disk=True, repair=empty_disk),
    "disk read-only": Fault(act=make_read_only, expected=E, needs_disk=True, repair=make_writable),
    "killed, a file truncated": Fault(act=kill_and_truncate, expected=K),
    "killed, last lines torn": Fault(act=tear_last_lines, expected=K),
    "flooded": Fault(act=flood, expected=C),
    "output closed": Fault(act=close_output, expected=C),
    "resumed meanwhile": Fault(act=resume_meanwhile, expected=C),
}
