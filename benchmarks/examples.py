"""Train the examples on this CPU, and report what was learned.

    python benchmarks/examples.py --json                          all of them, seeds 0 to 2
    python benchmarks/examples.py --only countdown --seeds 0

Each run is the example's own YAML through the command line; only the seed and the folder are set
here. The scores are those of the run's evaluations on validation tasks that no model was trained
on. Minutes are the whole command, from its start to its end, with all evaluations.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example on a CPU."""

    conf: str
    metric: str = "success_rate"
    """The sampled score, of `eval/`; the greedy one is always the success rate."""
    num_validation: int = 128
    """Validation tasks, for the intervals."""
    largest: float = 1.0
    """The metric's largest value; scores are shares of it."""
    watch: tuple[str, ...] = ()
    """Other metrics to show from the first to the last step."""


EXAMPLES = {
    "math": Example(
        conf="tutorial/example_math_agent/math_agent_python_cpu.yaml",
        num_validation=256,
        watch=("workflow/wrong_calls",),
    ),
    "countdown": Example(
        conf="tutorial/example_countdown/countdown_cpu.yaml", watch=("workflow/attempts",)
    ),
    "frozen_lake": Example(
        conf="tutorial/example_frozen_lake/frozen_lake_cpu.yaml", watch=("workflow/fell",)
    ),
    "werewolves": Example(
        conf="tutorial/example_werewolves/werewolves_cpu.yaml", num_validation=200
    ),
    "learn_to_ask": Example(
        conf="tutorial/example_learn_to_ask/learn_to_ask_cpu.yaml",
        metric="reward_mean",
        largest=4.0,
        watch=("workflow/asked_too_long", "workflow/stopped_too_early"),
    ),
    "appworld": Example(
        conf="tutorial/example_appworld/appworld_cpu.yaml", watch=("workflow/refused_calls",)
    ),
}


def has_model(name: str) -> bool:
    """Whether the tiny model of an example has been built."""
    settings = yaml.safe_load((ROOT / EXAMPLES[name].conf).read_text(encoding="utf-8"))
    return (ROOT / settings["ajet"]["model"]["path"] / "RECIPE.json").exists()


def train(name: str, seed: int, backbone: str, overrides: Sequence[str], out: Path) -> Any:
    """Run one example and read what it measured."""
    example = EXAMPLES[name]
    if (out / "run").exists():
        raise SystemExit(f"{out / 'run'} exists: name another folder with --keep, or delete it")
    command = [sys.executable, "-m", "ajet.cli", "--conf", example.conf, f"--backbone={backbone}"]
    command += ["--exp-dir", str(out), "ajet.experiment_name=run", f"trainer_common.seed={seed}"]
    began = time.monotonic()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [*command, *overrides], cwd=ROOT, env=environment, stdout=sys.stderr, check=False
    )
    if process.returncode != 0:
        raise SystemExit(f"{name}, seed {seed}: exit status {process.returncode}")
    minutes = (time.monotonic() - began) / 60
    lines = (out / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return result_of(name, seed, [json.loads(line) for line in lines]) | {
        "backbone": backbone,
        "minutes": round(minutes, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


def result_of(name: str, seed: int, metrics: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores of a run from its metrics, one line per step."""
    example = EXAMPLES[name]

    def scores(metric: str, largest: float = 1.0) -> dict[int, float]:
        key = f"eval/{metric}"
        return {m["step"]: round(m[key] / largest, 4) for m in metrics if key in m}

    sampled = scores(example.metric, example.largest)
    greedy = scores("greedy_success_rate")
    trained = [m for m in metrics if "reward/mean" in m]
    watched = {key: [m[key] for m in trained if key in m] for key in example.watch}
    return {
        "example": name,
        "seed": seed,
        "start": sampled[min(sampled)],
        "end": sampled[max(sampled)],
        "greedy_start": greedy.get(min(sampled)),
        "greedy_end": greedy.get(max(sampled)),
        "start_interval": _interval(sampled[min(sampled)], example),
        "end_interval": _interval(sampled[max(sampled)], example),
        "steps": len(trained),
        "sampled": sampled,
        "greedy": greedy,
        "watched": {key: _first_and_last(values) for key, values in watched.items()},
    }


def _interval(share: float, example: Example) -> list[float] | None:
    """Wilson's 95% interval of a success rate; None for other metrics."""
    if example.metric != "success_rate":
        return None
    n, z = example.num_validation, 1.96
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return [round(centre - half, 3), round(centre + half, 3)]


def _first_and_last(values: Sequence[float]) -> list[float]:
    """Means of the first and the last three steps."""
    return [round(statistics.mean(part), 4) for part in (values[:3], values[-3:]) if part]


def show(result: dict[str, Any]) -> None:
    """One run for a person."""
    curve = ", ".join(f"step {step}: {score:.0%}" for step, score in result["sampled"].items())
    greedy = ", ".join(f"{score:.0%}" for score in result["greedy"].values())
    print(f"{result['example']}, seed {result['seed']}: {curve}; greedy {greedy}")
    for name, values in result["watched"].items():
        print(f"    {name}: {' to '.join(f'{value:.2f}' for value in values)}")
    print(f"    {result['steps']} steps, {result['minutes']:.1f} minutes", flush=True)


def main() -> None:
    """Run the examples and print the results."""
    parser = argparse.ArgumentParser(description="Train the examples on this CPU.")
    parser.add_argument("--json", action="store_true", help="a JSON list on one line")
    parser.add_argument("--only", nargs="+", choices=EXAMPLES, default=list(EXAMPLES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="local", choices=("local", "verl", "trinity"))
    parser.add_argument("--keep", type=Path, help="folder that keeps the run folders")
    parser.add_argument(
        "overrides", nargs="*", help="settings, for example data.train_batch_size=8"
    )
    args = parser.parse_args()
    results = []
    for name in args.only:
        if not has_model(name):
            print(f"{name}: there is no model; make tiny-models builds it", file=sys.stderr)
            continue
        for seed in args.seeds:
            with tempfile.TemporaryDirectory() as temporary:
                out = args.keep / f"{name}_{args.backbone}_{seed}" if args.keep else Path(temporary)
                result = train(name, seed, args.backbone, args.overrides, out)
            results.append(result)
            if not args.json:
                show(result)
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
