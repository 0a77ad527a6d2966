"""Cost of a training step of the math agent: two clients of this project, and TRL.

    make .venv-trl
    python benchmarks/math_agent.py --json

The runs follow each other on one thread: the local backbone with the OpenAI client, TRL's
`GRPOTrainer` with its own tool loop, the local backbone with the AgentScope agent. All start from
the same tiny model and take the same tasks in the same order with the same hyper-parameters.

Cost is CPU time, user and system. The cost of a step is all CPU time between two steps without
evaluation and checkpoints. What the process used outside of steps (mostly set-up, children, the
checkpoint of each step) is reported separately, as the operating system counts it. One evaluator
(`heldout.py`) reads the weights of each step afterwards and measures what was learned.

Other programs change CPU time, too, because they share caches and cores. Use an idle machine, look
at `load_average`, and give several seeds: the contestants take turns.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODEL = Path("ajet/tiny_model/calculator")
EXAMPLE = Path("tutorial/example_math_agent")
CLIENTS = {
    "openai": f"{EXAMPLE}/math_agent_openai.py->MathAgent",
    "agentscope": f"{EXAMPLE}/math_agent.py->MathAgent",
}
ORDER = ("openai", "trl", "agentscope")
TARGET = 0.8
"""Held-out success that is waited for."""
HELDOUT_TASKS = 128

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_OFFLINE": "1",
}

RECIPE: dict[str, Any] = {
    "tasks_per_step": 16,
    "group_size": 8,
    "updates_per_step": 2,
    "max_calls": 5,
    "max_new_tokens": 40,
    "temperature": 1.0,
    "lr": 3e-4,
    "lr_min_ratio": 0.1,
    "betas": [0.9, 0.95],
    "weight_decay": 0.0,
    "grad_clip": 1.0,
    "clip_low": 0.2,
    "clip_high": 0.28,
}
"""GRPO for both sides, with `steps` and `seed` added: AdamW falling linearly, token mean, no KL."""

AJET_KEYS = {
    "steps": "trainer_common.total_training_steps",
    "seed": "trainer_common.seed",
    "tasks_per_step": "data.train_batch_size",
    "group_size": "rollout.num_repeat",
    "updates_per_step": "trainer_common.optim.num_updates_per_step",
    "max_calls": "rollout.multi_turn.max_steps",
    "max_new_tokens": "rollout.max_response_length_in_one_turn",
    "temperature": "rollout.temperature",
    "lr": "trainer_common.optim.lr",
    "lr_min_ratio": "trainer_common.optim.lr_min_ratio",
    "betas": "trainer_common.optim.betas",
    "weight_decay": "trainer_common.optim.weight_decay",
    "grad_clip": "trainer_common.optim.grad_clip",
    "clip_low": "trainer_common.algorithm.clip_ratio_low",
    "clip_high": "trainer_common.algorithm.clip_ratio_high",
}
AJET_FIXED = {
    "trainer_common.optim.lr_schedule": "linear",
    "trainer_common.optim.warmup_steps": 0,
    "trainer_common.algorithm.adv_estimator": "grpo",
    "trainer_common.algorithm.loss_agg": "tokens",
    "trainer_common.algorithm.entropy_coeff": 0.0,
    "trainer_common.use_kl_loss": False,
    "trainer_common.save_freq": 1,
    "trainer_common.test_freq": -1,
    "trainer_common.val_before_train": False,
    "rollout.validation.num_tasks": 1,
    "rollout.validation.greedy": False,
    "rollout.dynamic_sampling": False,
    "data.shuffle": False,
}
"""With a checkpoint of each step for the evaluator, and as little evaluation as there can be."""


@dataclass(slots=True, kw_only=True)
class Run:
    """One training run of one contestant."""

    seed: int
    process_cpu_s: float
    """Of the whole process, as the operating system counted it."""
    step_cpu_s: list[float]
    """[steps]"""
    parts: dict[str, float]
    """CPU-seconds a step, by part; what is left is the contestant's own bookkeeping."""
    peak_memory_mb: float
    checkpoints: list[Path]
    """[steps] weights after each step."""
    heldout: list[float]
    """[steps] success on validation tasks."""

    @property
    def steps_to_target(self) -> int | None:
        """The first step after which the held-out success is reached."""
        reached = (step for step, rate in enumerate(self.heldout, start=1) if rate >= TARGET)
        return next(reached, None)

    @property
    def cpu_s_to_target(self) -> float | None:
        """CPU-seconds of the steps until the target is reached."""
        step = self.steps_to_target
        return None if step is None else list(accumulate(self.step_cpu_s))[step - 1]


def run_ajet(client: str, recipe: dict[str, Any], out: Path) -> Run:
    """Train with the local backbone, through the command line, and read its run folder."""
    settings = {key: recipe[name] for name, key in AJET_KEYS.items()} | AJET_FIXED
    settings["rollout.user_workflow"] = CLIENTS[client]
    settings["ajet.experiment_dir"] = str(out)
    settings["ajet.experiment_name"] = "run"
    command = [str(Path(sys.executable).with_name("ajet")), "--backbone=local"]
    command += ["--conf", str(EXAMPLE / "math_agent_cpu.yaml")]
    command += [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    _, used = run_process(command)
    metrics = (out / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return read_ajet_run(out / "run", [json.loads(line) for line in metrics], recipe, used)


def read_ajet_run(
    folder: Path, metrics: Sequence[dict[str, Any]], recipe: dict[str, Any], used: Used
) -> Run:
    """The cost of a run from its metrics."""
    steps = [record for record in metrics if "cpu/step_s" in record]
    return Run(
        seed=recipe["seed"],
        process_cpu_s=used.cpu_s,
        step_cpu_s=[step["cpu/step_s"] for step in steps],
        parts={
            part: statistics.mean(step.get(f"cpu/{part}_s", 0.0) for step in steps)
            for part in ("rollout", "train")
        },
        peak_memory_mb=used.peak_memory_mb,
        checkpoints=[folder / "checkpoints" / f"step_{step['step']:06d}" for step in steps],
        heldout=[],
    )


def run_trl(python: Path, recipe: dict[str, Any], out: Path) -> Run:
    """Train with TRL in its own environment."""
    command = [str(python), "-m", "benchmarks.peers.trl_math_agent"]
    command += ["--recipe", json.dumps(recipe), "--model", str(MODEL)]
    command += ["--tasks", str(EXAMPLE / "data/train.jsonl"), "--out", str(out)]
    printed, used = run_process(command)
    report = json.loads(printed.splitlines()[-1])
    return Run(
        seed=recipe["seed"],
        process_cpu_s=used.cpu_s,
        peak_memory_mb=used.peak_memory_mb,
        checkpoints=sorted(out.glob("step_*")),
        heldout=[],
        **report,
    )


@dataclass(slots=True, kw_only=True)
class Used:
    """Total use of a process, children included."""

    cpu_s: float
    peak_memory_mb: float


def run_process(command: Sequence[str]) -> tuple[str, Used]:
    """Run to the end; return standard output and use. The log goes to our standard error."""
    environment = os.environ | ONE_THREAD
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=sys.stderr
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        output.seek(0)
        printed = output.read()
    if process.returncode != 0:
        raise SystemExit(f"exit status {process.returncode}: {' '.join(command)}\n{printed}")
    cpu_s = usage.ru_utime + usage.ru_stime
    return printed, Used(cpu_s=cpu_s, peak_memory_mb=usage.ru_maxrss / 1024)


def evaluate(folders: Sequence[Path]) -> list[float]:
    """Held-out success of each folder's weights."""
    command = [sys.executable, "-m", "benchmarks.heldout", "--tokenizer", str(MODEL)]
    command += ["--tasks", str(HELDOUT_TASKS), *map(str, folders)]
    return list(json.loads(run_process(command)[0]))


def summarise(runs: Sequence[Run]) -> dict[str, Any]:
    """Means of one contestant over all seeds; None if a seed never reached the target."""

    def mean_if_all(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return round(statistics.mean(known), 2) if len(known) == len(runs) else None

    costs = [cost for run in runs for cost in run.step_cpu_s]
    return {
        "cpu_s_per_step": round(statistics.mean(costs), 3),
        "cpu_s_per_step_median": round(statistics.median(costs), 3),
        "cpu_s_to_080": mean_if_all([run.cpu_s_to_target for run in runs]),
        "steps_to_080": mean_if_all([run.steps_to_target for run in runs]),
        "heldout_mean": round(statistics.mean(rate for run in runs for rate in run.heldout), 3),
        "parts": {
            part: round(statistics.mean(run.parts[part] for run in runs), 3)
            for part in runs[0].parts
        },
        "cpu_s_outside_steps": round(
            statistics.mean(run.process_cpu_s - sum(run.step_cpu_s) for run in runs), 2
        ),
        "peak_memory_mb": round(max(run.peak_memory_mb for run in runs)),
        "runs": [
            {
                "seed": run.seed,
                "cpu_s": [round(cost, 3) for cost in run.step_cpu_s],
                "heldout": [round(rate, 3) for rate in run.heldout],
            }
            for run in runs
        ],
    }


def compare(contestants: Sequence[str], seeds: Sequence[int], steps: int, trl: Path) -> Any:
    """Let the contestants take turns, seed by seed."""
    weights = ROOT / MODEL / "model.safetensors"
    runs: dict[str, list[Run]] = {name: [] for name in contestants}
    for seed in seeds:
        recipe = RECIPE | {"steps": steps, "seed": seed}
        for name in contestants:
            print(f"seed {seed}: {name}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder)
                run = run_trl(trl, recipe, out) if name == "trl" else run_ajet(name, recipe, out)
                run.heldout = evaluate(run.checkpoints)
            runs[name].append(run)
    results = {name: summarise(of_one) for name, of_one in runs.items()}
    peer = results.get("trl")
    clients = {name: result for name, result in results.items() if name != "trl"}
    return {
        "clients": clients,
        "trl": peer,
        "ratio_to_trl": {
            name: round(result["cpu_s_per_step"] / peer["cpu_s_per_step"], 3)
            for name, result in clients.items()
            if peer
        },
        "heldout_before": evaluate([weights.parent])[0],
        "heldout_tasks": HELDOUT_TASKS,
        "recipe": RECIPE | {"steps": steps},
        "model_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "machine": {"cpus": os.cpu_count(), "load_average": os.getloadavg()},
    }


def main() -> None:
    """Run the comparison and print it."""
    parser = argparse.ArgumentParser(description="Cost of a training step, against TRL.")
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", nargs="+", choices=ORDER, default=ORDER)
    parser.add_argument("--trl-python", type=Path, default=ROOT / ".venv-trl/bin/python")
    args = parser.parse_args()
    if "trl" in args.only and not args.trl_python.exists():
        raise SystemExit(f"{args.trl_python} is not there: run  make .venv-trl")
    result = compare(args.only, args.seeds, args.steps, args.trl_python)
    print(json.dumps(result, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
