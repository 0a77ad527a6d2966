"""What judging by a slow model adds to a step: 128 episodes, 300 ms for each answer of the judge.

    python benchmarks/judges.py --json

One torch thread, the shipped tiny model, the math agent's demo: 16 tasks with 8 episodes each, all
at the same time. The model server of the judge is a process of its own. In each round, the rollout
runs with a judge that decides at once, without a model, and with the slow judge, in turns; no
answer is kept. `overlap_ratio` is the median of the wall seconds with the slow judge, divided by
those without; 1 means that judging is hidden behind the rollout. `hidden_share` is the share of the
judge's own time, at its limit of calls at once, that is not seen in the wall seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from ajet.backbone.local.policy import load_policy
from ajet.config.loading.load import load_config
from ajet.engine.embedded.engine import EmbeddedEngine
from ajet.gateway.apis.chat_completions.request import SamplingDefaults
from ajet.gateway.gateway import Gateway
from ajet.schema.task import Task, WorkflowOutput, WorkflowTask
from ajet.task_judge import make_judge
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_rollout.rollout import Rollout
from ajet.task_runner.episode_run import EpisodeRunner
from tutorial.example_math_agent.math_agent_openai import MathAgent
from tutorial.example_math_agent.problems import Split, generate

ROOT = Path(__file__).resolve().parents[1]
TASKS, REPEATS = 16, 8
CONF = ROOT / "tutorial/example_math_agent/math_agent_cpu.yaml"


class NoJudge(BaseJudge):
    """Decides at once."""

    def compute_reward(
        self, workflow_task: WorkflowTask, workflow_output: WorkflowOutput
    ) -> tuple[float, bool]:
        """Always the same."""
        return 1.0, True


def serve(delay_s: float, port: Any) -> None:
    """A model server that answers each question after a pause; a process of its own."""
    from tests.judges.model_server import Reply, serving

    answer = json.dumps({"reason": "It is what it is.", "score": 5})
    with serving(Reply(content=answer, delay_s=delay_s)) as server:
        port.send(server.url)
        port.recv()  # the benchmark has ended


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--delay", type=float, default=0.3, help="seconds of an answer")
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(given.delay, theirs), daemon=True)
    server.start()
    try:
        print(json.dumps(measure(ours.recv(), given.rounds, given.delay), indent=1))
    finally:
        ours.send("end")
        server.join(5)


def measure(url: str, rounds: int, delay_s: float) -> dict[str, float]:
    """Run the rollouts in turns."""
    judge = ["judge_type=llm", "judge_protocol=null", "model.model=slow", f"model.base_url={url}"]
    overrides = [f"task_judge.{setting}" for setting in [*judge, "model.cache=false"]]
    config = load_config(CONF, overrides)
    policy = load_policy(config.ajet.model)
    engine = EmbeddedEngine(
        policy.model, policy.chat_format.tokenizer, max_model_len=512, max_num_seqs=TASKS * REPEATS
    )
    gateway = Gateway(
        chat_format=policy.chat_format, engine=engine, defaults=SamplingDefaults(max_tokens=40)
    )
    tasks = [
        Task(main_query=problem.question, task_id=str(number))
        for number, problem in enumerate(generate({Split.VALIDATION: TASKS})[Split.VALIDATION])
    ]
    slow = make_judge(config.ajet.task_judge.judge_class, config)
    wall: dict[str, list[float]] = {"without": [], "judged": []}
    for number in range(rounds + 1):  # the first round warms up
        for name, its_judge in (("without", NoJudge(None)), ("judged", slow)):
            runner = EpisodeRunner(
                workflow_class=MathAgent, gateway=gateway, config=config, judge=its_judge
            )
            rollout = Rollout(runner=runner, seed=number, max_env_worker=TASKS * REPEATS)
            engine.forget()
            started_s = time.perf_counter()
            # The same tag: both rollouts of a round sample the same tokens.
            rollout.run(tasks, num_repeat=REPEATS, tag="train/000001")
            wall[name].append(time.perf_counter() - started_s)
    asyncio.run(engine.aclose())
    without, judged = (statistics.median(wall[name][1:]) for name in ("without", "judged"))
    at_once = config.ajet.task_judge.model.max_concurrent
    alone_s = delay_s * -(-TASKS * REPEATS // at_once)
    return {
        "episodes": TASKS * REPEATS,
        "judge_s": delay_s,
        "wall_without_s": without,
        "wall_judged_s": judged,
        "overlap_ratio": judged / without,
        "hidden_share": 1 - (judged - without) / alone_s,
        "load": os.getloadavg()[0],
    }


if __name__ == "__main__":
    main()
