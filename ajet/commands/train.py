"""`ajet --conf x.yaml`: trains.

Heavy libraries are imported only after the configuration was checked, so that a mistake in it is
reported at once.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ajet.commands.agentjet_options import (
    SERVICE_OPTION,
    tell_without_effect,
    with_services,
)
from ajet.config.backbones import BACKBONES, backbone_entry
from ajet.config.loading.load import load_config
from ajet.debug_point import DEBUG_VARIABLE
from ajet.errors import ConfigError

EXIT_INTERRUPTED = 130


def train(
    conf: Annotated[Path, typer.Option(help="The YAML file.", show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the file's."),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help=f"What trains: {', '.join(BACKBONES)}, or a function of yours."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same as trainer_common.seed=N.")] = None,
    exp_dir: Annotated[
        str | None,
        typer.Option(
            help="Folder in which run folders are made; with --resume, also the folder of one run."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the latest run of this name.")
    ] = False,
    debug: Annotated[
        str | None,
        typer.Option(
            "--debug", "--db", metavar="TAG[,TAG]", help='Stop at bp("TAG") in your code.'
        ),
    ] = None,
    with_ray: Annotated[
        bool, typer.Option("--with-ray", help="Start a Ray for this run; it ends with the run.")
    ] = False,
    ray_num_gpus: Annotated[
        int | None,
        typer.Option(min=0, help="Logical GPUs of the Ray of --with-ray; they need no hardware."),
    ] = None,
    with_ray_cluster: Annotated[
        bool, typer.Option("--with-ray-cluster", help="Join a Ray that is already running.")
    ] = False,
    ray_address: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Address of the Ray to join; by default RAY_ADDRESS."
        ),
    ] = None,
    with_logview: Annotated[
        bool, typer.Option("--with-logview", help="Show the run in the browser while it trains.")
    ] = False,
    with_service: Annotated[
        list[str] | None,
        typer.Option(
            SERVICE_OPTION,
            metavar="NAME",
            help="Start the service of NAME_PATH and NAME_SCRIPT; also written --with-NAME.",
        ),
    ] = None,
    skip_check_avail_gpu: Annotated[
        bool, typer.Option("--skip-check-avail-gpu", hidden=True)
    ] = False,
    prefix: Annotated[str | None, typer.Option("--prefix", hidden=True)] = None,
) -> None:
    """Train the model behind an agent.

    Example: ajet --conf tutorial/example_math_agent/math_agent_cpu.yaml rollout.num_repeat=4
    """
    flags = {"backbone": backbone, "trainer_common.seed": seed, "experiment_dir": exp_dir}
    given = [f"ajet.{key}={json.dumps(value)}" for key, value in flags.items() if value is not None]
    config = load_config(conf, [*(overrides or []), *given])
    config = with_services(config, with_service or [])
    tell_without_effect(skip_check=skip_check_avail_gpu, prefix=prefix)
    if with_ray and with_ray_cluster:
        raise ConfigError(
            "--with-ray starts a Ray and --with-ray-cluster joins one; give only one of them"
        )
    if ray_num_gpus is not None and not with_ray:
        raise ConfigError("--ray-num-gpus needs --with-ray")
    if ray_address and not with_ray_cluster:
        raise ConfigError("--ray-address needs --with-ray-cluster")
    if debug:
        os.environ[DEBUG_VARIABLE] = debug
    from ajet.launcher.launch import launch
    from ajet.launcher.ray_choice import RayChoice

    ray = RayChoice(own=with_ray, num_gpus=ray_num_gpus, join=with_ray_cluster, address=ray_address)
    try:
        launch(config, command=sys.argv, resume=resume, ray=ray, with_logview=with_logview)
    except KeyboardInterrupt:
        trains = backbone_entry(config.ajet.backbone).trains
        hint = "; to continue, run the same command with --resume" if trains else ""
        typer.echo(f"interrupted{hint}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
