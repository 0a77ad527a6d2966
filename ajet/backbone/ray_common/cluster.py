"""The Ray that a run is on, from inside: the one that `RAY_ADDRESS` names.

It is started, or found, around the run: see `ajet/launcher/ray_cluster.py`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import ray

from ajet.backbone.ray_common.resources import RayNeeds
from ajet.errors import ServiceError


@contextmanager
def connected(runtime_env: Mapping[str, Any], needs: RayNeeds) -> Iterator[None]:
    """Connected to it until the block is left.

    Args:
        runtime_env: what every worker gets.
        needs: what it must have.

    Raises:
        ServiceError: it does not answer, or is too small.
    """
    address = os.environ["RAY_ADDRESS"]
    try:
        ray.init(
            address=address,
            runtime_env=dict(runtime_env),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError) as error:
        raise ServiceError(f"the Ray at {address} cannot be used: {error}") from error
    try:
        _check_size(needs)
        yield
    finally:
        ray.shutdown()


def _check_size(needs: RayNeeds) -> None:
    there = ray.cluster_resources()
    for name, number in {"GPU": needs.gpus, "CPU": needs.cpus}.items():
        if there.get(name, 0) < number:
            raise ServiceError(
                f"Ray has {there.get(name, 0):g} {name}s, this run needs {number}; they may be "
                f"logical: ray start --num-{name.lower()}s={number}"
            )
