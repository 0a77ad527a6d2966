"""Small runs with Trinity-RFT through the real command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from uuid import uuid4

from tests.end_to_end.command import COMMAND, CONF, OPENAI_AGENT, ROOT, Ended
from tests.verl.runs import MARK, SMALL, TIMEOUT_S, assert_nothing_left


def train(exp_dir: Path, *args: str, agent: str = OPENAI_AGENT) -> Ended:
    """A small run to its end. Nothing of it may be left running."""
    given = ["--backbone=trinity", "--exp-dir", str(exp_dir), f"rollout.user_workflow={agent}"]
    mark = uuid4().hex
    done = subprocess.run(
        [*COMMAND, "--conf", str(CONF), *given, *SMALL, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), MARK: mark},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=TIMEOUT_S,
    )
    assert_nothing_left(mark)
    return Ended(code=done.returncode, stdout=done.stdout, stderr=done.stderr)
