"""Episodes until the math agent is good, with and without a curriculum.

    python benchmarks/curriculum.py --json

The training set has the demo's tasks and as many that are too hard to ever solve: they need six
calls of the calculator, and an episode has at most five calls of the model, the answer included.
Each run is the demo's YAML with this training set and a small step (`--tasks-per-step`). It ends
when the sampled success on the demo's validation tasks, which are all solvable, reaches the target.
What is counted are the training episodes until then.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for those who run this file

from tutorial.example_math_agent.problems import apply, make_problem

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = Path("tutorial/example_math_agent")
TARGET = 0.8
EPISODES_PER_TASK = 8
NUM_OPERATIONS = 6
HARD = "hard-"
"""How the ids of the tasks begin that cannot be solved."""
POLICIES = ("uniform", "difficulty_pools", "target_success", "easy_first")
FIXED = {
    "rollout.num_repeat": EPISODES_PER_TASK,
    "rollout.user_workflow": f"{EXAMPLE}/math_agent_openai.py->MathAgent",
    "rollout.validation.greedy": False,
    "trainer_common.save_freq": -1,
}


def hard_task(number: int) -> dict[str, Any]:
    """A task of six operations: problems of the demo, one continuing the other."""
    problem = make_problem(10_000_000 + 10 * number)
    clauses, value = problem.question.removesuffix(". How many now?").split(", "), problem.answer
    operations = len(problem.operations)
    for seed in range(problem.seed + 1, problem.seed + 10):
        following = make_problem(seed)
        more = following.question.removesuffix(". How many now?").split(", ")[1:]
        for clause, operation in zip(more, following.operations, strict=True):
            if operations < NUM_OPERATIONS:
                clauses.append(clause)
                value = apply(value, operation.operator, operation.right)
                operations += 1
    question = ", ".join(clauses) + ". How many now?"
    return {
        "task_id": f"{HARD}{number}",
        "main_query": question,
        "metadata": {"answer": str(value)},
    }


def write_tasks(path: Path) -> None:
    """The demo's training tasks, each followed by one that is too hard."""
    easy = (ROOT / EXAMPLE / "data/train.jsonl").read_text(encoding="utf-8").splitlines()
    lines = [line for i, task in enumerate(easy) for line in (task, json.dumps(hard_task(i)))]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def learn(policy: str, seed: int, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Train until the target is reached, and count the episodes."""
    size = options.tasks_per_step
    settings = FIXED | {
        "ajet.experiment_dir": str(folder),
        "ajet.experiment_name": "run",
        "data.train_batch_size": size,
        "task_reader.jsonl_dataset_file.training.file_path": str(folder / "tasks.jsonl"),
        "trainer_common.seed": seed,
        "trainer_common.test_freq": options.test_freq,
        "trainer_common.total_training_steps": options.max_episodes // (size * EPISODES_PER_TASK),
    }
    if policy != "uniform":
        settings["task_reader.curriculum.policy"] = policy
    write_tasks(folder / "tasks.jsonl")
    command = [str(Path(sys.executable).with_name("ajet")), "--backbone=local"]
    command += ["--conf", str(EXAMPLE / "math_agent_cpu.yaml"), *options.settings]
    command += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, stdout=sys.stderr
    )
    while process.poll() is None:
        time.sleep(0.2)
        if any(success >= TARGET for _, success in heldout_of(folder / "run")):
            process.send_signal(signal.SIGINT)
            process.wait()
    if process.returncode not in (0, 130):
        raise SystemExit(f"exit status {process.returncode}: {' '.join(command)}")
    return report_of(folder / "run", policy, seed, size * EPISODES_PER_TASK)


def heldout_of(run: Path) -> list[tuple[int, float]]:
    """Step and success of each evaluation so far."""
    return [
        (line["step"], line["eval/success_rate"])
        for line in lines_of(run / "metrics.jsonl")
        if "eval/success_rate" in line
    ]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a file that may still grow."""
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


def report_of(run: Path, policy: str, seed: int, per_step: int) -> dict[str, Any]:
    """What one run shows."""
    heldout = heldout_of(run)
    reached = next((step for step, success in heldout if success >= TARGET), None)
    train = [line for line in lines_of(run / "episodes.jsonl") if line["phase"] == "train"]
    hard = [line for line in train if line["task_id"].startswith(HARD)]
    return {
        "policy": policy,
        "seed": seed,
        "episodes": None if reached is None else reached * per_step,
        "heldout": [[step * per_step, success] for step, success in heldout],
        "hard_share": round(len(hard) / len(train), 3),
        "hard_solved": sum(bool(line["is_success"]) for line in hard),
    }


def mean_episodes(runs: list[dict[str, Any]], policy: str) -> float | None:
    """Over the seeds; None if one of them did not reach the target."""
    counts = [run["episodes"] for run in runs if run["policy"] == policy]
    return None if None in counts else statistics.mean(counts)


def main() -> None:
    """Run all policies with all seeds, in turns, and print the report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES[:2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tasks-per-step", type=int, default=4)
    parser.add_argument("--test-freq", type=int, default=2, help="steps between evaluations")
    parser.add_argument("--max-episodes", type=int, default=2560)
    parser.add_argument("settings", nargs="*", help="more settings, as for ajet: key.path=value")
    options = parser.parse_args()
    runs = []
    for seed in options.seeds:
        for policy in options.policies:
            with tempfile.TemporaryDirectory() as folder:
                runs.append(learn(policy, seed, options, Path(folder)))
            print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    means = {policy: mean_episodes(runs, policy) for policy in options.policies}
    uniform = means.get("uniform")
    report = {
        "target": TARGET,
        "tasks_per_step": options.tasks_per_step,
        "settings": options.settings,
        "mean_episodes": means,
        "ratio_to_uniform": {
            policy: round(mean / uniform, 3) for policy, mean in means.items() if mean and uniform
        },
        "load_average": os.getloadavg(),
        "runs": runs,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
