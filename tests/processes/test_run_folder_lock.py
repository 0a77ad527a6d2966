"""One process at a time works on a run; its lock ends with it, also after SIGKILL."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ajet.errors import ConfigError
from ajet.launcher.run_folder import locked

HOLD = """
import sys
from pathlib import Path
from ajet.launcher.run_folder import locked

with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_that_another_process_works_on_is_refused_until_that_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {other.pid} works on"), locked(tmp_path):
            pass
        other.kill()
        other.wait()
        with locked(tmp_path):
            pass
