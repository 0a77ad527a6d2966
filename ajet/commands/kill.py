"""`ajet kill RUN`: ends what a run recorded in its `run.json`, and nothing else."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError
from ajet.monitor.run_record import FILE_NAME, is_running, read_processes
from ajet.service.process import start_ticks

EXIT_STILL_RUNNING = 1
_PATIENCE_S = 10.0
_POLL_S = 0.1


def kill(
    run: Annotated[str, typer.Argument(help="A run's folder, or its name.", show_default=False)],
    exp_dir: Annotated[Path, typer.Option(help="Where run folders are kept.")] = Path(
        AjetConfig.model_fields["experiment_dir"].default
    ),
    patience_s: Annotated[
        float, typer.Option(help="Seconds that the run may take to write its checkpoint.")
    ] = 60.0,
) -> None:
    """End a run, and the services that it started.

    The run is asked as with Ctrl-C, so that it writes a checkpoint; what does not end in time is
    killed. Only a process with a pid and start time that run.json has is touched.
    """
    folder = _run_folder(run, exp_dir)
    running = [process for process in read_processes(folder) if process["outcome"] == "running"]
    have_ended = [_end_run(folder, process, patience_s) for process in running]
    for process in read_processes(folder):
        if process["host"] == platform.node():
            have_ended += map(_end_service, process.get("services", []))
    if not all(have_ended):
        raise typer.Exit(EXIT_STILL_RUNNING)
    typer.echo(f"nothing of {folder} is running")


def _run_folder(run: str, exp_dir: Path) -> Path:
    tried = [Path(run).expanduser(), exp_dir.expanduser() / run]
    for folder in tried:
        if (folder / FILE_NAME).is_file():
            return folder
    places = " and ".join(str(folder / FILE_NAME) for folder in tried)
    raise ConfigError(f'there is no run "{run}"; looked for {places}')


def _end_run(folder: Path, process: dict[str, Any], patience_s: float) -> bool:
    """End the run's own process; whether it is known to have ended."""
    pid = process["pid"]
    if process["host"] != platform.node():
        typer.echo(f"process {pid} is on {process['host']}: run  ajet kill  there", err=True)
        return False
    if process["start_ticks"] is None:
        typer.echo(f"process {pid} was recorded without its start time: see yourself", err=True)
        return False

    def runs() -> bool:
        """As the file says now: a notebook's process stays when the run in it has ended."""
        return any(entry["pid"] == pid and is_running(entry) for entry in read_processes(folder))

    def is_there() -> bool:
        return bool(start_ticks(pid) == process["start_ticks"])

    # The second SIGTERM, like the second Ctrl-C, does not wait for the end of an update.
    steps = [(signal.SIGTERM, patience_s), (signal.SIGTERM, _PATIENCE_S)]
    what = f"the run's process {pid}"
    has_ended = _end(what, runs, partial(os.kill, pid), steps)
    if has_ended and not _waited(lambda: not is_there(), _PATIENCE_S):
        typer.echo(f"{what} has ended the run, and goes on with something else")
    return has_ended


def _end_service(service: dict[str, Any]) -> bool:
    """End a service that outlived its run; whether it has ended."""
    pid, ticks = service["pid"], service["start_ticks"]

    def runs() -> bool:
        return ticks is not None and start_ticks(pid) == ticks

    what = f"the service {service['name']}, process {pid},"
    send = partial(os.killpg, pid)  # it leads its process group
    return _end(what, runs, send, [(signal.SIGTERM, _PATIENCE_S)])


def _end(
    what: str,
    runs: Callable[[], bool],
    send: Callable[[signal.Signals], None],
    steps: Sequence[tuple[signal.Signals, float]],
) -> bool:
    """Send each signal and give it its time, SIGKILL last; whether it has ended.

    Between the look at the start time and the signal the pid cannot go to another process: pids
    are given out in turn.
    """
    for number, seconds in [*steps, (signal.SIGKILL, _PATIENCE_S)]:
        if not runs():
            return True
        typer.echo(f"{what} gets {number.name}")
        with contextlib.suppress(ProcessLookupError):
            send(number)
        if _waited(lambda: not runs(), seconds):
            typer.echo(f"{what} has ended")
            return True
    typer.echo(f"{what} is still there", err=True)
    return False


def _waited(is_so: Callable[[], bool], seconds: float) -> bool:
    """Whether it becomes so within that time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
