"""Environment episodes at once against a service that answers in 50 ms, as a share of the ideal.

    python benchmarks/environments.py --json

Each episode makes an instance, and then a few turns: the model answers after a fixed time, the
environment after 50 ms. The service is a process of its own on this machine. The ideal is what the
waiting alone takes: (1 + turns) x 50 ms + turns x model time. Three kinds of rounds take turns:

- `environment`: the model's time is a sleep, so that all cost is the environment's.
- `both`: the model's calls go through the gateway, to an engine that answers after that time.
- `gateway`: as before, and the environment's time is a sleep: what the gateway costs without one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from ajet import AjetTuner, Task, Workflow, WorkflowOutput, WorkflowTask
from ajet.config.sections.model import ModelConfig
from ajet.engine.scripted import ScriptedEngine
from ajet.environment import EnvironmentService
from ajet.environment.client import EnvironmentClient
from ajet.environment.service_environment import ServiceSource
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.service.probes import answers, free_ports
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from ajet.training.model_folder import chat_format_of

ANSWER_S = 0.05
"""Of the service."""


class FiftyMilliseconds(EnvironmentService):
    """Answers every call after 50 ms."""

    max_instances = 4096
    max_concurrent_calls = 4096

    def task_ids(self, split: str) -> list[str]:
        """None: the benchmark brings its own."""
        return []

    async def create(  # type: ignore[override]
        self, task_id: str, params: dict[str, Any]
    ) -> tuple[None, str]:
        """An instance of nothing."""
        await asyncio.sleep(ANSWER_S)
        return None, "Begin."

    async def step(  # type: ignore[override]
        self, instance: None, action: dict[str, Any]
    ) -> Sequence[Any]:
        """A turn of nothing."""
        await asyncio.sleep(ANSWER_S)
        return "Go on.", 1.0, False


class Play(Workflow):
    """Turns of model and environment; either may be a sleep."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Blocks in every turn, as workflows do that were written for a blocking client."""
        environment = workflow_task.gym_env
        if environment is None:
            time.sleep(ANSWER_S)
        options = workflow_task.task.metadata
        client = tuner.as_raw_openai_sdk_client()
        messages: list[Any] = [{"role": "user", "content": "Begin."}]
        for _ in range(options["turns"]):
            action: dict[str, str] = {"role": "assistant", "content": "7"}
            if options["has_model"]:
                await client.chat.completions.create(model="policy", messages=messages)
            else:
                await asyncio.sleep(options["model_s"])
            if environment is None:
                time.sleep(ANSWER_S)
                observation = "Go on."
            else:
                observation = environment.step(action)[0]
            messages += [action, {"role": "user", "content": observation}]
        return WorkflowOutput(reward=1.0)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=512)
    parser.add_argument("--turns", type=int, default=6)
    parser.add_argument("--model-s", type=float, default=4.0, help="until the model answers")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        FiftyMilliseconds.main(["--port", str(options.serve)])
    port = free_ports(1)[0]
    service = subprocess.Popen([sys.executable, __file__, "--serve", str(port)])
    try:
        url = f"http://127.0.0.1:{port}"
        while not answers(f"{url}/health"):
            time.sleep(0.1)
        report = _measure(options, ServiceSource(EnvironmentClient(url)))
        with urllib.request.urlopen(f"{url}/health") as answer:
            report["open_instances_at_the_end"] = json.load(answer)["open_instances"]
    finally:
        service.terminate()
        service.wait()
    print(json.dumps(report, indent=1))


def _measure(options: argparse.Namespace, source: ServiceSource) -> dict[str, Any]:
    without = _rollout(options)
    both = replace(without, runner=replace(without.runner, environments=source))
    rollouts = {"environment": both, "both": both, "gateway": without}
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in rollouts}
    for number in range(options.rounds + 1):  # the first round warms up
        for name, rollout in rollouts.items():
            tasks = _tasks(options, has_model=name != "environment")
            wall, cpu = time.perf_counter(), time.process_time()
            groups = rollout.run(tasks, num_repeat=1, tag=f"{name}/{number}")
            measured[name].append((time.perf_counter() - wall, time.process_time() - cpu))
            assert all(group.valid for group in groups)
    return _report(options, measured)


def _tasks(options: argparse.Namespace, *, has_model: bool) -> list[Task]:
    facts = {"turns": options.turns, "model_s": options.model_s, "has_model": has_model}
    return [
        Task(task_id=str(number), main_query="Begin.", metadata=facts)
        for number in range(options.episodes)
    ]


def _rollout(options: argparse.Namespace) -> Rollout:
    folder = Path(__file__).resolve().parents[1] / "ajet" / "tiny_model" / "calculator"
    model = ModelConfig(path=str(folder), renderer="qwen3", enable_thinking=False)
    chat_format = chat_format_of(model, folder)
    tokens = chat_format.tokenizer.encode("7", add_special_tokens=False)
    engine = ScriptedEngine(
        lambda *_: [*tokens, *chat_format.stop_token_ids[:1]], delay_s=options.model_s
    )
    gateway = Gateway(
        chat_format=chat_format, engine=engine, defaults=SamplingDefaults(max_tokens=8)
    )
    return Rollout(
        runner=EpisodeRunner(workflow_class=Play, gateway=gateway),
        seed=0,
        max_env_worker=options.episodes,
    )


def _report(
    options: argparse.Namespace, measured: dict[str, list[tuple[float, float]]]
) -> dict[str, Any]:
    wall = {name: statistics.median(w for w, _ in rows[1:]) for name, rows in measured.items()}
    cpu = {name: statistics.median(c for _, c in rows[1:]) for name, rows in measured.items()}
    ideal_s = (1 + options.turns) * ANSWER_S + options.turns * options.model_s
    env_calls = options.episodes * (2 + options.turns)
    model_calls = options.episodes * options.turns
    return {
        "episodes": options.episodes,
        "turns": options.turns,
        "model_s": options.model_s,
        "ideal_s": ideal_s,
        "wall_s": wall,
        "share_of_ideal": ideal_s / wall["environment"],
        "share_of_ideal_with_gateway": ideal_s / wall["both"],
        "share_of_gateway_without_environment": wall["gateway"] / wall["both"],
        "environment_calls_per_s": env_calls / wall["environment"],
        "cpu_ms_per_environment_call": 1e3 * cpu["environment"] / env_calls,
        "cpu_ms_per_model_call": {
            "without_environment": 1e3 * cpu["gateway"] / model_calls,
            "with_environment": 1e3 * (cpu["both"] - cpu["environment"]) / model_calls,
        },
    }


if __name__ == "__main__":
    main()
