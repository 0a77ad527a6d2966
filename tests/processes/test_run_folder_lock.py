"""One process at a time works on a run; its lock ends with it, also after SIGKILL.

A run may be served by several processes, each with a folder of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ajet.errors import ConfigError
from ajet.launcher.run_folder import locked

SERVE = """
import sys
from contextlib import ExitStack
from pathlib import Path
from ajet.serving.models import _own_folder

with ExitStack() as stack:
    print(_own_folder(Path(sys.argv[1]), stack).name, flush=True)
    sys.stdin.read()
"""
HOLD = """
import sys
from pathlib import Path
from ajet.launcher.run_folder import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def started(program: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process that runs the program until the block is left, and the first line it wrote."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_folder_that_another_process_works_on_is_refused_until_that_ends(tmp_path: Path) -> None:
    with started(HOLD, tmp_path) as (other, line):
        assert line == "held"
        with pytest.raises(ConfigError, match=f"process {other.pid} works on"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
        with locked(tmp_path):
            pass


def test_each_process_that_serves_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    """The weights that its vLLM loads are there, and are removed when it ends."""
    with started(SERVE, tmp_path) as (first, name), started(SERVE, tmp_path) as (_, other):
        assert (name, other) == ("0", "1")
        first.kill()
        first.wait()
        with started(SERVE, tmp_path) as (_, again):
            assert again == "0"
