"""Time that fully asynchronous training saves when some episodes are slow (backbone trinity).

    make .venv-trinity
    .venv-trinity/bin/python benchmarks/async.py --json

Runs the demo's math agent, where one episode in 16 waits 8 s for its environment and the others
0.25 s (`slow_tools.py`). On policy, every step waits for its slowest episode. The two runs follow
each other and have the same number of steps, tasks and episodes, and the same model.

`wall_s` starts when the first step waits for samples and ends with the last step, including the
transfer of weights to vLLM. It excludes start-up, checkpoints and the evaluation after the last
step. `ratio` compares wall time for the same number of trained samples. Groups whose rewards are
all equal train nothing, so the two runs train different numbers of samples.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONF = "tutorial/example_math_agent/math_agent_cpu.yaml"
COMMON = (
    "rollout.user_workflow=benchmarks/slow_tools.py->SlowMathAgent",
    "data.train_batch_size=8",
    "rollout.num_repeat=4",
    "rollout.validation.num_tasks=1",
    "rollout.validation.greedy=false",
    "trainer_common.val_before_train=false",
    "trainer_common.test_freq=null",
    "trainer_common.save_freq=null",
    "trainer_common.optim.num_updates_per_step=1",
)
MODES = {
    "on_policy": (),
    "fully_async": (
        "trinity.synchronizer.sync_style=fully_async",
        "trinity.explorer.runner_per_model=4",
        "trinity.explorer.max_inflight_batches=3",
    ),
}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description="Fully asynchronous against on policy.")
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--steps", type=int, default=12)
    steps = parser.parse_args().steps
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        runs = {mode: train(mode, settings, steps, folder) for mode, settings in MODES.items()}
    speed = {mode: run["samples_trained"] / run["wall_s"] for mode, run in runs.items()}
    ratio = speed["fully_async"] / speed["on_policy"]
    print(json.dumps({"ratio": ratio, "load_average": load, "steps": steps} | runs, indent=1))


def train(mode: str, settings: tuple[str, ...], steps: int, folder: str) -> dict[str, Any]:
    """Run to the end and return the times of the run."""
    command = [sys.executable, "-m", "ajet.cli", "--conf", CONF, "--backbone=trinity"]
    command += ["--exp-dir", folder, f"experiment_name={mode}", *COMMON, *settings]
    command += [f"trainer_common.total_training_steps={steps}"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{mode} failed:\n{done.stdout}")
    return report(Path(folder) / mode)


def report(folder: Path) -> dict[str, Any]:
    """Read the times of a run from its folder."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    made = [line for line in lines if "time/step_s" in line]
    trained = [line for line in made if "staleness/max" in line]
    facts = json.loads((folder / "run.json").read_text())["processes"][-1]["trinity"]
    return {
        "wall_s": sum(line["time/step_s"] for line in made),
        "waiting_s": sum(line["time/wait_s"] for line in made),
        "training_s": sum(line["time/train_s"] for line in made),
        "episodes": sum(line["episode/count"] for line in made),
        "samples_trained": facts["samples trained"],
        "samples_too_old": facts["samples stale"],
        "samples_left": facts["samples left in the buffer"],
        "staleness_mean": statistics.fmean(line["staleness/mean"] for line in trained),
        "staleness_max": max(line["staleness/max"] for line in trained),
        "reward_last_3_steps": statistics.fmean(line["reward/mean"] for line in made[-3:]),
    }


if __name__ == "__main__":
    main()
