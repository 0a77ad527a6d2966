"""Which Ray a run is on, and what is told before anything is started."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from ajet.backbone.ray_common.resources import RayNeeds, trinity_needs, verl_needs
from ajet.config.loading.load import load_config
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError, MissingExtraError, ServiceError
from ajet.launcher import ray_choice as around
from ajet.launcher.ray_choice import RayChoice, ray_for_run
from ajet.launcher.ray_cluster import RaySize, joined_ray, own_ray

DEMO = "tutorial/example_math_agent/math_agent_cpu.yaml"


def settings(backbone: str, *overrides: str) -> AjetConfig:
    """On a machine without GPUs, whatever the tests run on."""
    return load_config(
        DEMO, [f"ajet.backbone={backbone}", "ajet.model.device=cpu", *overrides]
    ).ajet


@pytest.fixture
def ray_is_there(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def chosen(ray_is_there, monkeypatch):
    """What is asked for instead of being started or joined."""
    monkeypatch.setattr(around, "own_ray", lambda size: size)
    monkeypatch.setattr(around, "joined_ray", lambda address: f"joins {address}")
    monkeypatch.setattr("os.cpu_count", lambda: 2)


@pytest.mark.parametrize(
    ("backbone", "choice", "extra"),
    [
        ("local", RayChoice(own=True), "ray"),
        ("local", RayChoice(join=True, address="localhost:1"), "ray"),
        ("verl", RayChoice(), "verl"),
    ],
)
def test_without_ray_the_extra_is_named(monkeypatch, backbone, choice, extra):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf'ray is not installed: .*"agentjet\[{extra}\]"'):
        ray_for_run(settings(backbone), choice)


@pytest.mark.parametrize(
    ("backbone", "missing"),
    [("trinity", "trinity"), ("trinity", "vllm"), ("verl", "transfer_queue")],
)
def test_a_library_that_is_missing_is_told_before_ray_is_started(
    chosen, monkeypatch, backbone, missing
):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name != missing or None)
    message = rf'{missing} is not installed: .*"agentjet\[{backbone}\]".*--backbone=local'
    with pytest.raises(MissingExtraError, match=message):
        ray_for_run(settings(backbone), RayChoice())


def test_a_backbone_of_one_process_has_a_ray_only_where_asked_for(chosen, monkeypatch):
    ajet = settings("local")
    monkeypatch.setenv("RAY_ADDRESS", "localhost:1")
    assert ray_for_run(ajet, RayChoice()).__enter__() is None
    assert ray_for_run(ajet, RayChoice(own=True, num_gpus=3)) == RaySize(num_gpus=3)
    assert ray_for_run(ajet, RayChoice(join=True, address="there:2")) == "joins there:2"


def test_verl_gets_a_ray_of_the_size_that_it_needs_unless_there_is_one(chosen, monkeypatch):
    ajet = settings("verl", "ajet.trainer_common.n_gpus_per_node=2")
    assert ray_for_run(ajet, RayChoice()) == RaySize(num_gpus=2, num_cpus=10)
    assert ray_for_run(ajet, RayChoice(own=True, num_gpus=5)) == RaySize(num_gpus=5, num_cpus=10)
    monkeypatch.setenv("RAY_ADDRESS", "localhost:1")
    assert ray_for_run(ajet, RayChoice()) == "joins None"
    assert ray_for_run(ajet, RayChoice(own=True)) == RaySize(num_gpus=2, num_cpus=10)


def test_verl_is_not_run_on_a_client_of_a_cluster(chosen):
    choice = RayChoice(join=True, address="ray://there:10001")
    message = "ray://there:10001 is a client's address, and the backbone verl must run on a node"
    with pytest.raises(ConfigError, match=message):
        ray_for_run(settings("verl"), choice)
    assert ray_for_run(settings("local"), choice) == "joins ray://there:10001"


def test_where_there_are_gpus_ray_counts_them_itself(chosen):
    ajet = settings("verl", "ajet.model.device=cuda")
    assert ray_for_run(ajet, RayChoice()) == RaySize(num_gpus=None, num_cpus=7)


def test_a_machine_with_more_cores_than_needed_has_all_of_them(chosen, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert ray_for_run(settings("verl"), RayChoice()) == RaySize(num_gpus=1, num_cpus=64)


def test_trinity_needs_places_for_its_engines_where_there_are_no_gpus():
    ajet = settings("verl", "ajet.rollout.vllm.num_engines=2", "ajet.trainer_common.nnodes=2")

    assert trinity_needs(ajet, "cpu") == RayNeeds(gpus=6, cpus=22)
    assert trinity_needs(ajet, "cuda") == RayNeeds(gpus=2, cpus=10)
    assert verl_needs(ajet, "cpu") == RayNeeds(gpus=2, cpus=10)


def test_a_ray_that_is_imported_already_is_told(ray_is_there, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", object())
    with pytest.raises(ConfigError, match="^Ray was imported before the run started its own clus"):
        own_ray().__enter__()


def test_a_cluster_needs_an_address(ray_is_there):
    with pytest.raises(ConfigError, match="^--with-ray-cluster needs --ray-address or the variab"):
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


def test_the_nodes_of_a_job_follow_its_environment_variables(chosen, monkeypatch):
    monkeypatch.setenv("MASTER_ADDR", "first")
    monkeypatch.setenv("MASTER_PORT", "6379")
    monkeypatch.setenv("HOSTNAME", "first")
    ajet = settings("local")
    assert ray_for_run(ajet, RayChoice(join=True)) == "joins first:6379"
    assert ray_for_run(ajet, RayChoice(join=True, address="other:1")) == "joins other:1"
    monkeypatch.setenv("HOSTNAME", "second")
    with pytest.raises(ConfigError, match="ray start --address=first:6379 --block"):
        ray_for_run(ajet, RayChoice(join=True))
