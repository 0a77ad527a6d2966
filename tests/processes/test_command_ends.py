"""What the command does with its output, and how it ends, with a backbone that does nothing.

1. A run finishes whether its output is closed, full, lacks characters, or is a pipe nobody reads.
2. Threads that user code left behind do not keep the process of a finished run.
3. Ctrl-C, however often it comes, is exit code 130. A crash in a compiled library shows the line
   of user code that led to it.
4. A limit that is too low, and a Python without docstrings, are one sentence and no traceback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import pytest

from tests.end_to_end.command import CONF, ROOT

BACKBONE = """
import asyncio
import ctypes
import logging
import os
import signal
import sys
import threading
import time


def prints(config, folder, resume, inputs):
    for number in range(3000):
        print("a line with → and ü", number, "x" * 60)
        logging.getLogger("ajet.fake").warning("→ %d", number)


def leaves_thread(config, folder, resume, inputs):
    threading.Thread(target=time.sleep, args=(600,)).start()


def leaves_blocked_call(config, folder, resume, inputs):
    async def call():
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 600), 0.1)

    def episode():
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(call())
        except TimeoutError:
            pass

    threading.Thread(target=episode).start()
    time.sleep(0.5)


def crashes(config, folder, resume, inputs):
    sys.stderr = None

    def in_a_library():
        ctypes.string_at(0)

    thread = threading.Thread(target=in_a_library)
    thread.start()
    thread.join()


def is_interrupted(config, folder, resume, inputs):
    def again_and_again():
        while True:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.02)

    threading.Thread(target=again_and_again, daemon=True).start()
    time.sleep(60)
"""
BOUND_S = 240


def start(
    folder: Path,
    name: str,
    output: IO[bytes] | int,
    variables: Mapping[str, str] | None = None,
    shell: str = 'exec "$@"',
) -> subprocess.Popen[bytes]:
    """Start a run with one of these backbones."""
    (folder / "fake.py").write_text(BACKBONE, encoding="utf-8")
    ajet = [
        sys.executable,
        "-m",
        "ajet.cli",
        "--conf",
        str(CONF),
        "--exp-dir",
        str(folder / "runs"),
    ]
    return subprocess.Popen(
        ["sh", "-c", shell, "sh", *ajet, f"--backbone={folder}/fake.py->{name}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(variables or {})},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT if output == subprocess.PIPE else output,
    )


def assert_finished(folder: Path, process: subprocess.Popen[bytes]) -> None:
    try:
        code = process.wait(BOUND_S)
    finally:
        process.kill()
        process.wait()
    assert code == 0
    [record] = (folder / "runs").glob("*/run.json")
    processes: list[dict[str, Any]] = json.loads(record.read_text())["processes"]
    assert [entry["outcome"] for entry in processes] == ["finished"]


def test_a_closed_output_ends_no_run(tmp_path: Path) -> None:
    assert_finished(
        tmp_path, start(tmp_path, "prints", subprocess.DEVNULL, shell='exec "$@" >&- 2>&-')
    )


def test_a_full_output_ends_no_run(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        assert_finished(tmp_path, start(tmp_path, "prints", full))


@pytest.mark.slow
def test_a_pipe_that_nobody_reads_blocks_no_run(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    process = start(tmp_path, "prints", write_end)
    os.close(write_end)
    try:
        assert_finished(tmp_path, process)
    finally:
        os.close(read_end)


def test_a_locale_without_utf8_ends_no_run(tmp_path: Path) -> None:
    variables = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    with (tmp_path / "output").open("wb") as output:
        assert_finished(tmp_path, start(tmp_path, "prints", output, variables))
    assert b"a line with ? and ? 2999" in (tmp_path / "output").read_bytes()


@pytest.mark.slow
def test_threads_that_are_left_behind_keep_no_finished_run(tmp_path: Path) -> None:
    processes = {}
    for name in ("leaves_thread", "leaves_blocked_call"):
        (tmp_path / name).mkdir()
        processes[name] = start(tmp_path / name, name, subprocess.DEVNULL)
    for name, process in processes.items():
        assert_finished(tmp_path / name, process)


def test_a_crash_in_a_compiled_library_shows_where_it_was(tmp_path: Path) -> None:
    process = start(tmp_path, "crashes", subprocess.PIPE)
    output, _ = process.communicate(timeout=BOUND_S)
    assert process.returncode == -signal.SIGSEGV
    assert b"Fatal Python error: Segmentation fault" in output
    assert b'fake.py", line' in output and b"in in_a_library" in output


def test_ctrl_c_again_and_again_is_still_an_interrupt(tmp_path: Path) -> None:
    process = start(tmp_path, "is_interrupted", subprocess.PIPE)
    output, _ = process.communicate(timeout=BOUND_S)
    assert process.returncode == 130, output
    assert b"interrupted" in output


@pytest.mark.parametrize(
    ("shell", "said"),
    [
        ('ulimit -v 600000; exec "$@"', "limited to 586 MB (`ulimit -v`)"),
        ('ulimit -n 64; exec "$@"', "may open 64 files (`ulimit -n`)"),
        pytest.param(
            'PYTHONOPTIMIZE=2 exec "$@"', "unset PYTHONOPTIMIZE", marks=pytest.mark.slow
        ),  # slow, because all of its modules are compiled
    ],
)
def test_what_no_run_can_work_with_is_one_sentence(tmp_path: Path, shell: str, said: str) -> None:
    process = start(tmp_path, "leaves_thread", subprocess.PIPE, shell=shell)
    output, _ = process.communicate(timeout=BOUND_S)
    assert process.returncode in (1, 2)
    [line] = output.decode().splitlines()
    assert line.startswith("error: ") and said in line
    assert not (tmp_path / "runs").exists()
