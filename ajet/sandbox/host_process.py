"""The program from which sandboxed Python programs are forked. It imports nothing of AgentJet.

It writes `ready`. Then it reads JSON lines with a program and its limits, and answers each with a
JSON line. It ends when its input ends.

Each program runs in a fork of this process, which first gives up everything that it does not need:

- a seccomp filter lets it compute, print and exit. Opening files, sockets, new processes and
  signals to others are refused by the kernel, whatever Python code it runs. There is no way back
  from the filter;
- resource limits bound its CPU time and its memory, and this process its time and its output;
- it dies with this process.

Modules that programs may import are loaded before the fork, since afterwards no file can be opened.
"""

from __future__ import annotations

import ctypes
import io
import json
import os
import platform
import resource
import select
import signal
import struct
import sys
import time
from typing import Any

ALLOWED_MODULES = [
    "bisect",
    "cmath",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "random",
    "re",
    "statistics",
    "string",
    "typing",
]

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP = 1, 38, 22
SECCOMP_MODE_FILTER = 2
LOAD_WORD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE_WITH_EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000

MACHINES: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "read": 0,
            "write": 1,
            "fstat": 5,
            "lseek": 8,
            "mmap": 9,
            "mprotect": 10,
            "munmap": 11,
            "brk": 12,
            "rt_sigaction": 13,
            "rt_sigprocmask": 14,
            "rt_sigreturn": 15,
            "mremap": 25,
            "madvise": 28,
            "getpid": 39,
            "exit": 60,
            "sigaltstack": 131,
            "futex": 202,
            "clock_gettime": 228,
            "clock_nanosleep": 230,
            "exit_group": 231,
            "getrandom": 318,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "lseek": 62,
            "read": 63,
            "write": 64,
            "fstat": 80,
            "exit": 93,
            "exit_group": 94,
            "futex": 98,
            "clock_gettime": 113,
            "clock_nanosleep": 115,
            "sigaltstack": 132,
            "rt_sigaction": 134,
            "rt_sigprocmask": 135,
            "rt_sigreturn": 139,
            "getpid": 172,
            "brk": 214,
            "munmap": 215,
            "mremap": 216,
            "mmap": 222,
            "mprotect": 226,
            "madvise": 233,
            "getrandom": 278,
        },
    ),
}
"""Machine -> its number in the kernel's audit interface, and the calls that a program may make."""


def main() -> None:
    """Answer every line of standard input."""
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        where = f"{sys.platform} on {platform.machine()}"
        sys.exit(f"the Python sandbox needs Linux on {' or '.join(MACHINES)}; this is {where}")
    for name in ALLOWED_MODULES:
        __import__(name)
    libc = ctypes.CDLL(None, use_errno=True)
    answers = sys.stdout
    sys.stdout = sys.stderr
    if problem := _why_not_isolated(libc):
        sys.exit(f"the Python sandbox cannot isolate programs on this machine: {problem}")
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), libc)), file=answers, flush=True)


def _why_not_isolated(libc: ctypes.CDLL) -> str | None:
    """What a first program says if its limits or its filter are refused, as in some containers."""
    limits = {"cpu_s": 5, "wall_s": 60.0, "memory_mb": 256, "output_bytes": 1000}
    result = run({"code": "print(1)", **limits}, libc)
    return None if result["output"] == "1\n" else result["output"].strip() or result["ended_by"]


def run(request: dict[str, Any], libc: ctypes.CDLL) -> dict[str, str]:
    """Run one program in a fork, and wait for its end."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _become_program(request, writer, libc)
    os.close(writer)
    output, limit = _collect(reader, request)
    os.close(reader)
    if limit:
        os.kill(pid, signal.SIGKILL)
    _, status, usage = os.wait4(pid, 0)
    if usage.ru_utime + usage.ru_stime > request["cpu_s"] - 0.1:
        limit = limit or "cpu"
    ended_by = limit or _reason(status)
    if ended_by == "error" and not output.strip():  # it left without an exception, or hid its text
        output = f"the program ended with exit status {os.WEXITSTATUS(status)}\n"
    return {"output": output, "ended_by": ended_by}


EXIT_ERROR, EXIT_MEMORY = 1, 3


def _reason(status: int) -> str:
    if os.WIFSIGNALED(status):
        return "killed"
    return {0: "end", EXIT_MEMORY: "memory"}.get(os.WEXITSTATUS(status), "error")


def _collect(reader: int, request: dict[str, Any]) -> tuple[str, str]:
    """What the program prints until it ends, and the limit that it met, if any."""
    deadline = time.monotonic() + request["wall_s"]
    chunks, size, limit = [], 0, ""
    while not limit:
        ready, _, _ = select.select([reader], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            limit = "time"
        elif not (chunk := os.read(reader, 65536)):
            break
        else:
            chunks.append(chunk)
            size += len(chunk)
            limit = "output" if size > request["output_bytes"] else ""
    return b"".join(chunks)[: request["output_bytes"]].decode(errors="replace"), limit


def _become_program(request: dict[str, Any], writer: int, libc: ctypes.CDLL) -> None:
    """Run the program in this process, and end. Never returns."""
    status = EXIT_ERROR
    try:
        os.dup2(writer, 1)
        os.dup2(writer, 2)
        os.close(0)
        os.closerange(3, 256)
        code = request["code"]
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        memory = request["memory_mb"] << 20
        for kind, amount in (
            (resource.RLIMIT_AS, memory),
            (resource.RLIMIT_CPU, request["cpu_s"]),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            resource.setrlimit(kind, (amount, amount))
        output = io.FileIO(1, "w", closefd=False)
        sys.stdout = sys.stderr = io.TextIOWrapper(output, "utf-8", errors="replace")
        _install_filter(libc)
        status = _execute(code)
        sys.stdout.flush()
    except OSError as error:  # of the set-up: the program has handled its own
        os.write(1, f"{error}\n".encode())
    finally:
        os._exit(status)


def _execute(code: str) -> int:
    try:
        exec(compile(code, "<program>", "exec"), {"__name__": "__main__"})
    except MemoryError:
        return EXIT_MEMORY
    except SystemExit as end:
        if isinstance(end.code, str):  # as Python does: the text is the reason of a failure
            print(end.code)
            return EXIT_ERROR
        return 0
    except BaseException as error:  # the program's own error is its result
        print(f"{type(error).__name__}: {error}")
        return EXIT_ERROR
    return 0


def _install_filter(libc: ctypes.CDLL) -> None:
    """Let the kernel refuse every call that is not listed, for the rest of this process."""
    audit_number, calls = MACHINES[platform.machine()]
    allowed = list(calls.values())
    program = [
        (LOAD_WORD, 0, 0, 4),  # the machine
        (JUMP_IF_EQUAL, 1, 0, audit_number),
        (RETURN, 0, 0, KILL),
        (LOAD_WORD, 0, 0, 0),  # the number of the call
    ]
    for index, number in enumerate(allowed):
        program.append((JUMP_IF_EQUAL, len(allowed) - index, 0, number))
    program += [(RETURN, 0, 0, REFUSE_WITH_EPERM), (RETURN, 0, 0, ALLOW)]
    raw = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    instructions = ctypes.create_string_buffer(raw, len(raw))
    header = struct.pack("HL", len(program), ctypes.addressof(instructions))
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS is refused")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP is refused")


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:  # whoever started this process is gone
        os._exit(1)
