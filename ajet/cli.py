"""The command line `ajet`: `train`, which it runs by default, the other commands, exit codes."""

from __future__ import annotations

import json
import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ajet.boundary import guarded_log_handlers
from ajet.commands.agentjet_options import (
    SERVICE_OPTION,
    as_services,
    refuse_forgotten_conf,
    refuse_mistaken,
    tell_without_effect,
    with_services,
)
from ajet.commands.diagnose import check, doctor
from ajet.commands.engine import engine
from ajet.commands.evaluate import evaluate
from ajet.commands.export import export
from ajet.commands.generate import generate
from ajet.commands.import_traces import import_traces
from ajet.commands.init import init
from ajet.commands.judge import judge
from ajet.commands.kill import kill
from ajet.commands.replay import replay
from ajet.commands.serve import chat, serve
from ajet.commands.show import show
from ajet.commands.view import report, view
from ajet.config.backbones import BACKBONES, backbone_entry
from ajet.config.loading.load import load_config
from ajet.debug_point import DEBUG_VARIABLE
from ajet.errors import AjetError, ConfigError
from ajet.launcher.limits import WITHOUT_DOCSTRINGS, limits_named
from ajet.launcher.signals import (
    command_process,
    exit_in_time,
    keep_outcome,
    sigterm_as_ctrl_c,
)
from ajet.monitor.output import log_to_console, steady_output

EXIT_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130

HELP = {"help_option_names": ["-h", "--help"]}


class _Escape(BaseException):  # noqa: N818
    """Carries an error past Typer, which ends on some errors without a word about them."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Commands(TyperGroup):
    """Makes `train` the default subcommand: `ajet --conf x.yaml` is `ajet train --conf x.yaml`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put `train` in front of arguments that name no subcommand."""
        if args[:1] == ["--version"]:
            typer.echo(f"ajet {version('agentjet')}")
            raise typer.Exit
        if not args or args[0] not in {*self.commands, *HELP["help_option_names"]}:
            refuse_mistaken(args, list(self.commands))
            args = ["train", *args]
        if args[0] == "train":
            args = ["train", *as_services(args[1:])]
        if args[0] in self.commands and _takes_conf(self.commands[args[0]]):
            refuse_forgotten_conf(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the subcommand.

        Raises:
            _Escape: it was interrupted, or raised an error that is not for Typer.
        """
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, EOFError, BrokenPipeError) as error:
            raise _Escape(error) from None

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Show the form without and the form with a subcommand."""
        name = ctx.command_path
        formatter.write_usage(name, "--conf FILE [OPTIONS] [KEY.PATH=VALUE]...")
        formatter.write_usage(name, "COMMAND [OPTIONS] [ARGS]...")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Show the options of `train`, then the subcommands."""
        self.commands["train"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


def _takes_conf(command: Any) -> bool:
    return any("--conf" in parameter.opts for parameter in command.params)


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
        with sigterm_as_ctrl_c():
            launch(config, command=sys.argv, resume=resume, ray=ray, with_logview=with_logview)
            keep_outcome()
    except KeyboardInterrupt:
        keep_outcome()
        trains = backbone_entry(config.ajet.backbone).trains
        hint = "; to continue, run the same command with --resume" if trains else ""
        typer.echo(f"interrupted{hint}", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None


app = typer.Typer(
    cls=Commands,
    context_settings=HELP,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=train.__doc__,
)
app.command(context_settings=HELP)(train)
app.command(context_settings=HELP)(init)
app.command(context_settings=HELP)(chat)
app.command(context_settings=HELP)(export)
app.command(context_settings=HELP)(serve)
app.command("eval", context_settings=HELP)(evaluate)
app.command(context_settings=HELP)(engine)
app.command(context_settings=HELP)(kill)
app.command(context_settings=HELP)(replay)
app.command(context_settings=HELP)(judge)
app.command(context_settings=HELP)(doctor)
app.command(context_settings=HELP)(check)
app.command(context_settings=HELP)(generate)
app.command("import-traces", context_settings=HELP)(import_traces)
app.command(context_settings=HELP)(view)
app.command(context_settings=HELP)(report)
app.command(context_settings=HELP)(show)


@app.callback()
def _several() -> None:
    """Exist, so that Typer keeps `train` a subcommand even if it is the only one."""


def main() -> None:
    """Run the command line and exit with its code.

    0: done; 1: the run failed; 2: the configuration is wrong; 130: interrupted by Ctrl-C.
    """
    command_process()
    log_to_console()
    status = EXIT_FAILED
    try:
        with steady_output(is_of_run=False), guarded_log_handlers():
            status = _run()
    except KeyboardInterrupt:  # outside of a run, or another one while the first was answered
        keep_outcome()
        typer.echo("interrupted", err=True)
        status = EXIT_INTERRUPTED
    finally:
        keep_outcome()  # Ctrl-C while the interpreter exits would end it with a signal
        exit_in_time(status)
    sys.exit(status)


def _run() -> int:
    """Run the command line; returns its exit code. An unexpected error comes as it is."""
    try:
        with limits_named():  # also of what is imported before a run begins
            app()
    except _Escape as escape:
        escaped = escape.error
    except AjetError as error:
        hint = f"\n{WITHOUT_DOCSTRINGS}" if sys.flags.optimize > 1 else ""
        for line in dict.fromkeys(f"{error}{hint}".splitlines()):
            typer.secho(f"error: {line}", fg=typer.colors.RED, err=True)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except SystemExit as end:  # how Typer ends, with its own code
        return end.code if isinstance(end.code, int) else 0 if end.code is None else EXIT_FAILED
    else:
        return 0
    raise escaped


if __name__ == "__main__":
    main()
