"""Cost of the path from workflow to engine: the embedded engine alone, and with 64 episodes.

    python benchmarks/rollout.py --json

One torch thread, the shipped tiny model, 64 sequences of 128 sampled tokens. The full path is the
demo's: worker threads, the OpenAI SDK's client, gateway, tracker, samples. Both are measured in
turns in one process. CPU seconds are those of the whole process.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from ajet import AjetTuner, Task, Workflow, WorkflowOutput, WorkflowTask
from ajet.backbone.local.policy import load_policy
from ajet.config.sections.model import ModelConfig
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import SamplingParams
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from tutorial.example_math_agent.calculator import CALCULATOR_TOOL, SYSTEM_PROMPT
from tutorial.example_math_agent.problems import Split, generate

EPISODES = 64
NEW_TOKENS = 128


class OneCall(Workflow):
    """Asks once with the OpenAI client."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        """One call of NEW_TOKENS tokens."""
        await tuner.as_raw_openai_sdk_client().chat.completions.create(
            model="policy",
            messages=messages_of(workflow_task.task.main_query),
            tools=[CALCULATOR_TOOL],
        )
        return WorkflowOutput(reward=1.0)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds

    policy = load_policy(
        ModelConfig(
            path="ajet/tiny_model/calculator",
            renderer="qwen3",
            enable_thinking=False,
            torch_num_threads=1,
        )
    )
    policy.chat_format.stop_token_ids = ()  # so that every completion has the full length
    engine = EmbeddedEngine(
        policy.model, policy.chat_format.tokenizer, max_model_len=512, max_num_seqs=EPISODES
    )
    problems = generate({Split.VALIDATION: EPISODES})[Split.VALIDATION]
    tasks = [
        Task(main_query=problem.question, task_id=str(number))
        for number, problem in enumerate(problems)
    ]
    gateway = Gateway(
        chat_format=policy.chat_format,
        engine=engine,
        defaults=SamplingDefaults(max_tokens=NEW_TOKENS),
    )
    rollout = Rollout(
        runner=EpisodeRunner(workflow_class=OneCall, gateway=gateway),
        seed=0,
        max_env_worker=EPISODES,
    )
    prompts = [
        policy.chat_format.render(messages_of(task.main_query), [CALCULATOR_TOOL]) for task in tasks
    ]

    async def engine_alone() -> None:
        params = SamplingParams(max_tokens=NEW_TOKENS)
        await asyncio.gather(
            *(engine.generate(ids, params, session=str(i)) for i, ids in enumerate(prompts))
        )

    measured: dict[str, list[tuple[float, float]]] = {"engine": [], "full_path": []}
    for number in range(rounds + 1):  # the first round warms up
        for name, run in {
            "engine": lambda: asyncio.run(engine_alone()),
            "full_path": lambda n=number: rollout.run(tasks, num_repeat=1, tag=f"round/{n}"),
        }.items():
            engine.forget()
            measured[name].append(_timed(run))
    asyncio.run(engine.aclose())
    print(json.dumps(_report(measured), indent=1))


def messages_of(question: str) -> list[dict[str, str]]:
    """The conversation of one episode."""
    return [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": question},
    ]


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - cpu


def _report(measured: dict[str, list[tuple[float, float]]]) -> dict[str, float]:
    wall = {name: statistics.median(w for w, _ in rows[1:]) for name, rows in measured.items()}
    cpu = {name: statistics.median(c for _, c in rows[1:]) for name, rows in measured.items()}
    tokens = EPISODES * NEW_TOKENS
    return {
        "engine_tokens_per_s": tokens / wall["engine"],
        "full_path_tokens_per_s": tokens / wall["full_path"],
        "ratio": wall["engine"] / wall["full_path"],
        "engine_tokens_per_cpu_s": tokens / cpu["engine"],
        "full_path_tokens_per_cpu_s": tokens / cpu["full_path"],
        "ratio_cpu": cpu["engine"] / cpu["full_path"],
        "cpu_ms_per_call_added": 1e3 * (cpu["full_path"] - cpu["engine"]) / EPISODES,
    }


if __name__ == "__main__":
    main()
