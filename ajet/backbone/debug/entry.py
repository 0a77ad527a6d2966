"""Entry of the debug backbone: runs the workflow on the first tasks in the main thread."""

from __future__ import annotations

import logging
import math
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from ajet.algorithm.credit import credit_rule
from ajet.backbone.debug.engines import open_model
from ajet.backbone.debug.session import DebugSession
from ajet.config.sections.root import RootConfig
from ajet.errors import EpisodeError
from ajet.monitor.episode_log import EpisodeLog
from ajet.monitor.progress import Progress
from ajet.training.episodes import make_runner, open_http_endpoint
from ajet.training.inputs import RunInputs
from ajet.training.no_gradient import require_trained_calls
from ajet.training.quiet_watch import QuietWatch

logger = logging.getLogger(__name__)


def run(config: RootConfig, run_folder: Path, resume: bool, inputs: RunInputs) -> None:
    """Run the first tasks, show their episodes and warn of what training would not like.

    Raises:
        AjetError: the run cannot start, or an episode failed.
        KeyboardInterrupt: Ctrl-C, or `q` in the debugger.
    """
    ajet = config.ajet
    tasks = inputs.data.batches.tasks[: ajet.debug.num_tasks]
    console = Console(file=sys.stdout, highlight=False)
    with closing(open_http_endpoint(ajet)) as http_endpoint, open_model(ajet) as model:
        logger.info("engine: %s", model.title)
        runner = make_runner(
            config, model.chat_format, model.engine, http_endpoint, inputs.code, run_folder
        )
        gateway = replace(
            runner.gateway, call_timeout_s=math.inf, make_upstream=model.make_upstream
        )
        session = DebugSession(
            runner=replace(runner, gateway=gateway),
            console=console,
            seed=ajet.trainer_common.seed,
            num_repeat=ajet.debug.num_repeat,
            credit=credit_rule(ajet.trainer_common.algorithm.adv_estimator),
        )
        try:
            with QuietWatch(run_folder, Progress(console), session.waiting):
                session.run(tasks)
        finally:
            _record(session, run_folder)
    _sum_up(session, run_folder)


def _record(session: DebugSession, run_folder: Path) -> None:
    # Imported late: pyarrow would delay the first line of the workflow.
    from ajet.monitor.rollout_store import RolloutStore

    EpisodeLog(run_folder).write(1, "train", session.episodes)
    RolloutStore(run_folder).write(1, session.episodes)


def _sum_up(session: DebugSession, run_folder: Path) -> None:
    """Print the last line: numbers of tasks, episodes, failures and problems.

    Raises:
        EpisodeError: with that line, where an episode failed.
        TrainingError: no call would be trained; says why.
    """
    episodes = session.episodes
    failed = sum(episode.failure is not None for episode in episodes)
    line = (
        f"{_number(len(session.groups), 'task')}, {_number(len(episodes), 'episode')}: "
        f"{failed or 'none'} failed, {_number(session.num_problems, 'problem')}; "
        f"all of it is in {run_folder}"
    )
    if failed:
        raise EpisodeError(line)
    session.console.print()
    session.console.print(line, style="bold", soft_wrap=True, markup=False)
    if not session.runner.gateway.make_upstream:  # a URL's answers are never trained
        require_trained_calls(session.groups)


def _number(count: int, noun: str) -> str:
    return f"{count or 'no'} {noun}{'s' * (count != 1)}"
