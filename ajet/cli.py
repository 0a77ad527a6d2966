"""The command line `ajet` and its exit codes."""

from __future__ import annotations

import sys
from importlib.metadata import version
from typing import Any

import typer
from typer.core import TyperGroup

from ajet.commands.agentjet_options import as_services, refuse_mistaken
from ajet.commands.diagnose import check, doctor
from ajet.commands.engine import engine
from ajet.commands.init import init
from ajet.commands.kill import kill
from ajet.commands.replay import replay
from ajet.commands.train import train
from ajet.commands.view import report, view
from ajet.errors import AjetError, ConfigError
from ajet.launcher.logs import log_to_console
from ajet.launcher.signals import exit_in_time
from ajet.monitor.terminal import steady_output

EXIT_FAILED, EXIT_USAGE = 1, 2

HELP = {"help_option_names": ["-h", "--help"]}


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
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """Show the form without and the form with a subcommand."""
        name = ctx.command_path
        formatter.write_usage(name, "--conf FILE [OPTIONS] [KEY.PATH=VALUE]...")
        formatter.write_usage(name, "COMMAND [OPTIONS] [ARGS]...")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Show the options of `train`, then the subcommands."""
        self.commands["train"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


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
app.command(context_settings=HELP)(engine)
app.command(context_settings=HELP)(kill)
app.command(context_settings=HELP)(replay)
app.command(context_settings=HELP)(doctor)
app.command(context_settings=HELP)(check)
app.command(context_settings=HELP)(view)
app.command(context_settings=HELP)(report)


@app.callback()
def _several() -> None:
    """Exist, so that Typer keeps `train` a subcommand even if it is the only one."""


def main() -> None:
    """Run the command line and exit with its code.

    0: done; 1: the run failed; 2: the configuration is wrong; 130: interrupted by Ctrl-C.
    """
    log_to_console()
    status = EXIT_FAILED
    try:
        with steady_output():
            status = _run()
    finally:
        exit_in_time(status)
    sys.exit(status)


def _run() -> int:
    """Run the command line; returns its exit code. An unexpected error comes as it is."""
    try:
        app()
    except AjetError as error:
        for line in str(error).splitlines():
            typer.secho(f"error: {line}", fg=typer.colors.RED, err=True)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except SystemExit as end:  # how Typer ends, with its own code
        return end.code if isinstance(end.code, int) else 0 if end.code is None else EXIT_FAILED
    return 0


if __name__ == "__main__":
    main()
