"""What judging by a slow model adds to a step: 128 episodes, 300 ms for each answer of the judge.

    python benchmarks/judges.py --json

The demo's YAML, trained twice for a few steps: with its own rule as the judge, and with the rule
combined with a model that always gives the same score, so that both runs prefer the same answers.
All 128 episodes of a step run at the same time, as in the demo. The model server of the judge is a
process of its own, and no answer is kept. The two runs take turns, `--rounds` times.

- `overlap_ratio`: the median of `time/step_s` with the model, divided by that without it. 1 means
  that judging is hidden behind the rollout.
- `rollout_ratio`: the same of `time/rollout_s`, which a step begins with. The last episode's judge
  has nothing to hide behind there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # for those who run this file
CONF = ROOT / "tutorial/example_math_agent/math_agent_cpu.yaml"
EPISODES = 128
RULE = {"judge_type": "rule"}


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="accepted; it is the only form")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    parser.add_argument("--steps", type=int, default=6, help="of a run; the first is left out")
    parser.add_argument("--delay", type=float, default=0.3, help="seconds of an answer")
    given = parser.parse_args()
    with slow_model(given.delay) as url, tempfile.TemporaryDirectory() as folder:
        model = {"model": "slow", "base_url": url, "cache": False, "max_concurrent": EPISODES}
        both = {"parts": [RULE, {"judge_type": "llm", "weight": 0.01}], "success_at": 0.9}
        slow = {"judge_type": "combined", "model": model, "combined": both}
        judges = {"rule": RULE, "slow": slow}
        steps: dict[str, list[dict[str, float]]] = {name: [] for name in judges}
        for number in range(given.rounds):
            for name, judge in judges.items():
                out = Path(folder) / f"{name}_{number}"
                steps[name] += train(judge, out, given.steps, seed=number)
    medians = {
        name: {key: statistics.median(step[f"time/{key}_s"] for step in of) for key in TIMES}
        for name, of in steps.items()
    }
    (judged,) = {step["judge/episodes"] for step in steps["slow"]}
    report = {
        "episodes": int(judged),
        "judge_s": given.delay,
        "seconds": medians,
        "overlap_ratio": medians["slow"]["step"] / medians["rule"]["step"],
        "rollout_ratio": medians["slow"]["rollout"] / medians["rule"]["rollout"],
        "load": os.getloadavg()[0],
    }
    print(json.dumps(report, indent=1))


TIMES = ("step", "rollout", "train")


def train(judge: dict[str, Any], out: Path, steps: int, seed: int) -> list[dict[str, float]]:
    """Train the demo with a judge; the metrics of all steps but the first."""
    settings = {
        "project_name": "judged",
        "experiment_name": "judged",
        "trainer_common.total_training_steps": steps,
        "trainer_common.seed": seed,
        "trainer_common.test_freq": -1,
        "trainer_common.val_before_train": False,
        "trainer_common.save_freq": -1,
        "task_judge.judge_protocol": None,
        **{f"task_judge.{key}": value for key, value in judge.items()},
    }
    overrides = [f"{key}={json.dumps(value)}" for key, value in settings.items()]
    ajet = Path(sys.executable).with_name("ajet")
    done = subprocess.run(
        [ajet, "--conf", CONF, "--backbone=local", f"--exp-dir={out}", *overrides],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"the run failed:\n{done.stdout}\n{done.stderr}")
    (file,) = out.glob("*/metrics.jsonl")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [line for line in lines if line.get("step", 0) > 1 and "time/train_s" in line]


@contextmanager
def slow_model(delay_s: float) -> Iterator[str]:
    """The URL of a model that gives 5 of 10 after a pause; a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(delay_s, theirs), daemon=True)
    server.start()
    theirs.close()  # if the server fails, `recv` ends with an error
    try:
        yield ours.recv()
    finally:
        ours.send("end")
        server.join(5)


def _serve(delay_s: float, pipe: Any) -> None:
    from tests.judges.model_server import Reply, serving

    answer = json.dumps({"reason": "It is what it is.", "score": 5})
    with serving(Reply(content=answer, delay_s=delay_s)) as server:
        pipe.send(server.url)
        pipe.recv()  # the benchmark has ended


if __name__ == "__main__":
    main()
