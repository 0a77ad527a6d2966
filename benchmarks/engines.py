"""vLLM behind the gateway, compared with vLLM's own offline class on the same prompts.

    make .venv-vllm
    .venv-vllm/bin/python benchmarks/engines.py --json

64 sequences of 128 sampled tokens on the tiny model, with the logprobs that training needs. Three
ways take turns after a warm-up round:

- `offline`: `vllm.LLM.generate` in a process of its own, no server, with the server's settings.
- `engine`: `VllmEngine` against a vLLM server over HTTP, token ids in and out.
- `full_path`: 64 episodes with the OpenAI SDK's client, the gateway and the tracker.

A fourth way runs after the others have ended, because its processes wait in busy loops:

- `offline_default`: the offline class with vLLM's own defaults for a CPU, in three processes.

`ratio` and `ratio_engine` are against `offline`, `ratio_to_default` against `offline_default`; all
are of wall time, medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(
    0, str(Path(__file__).resolve().parents[1])
)  # lets `python benchmarks/engines.py` import the package `benchmarks`

from ajet import Task
from ajet.config.sections.model import ModelConfig
from ajet.engine.vllm.engine import VllmEngine
from ajet.engine.vllm.server import VllmServer, vllm_command
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import SamplingParams
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from ajet.training.model_folder import chat_format_of
from benchmarks.rollout import EPISODES, NEW_TOKENS, OneCall, messages_of
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL
from tutorial.example_math_agent.problems import Split, generate

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "ajet/tiny_model/calculator"
MAX_MODEL_LEN = 512
ONE_PROCESS = "VLLM_ENABLE_V1_MULTIPROCESSING"


class Offline:
    """`vllm.LLM` in a process of its own (`benchmarks/peers/vllm_offline.py`)."""

    def __init__(self, prompts: list[list[int]], env: dict[str, str], log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.vllm_offline"],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        self._ask(model=str(MODEL), max_model_len=MAX_MODEL_LEN, prompts=prompts)

    def seconds(self) -> float:
        """Measure the seconds of one round."""
        return float(self._ask(max_tokens=NEW_TOKENS)["seconds"])

    def close(self) -> None:
        """End the process."""
        self._process.communicate()  # closing its standard input ends the process
        self._log.close()

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="vLLM through our path, and by itself.")
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        measured = measure(Path(folder), rounds)
    print(json.dumps(_report(measured), indent=1))


def measure(logs: Path, rounds: int) -> dict[str, list[float]]:
    """Measure the seconds of each round, for each way."""
    chat_format = chat_format_of(ModelConfig(path="ajet:calculator", renderer="qwen3"), MODEL)
    chat_format.stop_token_ids = ()  # so that every completion has the full length
    problems = generate({Split.VALIDATION: EPISODES})[Split.VALIDATION]
    tasks = [Task(main_query=p.question, task_id=str(i)) for i, p in enumerate(problems)]
    prompts = [
        chat_format.render(messages_of(task.main_query), [CALCULATOR_TOOL]) for task in tasks
    ]
    command, env = vllm_command(
        MODEL,
        python=None,
        device="cpu",
        dtype="float32",
        max_model_len=MAX_MODEL_LEN,
        max_num_seqs=EPISODES,
        num_threads=1,
        kv_cache_gb=1.0,
        options={},
    )
    server = VllmServer(
        "vllm", command, env=env, port=None, log=logs / "server.log", start_timeout_s=300
    )
    server.start()
    engine = VllmEngine(servers=[server])
    offline = Offline(prompts, {**os.environ, **env}, logs / "offline.log")
    gateway = Gateway(
        chat_format=chat_format,
        engine=engine,
        defaults=SamplingDefaults(max_tokens=NEW_TOKENS),
    )
    rollout = Rollout(
        runner=EpisodeRunner(workflow_class=OneCall, gateway=gateway),
        seed=0,
        max_env_worker=EPISODES,
    )

    async def engine_alone() -> None:
        params = SamplingParams(max_tokens=NEW_TOKENS)
        await asyncio.gather(
            *(engine.generate(ids, params, session=str(i)) for i, ids in enumerate(prompts))
        )

    measured: dict[str, list[float]] = {}
    for number in range(rounds + 1):
        for name, run in {
            "offline": offline.seconds,
            "engine": lambda: _seconds(lambda: asyncio.run(engine_alone())),
            "full_path": lambda n=number: _seconds(
                lambda: rollout.run(tasks, num_repeat=1, tag=f"round/{n}")
            ),
        }.items():
            measured.setdefault(name, []).append(run())
    offline.close()
    asyncio.run(engine.aclose())
    by_default = {name: value for name, value in env.items() if name != ONE_PROCESS}
    offline = Offline(prompts, {**os.environ, **by_default}, logs / "offline_default.log")
    measured["offline_default"] = [offline.seconds() for _ in range(rounds + 1)]
    offline.close()
    return {name: seconds[1:] for name, seconds in measured.items()}


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def _report(measured: dict[str, list[float]]) -> dict[str, float]:
    wall = {name: statistics.median(seconds) for name, seconds in measured.items()}
    tokens = EPISODES * NEW_TOKENS
    return {
        **{f"{name}_tokens_per_s": round(tokens / wall[name]) for name in wall},
        "ratio": round(wall["offline"] / wall["full_path"], 3),
        "ratio_engine": round(wall["offline"] / wall["engine"], 3),
        "ratio_to_default": round(wall["offline_default"] / wall["full_path"], 3),
        "rounds": len(measured["offline"]),
    }


if __name__ == "__main__":
    main()
