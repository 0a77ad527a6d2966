"""A training run without model or training: shows what `ajet.monitor` displays and stores.

`python -m tests.unit.fake_run RUN_DIR [--speed 20] [--steps 20] [--resume STEP]`
"""

from __future__ import annotations

import argparse
import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from ajet.config.sections.root import RootConfig
from ajet.monitor.episode_log import EpisodeLog
from ajet.monitor.metrics_log import MetricsLog
from ajet.monitor.output import log_to_console
from ajet.monitor.progress import Progress
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.rollout_store import RolloutStore
from ajet.monitor.sinks import open_sinks
from ajet.monitor.summary import AFTER, BEFORE, print_summary
from ajet.monitor.transcript import Transcript, save_transcript
from tests.unit.monitor_records import eval_metrics, make_episode, train_metrics

logger = logging.getLogger("ajet.fake")


CONFIG = RootConfig.model_validate(
    {
        "ajet": {
            "model": {"path": "ajet:calculator"},
            "rollout": {"user_workflow": "agent.py->Agent"},
            "task_reader": {"type": "random_dummy"},
        }
    }
)


def run_phase(progress: Progress, name: str, total: int, took_s: float) -> None:
    """Advance a phase from another thread, as a rollout does."""
    with progress.phase(name, total=total) as phase:

        def work() -> None:
            for _ in range(total):
                time.sleep(took_s / total)
                phase.advance()

        worker = threading.Thread(target=work, daemon=True)
        worker.start()
        while worker.is_alive():
            worker.join(0.05)


def train(progress: Progress, run_dir: Path, args: argparse.Namespace) -> None:
    """The training loop."""
    metrics_log = MetricsLog(run_dir, resumed_step=args.resume)
    episodes = EpisodeLog(run_dir, resumed_step=args.resume)
    rollouts = RolloutStore(run_dir, resumed_step=args.resume)
    sinks = open_sinks(CONFIG, run_dir, resumed_step=args.resume)
    progress.start(args.steps, args.resume or 0)
    if args.resume is None:
        run_phase(progress, "evaluation", 256, 2.4 / args.speed)
        save_transcript(Transcript.of(make_episode(solved=False)), run_dir, BEFORE)
        metrics_log.write(0, eval_metrics(0))
        progress.step_done(0, eval_metrics(0))
    for step in range((args.resume or 0) + 1, args.steps + 1):
        run_phase(progress, "rollout", 128, 2.0 / args.speed)
        run_phase(progress, "training", 8, 1.8 / args.speed)
        metrics = train_metrics(step)
        if step % 5 == 0:
            run_phase(progress, "evaluation", 256, 2.4 / args.speed)
            metrics |= eval_metrics(step)
        if step == 3:
            logger.warning("2 of 128 episodes failed: workflow_error: division by zero")
            print("a workflow printed this")
        batch = [make_episode(solved=i % 3 > 0, repeat_index=i) for i in range(8)]
        episodes.write(step, "train", batch)
        rollouts.write(step, batch)
        metrics_log.write(step, metrics)
        for sink in sinks:
            sink.write(step, metrics)
        progress.step_done(step, metrics)
    for sink in sinks:
        sink.close()
    save_transcript(Transcript.of(make_episode(solved=True)), run_dir, AFTER)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the loop and print the summary."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--resume", type=int)
    args = parser.parse_args(argv)
    args.run_dir.mkdir(parents=True, exist_ok=True)
    with Progress() as progress:
        log_to_console()
        train(progress, args.run_dir, args)
        draw_reward_curve(args.run_dir)
    print_summary(progress.console, args.run_dir)


if __name__ == "__main__":
    main()
