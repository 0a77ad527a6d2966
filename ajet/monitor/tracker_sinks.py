"""Sinks for Weights & Biases, SwanLab and Trackio, each through its own library.

All of them get the same: the project, the run folder's name as the run's name, the run id, the
settings without secrets, and every metric with its step. A resumed run continues the tracker's run.
Without an account the metrics stay on this machine.
"""

from __future__ import annotations

import io
import netrc
import os
from collections.abc import Mapping
from contextlib import ExitStack, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ajet.errors import MissingExtraError
from ajet.monitor.sinks import SinkContext
from ajet.service.private_folder import private_folder, short_folder, temporary_files_in

STEP = "step"
"""The metric that is the x axis of all others."""


class WandbSink:
    """Writes to Weights & Biases; offline below `trackers/wandb`, for `wandb sync`.

    Raises:
        MissingExtraError: `wandb` is not installed.
    """

    def __init__(self, context: SinkContext) -> None:
        self._temporary = ExitStack()
        # The library makes temporary folders at import, and its service one with a socket.
        folder = self._temporary.enter_context(private_folder("wandb", short_folder()))
        try:
            with temporary_files_in(folder):
                self._run = _wandb_run(context)
        except ImportError as error:
            raise _missing("wandb", error) from error
        # An x axis of ours: the library's own step cannot go back, but a resumed run does.
        self._run.define_metric(STEP)
        self._run.define_metric("*", step_metric=STEP)

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log one entry with all metrics and the step."""
        self._run.log({**metrics, STEP: step})

    def close(self) -> None:
        """Send what is left, and end the run."""
        self._run.finish()
        self._temporary.close()


def _wandb_run(context: SinkContext) -> Any:
    import wandb

    settings = context.settings
    context.trackers.mkdir(exist_ok=True)
    return wandb.init(
        project=context.config.ajet.project_name,
        name=context.run_folder.name,
        id=context.run_id,
        resume="allow",
        reinit="create_new",
        dir=context.trackers,
        mode=_wandb_mode(settings["mode"]),
        entity=settings["entity"],
        group=settings["group"],
        tags=settings["tags"],
        config=context.shown_config(),
        # The console is the run's own, and only what the settings name leaves this machine.
        settings=wandb.Settings(
            console="off",
            silent=True,
            x_disable_stats=True,
            disable_git=True,
            disable_code=True,
            disable_job_creation=True,
        ),
    )


class SwanLabSink:
    """Writes to SwanLab; on this machine below `trackers/swanlab`.

    Raises:
        MissingExtraError: `swanlab` is not installed.
    """

    def __init__(self, context: SinkContext) -> None:
        try:
            import swanlab
        except ImportError as error:
            raise _missing("swanlab", error) from error
        settings = context.settings
        folder = context.trackers / "swanlab"
        folder.mkdir(parents=True, exist_ok=True)
        with redirect_stdout(io.StringIO()):
            self._run = swanlab.init(
                project=context.config.ajet.project_name,
                name=context.run_folder.name,
                id=context.run_id,
                resume="allow",
                reinit=True,
                log_dir=str(folder),
                mode=_swanlab_mode(settings["mode"]),
                workspace=settings["workspace"],
                tags=settings["tags"],
                config=context.shown_config() | {"run_id": context.run_id},
                settings=swanlab.Settings(
                    interactive=False,
                    terminal=swanlab.Settings.Terminal(proxy_type="none"),
                    probe=swanlab.Settings.Probe(hardware=False, monitor=False, git=False),
                ),
            )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Send what is left, and end the run."""
        with redirect_stdout(io.StringIO()):
            self._run.finish()


class TrackioSink:
    """Writes to Trackio: into its folder on this machine, or to a Hugging Face space.

    Raises:
        MissingExtraError: `trackio` is not installed.
    """

    def __init__(self, context: SinkContext) -> None:
        try:
            import trackio
        except ImportError as error:
            raise _missing("trackio", error) from error
        with redirect_stdout(io.StringIO()):
            self._run: Any = trackio.init(
                project=context.config.ajet.project_name,
                name=context.run_folder.name,
                resume="never" if context.resumed_step is None else "allow",
                config=context.shown_config() | {"run_id": context.run_id},
                space_id=context.settings["space_id"],
                group=context.settings["group"],
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of the step."""
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        """Send what is left, and end the run."""
        with redirect_stdout(io.StringIO()):
            self._run.finish()


def _missing(library: str, error: ImportError) -> ImportError:
    """What to raise: the library is missing, or it is there and cannot be imported."""
    return error if find_spec(library) else MissingExtraError(library, "trackers")


def _wandb_mode(asked: str) -> Any:
    if asked != "auto":
        return asked
    if mode := os.environ.get("WANDB_MODE"):
        return mode
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").partition("://")[2]
    return "online" if os.environ.get("WANDB_API_KEY") or _in_netrc(host) else "offline"


def _swanlab_mode(asked: str) -> Any:
    if asked != "auto":
        return asked
    if mode := os.environ.get("SWANLAB_MODE"):
        return mode
    home = Path(os.environ.get("SWANLAB_SAVE_DIR", Path.home() / ".swanlab"))
    if os.environ.get("SWANLAB_API_KEY") or (home / ".netrc").is_file():
        return "online"
    return "local" if find_spec("swanboard") else "offline"


def _in_netrc(host: str) -> bool:
    """Whether the user's `.netrc` has an entry for the host."""
    try:
        file = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    return host.partition("/")[0] in file.hosts
