"""Seconds from a debug command to the workflow, with a loaded engine and with a cold start.

    python benchmarks/debug_turn.py --json [--vllm-python PATH]

`warm_s` is the median of the wall seconds from `ajet --conf ... --backbone=debug` to the first line
of the workflow, while a vLLM runs that `ajet engine start` started. `cold_s` is one measurement
that includes this start. The workflow records the time in its first line and asks the shipped tiny
model once. Without vLLM, the warm engine is the embedded one and `cold_s` is null. Engines that
were already running are not touched.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

CONF = """\
ajet:
  model: {path: "ajet:calculator", renderer: qwen3, enable_thinking: false}
  rollout:
    user_workflow: agent.py->Agent
    max_model_len: 1024
  task_reader: {type: random_dummy}
  debug: {num_tasks: 1, engine: warm}
"""

AGENT = """\
import time
from pathlib import Path

from ajet import Workflow, WorkflowOutput


class Agent(Workflow):
    async def execute(self, workflow_task, tuner):
        Path("first_line").write_text(repr(time.time()))
        client = tuner.as_raw_openai_sdk_client()
        messages = [{"role": "user", "content": "How many?"}]
        await client.chat.completions.create(model="policy", messages=messages)
        return WorkflowOutput(reward=0.0)
"""


class Bench:
    """Runs `ajet` commands in a temporary folder."""

    def __init__(self, folder: Path, settings: list[str]) -> None:
        self._folder = folder
        self._settings = settings
        self._env = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)}
        (folder / "agent.py").write_text(AGENT)
        (folder / "agent.yaml").write_text(CONF)

    def engine(self, action: str) -> None:
        """Run `ajet engine ACTION`."""
        self._ajet("engine", action)

    def debug(self) -> float:
        """Do a debug run and return the Unix time of the workflow's first line."""
        self._ajet("--backbone=debug")
        return float((self._folder / "first_line").read_text())

    def turn_s(self) -> float:
        """Return the seconds from the command to the workflow's first line."""
        started_s = time.time()
        return self.debug() - started_s

    def _ajet(self, *args: str) -> None:
        command = [sys.executable, "-m", "ajet.cli", *args, "--conf", "agent.yaml"]
        subprocess.run(
            [*command, *self._settings],
            cwd=self._folder,
            env=self._env,
            check=True,
            stdout=sys.stderr,
            stdin=subprocess.DEVNULL,
        )


def measure(rounds: int, vllm_python: str | None) -> dict[str, object]:
    """Measure the seconds of the cold and the warm case."""
    has_vllm = vllm_python is not None or find_spec("vllm") is not None
    settings = ["rollout.name=vllm"] if has_vllm else []
    settings += [f"rollout.vllm.python={vllm_python}"] if vllm_python else []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), settings)
        started_s = time.time()
        bench.engine("start")
        try:
            cold_s = bench.debug() - started_s
            all_warm_s = [bench.turn_s() for _ in range(rounds)]
        finally:
            bench.engine("stop")
    warm_s = statistics.median(all_warm_s)
    return {
        "warm_s": warm_s,
        "cold_s": cold_s if has_vllm else None,
        "ratio": cold_s / warm_s if has_vllm else None,
        "engine": "vllm" if has_vllm else "embedded",
        "all_warm_s": all_warm_s,
        "load_average": os.getloadavg()[0],
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--vllm-python", help="a Python with vLLM, where this one has none")
    args = parser.parse_args()
    print(json.dumps(measure(args.rounds, args.vllm_python), indent=1))


if __name__ == "__main__":
    main()
