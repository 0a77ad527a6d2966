"""The Ray cluster that a run is on: its own, or the one that `RAY_ADDRESS` names."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray

logger = logging.getLogger(__name__)


@contextmanager
def ray_cluster(
    runtime_env: Mapping[str, Any], own: Mapping[str, Any], logs: Path
) -> Iterator[None]:
    """Join the cluster of `RAY_ADDRESS`; without it, run on one that ends with the block.

    Args:
        runtime_env: what every worker gets.
        own: what `ray.init` is told about the cluster of this run.
        logs: the folder that gets the logs of an own cluster, as `ray`.
    """
    if address := os.environ.get("RAY_ADDRESS"):
        logger.info("joining the Ray cluster at %s", address)
        ray.init(address=address, runtime_env=dict(runtime_env), log_to_driver=False)
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Not in the run's folder: sockets lie there, whose paths must be short.
    folder = Path(tempfile.mkdtemp(prefix="ajet-ray-", dir="/tmp"))
    (folder / "token").write_text(secrets.token_hex(32), encoding="ascii")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(folder / "token")  # else Ray writes one to the home
    ray.init(
        address="local",
        runtime_env=dict(runtime_env),
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(folder),
        **own,
    )
    try:
        yield
    finally:
        ray.shutdown()
        del os.environ["RAY_AUTH_TOKEN_PATH"]
        for session in folder.glob("session_2*/logs"):
            shutil.copytree(
                session, logs / "ray", dirs_exist_ok=True, ignore_dangling_symlinks=True
            )
        shutil.rmtree(folder, ignore_errors=True)
