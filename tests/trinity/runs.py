"""Small runs with Trinity-RFT through the real command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import psutil

from tests.end_to_end.command import COMMAND, CONF, OPENAI_AGENT, ROOT, Ended
from tests.end_to_end.listening import assert_private, listening
from tests.end_to_end.run_folders import NAME
from tests.end_to_end.temporary import assert_only_named_left, temporary_folder
from tests.verl.runs import MARK, SMALL, TIMEOUT_S, assert_nothing_left

SKIPPED_SYNC = (sys.executable, "-m", "tests.trinity.skipped_sync")
"""The command, but engines only say that they took new weights."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Running:
    """A run that was started."""

    process: subprocess.Popen[str]
    folder: Path

    def wait_for_step(self, step: int) -> None:
        """Until its metrics are written."""
        deadline = time.monotonic() + TIMEOUT_S
        while self._last_step() < step:
            assert self.process.poll() is None, "it ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def _last_step(self) -> int:
        metrics = self.folder / "metrics.jsonl"
        lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
        steps = [json.loads(line)["step"] for line in lines if line.endswith("\n")]
        return max(steps, default=0)

    def kill(self, name: str) -> None:
        """Kill one of its processes, by how they call themselves."""
        [victim] = self._below(name)
        victim.send_signal(signal.SIGKILL)

    def _below(self, name: str) -> list[psutil.Process]:
        found = []
        for process in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if " ".join(process.cmdline()).startswith(name):
                    found.append(process)
        return found

    def end(self, timeout_s: float = TIMEOUT_S) -> Ended:
        """Wait for its end."""
        stdout, stderr = self.process.communicate(timeout=timeout_s)
        return Ended(code=self.process.returncode, stdout=stdout, stderr=stderr)


@contextmanager
def running(exp_dir: Path, *args: str, command: Sequence[str] = COMMAND) -> Iterator[Running]:
    """A small run.

    Nothing of it may be left when the block is, no process and no temporary file, or listen to
    strangers.
    """
    with temporary_folder() as temporary:
        with _running(exp_dir, [*args], command, temporary) as run:
            yield run
        assert_only_named_left(temporary, run.process.returncode)


@contextmanager
def _running(
    exp_dir: Path, args: list[str], command: Sequence[str], temporary: Path
) -> Iterator[Running]:
    given = ["--backbone=trinity", "--exp-dir", str(exp_dir)]
    mark = uuid4().hex
    process = subprocess.Popen(
        [*command, "--conf", str(CONF), *given, f"rollout.user_workflow={OPENAI_AGENT}"]
        + [*SMALL, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with listening(MARK, mark) as found, process:
        try:
            yield Running(process=process, folder=exp_dir / NAME)
        finally:
            process.kill()
    assert_nothing_left(mark)
    assert_private(found)


def train(exp_dir: Path, *args: str, command: Sequence[str] = COMMAND) -> Ended:
    """A small run to its end."""
    with running(exp_dir, *args, command=command) as run:
        return run.end()
