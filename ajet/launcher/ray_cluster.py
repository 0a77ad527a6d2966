"""Ray around a run: one of our own, or one that is there already.

Ray is found through the environment, as Ray itself does it, so that every `ray.init()` in the run
and in its children gets this cluster. Ray is not imported here.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ajet.debug_point import DEBUG_VARIABLE
from ajet.errors import ConfigError, ServiceError
from ajet.monitor.run_record import service_recorder
from ajet.service.readiness import free_ports, listens
from ajet.service.service import Service

logger = logging.getLogger(__name__)

RayContext = Callable[[Path], AbstractContextManager[None]]
"""`surroundings(run_folder)`: what is around the backbone."""

_READY = "Ray runtime started"
_START_TIMEOUT_S = 120.0
_PATIENCE_S = 5.0
_PORTS = (
    "ray-client-server",
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "metrics-export",
    "runtime-env-agent",
)
"""Those that Ray does not choose itself, beside the main one: two clusters would collide."""
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: loopback only
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # there is no other node to move work to
}


@dataclass(slots=True, kw_only=True, frozen=True)
class RaySize:
    """Logical resources, which need no hardware; None is what the machine has."""

    num_gpus: int | None = None
    num_cpus: int | None = None


@contextmanager
def own_ray(size: RaySize = RaySize()) -> Iterator[RayContext]:  # noqa: B008
    """A Ray that is started for this run and ends with it.

    It has its own ports, on the loopback device only, its own token, and its own files; `ray stop`
    is never used, so that no other Ray is touched. The environment says where it is from now on,
    until the block is left: enter it before user code imports Ray, which reads that once.

    Raises:
        ConfigError: Ray is imported already.
    """
    if "ray" in sys.modules:
        raise ConfigError(
            "a Ray for this run: Ray is imported already, and would not look for this one"
        )
    with ExitStack() as stack:
        # In /tmp: below it Ray makes unix sockets, whose paths may have 107 bytes.
        home = Path(tempfile.mkdtemp(prefix="ajet-ray-", dir="/tmp"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        port, *ports = free_ports(1 + len(_PORTS))
        variables = {
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(home / "token"),
            "RAY_DEBUG": _debugger(),
        }
        (home / "token").write_text(secrets.token_hex(32), encoding="ascii")
        stack.enter_context(_environment({**variables, **_LOCAL, "RAY_AUTH_TOKEN": None}))
        stack.callback(_disconnect)
        yield partial(_running, home, _command(home / "ray", port, ports, size), variables)


@contextmanager
def joined_ray(address: str | None) -> Iterator[RayContext]:
    """A Ray that is there already; it is left as it is.

    Args:
        address: `HOST:PORT`, or `ray://HOST:PORT`; None is what RAY_ADDRESS says.

    Raises:
        ConfigError: no address.
        ServiceError: nothing is there.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError("--with-ray-cluster: where? Give --ray-address, or set RAY_ADDRESS")
    match = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if not match:
        raise ConfigError(f'the address of a Ray: got "{address}", expected HOST:PORT')
    if not listens(match[1], int(match[2])):
        raise ServiceError(f"there is no Ray at {address}; --with-ray starts one")
    variables = {"RAY_ADDRESS": address}
    if tags := os.environ.get(DEBUG_VARIABLE):  # a worker there does not have our environment
        for_workers = {DEBUG_VARIABLE: tags, "RAY_DEBUG": _debugger()}
        variables |= {
            "RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps({"runtime_env": {"env_vars": for_workers}}),
            "RAY_DEBUG": _debugger(),
        }
    with _environment(variables):
        yield partial(_joined, address)


@contextmanager
def _running(
    home: Path, command: list[str], variables: Mapping[str, str], run_folder: Path
) -> Iterator[None]:
    service = Service(
        "Ray",
        command,
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
        _disconnect()
        service.stop(_PATIENCE_S)
        _keep_logs(home / "ray", run_folder / "logs" / "ray")


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
        "min-worker-port": 0,  # any that is free
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
    """Ray's own default needs debugpy, and passes each breakpoint by without it."""
    return os.environ.get("RAY_DEBUG", "legacy")


@contextmanager
def _environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Set (or, with None, take away) environment variables until the block is left."""
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
    """What is connected to a Ray that ends would end with it."""
    ray = sys.modules.get("ray")
    if ray is not None and ray.is_initialized():
        ray.shutdown()


def _keep_logs(files: Path, logs: Path) -> None:
    """Ray's own log files, into the run folder."""
    session = files / "session_latest" / "logs"
    if session.is_dir():
        try:
            shutil.copytree(session, logs, ignore_dangling_symlinks=True, dirs_exist_ok=True)
        except OSError as error:
            logger.warning("not all of Ray's log files could be kept: %s", error)
