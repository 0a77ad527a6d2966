"""Processes for the tests of services, by what they do."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from ajet.service.probes import start_ticks

ROOT = Path(__file__).parents[2]
SLEEPS = "import time; time.sleep(600)"
IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); time.sleep(600)"
)
HAS_A_DAEMON = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import os, sys
if os.fork(): os._exit(0)   # the daemon's parent is gone
os.setsid()
open(sys.argv[1], "w").write(str(os.getpid()))
{SLEEPS}
''', sys.argv[1]])
child.wait()
print(f"child of {{os.getpid()}} left a daemon", flush=True)
{SLEEPS}
"""
"""Starts a daemon in a session of its own, whose pid it writes to the file that it is given."""

HAS_LOST_ITS_FIRST_THREAD = f"""
import ctypes, subprocess, sys, threading, time
child = subprocess.Popen([sys.executable, "-c", "{SLEEPS}"])
threading.Thread(target=time.sleep, args=[600]).start()
open(sys.argv[1], "w").write(str(child.pid))
ctypes.CDLL(None).syscall(60, 0)  # ends this thread alone: the process looks like a zombie
"""
"""As a process looks for a moment when it is killed. Writes its child's pid."""


def python(code: str, *arguments: str) -> list[str]:
    """A command."""
    return [sys.executable, "-c", code, *arguments]


def eventually(is_so: Callable[[], object], seconds: float = 60.0) -> bool:
    """Wait until the condition holds; False after `seconds` (the default suits busy machines)."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_gone(pid: int) -> bool:
    return start_ticks(pid) is None


def pid_in(path: Path) -> int:
    assert eventually(lambda: path.is_file() and path.read_text())
    return int(path.read_text())
