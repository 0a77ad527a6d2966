"""Trains the tiny model with the reward of one judge, and measures it by a rule that it never sees.

    python -m tests.judges.learning --judge relative --seed 0 --steps 16 --out DIR

The tasks have no answer in them. The model server that plays the judge has the answers, and so has
the environment; the workflow notes what the agent answered, and only this script compares it.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from ajet import AjetTuner, WorkflowOutput, WorkflowTask
from ajet.environment.environment import Environment
from ajet.environment.messages import Message
from tests.judges.knowing_model import knowing, stated
from tests.judges.model_server import serving
from tutorial.example_math_agent.math_agent_openai import MathAgent

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tutorial/example_math_agent/data"
NOTES = "AJET_TEST_NOTES"
HERE = f"{Path(__file__).resolve()}"


def read(split: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / f"{split}.jsonl").read_text().splitlines()]


def right_answers() -> dict[str, str]:
    tasks = [*read("train"), *read("validation")]
    return {task["main_query"]: task["metadata"]["answer"] for task in tasks}


class Noting(MathAgent):
    """The math agent; notes its answers for the rule."""

    async def execute(self, workflow_task: WorkflowTask, tuner: AjetTuner) -> WorkflowOutput:
        output = await super().execute(workflow_task, tuner)
        answer = output.metadata["final_answer"]
        note = [workflow_task.task_tag, workflow_task.task.main_query, answer]
        with open(os.environ[NOTES], "a") as file:
            file.write(json.dumps(note) + "\n")
        if workflow_task.gym_env is not None:
            workflow_task.gym_env.step({"role": "assistant", "content": answer})
        return output


class Desk(Environment):
    """Takes one answer and knows whether it is right."""

    def reset(self) -> str:
        return self.task.main_query

    def step(self, action: Message) -> tuple[str, float, bool, dict[str, Any]]:
        right = stated(action["content"]) == right_answers()[self.task.main_query]
        self.total_reward = float(right)
        return "noted", self.total_reward, True, {}


RUBRIC = {"criteria": [{"name": "correct", "description": "The number is right."}]}
MODEL_JUDGES: dict[str, dict[str, Any]] = {
    "llm": {"judge_type": "llm"},
    "rubric": {"judge_type": "rubric", "rubric": RUBRIC},
    "relative": {"judge_type": "relative"},
    "rubrics_auto_grader": {"judge_type": "rubrics_auto_grader"},
    "combined": {
        "judge_type": "combined",
        "combined": {
            "parts": [
                {
                    "name": "format",
                    "is_gate": True,
                    "judge_type": "rule",
                    "rule": {"kind": "regex", "pattern": r"^Answer: -?\d+$"},
                },
                {"judge_type": "llm", "weight": 2.0},
                {"judge_type": "rubric", "rubric": RUBRIC},
            ]
        },
    },
}
RULES: dict[str, dict[str, Any]] = {
    "environment": {"judge_type": "environment"},
    "rule_math": {"judge_type": "rule"},
    "rule_exact": {"judge_type": "rule", "rule": {"kind": "exact"}},
    "rule_regex": {
        "judge_type": "rule",
        "rule": {"kind": "regex", "pattern": r"Answer: (-?\d+)"},
    },
}


def write_tasks(folder: Path, judge: str) -> None:
    """The demo's tasks; their answers only for a judge that is itself a rule."""
    for split in ("train", "validation"):
        tasks = read(split)
        for task in tasks:
            if judge == "rule_exact":  # it compares the whole text
                task["metadata"]["answer"] = f"Answer: {task['metadata']['answer']}"
            elif not judge.startswith("rule"):
                del task["metadata"]
        lines = "".join(json.dumps(task) + "\n" for task in tasks)
        (folder / f"{split}.jsonl").write_text(lines)
    labelled = {"main_query": "1 + 1", "metadata": {"final_answer": "2", "score": 1}}
    (folder / "labelled.jsonl").write_text(json.dumps(labelled) + "\n")


def configuration(folder: Path, judge: str, url: str, steps: int, num_tasks: int) -> Path:
    """A copy of the demo's YAML with this judge."""
    config = yaml.safe_load((ROOT / "tutorial/example_math_agent/math_agent_cpu.yaml").read_text())
    ajet = config["ajet"]
    ajet["rollout"]["user_workflow"] = f"{HERE}->Noting"
    ajet["rollout"]["validation"] = {"num_tasks": num_tasks, "greedy": False}
    for split, name in (("training", "train"), ("validation", "validation")):
        path = str(folder / f"{name}.jsonl")
        ajet["task_reader"]["jsonl_dataset_file"][split]["file_path"] = path
    ajet["task_judge"] = dict({**MODEL_JUDGES, **RULES}[judge])
    if judge in MODEL_JUDGES:
        ajet["task_judge"]["model"] = {"model": "scripted", "base_url": url}
    if judge == "rubrics_auto_grader":
        files = {"training": {"file_path": str(folder / "labelled.jsonl")}}
        ajet["task_judge"]["rubrics_auto_grader"] = {"jsonl_dataset_file": files}
    if judge == "environment":
        ajet["environment"] = {"type": f"{HERE}->Desk"}
    trainer = {"total_training_steps": steps, "test_freq": steps, "save_freq": -1}
    ajet["trainer_common"] |= trainer
    path = folder / "judged.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def by_the_rule(notes: Path) -> dict[str, float]:
    """Phase -> share of right answers."""
    answers, phases = right_answers(), defaultdict(list)
    for line in notes.read_text().splitlines():
        tag, query, answer = json.loads(line)
        phases[tag].append(stated(answer) == answers[query])
    return {tag: fmean(right) for tag, right in sorted(phases.items())}


def train(judge: str, seed: int, *, steps: int, num_tasks: int, folder: Path) -> dict[str, Any]:
    """Train, and return what the rule says about held-out tasks before and after."""
    from ajet.config.loading.load import load_config
    from ajet.launcher.launch import launch

    folder.mkdir(parents=True)
    os.environ[NOTES] = str(folder / "notes.jsonl")
    write_tasks(folder, judge)
    started_s = time.monotonic()
    with serving(knowing(right_answers())) as server:
        path = configuration(folder, judge, server.url, steps, num_tasks)
        overrides = [f"experiment_dir={folder}/runs", f"trainer_common.seed={seed}"]
        launch(load_config(path, overrides), command=["ajet"])
        calls = len(server.requests)
    shares = by_the_rule(folder / "notes.jsonl")
    return {
        "judge": judge,
        "seed": seed,
        "steps": steps,
        "held_out_start": shares["eval/000000"],
        "held_out_end": shares[f"eval/{steps:06d}"],
        "judge_calls": calls,
        "minutes": round((time.monotonic() - started_s) / 60, 1),
        "load": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--judge", required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--tasks", type=int, default=128)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    out = given.out / f"{given.judge}_{given.seed}"
    result = train(given.judge, given.seed, steps=given.steps, num_tasks=given.tasks, folder=out)
    with (given.out / "results.jsonl").open("a") as results:
        results.write(json.dumps(result) + "\n")
