"""Cost of `task_runner.isolation: process`: per episode, and calls per second against threads.

    python benchmarks/isolation.py --json

The engine is scripted and answers at once, so that only the rollout is measured. Episodes make
`calls` calls of the OpenAI SDK's client. For 1, 2 and 4 episodes at once, threads and processes are
measured in turns in one run; `ratio` is calls per second with processes over threads, the median of
the rounds. `start_ms` is the wall time to fork one process and to run its first episode.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from ajet import AjetTuner, Task, Workflow, WorkflowOutput, WorkflowTask
from ajet.config.loading.load import load_config
from ajet.engine.scripted import ScriptedEngine
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.task_rollout.isolation.isolated_run import IsolatedRunner
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from ajet.training.episode_process import isolated
from ajet.training.episodes import make_runner
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of, model_folder

CONFIG = f"""
ajet:
  model: {{path: "ajet:calculator", renderer: qwen3}}
  rollout: {{user_workflow: {Path(__file__).resolve()}->ManyCalls}}
  task_runner: {{isolation: process}}
  task_reader: {{type: jsonl_dataset_file, jsonl_dataset_file: {{training: {{file_path: none}}}}}}
"""


class ManyCalls(Workflow):
    """Asks as often as the task says; each call continues the conversation."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """Call after call."""
        client = tuner.as_raw_openai_sdk_client()
        messages: list[Any] = []
        for number in range(int(workflow_task.task.main_query)):
            messages.append({"role": "user", "content": f"question {number}"})
            answer = await client.chat.completions.create(model="policy", messages=messages)
            messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        return WorkflowOutput(reward=1.0)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--episodes", type=int, default=32)
    parser.add_argument("--calls", type=int, default=8)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        print(json.dumps(measure(Path(name), options), indent=2))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    (folder / "logs").mkdir()
    (folder / "isolation.yaml").write_text(CONFIG)
    config = load_config(folder / "isolation.yaml", [])
    chat_format = chat_format_of(config.ajet.model, model_folder(config.ajet.model.path))
    answer = [*chat_format.tokenizer.encode("fine"), chat_format.stop_token_ids[0]]
    engine = ScriptedEngine(lambda ids, params, session: answer, max_model_len=100_000)
    threads = make_runner(
        config, chat_format, engine, HttpEndpoint(), UserCode.load(config), folder
    )
    began = time.perf_counter()
    processes = isolated(threads, config, folder)
    prepare_s = time.perf_counter() - began
    assert isinstance(processes, IsolatedRunner)
    start = start_ms(processes, options.rounds)  # while no process is idle
    rows = []
    for at_once in (1, 2, 4):
        ran: dict[str, list[float]] = {"threads": [], "processes": []}
        for _ in range(options.rounds + 1):  # the first round starts the processes
            for kind, runner in (("threads", threads), ("processes", processes)):
                ran[kind].append(calls_per_s(runner, at_once, options))
        rows.append(
            {
                "at_once": at_once,
                "threads_calls_per_s": round(statistics.median(ran["threads"][1:])),
                "processes_calls_per_s": round(statistics.median(ran["processes"][1:])),
                "ratio": round(
                    statistics.median(
                        mine / theirs
                        for mine, theirs in zip(
                            ran["processes"][1:], ran["threads"][1:], strict=True
                        )
                    ),
                    2,
                ),
            }
        )
    return {
        "prepare_s": round(prepare_s, 2),
        "start_ms": round(start, 1),
        "episode_ms_threads": round(1000 * episode_s(threads, options), 2),
        "episode_ms_processes": round(1000 * episode_s(processes, options), 2),
        "rows": rows,
    }


def calls_per_s(runner: EpisodeRunner, at_once: int, options: argparse.Namespace) -> float:
    """Calls per second of a rollout."""
    rollout = Rollout(runner=runner, seed=0, max_env_worker=at_once)
    tasks = [
        Task(main_query=str(options.calls), task_id=str(number))
        for number in range(options.episodes)
    ]
    began = time.perf_counter()
    groups = rollout.run(tasks, num_repeat=1, tag="train/1")
    seconds = time.perf_counter() - began
    assert all(group.episodes[0].failure is None for group in groups), groups[0].episodes[0].failure
    return options.calls * options.episodes / seconds


def episode_s(runner: EpisodeRunner, options: argparse.Namespace) -> float:
    """Seconds of an episode with one call, one after the other."""
    single = argparse.Namespace(**{**vars(options), "calls": 1})
    return statistics.median(1 / calls_per_s(runner, 1, single) for _ in range(options.rounds))


def start_ms(runner: IsolatedRunner, rounds: int) -> float:
    """Milliseconds from nothing to the end of the first episode of a process."""
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        Rollout(runner=runner, seed=0).run(
            [Task(main_query="1", task_id="one")], num_repeat=1, tag="train/1"
        )
        seconds.append(time.perf_counter() - began)
        runner.processes.remove(runner.processes.take())
    return 1000 * statistics.median(seconds)


if __name__ == "__main__":
    main()
