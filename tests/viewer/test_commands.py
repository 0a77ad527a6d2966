"""`ajet view` as a process, and its benchmark."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from typer.testing import CliRunner

from ajet.cli import app
from ajet.errors import ConfigError
from ajet.viewer.server.serve import serve

ROOT = Path(__file__).parents[2]


def test_it_prints_its_link_listens_on_loopback_only_and_ends_with_sigterm(run):
    command = [sys.executable, "-m", "ajet.cli", "view", str(run.folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        link = process.stdout.readline().strip()
        address = urlsplit(link)
        assert address.hostname == "127.0.0.1"
        assert len(address.query) > 40
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor()
        )
        assert b"AgentJet" in opener.open(link, timeout=60).read()
        with pytest.raises(OSError), socket.create_connection(("127.0.0.2", address.port), 2):
            pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, -signal.SIGTERM)
        assert process.stderr.read() == ""
    finally:
        process.kill()
        process.wait()


def test_another_host_needs_the_flag_and_is_warned_about(run, caplog, monkeypatch):
    monkeypatch.setattr("uvicorn.Server.run", lambda self, sockets: None)
    links = []
    serve(run.folder, on_ready=links.append)
    assert caplog.messages == []
    serve(run.folder, host="0.0.0.0", on_ready=links.append)
    assert "other machines can reach the viewer" in caplog.text
    assert links[0].startswith("http://127.0.0.1:")


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    result = CliRunner().invoke(app, ["view", str(tmp_path / "nowhere")])
    assert isinstance(result.exception, ConfigError)
    assert "there is no folder" in str(result.exception)


def test_a_port_that_is_in_use_is_refused(run):
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(ConfigError, match="give another --port"),
    ):
        serve(run.folder, port=other.getsockname()[1])


def test_the_benchmark_prints_one_json_object():
    command = [sys.executable, "benchmarks/viewer.py", "--json", "--steps=2", "--episodes=16"]
    started_s = time.monotonic()
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    all_s = time.monotonic() - started_s
    numbers = json.loads(result.stdout)
    assert numbers["samples"] == 32
    assert 0 < numbers["filter_s"] < all_s / 2
    assert numbers["peak_memory_mb"] < 500
