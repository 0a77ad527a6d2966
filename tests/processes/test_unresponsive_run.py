"""A run in which some code holds the interpreter (`task_runner.unresponsive_timeout_s`).

1. It is ended after the limit, and the line of the code is shown before.
2. A signal that asks it to end is answered within seconds, although no handler can run.
3. A run that continues, or that the user has stopped, is not ended. Time in which the whole machine
   was stopped does not count.
4. The watcher ends with the run, also after `kill -9`, and although children that user code has
   forked outlive the run.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from ajet.service import watcher as watcher_module
from ajet.service.supervisor import descendants
from ajet.service.watcher import Watcher
from tests.processes.service_processes import eventually, is_gone

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd and /proc")

PROGRAM = """
import os, re, sys, threading, time
from pathlib import Path
from ajet.launcher.heartbeat import watched
from ajet.launcher.signals import sigterm_as_ctrl_c

def hold():
    print("holding", flush=True)
    re.match(r"(a+)+$", "a" * 60 + "!")

folder, limit_s, what = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
with sigterm_as_ctrl_c(), watched(None if "reading" in sys.argv else folder, limit_s):
    print("ready", flush=True)
    if what == "hold":
        # A regular expression lets the handlers of signals run if it is in the main thread.
        thread = threading.Thread(target=hold)
        thread.start()
        thread.join()
    if "fork" in sys.argv and os.fork() == 0:
        sys.stdout = sys.stderr = None
        os.close(1), os.close(2)
        time.sleep(600)
        os._exit(0)
    if what == "read":
        sys.stdin.read()
    else:
        time.sleep(float(what))
print("done", flush=True)
"""


def start(folder: Path, limit_s: float, what: str, *more: str) -> subprocess.Popen[str]:
    (folder / "logs").mkdir()
    (folder / "program.py").write_text(PROGRAM)
    run = subprocess.Popen(
        [sys.executable, str(folder / "program.py"), str(folder), str(limit_s), what, *more],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout
    assert run.stdout.readline() == "ready\n"
    return run


def cpu_s(pid: int) -> float:
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def wait_for_end(pids: set[int]) -> None:
    assert eventually(lambda: all(map(is_gone, pids))), "the watcher outlives the run"


def test_a_run_that_hangs_is_ended_and_says_where(tmp_path: Path) -> None:
    # It warns after 4 s, and waits for the stacks for at most 5 s.
    run = start(tmp_path, 12.0, "hold")
    watchers = descendants(run.pid)
    assert len(watchers) == 1
    _, errors = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert re.search(r'program.py", line \d+ in hold', errors)
    assert re.search("the run is ended in [1-8] s if this continues", errors)
    assert "Continue it with --resume" in errors
    assert "in hold" in (tmp_path / "logs" / "stacks.txt").read_text()
    wait_for_end(watchers)


def test_a_run_that_hangs_while_it_reads_its_tasks_is_ended(tmp_path: Path) -> None:
    run = start(tmp_path, 6.0, "hold", "reading")
    watchers = descendants(run.pid)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert re.search(r'program.py", line \d+ in hold', errors)
    assert "It was loading your code and reading the tasks" in errors
    assert "--resume" not in errors
    wait_for_end(watchers)


def test_a_run_that_hangs_answers_sigterm(tmp_path: Path) -> None:
    run = start(tmp_path, 300.0, "hold")
    assert run.stdout and run.stdout.readline() == "holding\n"
    used_s = cpu_s(run.pid)
    assert eventually(lambda: cpu_s(run.pid) > used_s + 0.5), "the expression is at work"
    began = time.monotonic()
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL
    assert 8 < time.monotonic() - began < 55
    assert "in hold" in errors


def test_a_run_that_goes_on_is_left_alone(tmp_path: Path) -> None:
    run = start(tmp_path, 15.0, "6")
    watchers = descendants(run.pid)
    output, errors = run.communicate(timeout=120)
    assert (run.returncode, output, errors) == (0, "done\n", "")
    assert not (tmp_path / "logs" / "stacks.txt").exists()
    wait_for_end(watchers)


def test_a_run_that_is_stopped_is_left_alone(tmp_path: Path) -> None:
    run = start(tmp_path, 9.0, "2")
    run.send_signal(signal.SIGSTOP)
    time.sleep(12)
    run.send_signal(signal.SIGCONT)
    output, errors = run.communicate(timeout=120)
    assert (run.returncode, output, errors) == (0, "done\n", "")


def test_time_in_which_the_watcher_itself_did_not_run_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that stands still stops both, and the watcher may be the first to wake."""
    monkeypatch.setattr(watcher_module, "DUMP_S", 0.0)
    with subprocess.Popen(["sleep", "600"]) as run:
        watcher = Watcher(0, run.pid, str(tmp_path / "stacks"), 300.0, "")
        for late_s in (200.0, 0.0):
            watcher.last_s -= 200.0
            watcher.allow(late_s)
            assert watcher.look()
            assert watcher.has_warned == (late_s == 0.0)
        run.kill()
    os.close(watcher.handle)


def test_the_watcher_ends_after_kill_9(tmp_path: Path) -> None:
    run = start(tmp_path, 300.0, "60")
    watchers = descendants(run.pid)
    assert len(watchers) == 1
    run.kill()
    run.communicate()
    wait_for_end(watchers)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_forked_child_does_not_keep_the_watcher(tmp_path: Path, is_killed: bool) -> None:
    run = start(tmp_path, 9.0, "read", "fork")
    assert eventually(lambda: len(descendants(run.pid)) == 2)
    (watcher,) = [pid for pid in descendants(run.pid) if _command(pid) != _command(run.pid)]
    (forked,) = descendants(run.pid) - {watcher}
    try:
        if is_killed:
            run.kill()
        _, errors = run.communicate(timeout=120)
        assert (run.returncode, errors) == (-signal.SIGKILL if is_killed else 0, "")
        wait_for_end({watcher})
    finally:
        os.kill(forked, signal.SIGKILL)


def _command(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
