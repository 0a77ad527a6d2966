"""Starts a Ray cluster for a run, or connects the run to an existing one.

Both only set environment variables that Ray itself reads. So every `ray.init()` in the run and in
its child processes finds this cluster, and this module never imports Ray.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ajet.debug_point import DEBUG_VARIABLE
from ajet.errors import ConfigError, ServiceError
from ajet.monitor.run_record import service_recorder
from ajet.service.private_folder import private_folder, short_folder
from ajet.service.probes import free_ports, listens
from ajet.service.service import Service

logger = logging.getLogger(__name__)

RayContext = Callable[[Path], AbstractContextManager[None]]
"""`ray_context(run_folder)`: a context in which the cluster is running, entered around the
backbone."""

_READY = "Ray runtime started"
_START_TIMEOUT_S = 120.0
_PATIENCE_S = 5.0
_LONGEST_TEMPORARY = 20
"""Bytes. Sockets add up to 86: `/ajet-ray-12345678/ray/session_...PID/sockets/plasma_store`."""
_PORTS = (
    "ray-client-server",
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "metrics-export",
    "runtime-env-agent",
)
"""Ports for which Ray has fixed defaults, besides the main port. Two clusters on one machine would
collide on them, so each cluster gets free ones."""
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind to loopback on every system
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # no other node could take over the work
}


@dataclass(slots=True, kw_only=True, frozen=True)
class RaySize:
    """Logical resources, which need no hardware; None: as many as the machine has."""

    num_gpus: int | None = None
    num_cpus: int | None = None


@contextmanager
def own_ray(size: RaySize = RaySize()) -> Iterator[RayContext]:  # noqa: B008
    """Prepare a Ray cluster that is started for this run and ends with it.

    The cluster has its own ports on the loopback device, its own token and its own files. It is
    never ended by `ray stop`, which would also end other clusters. Entering this context only sets
    the environment variables; entering the context that it returns starts the cluster. Enter this
    one before user code imports Ray, because Ray reads the variables at import.

    Raises:
        ConfigError: Ray has already been imported.
    """
    if "ray" in sys.modules:
        raise ConfigError(
            "Ray was imported before the run started its own cluster, so it would not find that "
            "cluster; import ray inside your workflow, not before the run starts"
        )
    with ExitStack() as stack:
        home = stack.enter_context(private_folder("ray", folder_for_ray()))
        # Sockets and lock files of vLLM, verl and Trinity, which do not remove them.
        temporary = stack.enter_context(private_folder("tmp", short_folder()))
        port, *ports = free_ports(1 + len(_PORTS))
        variables = {
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "token"),
            "RAY_DEBUG": _debugger(),
        }
        (home / "token").write_text(secrets.token_hex(32), encoding="ascii")
        # Without the second one, vLLM's sockets are made in TMPDIR.
        removed = {"RAY_AUTH_TOKEN": None, "VLLM_RPC_BASE_PATH": None}
        stack.enter_context(_environment({**variables, **_LOCAL, **removed}))
        stack.callback(_disconnect)
        command = _command(home / "ray", port, ports, size)
        yield partial(_running, home, command, variables, {"TMPDIR": str(temporary)})


def folder_for_ray() -> Path:
    """The parent of Ray's folder: its path is short, as the names of Ray's sockets are long."""
    return short_folder(_LONGEST_TEMPORARY)


@contextmanager
def joined_ray(address: str | None) -> Iterator[RayContext]:
    """Connect the run to an existing Ray cluster, which is left running.

    Args:
        address: `HOST:PORT` or `ray://HOST:PORT`; None: the value of RAY_ADDRESS.

    Raises:
        ConfigError: there is no address, or it is malformed.
        ServiceError: no process listens at the address.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError("--with-ray-cluster needs --ray-address or the variable RAY_ADDRESS")
    match = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if not match:
        raise ConfigError(f'the address of the Ray cluster: got "{address}", expected HOST:PORT')
    if not listens(match[1], int(match[2])):
        raise ServiceError(f"there is no Ray at {address}; --with-ray starts one")
    variables = {"RAY_ADDRESS": address}
    if tags := os.environ.get(DEBUG_VARIABLE):
        # Workers of an existing cluster do not inherit our environment; Ray hands this to them.
        for_workers = {DEBUG_VARIABLE: tags, "RAY_DEBUG": _debugger()}
        variables |= {
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": for_workers}}),
            "RAY_DEBUG": _debugger(),
        }
    with _environment(variables):
        yield partial(_joined, address)


@contextmanager
def _running(
    home: Path,
    command: list[str],
    variables: Mapping[str, str],
    of_its_processes: Mapping[str, str],
    run_folder: Path,
) -> Iterator[None]:
    service = Service(
        "Ray",
        command,
        env=of_its_processes,
        log=run_folder / "logs" / "ray.log",
        on_started=service_recorder(run_folder),
    )
    try:
        service.start()
        service.wait_until(lambda: _READY in service.log_tail(100), _START_TIMEOUT_S)
        from_outside = " ".join(f"{name}={value}" for name, value in variables.items())
        logger.info("Ray is ready; from another terminal:  %s ray status", from_outside)
        yield
    finally:
        _disconnect()  # first: when a cluster ends, Ray ends every process connected to it
        service.stop(_PATIENCE_S)
        _keep_logs(home / "ray", run_folder / "logs" / "ray")  # complete only now


@contextmanager
def _joined(address: str, run_folder: Path) -> Iterator[None]:
    logger.info("Ray: %s", address)
    yield


def _command(files: Path, port: int, ports: list[int], size: RaySize) -> list[str]:
    options = {
        "temp-dir": str(files),
        "node-ip-address": "127.0.0.1",
        "port": port,
        **{f"{name}-port": number for name, number in zip(_PORTS, ports, strict=True)},
        "min-worker-port": 0,  # the workers take any free port
        "max-worker-port": 0,
        "include-dashboard": "false",
    }
    for name, number in (("num-gpus", size.num_gpus), ("num-cpus", size.num_cpus)):
        if number is not None:
            options[name] = number
    return [
        *(sys.executable, "-m", "ray.scripts.scripts"),
        *("start", "--head", "--block", "--disable-usage-stats"),
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def _debugger() -> str:
    # Ray's default debugger needs debugpy, and without it skips every breakpoint.
    return os.environ.get("RAY_DEBUG", "legacy")


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set environment variables until the block is left; None removes a variable."""
    before = {name: os.environ.get(name) for name in variables}
    _set(variables)
    try:
        yield
    finally:
        _set(before)


def _set(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _disconnect() -> None:
    """Disconnect this process from Ray, if it is connected."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def _keep_logs(files: Path, logs: Path) -> None:
    """Copy Ray's own log files into the run folder."""
    session = files / "session_latest" / "logs"
    if session.is_dir():
        try:
            shutil.copytree(session, logs, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        except OSError as error:
            logger.warning("not all of Ray's log files could be kept: %s", error)
