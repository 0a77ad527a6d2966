"""`--with-ray` and `--with-ray-cluster`: what is told before anything is started."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from ajet.errors import ConfigError, MissingExtraError, ServiceError
from ajet.launcher.ray_cluster import joined_ray, own_ray


@pytest.fixture
def ray_is_there(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for make in (own_ray, lambda: joined_ray("localhost:1")):
        with pytest.raises(MissingExtraError, match=r'ray is not installed: .*"agentjet\[ray\]"'):
            make().__enter__()


def test_a_ray_that_is_imported_already_is_told(ray_is_there, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(ConfigError, match="Ray is imported already"):
        own_ray().__enter__()


def test_a_cluster_needs_an_address(ray_is_there):
    with pytest.raises(ConfigError, match="Give --ray-address, or set RAY_ADDRESS"):
        joined_ray(None).__enter__()
    with pytest.raises(ConfigError, match='got "auto", expected HOST:PORT'):
        joined_ray("auto").__enter__()


def test_a_cluster_that_is_not_there_is_told(ray_is_there, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            with joined_ray(given):
                assert os.environ["RAY_ADDRESS"] == given
    assert "RAY_ADDRESS" not in os.environ
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(ServiceError, match=f"there is no Ray at {address}; --with-ray starts one"):
        joined_ray(None).__enter__()
