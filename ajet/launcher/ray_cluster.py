"""Ray around a run: one of our own (`--with-ray`), or one that is there (`--with-ray-cluster`).

Ray is found through the environment, as Ray itself does it, so that every `ray.init()` in the run
and in its children gets this cluster. Ray is not imported here.
"""

from __future__ import annotations

import importlib.util
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
from functools import partial
from pathlib import Path

from ajet.debug_point import DEBUG_VARIABLE
from ajet.errors import ConfigError, MissingExtraError, ServiceError
from ajet.monitor.run_record import service_recorder
from ajet.service.readiness import free_ports, listens
from ajet.service.service import Service

logger = logging.getLogger(__name__)

Surroundings = Callable[[Path], AbstractContextManager[None]]
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


def own_ray(num_gpus: int | None = None) -> Surroundings:
    """A Ray that is started for this run and ends with it.

    It has its own ports, on the loopback device only, its own token, and its own files; `ray stop`
    is never used, so that no other Ray is touched.

    Args:
        num_gpus: logical GPUs, which need no hardware; None is what the machine has.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    _need_ray()
    return partial(_own_ray, num_gpus=num_gpus)


def joined_ray(address: str | None) -> Surroundings:
    """A Ray that is there already; it is left as it is.

    Args:
        address: `HOST:PORT`, or `ray://HOST:PORT`; None is what RAY_ADDRESS says.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: no address.
        ServiceError: nothing is there.
    """
    _need_ray()
    address = address or os.environ.get("RAY_ADDRESS")
    if not address:
        raise ConfigError("--with-ray-cluster: where? Give --ray-address, or set RAY_ADDRESS")
    match = re.fullmatch(r"(?:ray://)?(.+):(\d{1,5})", address)
    if not match:
        raise ConfigError(f'--with-ray-cluster: got "{address}", expected HOST:PORT')
    if not listens(match[1], int(match[2])):
        raise ServiceError(
            f"--with-ray-cluster: there is no Ray at {address}; --with-ray starts one"
        )
    return partial(_joined_ray, address=address)


def _need_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise MissingExtraError("ray", "ray")


@contextmanager
def _own_ray(run_folder: Path, *, num_gpus: int | None) -> Iterator[None]:
    with ExitStack() as stack:
        # In /tmp: below it Ray makes unix sockets, whose paths may have 107 bytes.
        home = Path(tempfile.mkdtemp(prefix="ajet-ray-", dir="/tmp"))
        stack.callback(shutil.rmtree, home, ignore_errors=True)
        token, files = home / "token", home / "ray"
        token.write_text(secrets.token_hex(32), encoding="ascii")
        port, *ports = free_ports(1 + len(_PORTS))
        address = f"127.0.0.1:{port}"
        variables = {
            "RAY_ADDRESS": address,
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_DEBUG": os.environ.get("RAY_DEBUG", "legacy"),
        }
        stack.enter_context(_environment({**variables, **_QUIET, "RAY_AUTH_TOKEN": None}))
        options = {"port": port, "temp-dir": files, "node-ip-address": "127.0.0.1"}
        options |= {f"{name}-port": number for name, number in zip(_PORTS, ports, strict=True)}
        options |= {"min-worker-port": 0, "max-worker-port": 0, "include-dashboard": "false"}
        if num_gpus is not None:
            options["num-gpus"] = num_gpus
        service = Service(
            "Ray",
            [
                *(sys.executable, "-m", "ray.scripts.scripts"),
                *("start", "--head", "--block", "--disable-usage-stats"),
                *(f"--{name}={value}" for name, value in options.items()),
            ],
            log=run_folder / "logs" / "ray.log",
            on_started=service_recorder(run_folder),
        )
        ...
        yield
