"""The connection of a run's main process to its Ray cluster, and errors that Ray brings from it.

The launcher starts or joins the cluster and names it in `RAY_ADDRESS`.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import ray
from ray.exceptions import ActorDiedError, RayTaskError

from ajet.backbone.ray_common import private_sockets
from ajet.backbone.ray_common.resources import RayNeeds
from ajet.errors import RequestError, ServiceError
from ajet.service.private_folder import private_folder, short_folder

_CLASS_AND_PID = re.compile(r"class_name: (\S+)(?:.|\n)*?pid: (\d+)")


@contextmanager
def connected(runtime_env: Mapping[str, Any], needs: RayNeeds) -> Iterator[None]:
    """Connect to the cluster in `RAY_ADDRESS` for the duration of the block.

    Args:
        runtime_env: Ray's runtime environment for all worker processes.
        needs: the resources that the cluster must have.

    Raises:
        ServiceError: the cluster does not answer or is too small.
    """
    address = os.environ["RAY_ADDRESS"]
    private_sockets.install()
    with ExitStack() as stack:
        variables = {**runtime_env.get("env_vars", {}), **_temporary_folder(stack)}
        hook = {"worker_process_setup_hook": private_sockets.HOOK}
        try:
            with _sigterm_handler_kept():
                ray.init(
                    address=address,
                    runtime_env={**runtime_env, **hook, "env_vars": variables},
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                )
        except (ConnectionError, RuntimeError) as error:
            raise ServiceError(f"cannot connect to Ray at {address}: {error}") from error
        stack.callback(ray.shutdown)
        _check_size(needs)
        yield


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Take away again the handlers that `ray.init` sets for SIGTERM.

    One raises SystemExit, so that the run would end without a checkpoint. The other one prints the
    stack of compiled code.
    """
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def _temporary_folder(stack: ExitStack) -> dict[str, str]:
    """The variable for a temporary folder that goes with the run, if its Ray has no such folder.

    On other nodes of a cluster that the run joined, the folder is not there. Python then uses the
    temporary folder of the node.
    """
    if private_sockets.home_of_own_ray():
        return {}
    return {"TMPDIR": str(stack.enter_context(private_folder("tmp", short_folder())))}


def cause_of(error: BaseException) -> str:
    """The original error of a remote call in one line, without the stacks of other processes."""
    while isinstance(error, RayTaskError):
        error = error.cause
    if isinstance(error, ActorDiedError) and (died := _CLASS_AND_PID.search(str(error))):
        name, pid = died.groups()
        return f"the process of {name} (pid {pid}) ended unexpectedly"
    return str(error)


def refused_by_vllm(error: BaseException) -> RequestError | None:
    """The error for an agent whose request vLLM refuses in a remote call; None for other errors."""
    while isinstance(error, RayTaskError):
        error = error.cause
    # By its name: vLLM need not be installed where this is used.
    if type(error).__name__ != "VLLMValidationError":
        return None
    return RequestError(f"vLLM refuses the request: {error}")


def _check_size(needs: RayNeeds) -> None:
    available = ray.cluster_resources()
    for name, number in {"GPU": needs.gpus, "CPU": needs.cpus}.items():
        if available.get(name, 0) < number:
            raise ServiceError(
                f"the Ray cluster has {available.get(name, 0):g} {name}s, but this run needs "
                f"{number}. They may be logical: ray start --num-{name.lower()}s={number}"
            )
