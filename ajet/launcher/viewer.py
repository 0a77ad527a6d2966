"""`--with-logview`: the viewer of a run, as a process that starts and ends with the run."""

from __future__ import annotations

import importlib.util
import logging
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ajet.errors import MissingExtraError, ServiceError
from ajet.monitor.run_record import service_recorder
from ajet.service.probes import free_ports, listens
from ajet.service.service import Service

logger = logging.getLogger(__name__)

LIBRARIES = ("fastapi", "uvicorn")
TOKEN_VARIABLE = "AJET_VIEW_TOKEN"
"""Environment variable with the token of the link: other users can read command lines, but not
the environment of a process."""
_START_TIMEOUT_S = 30.0


def require_viewer() -> None:
    """Check that the libraries of the viewer are installed.

    Raises:
        MissingExtraError: one of them is not.
    """
    for library in LIBRARIES:
        if importlib.util.find_spec(library) is None:
            raise MissingExtraError(library, "view")


@contextmanager
def viewer_running(run_folder: Path) -> Iterator[None]:
    """Start the viewer of a run and log its link; end it when the block is left.

    Training does not depend on it: a viewer that does not start is reported, and the run continues.
    """
    (port,) = free_ports(1)
    token = secrets.token_urlsafe(32)
    service = Service(
        "viewer",
        [sys.executable, "-P", "-m", "ajet", "view", str(run_folder), "--port", str(port)],
        log=run_folder / "logs" / "viewer.log",
        env={TOKEN_VARIABLE: token},
        on_started=service_recorder(run_folder),
    )
    try:
        try:
            service.start()
            service.wait_until(lambda: listens("127.0.0.1", port), _START_TIMEOUT_S)
        except ServiceError as error:
            logger.warning("--with-logview: %s", error)
        else:
            # Also in the run's log: whoever can read that can read the run's folder as well.
            logger.info("viewer: http://127.0.0.1:%d/?token=%s", port, token)
        yield
    finally:
        service.stop()
