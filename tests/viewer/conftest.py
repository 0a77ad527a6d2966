"""A run's folder, and a browser-like client of its viewer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ajet.gateway.server.hosts import HostCheck
from ajet.viewer.api import ViewerApi
from ajet.viewer.run_library import RunLibrary
from ajet.viewer.server.access import Access
from ajet.viewer.server.application import make_app
from tests.viewer.run_folders import RunWriter

TOKEN = "the-token"
COOKIE = "ajet_view_80"


@pytest.fixture
def run(tmp_path: Path) -> RunWriter:
    """Three steps of training, in a folder of runs."""
    writer = RunWriter(tmp_path / "runs" / "demo")
    for step in (1, 2, 3):
        writer.step(step)
    return writer


@pytest.fixture
def stranger(run: RunWriter) -> TestClient:
    """A client that has not opened the link."""
    return make_client(run.folder.parent)


@pytest.fixture
def client(stranger: TestClient) -> TestClient:
    """A client that has opened the link."""
    stranger.get("/", params={"token": TOKEN}, follow_redirects=False)
    return stranger


@pytest.fixture
def get(client: TestClient) -> Callable[..., Any]:
    """The data behind `/api/NAME`."""

    def ask(name: str, **parameters: Any) -> Any:
        response = client.get(f"/api/{name}", params={"run": "demo", **parameters})
        assert response.status_code == 200, response.text
        return response.json()

    return ask


def make_client(place: Path) -> TestClient:
    """The whole server without a socket."""
    app = Access(
        make_app(ViewerApi(RunLibrary(place))),
        token=TOKEN,
        host_check=HostCheck("127.0.0.1", None),
        cookie=COOKIE,
    )
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)
