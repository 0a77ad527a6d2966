"""`ajet kill RUN`: ends the processes that a run recorded in its `run.json`, and no others."""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError
from ajet.launcher.ray_cluster import folder_for_ray
from ajet.monitor.run_record import FILE_NAME, is_running, read_processes
from ajet.service.left_behind import end_all
from ajet.service.private_folder import remove_left_behind
from ajet.service.probes import start_ticks

EXIT_STILL_RUNNING = 1
_PATIENCE_S = 10.0
_KILLED_S = 10.0
"""How long to wait after SIGKILL."""
_POLL_S = 0.1


def kill(
    run: Annotated[
        str, typer.Argument(help="The folder or the name of a run.", show_default=False)
    ],
    exp_dir: Annotated[Path, typer.Option(help="Folder in which run folders are made.")] = Path(
        AjetConfig.model_fields["experiment_dir"].default
    ),
    patience_s: Annotated[
        float, typer.Option(help="Seconds that the run may take to save its checkpoint.")
    ] = 60.0,
) -> None:
    """End a run and the services that it started.

    The run ends as after Ctrl-C: it saves a checkpoint first. Processes that do not end in time
    are killed. Only processes whose pid and start time are in run.json are touched, and those with
    the id of one of its services in their environment. Private folders that killed runs left in
    the temporary folder are removed.
    """
    folder = _run_folder(run, exp_dir)
    running = [process for process in read_processes(folder) if process["outcome"] == "running"]
    have_ended = [_end_run(folder, process, patience_s) for process in running]
    for process in read_processes(folder):
        if process["host"] == platform.node():
            have_ended += map(_end_service, process.get("services", []))
    for parent in {Path(tempfile.gettempdir()), folder_for_ray()}:
        remove_left_behind(parent)
    if not all(have_ended) or not _release_environments(folder):
        raise typer.Exit(EXIT_STILL_RUNNING)
    typer.echo(f"no process of {folder} is running")


def _run_folder(run: str, exp_dir: Path) -> Path:
    tried = [Path(run).expanduser(), exp_dir.expanduser() / run]
    for folder in tried:
        if (folder / FILE_NAME).is_file():
            return folder
    places = " and ".join(str(folder / FILE_NAME) for folder in tried)
    raise ConfigError(f'there is no run "{run}"; looked for {places}')


def _release_environments(folder: Path) -> bool:
    """Release the environment instances that the run left open; whether none is left."""
    from ajet.environment.left_open import release_left_open  # brings an HTTP client

    released = release_left_open(folder)
    if released.num_released:
        typer.echo(
            f"environment instances of the run that are released now: {released.num_released}"
        )
    for problem in released.problems:
        typer.echo(problem, err=True)
    return not released.problems


def _say_not_ended(what: str, why: str) -> bool:
    typer.echo(f"{what} is not ended: {why}", err=True)
    return False


def _end_run(folder: Path, process: dict[str, Any], patience_s: float) -> bool:
    """End the run's own process; return whether it is known to have ended."""
    pid = process["pid"]
    if process["host"] != platform.node():
        return _say_not_ended(f"process {pid}", f"it is on {process['host']}; run ajet kill there")
    if process["start_ticks"] is None:
        why = "run.json has no start time for it; check by hand which program it is"
        return _say_not_ended(f"process {pid}", why)

    def runs() -> bool:
        # Read anew each time: the process of a notebook lives on when the run in it has ended.
        return any(entry["pid"] == pid and is_running(entry) for entry in read_processes(folder))

    def is_there() -> bool:
        return bool(start_ticks(pid) == process["start_ticks"])

    # Like a second Ctrl-C, the second SIGTERM interrupts even an update of the weights.
    steps = [(signal.SIGTERM, patience_s), (signal.SIGTERM, _PATIENCE_S)]
    what = f"the run's process {pid}"
    has_ended = _end(what, runs, partial(os.kill, pid), steps)
    if has_ended and not _waited(lambda: not is_there(), _PATIENCE_S):
        typer.echo(f"{what} has ended the run and continues with something else")
    return has_ended


def _end_service(service: dict[str, Any]) -> bool:
    """End a service that outlived its run; return whether it has ended."""
    pid, ticks = service["pid"], service["start_ticks"]

    def runs() -> bool:
        return ticks is not None and start_ticks(pid) == ticks

    what = f"the service {service['name']}, process {pid},"
    # A service leads a process group, so that the processes it started get the signal as well.
    send = partial(os.killpg, pid)
    if not _end(what, runs, send, [(signal.SIGTERM, _PATIENCE_S)]):
        return False
    # Runs of earlier versions have no id of their services.
    if number := end_all(service["service_id"], _PATIENCE_S) if "service_id" in service else 0:
        typer.echo(f"processes that the service {service['name']} left behind, now ended: {number}")
    return True


def _end(
    what: str,
    runs: Callable[[], bool],
    send: Callable[[signal.Signals], None],
    steps: Sequence[tuple[signal.Signals, float]],
) -> bool:
    """Send each signal and wait for so long, SIGKILL last; return whether the process has ended."""
    # The pid could belong to another process by the time the signal is sent. That cannot happen in
    # practice: the system uses all other pids before it uses a pid again.
    for number, seconds in [*steps, (signal.SIGKILL, _KILLED_S)]:
        if not runs():
            return True
        typer.echo(f"sending {number.name} to {what.rstrip(',')}")
        with contextlib.suppress(ProcessLookupError):
            send(number)
        if _waited(lambda: not runs(), seconds):
            typer.echo(f"{what} has ended")
            return True
    typer.echo(f"{what} is still running", err=True)
    return False


def _waited(is_so: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition becomes true within that time."""
    deadline = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True
