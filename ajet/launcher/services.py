"""Starts, watches and stops the services of `ajet.task_runner.services`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from ajet.config.sections.task_runner import ServiceConfig
from ajet.errors import ServiceError
from ajet.monitor.run_record import service_recorder
from ajet.service.probes import answers, listens
from ajet.service.service import Service

logger = logging.getLogger(__name__)

LOGS = Path("logs") / "services"
"""Folder of the services' log files, relative to the run folder."""
_WATCH_S = 0.5


@contextmanager
def services_running(sections: Sequence[ServiceConfig], run_folder: Path) -> Iterator[None]:
    """Start the services one after the other; stop them in reverse order when the block is left.

    A service that ends before that is reported in the run's log with the end of its own log. The
    run continues: the episodes that need the service fail.

    Raises:
        ServiceError: a service did not start, was not ready in time, or its port is in use.
    """
    with ExitStack() as stack:
        services: list[Service] = []
        for section in sections:
            service = Service(
                f"service {section.name}",
                section.command,
                log=run_folder / LOGS / f"{section.name}.log",
                env=section.env,
                cwd=Path(section.cwd) if section.cwd else None,
                on_started=service_recorder(run_folder),
            )
            _refuse_taken_port(section)
            # Before the start, so that a service that never becomes ready is stopped as well.
            stack.callback(service.stop)
            service.start()
            logger.info("%s: process %d, log %s", service.name, service.pid, service.log)
            service.wait_until(lambda: _is_ready(section), section.start_timeout_s)  # noqa: B023
            services.append(service)
        # Entered last and so left first: services that the run itself stops are not reported.
        stack.enter_context(_watched(services))
        yield


def _is_ready(section: ServiceConfig) -> bool:
    if section.ready_url:
        return answers(section.ready_url)
    return section.ready_port is None or listens("localhost", section.ready_port)


def _refuse_taken_port(section: ServiceConfig) -> None:
    """Refuse a port that is in use: answers of that other process would count as the service's.

    Raises:
        ServiceError: a process already listens on the service's port.
    """
    host, port = "localhost", section.ready_port
    if section.ready_url:
        url = urlsplit(section.ready_url)
        host, port = url.hostname or host, url.port or {"http": 80, "https": 443}[url.scheme]
    if port and listens(host, port):
        raise ServiceError(
            f"service {section.name}: another process already listens on {host}:{port}; "
            "end that process, or give the service another port (in the YAML, "
            f"${{free_port:{section.name}}} in place of {port} takes one that is free)"
        )


@contextmanager
def _watched(services: Sequence[Service]) -> Iterator[None]:
    """Log an error for each service that ends before the block is left."""
    over = threading.Event()

    def watch() -> None:
        running = list(services)
        while running and not over.wait(_WATCH_S):
            for service in [each for each in running if each.returncode is not None]:
                logger.error("%s", service.how_it_ended())
                running.remove(service)

    thread = threading.Thread(target=watch, name="services", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
