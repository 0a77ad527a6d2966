"""The Python sandbox.

1. A program's output and its exception come back.
2. It reads no file, reaches no network, starts no process and signals none.
3. CPU time, time, memory and output are bounded, and the next program runs as if nothing happened.
4. Nothing is left over when the sandbox ends, or when its owner is killed.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ajet.sandbox import Limits, PythonSandbox
from tests.processes.service_processes import eventually, is_gone

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


@pytest.fixture(scope="module")
def sandbox() -> PythonSandbox:
    return PythonSandbox(Limits(wall_s=60))


# 1. Results


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("print(6 * 7)", "42\n"),
        ("import math\nprint(math.factorial(5))", "120\n"),
        ("from fractions import Fraction\nprint(Fraction(1, 3) + Fraction(1, 6))", "1/2\n"),
        ("print('é漢')", "é漢\n"),
        ("6 * 7", ""),
        ("import sys\nprint(1)\nsys.exit(3)", "1\n"),
    ],
)
def test_output_of_a_program(sandbox: PythonSandbox, code: str, output: str) -> None:
    result = sandbox.run(code)
    assert (result.output, result.ended_by) == (output, "end")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("print(1)\n1 / 0", "1\nZeroDivisionError: division by zero\n"),
        ("print(6 * 7", "SyntaxError: '(' was never closed (<program>, line 1)\n"),
        ("def f(): f()\nf()", "RecursionError: maximum recursion depth exceeded\n"),
        ("import sys\nsys.exit('no solution')", "no solution\n"),
        ("import os\nos._exit(1)", "the program ended with exit status 1\n"),
        (
            "class E(Exception):\n    def __str__(self): return 1 / 0\nraise E",
            "the program ended with exit status 1\n",
        ),
        ("import builtins\ndel builtins.print\n1 / 0", "the program ended with exit status 1\n"),
    ],
)
def test_exceptions_are_results(sandbox: PythonSandbox, code: str, error: str) -> None:
    result = sandbox.run(code)
    assert (result.output, result.ended_by) == (error, "error")


def test_programs_do_not_see_each_other(sandbox: PythonSandbox) -> None:
    sandbox.run("import math\nmath.pi = 3\nx = 1")
    assert sandbox.run("import math\nprint(math.pi > 3.1, 'x' in globals())").output == (
        "True False\n"
    )


# 2. What is refused


@pytest.mark.parametrize(
    "code",
    [
        "open('/etc/passwd')",
        "open('/tmp/written', 'w')",
        "import os; os.listdir('/')",
        "import os; os.remove('/tmp/written')",
        "import os; os.fork()",
        "import os; os.execv('/bin/sh', ['sh'])",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.write(3, b'x')",
        "import posix; posix.open('/etc/passwd', 0)",
        "import socket; socket.socket()",
        "import ctypes; ctypes.CDLL(None).socket(2, 1, 0) >= 0 or 1 / 0",
        "import ctypes; ctypes.CDLL(None).open(b'/etc/passwd', 0) >= 0 or 1 / 0",
        "import ctypes; ctypes.CDLL(None).system(b'true') == 0 or 1 / 0",
        "import ctypes, os; ctypes.CDLL(None).kill(os.getppid(), 9) == 0 or 1 / 0",
        # the same call by its number in the x32 interface, and another process's memory
        "import ctypes; ctypes.CDLL(None).syscall(0x40000002, b'/etc/passwd', 0) >= 0 or 1 / 0",
        "import ctypes, os; ctypes.CDLL(None).syscall(101, 16, os.getppid(), 0, 0) == 0 or 1 / 0",
        "open('/proc/self/environ')",
        "import os; open(f'/proc/{os.getppid()}/environ')",
    ],
)
def test_the_outside_is_out_of_reach(sandbox: PythonSandbox, code: str) -> None:
    result = sandbox.run(code)
    assert result.ended_by == "error", result
    assert sandbox.run("print(1)").output == "1\n"


def test_no_environment_variable_is_seen(
    sandbox: PythonSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert "secret" not in PythonSandbox().run("import os\nprint(dict(os.environ))").output


def test_a_machine_that_refuses_the_filter_is_named() -> None:
    code = """
import sys
from ajet.sandbox import host_process
def refuse(libc): raise OSError(1, "PR_SET_SECCOMP is refused")
host_process._install_filter = refuse
host_process.main()
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    host = subprocess.run(
        [sys.executable, "-c", code], env=env, input="", capture_output=True, text=True, timeout=60
    )
    assert host.returncode == 1
    assert host.stdout == ""
    assert "cannot isolate programs on this machine: [Errno 1] PR_SET_SECCOMP" in host.stderr


# 3. Limits


@pytest.mark.parametrize(
    ("code", "limits", "ended_by"),
    [
        ("while True: pass", Limits(cpu_s=1, wall_s=60), "cpu"),
        ("9 ** 9 ** 9", Limits(cpu_s=1, wall_s=60), "cpu"),
        ("import time\ntime.sleep(60)", Limits(wall_s=2), "time"),
        ("x = [0] * 10 ** 9", Limits(wall_s=60), "memory"),
        ("x = []\nwhile True: x.append('x' * 10 ** 6)", Limits(cpu_s=9, wall_s=60), "memory"),
        ("while True: print('x' * 1000)", Limits(cpu_s=9, wall_s=60), "output"),
        ("import ctypes\nctypes.string_at(0)", Limits(wall_s=60), "killed"),
        ("import os\nwhile True: os.fork()", Limits(wall_s=60), "error"),
        (f"print({'-' * 90_000}1)", Limits(wall_s=60), "memory"),
    ],
)
def test_limits(code: str, limits: Limits, ended_by: str) -> None:
    sandbox = PythonSandbox(limits)
    began = time.monotonic()
    result = sandbox.run(code)
    assert result.ended_by == ended_by
    assert len(result.output) <= limits.output_bytes
    assert time.monotonic() - began < 50
    assert sandbox.run("print(1)").output == "1\n"


def test_a_very_long_program_is_an_error(sandbox: PythonSandbox) -> None:
    assert sandbox.run("x = 1\n" * 100_000).ended_by == "error"


# 4. Ends


def test_a_host_that_was_killed_is_replaced() -> None:
    others = _children(os.getpid(), "host_process")
    sandbox = PythonSandbox()
    sandbox.run("print(1)")
    (host,) = set(_children(os.getpid(), "host_process")) - set(others)
    os.kill(host, signal.SIGKILL)
    assert sandbox.run("print(2)").output == "2\n"


def test_nothing_is_left_when_the_owner_is_killed() -> None:
    limits = "Limits(cpu_s=60, wall_s=60)"
    code = f"from ajet.sandbox import *; PythonSandbox({limits}).run('while 1: 0')"
    owner = subprocess.Popen([sys.executable, "-c", code])
    assert eventually(lambda: _children(owner.pid, "host_process"))
    (host,) = _children(owner.pid, "host_process")
    assert eventually(lambda: _children(host, "host_process"))
    (program,) = _children(host, "host_process")
    os.kill(host, signal.SIGKILL)
    assert eventually(lambda: is_gone(program), 30)  # by itself it would take 60 s
    owner.kill()
    owner.wait()


def _children(pid: int, name: str) -> list[int]:
    def is_child(entry: Path) -> bool:
        try:
            stat = (entry / "stat").read_text().rpartition(")")[2].split()
            return int(stat[1]) == pid and name in (entry / "cmdline").read_text()
        except OSError:
            return False

    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if is_child(entry)]
