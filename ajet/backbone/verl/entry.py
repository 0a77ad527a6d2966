"""Entry point of the verl backbone: the shared training loop on verl's trainer and replicas."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from rich.console import Console

from ajet.backbone.ray_common.output import redirect_output
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.monitor.progress import Progress
from ajet.training.checkpoints import latest_checkpoint, read_position
from ajet.training.episodes import open_http_endpoint
from ajet.training.inputs import RunInputs
from ajet.training.model_folder import device_of, model_folder
from ajet.training.run import make_loop

EXTERNAL_MODULES = "VERL_USE_EXTERNAL_MODULES"
"""Environment variable: modules that verl imports in each of its processes."""
WEIGHT_SOCKETS = "ajet.backbone.verl.weight_sockets"


def run(config: RootConfig, run_folder: Path, resume: bool, inputs: RunInputs) -> None:
    """Train to the last step, then draw the reward curve and print the summary.

    Raises:
        AjetError: the run cannot start or cannot continue.
        KeyboardInterrupt: Ctrl-C, after a checkpoint was written.
    """
    ajet = config.ajet
    device = device_of(ajet.model.device)
    _set_environment(ajet, device)
    log = run_folder / "logs" / "verl.log"
    with redirect_output(log):
        from ajet.backbone.verl.starting import VerlRunContext, started

    # With the file bound here, progress stays visible while verl's output is redirected.
    console = Console(file=sys.stdout)
    with Progress(console) as progress, closing(open_http_endpoint(ajet)) as http_endpoint:
        newest = latest_checkpoint(run_folder / "checkpoints") if resume else None
        context = VerlRunContext(
            config=config,
            run_folder=run_folder,
            model_folder=model_folder(ajet.model.path),
            device=device,
            total_steps=inputs.data.total_steps,
            checkpoint=newest,
            position=read_position(newest) if newest else None,
        )
        with started(context, progress) as policy:
            loop = make_loop(
                config,
                run_folder,
                inputs,
                policy,
                resume=resume,
                position=context.position,
                progress=progress,
                http_endpoint=http_endpoint,
            )
            loop.run_to_the_end()


def _set_environment(ajet: AjetConfig, device: str) -> None:
    """Set variables that verl reads at import, in this process and in Ray's workers."""
    os.environ["TRANSFER_QUEUE_ENABLE"] = "1"
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    modules = os.environ.get(EXTERNAL_MODULES, "")
    if WEIGHT_SOCKETS not in modules.split(","):
        os.environ[EXTERNAL_MODULES] = ",".join(filter(None, [WEIGHT_SOCKETS, modules]))
    if device == "cpu":
        from ajet.backbone.verl.cpu.settings import environment

        settings = ajet.rollout.vllm
        os.environ.update(
            environment(
                kv_cache_gb=settings.kv_cache_gb,
                num_threads=ajet.model.torch_num_threads,
                given=os.environ[EXTERNAL_MODULES],
            )
        )
