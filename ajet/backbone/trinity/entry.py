"""The Trinity backbone: rollout and training side by side, with Trinity-RFT's own machinery."""

from __future__ import annotations

import os
import uuid
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from ajet.backbone.checkpoints import latest_checkpoint
from ajet.backbone.trinity.refusals import refuse
from ajet.config.root import AjetConfig, RootConfig
from ajet.errors import MissingExtraError, TrainingError
from ajet.monitor.progress import Progress
from ajet.monitor.reward_curve import draw_reward_curve
from ajet.monitor.summary import print_summary


def run(config: RootConfig, run_folder: Path, resume: bool) -> None:
    """Train to the end and show what came of it.

    Raises:
        AjetError: the run cannot start or cannot go on.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    refuse(config.ajet)
    for library in ("trinity", "vllm"):
        if not find_spec(library):
            raise MissingExtraError(library, "trinity")
    device = _device(config.ajet.model.device)
    _set_environment(config.ajet, device)
    from ajet.backbone.trinity.run import follow

    with Progress() as progress:
        plan, data = _plan(config, run_folder, device, resume)
        try:
            follow(plan, data, progress, resume=resume)
        except OSError as error:
            raise TrainingError(f"{run_folder}: the run cannot go on: {error}") from error
        draw_reward_curve(run_folder)
        print_summary(progress.console, run_folder)
