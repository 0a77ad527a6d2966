"""Runs the real command in a process of its own, as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO

ROOT = Path(__file__).parents[2]
CONF = ROOT / "tutorial" / "example_math_agent" / "math_agent_cpu.yaml"
OPENAI_AGENT = "tutorial/example_math_agent/math_agent_openai.py->MathAgent"
AGENTSCOPE_AGENT = "tutorial/example_math_agent/math_agent.py->MathAgent"
TIMEOUT_S = 500

SMALL = (
    "data.train_batch_size=4",
    "rollout.num_repeat=4",
    "rollout.validation.num_tasks=8",
    "rollout.validation.greedy=false",
    "trainer_common.total_training_steps=4",
    "trainer_common.save_freq=2",
    "trainer_common.test_freq=2",
)
"""Four steps in a few seconds, on the demo's model and data."""

_SCRIPT = Path(sys.executable).with_name("ajet")
COMMAND = [str(_SCRIPT)] if _SCRIPT.exists() else [sys.executable, "-m", "ajet"]


@dataclass(slots=True, kw_only=True, frozen=True)
class Ended:
    """A process that is over."""

    code: int
    """Exit code; minus the signal's number if it was killed."""
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """What the command itself reported, without its prefix."""
        lines = self.stderr.splitlines()
        return [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]


def start(
    *args: str,
    conf: Path = CONF,
    output: IO[str] | int = subprocess.PIPE,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start `ajet --conf CONF ARGS`; the caller waits for it."""
    return start_command("--conf", str(conf), *args, output=output, variables=variables)


def start_command(
    *args: str,
    output: IO[str] | int = subprocess.PIPE,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.Popen[str]:
    """Start `ajet ARGS`, with more environment variables; the caller waits for it."""
    return subprocess.Popen(
        [*COMMAND, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        text=True,
        start_new_session=True,  # Ctrl-C reaches a whole group: that of the run, not ours
    )


def wait(process: subprocess.Popen[str]) -> Ended:
    """Wait for its end."""
    with process:
        try:
            stdout, stderr = process.communicate(timeout=TIMEOUT_S)
        finally:
            process.kill()
    return Ended(code=process.returncode, stdout=stdout, stderr=stderr)


def command(*args: str) -> Ended:
    """Run `ajet ARGS` to its end."""
    return wait(start_command(*args))


def ajet(*args: str, conf: Path = CONF) -> Ended:
    """Run `ajet --conf CONF ARGS` to its end."""
    return wait(start(*args, conf=conf))


def train(exp_dir: Path, agent: str, *args: str) -> Ended:
    """A small run of an agent."""
    return ajet("--exp-dir", str(exp_dir), f"rollout.user_workflow={agent}", *SMALL, *args)
