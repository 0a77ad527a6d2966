"""`--with-logview`: the viewer starts with the run, shows it, and ends with it."""

from __future__ import annotations

import logging
import re
import socket
import urllib.request
from http.cookiejar import CookieJar

import pytest

from ajet.errors import MissingExtraError, ServiceError
from ajet.launcher import viewer
from ajet.launcher.launch import launch
from ajet.service.service import Service
from tests.unit.config_files import MINIMAL, load


@pytest.fixture(autouse=True)
def root_logger():
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def run_with_logview(tmp_path, monkeypatch, during):
    """A run whose training is `during(folder)`."""
    run = lambda config, folder, resume, inputs: during(folder)  # noqa: E731
    monkeypatch.setattr("ajet.launcher.launch.load_backbone", lambda name: run)
    config = load(tmp_path, MINIMAL, f"experiment_dir={tmp_path}/runs")
    return launch(config, command=["ajet"], with_logview=True)


def link_in(folder):
    return re.search(r"viewer: (http://\S+)", (folder / "logs" / "ajet.log").read_text())


def test_the_link_shows_the_run_while_it_trains_and_ends_with_it(tmp_path, monkeypatch):
    seen = {}

    def during(folder):
        link = link_in(folder)[1]
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), cookies)
        seen["page"] = opener.open(link, timeout=60).read().decode()
        base = link.partition("?")[0]
        seen["runs"] = opener.open(base + "api/runs", timeout=60).read().decode()
        seen["port"] = int(base.rpartition(":")[2].strip("/"))

    folder = run_with_logview(tmp_path, monkeypatch, during)
    assert "<title>AgentJet</title>" in seen["page"]
    assert '"status":"running"' in seen["runs"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", seen["port"]), timeout=2)
    token = link_in(folder)[1].partition("token=")[2]
    assert token not in (folder / "run.json").read_text()
    assert token not in (folder / "logs" / "viewer.log").read_text()


def test_a_viewer_that_does_not_start_does_not_stop_the_run(tmp_path, monkeypatch):
    def broken(self):
        raise ServiceError("no such thing")

    monkeypatch.setattr(Service, "start", broken)
    trained = []
    folder = run_with_logview(tmp_path, monkeypatch, trained.append)
    assert trained == [folder]
    assert "--with-logview: no such thing" in (folder / "logs" / "ajet.log").read_text()


def test_without_its_libraries_it_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.setattr(viewer, "LIBRARIES", ("no_such_library",))
    with pytest.raises(MissingExtraError, match=r"agentjet\[view\]"):
        run_with_logview(tmp_path, monkeypatch, lambda folder: None)
    assert not (tmp_path / "runs").exists()
