"""`ajet.task_runner.services`, around a run.

1. They are ready before the backbone starts, and gone after it, however it ends.
2. One that cannot start ends the run; one that dies in the middle is reported at once.
3. A port that is taken is told before anything is started.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ajet.config.sections.task_runner import ServiceConfig
from ajet.errors import ServiceError
from ajet.launcher.services import services_running
from ajet.monitor.run_record import read_processes, recorded
from ajet.service.probes import free_ports, listens
from tests.processes.service_processes import SLEEPS, eventually, is_gone, python

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Handler.asked += 1
        self.send_error(404 if Handler.asked > 3 else 503)
print("serving", flush=True)
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
"""Not ready at first; then, as many a server, it knows no page at the address asked for."""


def section(name: str, code: str, *arguments: object, **keys: Any) -> ServiceConfig:
    command = python(code, *map(str, arguments))
    return ServiceConfig(name=name, command=command, **keys)


@pytest.fixture
def run_folder(tmp_path: Path) -> Iterator[Path]:
    with recorded(tmp_path, ["ajet"]):
        yield tmp_path


@pytest.fixture
def port() -> int:
    return free_ports(1)[0]


def services_of(run_folder: Path) -> dict[str, int]:
    services = read_processes(run_folder)[-1]["services"]
    return {service["name"]: service["pid"] for service in services}


def test_services_are_ready_in_the_block_and_gone_after_it(run_folder: Path, port: int) -> None:
    sections = [
        section("game", SERVER, port, ready_url=f"http://localhost:{port}/health"),
        section("other", SLEEPS),
    ]
    with services_running(sections, run_folder):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=60)
        pids = services_of(run_folder)
        assert list(pids) == ["service game", "service other"]
        assert not any(map(is_gone, pids.values()))
    assert all(map(is_gone, pids.values()))
    log = (run_folder / "logs" / "services" / "game.log").read_text()
    assert log.startswith("serving\n")
    assert log.count(" 503 ") == 3


@pytest.mark.parametrize("end", [KeyboardInterrupt, ValueError])
def test_services_are_stopped_however_the_run_ends(
    run_folder: Path, port: int, end: type[BaseException]
) -> None:
    sections = [section("game", SERVER, port, ready_port=port)]
    with pytest.raises(end), services_running(sections, run_folder):
        raise end
    assert not listens("localhost", port)


def test_a_service_that_cannot_start_ends_the_run_and_the_others(run_folder: Path) -> None:
    sections = [
        section("first", SLEEPS),
        section("second", "raise SystemExit('no licence')", ready_port=1),
    ]
    with (
        pytest.raises(ServiceError, match="service second ended with exit status 1(.|\n)*licence"),
        services_running(sections, run_folder),
    ):
        pytest.fail("not to be reached")
    assert all(map(is_gone, services_of(run_folder).values()))


def test_a_service_that_is_never_ready_ends_the_run(run_folder: Path) -> None:
    # A shell, because Python may take longer to start. The command has not the word that it writes.
    command = ["sh", "-c", "echo load''ing; exec sleep 600"]
    slow = ServiceConfig(name="slow", command=command, ready_port=1, start_timeout_s=2)
    with (
        pytest.raises(ServiceError, match=r"service slow was not ready within 2 s(.|\n)*loading"),
        services_running([slow], run_folder),
    ):
        pytest.fail("not to be reached")
    assert is_gone(services_of(run_folder)["service slow"])


def test_a_taken_port_is_told_before_the_start(run_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        for ready in ({"ready_port": port}, {"ready_url": f"http://localhost:{port}/x"}):
            with (
                pytest.raises(ServiceError, match=rf"localhost:{port};.*\$\{{free_port:game\}}"),
                services_running([section("game", SLEEPS, **ready)], run_folder),
            ):
                pytest.fail("not to be reached")
    assert services_of(run_folder) == {}


def test_a_service_that_dies_in_the_middle_is_reported_and_the_run_goes_on(
    run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    game = section("game", "print('move', flush=True);" + SLEEPS)
    with services_running([game, section("other", SLEEPS)], run_folder):
        pid = services_of(run_folder)["service game"]
        log = run_folder / "logs" / "services" / "game.log"
        assert eventually(log.read_text)
        os.kill(pid, signal.SIGKILL)
        assert eventually(lambda: "service game ended with signal Killed" in caplog.text)
        assert "\nmove\n" in caplog.text
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
