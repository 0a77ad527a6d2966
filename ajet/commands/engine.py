"""`ajet engine start|status|stop`: an engine that keeps running between debug runs."""

from __future__ import annotations

import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ajet.errors import ConfigError


class Action(StrEnum):
    START = "start"
    STATUS = "status"
    STOP = "stop"


def engine(
    action: Annotated[Action, typer.Argument(show_default=False)],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY.PATH=VALUE]...", help="Settings that replace the file's."),
    ] = None,
    conf: Annotated[
        Path | None, typer.Option(help="The YAML file that names the model and the engine.")
    ] = None,
    idle_s: Annotated[
        float, typer.Option(min=1, help="Seconds without a request after which the engine ends.")
    ] = 1800.0,
) -> None:
    """Keep a model loaded between debug runs.

    `start` loads the model of a YAML file into the engine that rollout.name selects. `stop` ends
    the engine of a YAML file, or all engines without --conf. `status` lists the running engines.
    `ajet --backbone=debug` uses a running engine by itself.
    """
    if action == Action.STATUS:
        _status()
    elif action == Action.STOP:
        _stop(conf, overrides or [])
    elif conf is None:
        raise ConfigError("ajet engine start needs --conf FILE, which names the model")
    else:
        _start(conf, overrides or [], idle_s)


def _start(conf: Path, overrides: list[str], idle_s: float) -> None:
    from ajet.config.loading.load import load_config

    ajet = load_config(conf, overrides).ajet
    from ajet.backbone.debug.warm_engine.control import start_warm

    started_s, shown_s = time.monotonic(), -1
    is_terminal = sys.stdout.isatty()

    def tell(log: Path) -> None:
        nonlocal shown_s
        passed_s = int(time.monotonic() - started_s)
        if shown_s < 0:
            typer.echo(f"loading {ajet.model.path} ({ajet.rollout.name}); log: {log}")
        elif passed_s > shown_s and is_terminal:
            typer.echo(f"\r{passed_s} s ", nl=False)
        shown_s = passed_s

    warm, is_new = start_warm(ajet, idle_s, tell)
    took = f"ready after {time.monotonic() - started_s:.1f} s" if is_new else "already running"
    begin = "\r" if is_terminal else ""
    typer.echo(f"{begin}{took}: {warm.model} ({warm.engine}), process {warm.pid}, {warm.url}")
    typer.echo(f"it ends after {warm.idle_s:g} s without a request; to end it: ajet engine stop")


def _status() -> None:
    from ajet.backbone.debug.warm_engine.registry import warm_engines

    engines = warm_engines()
    if not engines:
        typer.echo("no warm engine is running; to start one: ajet engine start --conf FILE")
    now = time.time()
    for path, warm in engines:
        idle_s = now - path.stat().st_mtime
        typer.echo(
            f"{warm.model} ({warm.engine}): process {warm.pid}, {warm.url}, running for "
            f"{_duration(now - warm.started_s)}, idle for {_duration(idle_s)} (it ends at "
            f"{_duration(warm.idle_s)})"
        )


def _stop(conf: Path | None, overrides: list[str]) -> None:
    from ajet.backbone.debug.warm_engine.control import stop_warm
    from ajet.backbone.debug.warm_engine.registry import state_path, warm_engines

    engines = warm_engines()
    if conf is not None:
        from ajet.config.loading.load import load_config
        from ajet.training.model_folder import model_folder

        ajet = load_config(conf, overrides).ajet
        wanted = state_path(ajet, model_folder(ajet.model.path))
        engines = [entry for entry in engines if entry[0] == wanted]
    if not engines:
        typer.echo("no such engine is running" if conf else "no warm engine is running")
    for path, warm in engines:
        stop_warm(path, warm)
        typer.echo(f"stopped: {warm.model} ({warm.engine}), process {warm.pid}")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min" if minutes else f"{rest} s"
